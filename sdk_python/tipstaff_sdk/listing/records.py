"""What an opened record says: the restrictions of one subject, as one audience may see them.

Strict, because a denial may rest on it: a record in which anything is missing is refused whole, and
the decision then asks for a person. Fields that this version does not know are left alone; one that
changes what a known field means comes with a new record version.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from itertools import pairwise
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff_sdk.errors import RecordFormatError
from tipstaff_sdk.texts import Bilingual

__all__ = ["Capacity", "Exemption", "Restriction", "restrictions_of"]

_ID_SIZE: Final = 16


class Capacity(IntEnum):
    """In which capacity somebody answers for an organisation; values as in tipstaff.v1.Capacity."""

    LEGAL_REPRESENTATIVE = 1
    PRINCIPAL = 2
    DIRECTLY_RESPONSIBLE = 3
    ACTUAL_CONTROLLER = 4


@dataclass(frozen=True, slots=True)
class Exemption:
    """A narrow permission inside a restriction.

    Its end is exclusive; no measures means all of the restriction.
    """

    exemption_id: bytes
    restriction_id: bytes
    measures: frozenset[str]
    valid_from: datetime
    valid_until: datetime
    reason: Bilingual

    def permits(self, measure: str, now: datetime) -> bool:
        """Whether it lets this measure be used now."""
        return (
            not self.measures or measure in self.measures
        ) and self.valid_from <= now < self.valid_until


@dataclass(frozen=True, slots=True, repr=False)
class Restriction:
    """An authority's decision about one subject. Its end is exclusive.

    capacity and organisation_name: how the subject is reached, when it is an organisation's
    restriction; otherwise None and "". dispute, dispute_suspends: how to say that it is wrong, and
    whether that suspends it meanwhile. relief_floor: lifts up to this sequence do not lift it,
    because it has been put in force again since. post_ids: the posts through which it reaches the
    subject, with capacity; once relief names all of them, it no longer does.
    """

    restriction_id: bytes
    measures: frozenset[str]
    authority_id: str
    authority_name: Bilingual
    legal_basis: str
    case_number: str
    effective_at: datetime
    expires_at: datetime
    exemptions: tuple[Exemption, ...]
    dispute: Bilingual
    dispute_suspends: bool
    capacity: Capacity | None
    organisation_name: str
    relief_floor: int
    post_ids: frozenset[bytes] = frozenset()

    def __repr__(self) -> str:
        return f"Restriction({self.restriction_id.hex()})"


def restrictions_of(record: listing_pb2.Record) -> tuple[Restriction, ...]:
    """The restrictions of a record, by id.

    Raises RecordFormatError when one lacks what it has to have.
    """
    if record.subject_type not in {
        identity_pb2.SUBJECT_TYPE_PERSON,
        identity_pb2.SUBJECT_TYPE_ORGANISATION,
    }:
        raise RecordFormatError(
            "A record does not say whether it is a person's or an organisation's: tell the"
            " operator."
        )
    restrictions = tuple(_restriction(message) for message in record.restrictions)
    if any(
        before.restriction_id >= after.restriction_id for before, after in pairwise(restrictions)
    ):
        raise RecordFormatError(
            "A record's restrictions are not in order, or one is there twice: tell the operator."
        )
    return restrictions


def _restriction(message: listing_pb2.RecordRestriction) -> Restriction:
    restriction_id = _id(message.restriction_id)
    effective_at, expires_at = _term(message.effective_at, message.expires_at)
    if not (
        message.measures and message.authority_id and message.legal_basis and message.case_number
    ):
        raise RecordFormatError(
            "A restriction lacks measures, authority, legal basis or case number: tell the"
            " operator."
        )
    return Restriction(
        restriction_id=restriction_id,
        measures=frozenset(message.measures),
        authority_id=message.authority_id,
        authority_name=Bilingual.from_proto(
            message.authority_name, "A restriction's authority", RecordFormatError
        ),
        legal_basis=message.legal_basis,
        case_number=message.case_number,
        effective_at=effective_at,
        expires_at=expires_at,
        exemptions=tuple(_exemption(exemption, restriction_id) for exemption in message.exemptions),
        dispute=Bilingual.from_proto(
            message.dispute.text, "How to dispute a restriction", RecordFormatError
        ),
        dispute_suspends=message.dispute.suspends,
        capacity=_capacity(message.capacity),
        organisation_name=message.organisation_name,
        relief_floor=message.relief_floor,
        post_ids=_posts(message),
    )


def _exemption(message: listing_pb2.Exemption, restriction_id: bytes) -> Exemption:
    valid_from, valid_until = _term(message.valid_from, message.valid_until)
    return Exemption(
        exemption_id=_id(message.exemption_id),
        restriction_id=restriction_id,
        measures=frozenset(message.measures),
        valid_from=valid_from,
        valid_until=valid_until,
        reason=Bilingual.from_proto(message.reason, "An exemption's reason", RecordFormatError),
    )


def _id(value: bytes) -> bytes:
    if len(value) != _ID_SIZE:
        raise RecordFormatError(
            f"An id in a record is {_ID_SIZE} bytes, not {len(value)}: tell the operator."
        )
    return value


def _posts(message: listing_pb2.RecordRestriction) -> frozenset[bytes]:
    if message.post_ids and not message.capacity:
        raise RecordFormatError("A restriction names posts and no capacity: tell the operator.")
    return frozenset(_id(post) for post in message.post_ids)


def _capacity(value: int) -> Capacity | None:
    try:
        return Capacity(value) if value else None
    except ValueError:
        raise RecordFormatError(
            "A restriction names a capacity that is not known here: update this software."
        ) from None


def _term(first: Timestamp, end: Timestamp) -> tuple[datetime, datetime]:
    """First moment and exclusive end.

    Zero is what a missing time looks like, and none is that old.
    """
    try:
        term = first.ToDatetime(UTC), end.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise RecordFormatError(
            "A restriction or exemption has a time beyond the calendar: tell the operator."
        ) from None
    if not (first.seconds and end.seconds) or term[0] >= term[1]:
        raise RecordFormatError(
            "A restriction or exemption has no term, or one that ends before it begins: tell the"
            " operator."
        )
    return term
