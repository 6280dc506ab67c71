"""A provider's installation over a listing of any size, with real keys and signatures, on this disk
and without a network.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from benchmarks.filter import random_tokens
from tipstaff.v1 import catalogue_pb2, identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.keys.store import MemoryKeyStore
from tipstaff_sdk.listing.sealing import Stretch
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.settings import Settings
from tipstaff_signing import Repository, create_key_files

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AUDIENCE", "MEASURE", "open_screener"]

AUDIENCE: Final = "aviation"
MEASURE: Final = "AIR_TRAVEL"
# As a deployment has it by default: about 10 ms.
STRETCH: Final = Stretch(salt=bytes(16), n=4096, r=8, p=1)
_EPOCH: Final = 1
_PIECE: Final = 1 << 20


def open_screener(folder: Path, size: int, fpr: float, seed: int = 1) -> Screener:
    """A screener in `folder` whose filter holds `size` random tokens: nobody in particular, so
    every hit is a false positive.
    """
    now = datetime.now(UTC)
    keys = create_key_files(folder / "keys", audiences=[AUDIENCE])
    repository = Repository.create(
        folder / "repository", keys, audiences=[AUDIENCE], catalogue=_catalogue(now)
    )
    pieces = (
        random_tokens(min(_PIECE, size - start), seed + start) for start in range(0, size, _PIECE)
    )
    members = BloomFilter.build(pieces, fpr=fpr, epoch=_EPOCH, capacity=size, threads=2)
    work = folder / "build"
    work.mkdir()
    members.write(work / "filter")
    with PackBuilder(_EPOCH) as pack:
        pack.write(work / "pack")
    (work / "parameters").write_bytes(_parameters(now))
    artefacts = {
        f"listing/{AUDIENCE}/{name}": work / name for name in ("filter", "pack", "parameters")
    }
    proposal = repository.propose_listing(
        AUDIENCE, artefacts, keys.signer(f"listing-{AUDIENCE}-builder")
    )
    proposal = repository.sign_off(proposal, keys.signer(f"listing-{AUDIENCE}-signoff"))
    repository.publish_listing(proposal, keys.signer("snapshot"), keys.signer("timestamp"))
    repository.refresh(
        AUDIENCE,
        keys.signer(f"relief-{AUDIENCE}"),
        keys.signer("snapshot"),
        keys.signer("timestamp"),
    )
    (folder / "root.json").write_bytes(repository.root_bytes())
    store = MemoryKeyStore()
    store.save({_EPOCH: secrets.token_bytes(32)})
    options: dict[str, object] = {
        "audience": AUDIENCE,
        "state_dir": folder / "state",
        "trusted_root_file": folder / "root.json",
        "mirror_dir": folder / "repository" / AUDIENCE,
        "background": False,
    }
    screener = Screener(Settings.load(None, options=options), keys=store)
    screener.sync()
    return screener


def _catalogue(now: datetime) -> bytes:
    def text(zh: str, en: str) -> identity_pb2.BilingualText:
        return identity_pb2.BilingualText(zh=zh, en=en)

    made = catalogue_pb2.Catalogue(version=1)
    made.made_at.FromDatetime(now)
    made.measures.add(
        code=MEASURE,
        title=text("乘坐飞机", "Air travel"),
        force=catalogue_pb2.MEASURE_FORCE_MANDATORY,
        nature=catalogue_pb2.MEASURE_NATURE_RESTRICTION,
        legal_basis=text("示例", "Example"),
        still_allowed=text("普通列车", "Ordinary trains"),
    )
    return made.SerializeToString(deterministic=True)


def _parameters(now: datetime) -> bytes:
    made = listing_pb2.ListingParameters(
        audience=AUDIENCE,
        version=1,
        epoch=_EPOCH,
        relief_max_age_seconds=86_400,
        stretch=STRETCH.to_proto(),
        measures=[MEASURE],
        catalogue_version=1,
    )
    made.built_at.FromDatetime(now)
    made.expires_at.FromDatetime(now + timedelta(days=7))
    return made.SerializeToString(deterministic=True)
