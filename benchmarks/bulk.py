"""A published listing of any size behind a real `tipstaff-server`, made in seconds instead of read
out of a registry.

A few persons are in the registry, sealed by the builder's own code. Everybody else is a token and a
record of random bytes, as long as a record of one restriction: to who has no key, a sealed record
is nothing else. Format, deltas, proposal, sign-off and publication are the real code's; only what
the sign-off looks at is passed over, since nobody else is in the registry.
"""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.filter import random_tokens
from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomFilter, TokenLedger
from tipstaff_sdk.listing.sealing import (
    COMMITMENT_SIZE,
    LOCATOR_SIZE,
    SIZE_CLASSES,
    TAG_SIZE,
    EpochKey,
)
from tipstaff_sdk.packs.builder import RECORDS_A_BUCKET
from tipstaff_sdk.packs.delta import HEADER, MAGIC, VERSION, PackDelta, apply_deltas
from tipstaff_sdk.packs.pack import (
    CHECKSUM_SIZE,
    RECORD_HEAD,
    SEALED_SIZES,
    Pack,
    encode_head,
    encode_record,
    parse_bucket,
)
from tipstaff_server.listing.build import LEAST_NUMBERS
from tipstaff_server.listing.deltas import make_deltas
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.listing.rows import RowWriter
from tipstaff_server.listing.seal import seal_subjects
from tipstaff_signing.keys.files import builder_key, signoff_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tipstaff_server.deployment import Deployment

__all__ = ["SEALED_BYTES", "Bulk"]

SEALED_BYTES: Final = SIZE_CLASSES[1] + TAG_SIZE
"""A record of one restriction, with the texts that the administration comes with, takes the second
size class.
"""

_RECORD: Final = RECORD_HEAD.size + SEALED_BYTES
_PIECE: Final = 1 << 20
_BUCKETS_AT_ONCE: Final = 1 << 11
_FPR: Final = 1e-3


