"""What a decision looks at: one consistent version of listing, relief, catalogue and keys, and
where they come from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.decision.decision import Finding, Reason
from tipstaff_sdk.errors import MeasureNotCoveredError, ParametersError
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.catalogue import Catalogue
from tipstaff_sdk.listing.relief import Relief
from tipstaff_sdk.listing.sealing import EpochKey
from tipstaff_sdk.packs.pack import SealedCopy

__all__ = ["DecisionState", "Filter", "RecordSource", "Service", "Stretcher"]

# What is bought: values by attribute name, as the measure's catalogue entry asks for them.
Service: TypeAlias = Mapping[str, str | float]


class Filter(Protocol):
    """Membership of tokens: tipstaff_bloom.BloomFilter."""

    @property
    def contains(self) -> Callable[[bytes], bool]:
        """Takes a token of 16 bytes; False is certain."""
        ...

    def asking(self, token_of: Callable[[bytes], bytes]) -> Callable[[bytes], bool]:
        """`contains(token_of(block))` as one function of the block."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch whose key made the tokens."""
        ...


class RecordSource(Protocol):
    """Sealed records by locator: a `Pack`, or one that asks for buckets.

    Raises a TipstaffError when they cannot be had.
    """

    def find(self, locator: bytes) -> Sequence[SealedCopy]:
        """Sealed copies at a locator of 8 bytes."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch whose key made locators and records."""
        ...


class Stretcher(Protocol):
    """S of an identifier: a `Stretch`, or one that remembers.

    Raises a TipstaffError when it cannot be had.
    """

    def stretch(self, identifier: Identifier) -> bytes:
        """32 bytes."""
        ...


@dataclass(frozen=True)
class DecisionState:
    """One consistent version of everything that a decision looks at. Safe to share between threads.

    parameters: of the listing. filter, pack: of the same listing; pack is None where records cannot
    be had. relief: None when there is none yet, which is as stale as can be. epoch_keys: by epoch;
    a missing one makes every answer UNKNOWN. The other fields follow from these. may_list: whether
    the filter holds a packed number (`Identifier.block`); None without the key. Raises
    ParametersError when they do not belong together.
    """

    parameters: listing_pb2.ListingParameters
    catalogue: Catalogue
    filter: Filter
    pack: RecordSource | None
    relief: Relief | None
    epoch_keys: Mapping[int, EpochKey] = field(repr=False)
    stretch: Stretcher
    expires_at: datetime = field(init=False)
    floor: datetime = field(init=False)
    relief_max_age: timedelta = field(init=False)
    key: EpochKey | None = field(init=False)
    may_list: Callable[[bytes], bool] | None = field(init=False, repr=False)
    clear: Mapping[str, Finding] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parameters = self.parameters
        key = self.epoch_keys.get(parameters.epoch)
        if key is not None and (key.epoch, key.audience) != (parameters.epoch, parameters.audience):
            raise ParametersError(
                "The epoch key is of another audience or epoch than the listing: fetch the keys"
                " again."
            )
        if self.filter.epoch != parameters.epoch or (
            self.pack is not None and self.pack.epoch != parameters.epoch
        ):
            raise ParametersError(
                "Filter, pack and parameters are of different epochs: synchronise again."
            )
        built_at = _moment(parameters.built_at)
        derived = {
            "expires_at": _moment(parameters.expires_at),
            "floor": built_at if self.relief is None else max(built_at, self.relief.signed_at),
            "relief_max_age": timedelta(seconds=parameters.relief_max_age_seconds),
            "key": key,
            "may_list": None if key is None else self.filter.asking(key.tokeniser.encrypt),
            "clear": {code: self._clear(code, built_at) for code in parameters.measures},
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _clear(self, code: str, built_at: datetime) -> Finding:
        parameters = self.parameters
        return Finding(
            reason=Reason.NOT_LISTED,
            measure=code,
            entry=self.catalogue.measures.get(code),
            as_of=built_at,
            listing_version=parameters.version,
            relief_sequence=parameters.relief_sequence if self.relief is None else self.relief.head,
        )

    def require_use(self, code: str, service: Service | None) -> Finding:
        """Step 2 of a decision: what is found for those who are not listed, once the service is
        described as the measure asks.

        Raises UnknownMeasureError, MeasureNotCoveredError, InvalidServiceError.
        """
        clear = self.clear.get(code)
        if clear is None:
            self.catalogue.measure(code)
            raise MeasureNotCoveredError(
                f"{code} is not one of the measures that this audience enforces: check the"
                " settings' audience."
            )
        entry = clear.entry
        if entry is not None and (service or entry.attributes):
            entry.require_service(service)
        return clear

    def held(self, now: datetime) -> datetime:
        """The clock, but never before the floor, the last moment at which any of this was signed: a
        clock set back brings back no term.

        Ages are judged by the clock itself (`relief_is_fresh`): held at the floor, old relief would
        look fresh for ever.
        """
        return max(now, self.floor)

    def relief_is_fresh(self, now: datetime) -> bool:
        """Whether relief leaves no lift unknown, but those of the last `relief_max_age`.

        A signature as far in the future is no better than an old one: the clock here is wrong, and
        nobody knows how old it is.
        """
        return (
            self.relief is not None
            and self.relief.complete
            and abs(now - self.relief.signed_at) <= self.relief_max_age
        )


def _moment(timestamp: Timestamp) -> datetime:
    """Aware UTC; zero is what a missing time looks like."""
    if timestamp.seconds <= 0:
        raise ParametersError(
            "A listing's parameters lack when it was built or expires: tell the operator."
        )
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise ParametersError(
            "A listing's parameters hold a time beyond the calendar: tell the operator."
        ) from None
