"""A few listed people and everything a decision looks at, in memory: real keys, filter, pack and
relief, cheaply stretched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from tipstaff.v1 import catalogue_pb2, identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.decision.evidence import DecisionState
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.catalogue import Catalogue
from tipstaff_sdk.listing.relief import Relief, Segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch, seal
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tipstaff_sdk.identity.identifier import Identifier

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
AUDIENCE = "aviation"
EPOCH = 3
MASTER = bytes(range(32))
CHEAP = Stretch(salt=bytes(16), n=2, r=1, p=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

AIR = "AIR_TRAVEL"
RAIL = "RAIL_HIGH_CLASS"
LOAN = "LOAN_PRICING"
GREEN = "GREEN_CHANNEL"
HOTEL = "STAR_HOTEL"
DROPPED = "TOURISM"


def bilingual(zh: str, en: str) -> identity_pb2.BilingualText:
    return identity_pb2.BilingualText(zh=zh, en=en)


def measure(code: str, *, force: int = 1, nature: int = 1, **fields: Any) -> catalogue_pb2.Measure:
    return catalogue_pb2.Measure(
        code=code,
        title=bilingual(f"措施{code}", f"Measure {code}"),
        force=force,  # type: ignore[arg-type]
        nature=nature,  # type: ignore[arg-type]
        legal_basis=bilingual("示例规定", "Example provision"),
        still_allowed=bilingual("其余不限", "All else"),
        **fields,
    )


def rail() -> catalogue_pb2.Measure:
    """Every seat on G trains, first class on D trains."""
    attribute, condition, rule = (
        catalogue_pb2.ServiceAttribute,
        catalogue_pb2.ServiceCondition,
        catalogue_pb2.ServiceRule,
    )
    return measure(
        RAIL,
        attributes=[
            attribute(
                name="train_class", title=bilingual("车次", "Train"), choices=["G", "D", "OTHER"]
            ),
            attribute(name="seat", title=bilingual("席别", "Seat"), choices=["FIRST", "SECOND"]),
        ],
        rules=[
            rule(
                all_of=[condition(attribute="train_class", any_of=["G"])],
                covered=True,
                title=bilingual("高铁", "G trains"),
            ),
            rule(
                all_of=[
                    condition(attribute="train_class", any_of=["D"]),
                    condition(attribute="seat", any_of=["FIRST"]),
                ],
                covered=True,
                title=bilingual("动车一等座", "First class on D trains"),
            ),
            rule(covered=False, title=bilingual("其他", "Others")),
        ],
    )


def hotel() -> catalogue_pb2.Measure:
    """From three stars on."""
    return measure(
        HOTEL,
        attributes=[
            catalogue_pb2.ServiceAttribute(
                name="stars", title=bilingual("星级", "Stars"), numeric=True
            )
        ],
        rules=[
            catalogue_pb2.ServiceRule(
                all_of=[catalogue_pb2.ServiceCondition(attribute="stars", at_least=3)],
                covered=True,
                title=bilingual("三星", "Three stars"),
            ),
            catalogue_pb2.ServiceRule(covered=False, title=bilingual("其他", "Others")),
        ],
    )


def catalogue_message() -> catalogue_pb2.Catalogue:
    measures = [
        measure(AIR),
        measure(GREEN, force=2, nature=2),
        measure(LOAN, force=2),
        rail(),
        hotel(),
    ]
    message = catalogue_pb2.Catalogue(version=1, measures=sorted(measures, key=lambda m: m.code))
    message.made_at.FromDatetime(NOW - 30 * DAY)
    return message


def exemption(
    first: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    measures: Sequence[str] = (),
    exemption_id: bytes = b"e" * 16,
) -> listing_pb2.Exemption:
    made = listing_pb2.Exemption(
        exemption_id=exemption_id,
        measures=measures,
        reason=bilingual("奔丧一次", "one journey to a funeral"),
    )
    made.valid_from.FromDatetime(first)
    made.valid_until.FromDatetime(end)
    return made


def restriction(
    number: int = 1,
    measures: Sequence[str] = (AIR,),
    *,
    first: datetime = NOW - 100 * DAY,
    end: datetime = NOW + 100 * DAY,
    exemptions: Iterable[listing_pb2.Exemption] = (),
    floor: int = 0,
    capacity: int = 0,
) -> listing_pb2.RecordRestriction:
    made = listing_pb2.RecordRestriction(
        restriction_id=bytes([number]) * 16,
        measures=sorted(measures),
        authority_id="court",
        authority_name=bilingual("示例法院", "Example Court"),
        legal_basis="示例规定第三条",
        case_number=f"（2026）示执{number}号",
        exemptions=list(exemptions),
        dispute=listing_pb2.DisputeInstructions(
            text=bilingual("向法院提出", "Ask the court"), suspends=True
        ),
        capacity=capacity,  # type: ignore[arg-type]
        organisation_name="示例有限公司" if capacity else "",
        relief_floor=floor,
    )
    made.effective_at.FromDatetime(first)
    made.expires_at.FromDatetime(end)
    return made


def record(*restrictions: listing_pb2.RecordRestriction) -> listing_pb2.Record:
    ordered = sorted(restrictions, key=lambda r: r.restriction_id)
    return listing_pb2.Record(
        version=1, subject_type=identity_pb2.SUBJECT_TYPE_PERSON, restrictions=ordered
    )


class SealedWorld:
    """List people, then ask for the state at a moment."""

    def __init__(self, stretch: Stretch = CHEAP) -> None:
        self.key = EpochKey(AUDIENCE, EPOCH, MASTER)
        self.stretch = stretch
        self.records: list[tuple[bytes, bytes, bytes]] = []
        self.tokens: list[bytes] = []
        self.segments: list[Segment] = []
        self.catalogue = Catalogue(catalogue_message())
        self.measures = sorted([AIR, RAIL, HOTEL, LOAN, GREEN])

    def list(
        self, identifier: Identifier, name: str, *restrictions: listing_pb2.RecordRestriction
    ) -> None:
        """One record under one name."""
        self.list_record(identifier, name, record(*restrictions))

    def list_record(self, identifier: Identifier, name: str, content: listing_pb2.Record) -> None:
        keys = self.key.derive(self.stretch.stretch(identifier)).name_keys(canonical_name(name))
        self.list_sealed(identifier, keys.commitment, seal(keys, content))

    def list_sealed(self, identifier: Identifier, commitment: bytes, sealed: bytes) -> None:
        locator = self.key.derive(self.stretch.stretch(identifier)).locator
        self.records.append((locator, commitment, sealed))
        self.only_in_filter(identifier)

    def only_in_filter(self, identifier: Identifier) -> None:
        """A false positive."""
        self.tokens.append(self.key.tokeniser.token(identifier))

    def lift(self, *numbers: int, sequence: int | None = None) -> None:
        """One segment, right after the last one."""
        first = self.segments[-1].last + 1 if self.segments else 11
        at = sequence or first
        self.segments.append(
            Segment(
                first,
                max(first, at),
                tuple(sorted((at, bytes([number]) * 16) for number in numbers)),
            )
        )

    def parameters(self, **changes: Any) -> listing_pb2.ListingParameters:
        fields: dict[str, Any] = {
            "audience": AUDIENCE,
            "version": 7,
            "epoch": EPOCH,
            "relief_sequence": 10,
            "relief_max_age_seconds": 1800,
            "stretch": self.stretch.to_proto(),
            "measures": self.measures,
            "catalogue_version": 1,
        }
        built_at, expires_at = (
            changes.pop("built_at", NOW - 6 * HOUR),
            changes.pop("expires_at", NOW + 7 * DAY),
        )
        made = listing_pb2.ListingParameters(**(fields | changes))
        if built_at is not None:
            made.built_at.FromDatetime(built_at)
        if expires_at is not None:
            made.expires_at.FromDatetime(expires_at)
        return made

    def filter(self, epoch: int = EPOCH) -> BloomFilter:
        tokens = np.frombuffer(b"".join(self.tokens), np.uint8).reshape(-1, 16)
        return BloomFilter.build(tokens, epoch=epoch, capacity=max(1000, len(tokens)), fpr=1e-5)

    def pack(self) -> Pack:
        with PackBuilder(EPOCH) as builder:
            for entry in self.records:
                builder.add(*entry)
            return Pack.from_buffer(builder.to_bytes())

    def relief(self, signed_at: datetime = NOW - timedelta(minutes=1)) -> Relief:
        return Relief.from_segments(self.segments, 10, signed_at)

    def state(self, **changes: Any) -> DecisionState:
        parts: dict[str, Any] = {
            "parameters": self.parameters(),
            "catalogue": self.catalogue,
            "filter": self.filter(),
            "pack": self.pack(),
            "relief": self.relief(),
            "epoch_keys": {EPOCH: self.key},
            "stretch": self.stretch,
        }
        return DecisionState(**(parts | changes))