class Collected:
    """What parts of a build are put into instead of a PackBuilder: records by locator."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}

    def add(self, locator: bytes, commitment: bytes, sealed: bytes) -> None:
        """As PackBuilder.add."""
        self.records[int.from_bytes(locator, "big")] = encode_record(locator, commitment, sealed)


@dataclass(frozen=True)
class Published:
    """Sizes in bytes of what was published, by name: filter, pack, parameters, and each delta."""

    sizes: Mapping[str, int]


class Bulk:
    """One audience's listing of `size` subjects, in a work folder; `publish` it, then
    `publish_changed`.
    """

    def __init__(self, runtime: Deployment, audience: str, folder: Path, size: int) -> None:
        self._runtime = runtime
        self._audience = audience
        self._folder = folder
        self._size = size
        self._rng = np.random.default_rng(1)
        self._key = self._epoch_key()
        self._real = Collected()
        subjects = list(ListingReader(runtime.registry.store).subjects(audience, runtime.clock()))
        with RowWriter(folder / "rows") as rows:
            for part in seal_subjects(subjects, self._key):
                part.put(self._real, rows)  # type: ignore[arg-type]  # only `add` is called
        real = self._key.tokeniser.tokens(
            item.identifier for subject in subjects for item in subject.identifiers
        )
        rest = size - len(self._real.records)
        pieces = (
            random_tokens(min(_PIECE, rest - start), 1 + start) for start in range(0, rest, _PIECE)
        )
        self._ledger = TokenLedger([real, *pieces], epoch=self._key.epoch)

    def publish(self) -> Published:
        """The first listing."""
        self._ledger.build(fpr=_FPR, threads=2).write(self._folder / "filter")
        self._write_pack(self._folder / "pack")
        return self._publish()

    def publish_changed(self, changes: int) -> Published:
        """The next one: of `changes` subjects, six in ten are new, three are gone and one has
        another record.
        """
        gone, come = changes * 3 // 10, changes * 6 // 10
        old = self._file("filter")
        others = self._ledger.tokens[:: max(1, self._size // gone)][:gone]
        self._ledger = self._ledger.update(
            added=random_tokens(come, 0), removed=np.ascontiguousarray(others)
        )
        with BloomFilter.open(old) as members:
            self._ledger.build(fpr=_FPR, previous=members, threads=2).write(self._folder / "filter")
        with Pack.open(self._file("pack")) as pack, (self._folder / "pack").open("wb") as file:
            file.writelines(
                apply_deltas(
                    pack, [self._change(pack, gone, come, changes - gone - come)], verify=False
                )
            )
        return self._publish()

    def _epoch_key(self) -> EpochKey:
        epoch = self._runtime.epochs.current(self._audience)
        return EpochKey(self._audience, epoch.number, epoch.key)

    def _file(self, name: str) -> Path:
        return self._runtime.published(self._audience).path(f"listing/{self._audience}/{name}")

    def _write_pack(self, path: Path) -> None:
        drawn = self._rng.integers(0, 1 << 64, self._size - len(self._real.records), np.uint64)
        locators = np.unique(
            np.concatenate([drawn, np.array(sorted(self._real.records), np.uint64)])
        )
        bits = _bucket_bits(locators)
        edges = (
            np.arange(1 << bits, dtype=np.uint64) << np.uint64(8 * LOCATOR_SIZE - bits)
            if bits
            else np.zeros(1, np.uint64)
        )
        bounds = np.append(np.searchsorted(locators, edges), len(locators))
        lengths = np.diff(bounds) * _RECORD + (np.diff(bounds) > 0) * CHECKSUM_SIZE
        with path.open("wb") as file:
            file.write(
                encode_head(
                    self._key.epoch,
                    bits,
                    len(locators),
                    np.append(0, np.cumsum(lengths)).astype(np.uint64),
                )
            )
            for start in range(0, 1 << bits, _BUCKETS_AT_ONCE):
                file.writelines(
                    self._buckets(locators, bounds[start : start + _BUCKETS_AT_ONCE + 1].tolist())
                )

    def _buckets(self, locators: NDArray[np.uint64], bounds: list[int]) -> Iterator[bytes]:
        first, last = bounds[0], bounds[-1]
        records = (
            np.frombuffer(self._rng.bytes((last - first) * _RECORD), np.uint8)
            .reshape(-1, _RECORD)
            .copy()
        )
        records[:, :LOCATOR_SIZE] = (
            locators[first:last].astype(">u8").view(np.uint8).reshape(-1, LOCATOR_SIZE)
        )
        records[:, RECORD_HEAD.size - 1] = SEALED_SIZES[SEALED_BYTES]
        for locator, record in self._real.records.items():
            at = int(np.searchsorted(locators, np.uint64(locator)))
            if first <= at < last:
                records[at - first] = np.frombuffer(record, np.uint8)
        for start, end in pairwise(bounds):
            if start < end:
                content = records[start - first : end - first].tobytes()
                yield zlib.crc32(content).to_bytes(CHECKSUM_SIZE, "big")
                yield content

    def _change(self, pack: Pack, gone: int, come: int, changed: int) -> PackDelta:
        """A delta whose digests nobody asks for: the listing that it leads to is not there yet."""
        removals: list[bytes] = []
        upserts: list[bytes] = []
        met: set[bytes] = set()
        for prefix in (
            np.linspace(0, (1 << pack.bucket_bits) - 1, gone + changed).astype(int).tolist()
        ):
            found = [
                locator + copy.commitment
                for locator, copy in parse_bucket(pack.bucket(prefix), prefix, pack.bucket_bits)
                if int.from_bytes(locator, "big") not in self._real.records
            ]
            # A bucket may be met more than once, where there are fewer buckets than changes.
            key = next(key for key in found if key not in met)
            met.add(key)
            if len(removals) < gone:
                removals.append(key)
            else:
                upserts.append(_random_record(key))
        upserts += [
            _random_record(secrets.token_bytes(LOCATOR_SIZE + COMMITMENT_SIZE)) for _ in range(come)
        ]
        after = pack.record_count - gone + come
        head = (
            MAGIC,
            VERSION,
            pack.bucket_bits,
            0,
            pack.epoch,
            pack.record_count,
            after,
            gone,
            len(upserts),
            bytes(32),
            bytes(32),
        )
        return PackDelta(
            HEADER.pack(*head) + b"".join(sorted(removals)) + b"".join(sorted(upserts))
        )

    def _publish(self) -> Published:
        runtime, audience, repository = self._runtime, self._audience, self._runtime.repository
        published = runtime.published(audience)
        files = {
            f"listing/{audience}/{name}": self._folder / name
            for name in ("filter", "pack", "parameters")
        }
        (self._folder / "parameters").write_bytes(self._parameters(published.versions.listing + 1))
        offers = make_deltas(published, files, self._folder)
        artefacts = {**files, **{offer.path: offer.file for offer in offers}}
        deltas = {offer.path: offer.delta for offer in offers}
        proposal = repository.propose_listing(
            audience, artefacts, runtime.keys.signer(builder_key(audience)), deltas=deltas
        )
        sizes = {path.rpartition("/")[2]: file.stat().st_size for path, file in artefacts.items()}
        for file in artefacts.values():
            file.unlink()
        proposal = repository.sign_off(proposal, runtime.keys.signer(signoff_key(audience)))
        repository.publish_listing(
            proposal, runtime.keys.signer("snapshot"), runtime.keys.signer("timestamp")
        )
        return Published(sizes)

    def _parameters(self, version: int) -> bytes:
        runtime, now = self._runtime, self._runtime.clock()
        publication, policies = runtime.config.publication, runtime.registry.policies()
        made = listing_pb2.ListingParameters(
            audience=self._audience,
            version=version,
            epoch=self._key.epoch,
            relief_max_age_seconds=publication.relief_max_age_seconds,
            stretch=runtime.registry.stretch.to_proto(),
            measures=sorted(policies.audience(self._audience)),
            catalogue_version=policies.version,
            subject_count=len(self._ledger),
            record_count=len(self._ledger),
            relief_sequence=runtime.registry.relief.head(),
        )
        made.built_at.FromDatetime(now)
        made.expires_at.FromDatetime(now + timedelta(seconds=publication.listing_lifetime_seconds))
        return made.SerializeToString(deterministic=True)


def _bucket_bits(locators: NDArray[np.uint64]) -> int:
    """As PackBuilder.spread chooses for a first pack."""
    most = max(0, (len(locators) // RECORDS_A_BUCKET).bit_length() - 1)
    for bits in range(most, 0, -1):
        prefixes = (locators >> np.uint64(8 * LOCATOR_SIZE - bits)).astype(np.int64)
        if np.bincount(prefixes, minlength=1 << bits).min() >= LEAST_NUMBERS:
            return bits
    return 0


def _random_record(key: bytes) -> bytes:
    return encode_record(key[:LOCATOR_SIZE], key[LOCATOR_SIZE:], secrets.token_bytes(SEALED_BYTES))
