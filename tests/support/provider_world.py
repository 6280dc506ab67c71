"""A small operator for tests of the SDK: real keys, a real signed repository, real sealed records,
and the kit that a provider gets.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from tipstaff.v1 import catalogue_pb2, identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.relief import encode_segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch, seal
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_server.certificates.development_ca import CertificateAuthority
from tipstaff_signing import Repository, Versions, create_key_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

AUDIENCE = "aviation"
MEASURE = "AIR_TRAVEL"
HOTEL = "STAR_HOTEL"


def utc_now() -> datetime:
    return datetime.now(UTC)


def resident_id(number: int) -> str:
    """A synthetic resident ID with a valid check digit (GB 11643); `number` below 1,000 gives the
    sequence part.
    """
    body = f"11010519491231{number:03d}"
    weights = [2 ** (17 - i) % 11 for i in range(17)]
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


@dataclass
class Listed:
    """Somebody on the list."""

    number: str
    name: str
    measures: Sequence[str] = (MEASURE,)
    restriction_ids: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(16)])
    effective_at: datetime | None = None
    expires_at: datetime | None = None

    def record(self, now: datetime) -> listing_pb2.Record:
        record = listing_pb2.Record(version=1, subject_type=identity_pb2.SUBJECT_TYPE_PERSON)
        for restriction_id in sorted(self.restriction_ids):
            restriction = record.restrictions.add(
                restriction_id=restriction_id,
                measures=sorted(self.measures),
                authority_id="court-1",
                authority_name=identity_pb2.BilingualText(zh="示例法院", en="Example Court"),
                legal_basis="示例条款",
                case_number="(2026)示例执1号",
                dispute=listing_pb2.DisputeInstructions(
                    text=identity_pb2.BilingualText(zh="向法院提出", en="Ask the court"),
                    suspends=True,
                ),
            )
            restriction.effective_at.FromDatetime(self.effective_at or now - timedelta(days=10))
            restriction.expires_at.FromDatetime(self.expires_at or now + timedelta(days=365))
        return record


def catalogue() -> catalogue_pb2.Catalogue:
    def text(zh: str, en: str) -> identity_pb2.BilingualText:
        return identity_pb2.BilingualText(zh=zh, en=en)

    made = catalogue_pb2.Catalogue(version=1)
    made.made_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    for code, title in [
        (MEASURE, text("乘坐飞机", "Air travel")),
        (HOTEL, text("星级宾馆", "Star hotels")),
    ]:
        measure = made.measures.add(
            code=code,
            title=title,
            force=catalogue_pb2.MEASURE_FORCE_MANDATORY,
            nature=catalogue_pb2.MEASURE_NATURE_RESTRICTION,
            legal_basis=text("示例", "Example"),
            still_allowed=text("普通列车", "Ordinary trains"),
        )
        if code == HOTEL:
            measure.attributes.add(name="stars", title=text("星级", "Stars"), numeric=True)
            rule = measure.rules.add(covered=True, title=text("三星级以上", "Three stars and more"))
            rule.all_of.add(attribute="stars", at_least=3)
            measure.rules.add(covered=False, title=text("其他", "Others"))
    return made


class Operator:
    """Publishes for one audience in `folder`. Times come from `clock`."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        relief_max_age: timedelta = timedelta(minutes=30),
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.clock = clock
        self.relief_max_age = relief_max_age
        self.keys = create_key_files(folder / "keys", audiences=[AUDIENCE])
        content = catalogue().SerializeToString(deterministic=True)
        self.repository = Repository.create(
            folder / "repository", self.keys, audiences=[AUDIENCE], catalogue=content, clock=clock
        )
        self.epochs = {1: secrets.token_bytes(32)}
        self.stretch = Stretch(salt=bytes(16), n=2, r=1, p=1)
        self.listing_version = 0
        self.relief: list[tuple[int, bytes]] = []
        self.authority = CertificateAuthority.create()
        self.server_certificate = self.authority.issue_server(["localhost", "127.0.0.1"])

    @property
    def epoch(self) -> int:
        return max(self.epochs)

    def publish(
        self, listed: Sequence[Listed], *, expires_in: timedelta = timedelta(days=7)
    ) -> Versions:
        """Publishes a listing of these people, signed by both keys."""
        now = self.clock()
        self.listing_version += 1
        work = self.folder / f"build-{self.listing_version}"
        work.mkdir()
        key = EpochKey(AUDIENCE, self.epoch, self.epochs[self.epoch])
        identifiers = [Identifier.resident_id(one.number) for one in listed]
        tokens = key.tokeniser.tokens(identifiers) if listed else np.empty((0, 16), np.uint8)
        BloomFilter.build(tokens, epoch=self.epoch, capacity=max(100, len(listed))).write(
            work / "filter"
        )
        with_pack = PackBuilder(self.epoch)
        for one, identifier in zip(listed, identifiers, strict=True):
            keys = key.derive(self.stretch.stretch(identifier))
            names = keys.name_keys(canonical_name(one.name))
            with_pack.add(keys.locator, names.commitment, seal(names, one.record(now)))
        with_pack.write(work / "pack")
        with_pack.close()
        parameters = listing_pb2.ListingParameters(
            audience=AUDIENCE,
            version=self.listing_version,
            epoch=self.epoch,
            relief_sequence=0,
            relief_max_age_seconds=int(self.relief_max_age.total_seconds()),
            stretch=self.stretch.to_proto(),
            measures=sorted([MEASURE, HOTEL]),
            catalogue_version=1,
            subject_count=len(listed),
            record_count=len(listed),
        )
        parameters.built_at.FromDatetime(now)
        parameters.expires_at.FromDatetime(now + expires_in)
        (work / "parameters").write_bytes(parameters.SerializeToString(deterministic=True))
        artefacts = {
            f"listing/{AUDIENCE}/{name}": work / name for name in ("filter", "pack", "parameters")
        }
        proposal = self.repository.propose_listing(
            AUDIENCE, artefacts, self.keys.signer(f"listing-{AUDIENCE}-builder")
        )
        proposal = self.repository.sign_off(
            proposal, self.keys.signer(f"listing-{AUDIENCE}-signoff")
        )
        return self.repository.publish_listing(
            proposal, self.keys.signer("snapshot"), self.keys.signer("timestamp")
        )

    def lift(self, *restriction_ids: bytes) -> Versions:
        """Lifts these restrictions, at once."""
        for restriction_id in restriction_ids:
            self.relief.append((len(self.relief) + 1, restriction_id))
        return self.publish_segment(1, len(self.relief), self.relief)

    def publish_segment(
        self, first: int, last: int, entries: Sequence[tuple[int, bytes]]
    ) -> Versions:
        segment = {f"relief/{AUDIENCE}/{first}-{last}": encode_segment(first, last, entries)}
        return self.repository.publish_relief(AUDIENCE, segment, *self._online())

    def refresh(self) -> Versions:
        """Signs relief again without a change."""
        return self.repository.refresh(AUDIENCE, *self._online())

    def _online(self) -> tuple[object, object, object]:
        return (
            self.keys.signer(f"relief-{AUDIENCE}"),
            self.keys.signer("snapshot"),
            self.keys.signer("timestamp"),
        )

    def kit(
        self,
        folder: Path,
        *,
        provider: str = "airline-1",
        audience: str = AUDIENCE,
        **settings: object,
    ) -> Path:
        """Makes what the operator gives a provider; returns its tipstaff.toml."""
        folder.mkdir(parents=True, exist_ok=True)
        self.authority.issue_client(f"tipstaff://provider/{audience}/{provider}").write(folder)
        (folder / "ca.pem").write_bytes(self.authority.certificate)
        (folder / "root.json").write_bytes(self.repository.root_bytes())
        values: dict[str, object] = {
            "audience": AUDIENCE,
            "state_dir": "state",
            "ca_file": "ca.pem",
            "certificate_file": "certificate.pem",
            "private_key_file": "private_key.pem",
            "trusted_root_file": "root.json",
            "backoff_initial": 0.05,
            "backoff_maximum": 0.2,
            "flush_interval": 0.2,
            **settings,
        }
        lines = (
            f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for name, value in values.items()
        )
        path = folder / "tipstaff.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path
