"""What an authority enters, and every rule about it that needs no database.

`Entry.from_proto` and the list import both make an `Entry`; `check` holds it against the rules.
Personal data never shows in a repr.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tipstaff.v1 import identity_pb2, registry_pb2
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.domain.parties import (
    EARLIEST,
    LATEST,
    ORGANISATION,
    PERSON,
    Party,
    Responsible,
    canonical_party,
    check_party,
    rebuild,
)
from tipstaff_server.errors import EntryCode, EntryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from tipstaff_server.administration.policies import Policies

__all__ = ["Entry", "check", "check_legal_basis", "check_measures", "check_term"]

MAX_RESPONSIBLE, MAX_MEASURES = 32, 100
MAX_CASE_NUMBER, MAX_LEGAL_BASIS, MAX_DECIDED_BY = 100, 500, 200
KEPT = 1 << 15
_canonical_json = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Entry:
    """One restriction to enter.

    `decided_by`: the deciding court's own name, where an authority enters for several.
    """

    party: Party
    list_id: str
    measures: tuple[str, ...]
    legal_basis: str
    case_number: str
    effective_at: datetime
    expires_at: datetime
    case_opened_at: datetime | None = None
    published_at: datetime | None = None
    decided_by: str = ""
    responsible: tuple[Responsible, ...] = ()
    # For which authority `canonical` was asked last, and what it said.
    _told: tuple[str, bytes] = field(init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (
            Entry,
            "_told",
            getattr(self, "_told", None),
            *(getattr(self, name) for name in _ENTRY_FIELDS),
        )

    @classmethod
    def from_proto(cls, message: registry_pb2.RestrictionEntry) -> Entry:
        """From the contract's message. Raises EntryError."""
        subject = message.subject
        responsible = tuple(
            Responsible(int(person.capacity), _party(PERSON, person.identifiers, person.names))
            for person in subject.responsible_persons
        )
        return cls(
            party=_party(int(subject.type), subject.identifiers, subject.names),
            list_id=message.list_id,
            measures=tuple(sorted(set(message.measures))),
            legal_basis=message.legal_basis.strip(),
            case_number=message.case_number.strip(),
            effective_at=_moment(
                message.effective_at, present=message.HasField("effective_at"), what="effective_at"
            ),
            expires_at=_term(message),
            case_opened_at=_optional(
                message.case_opened_at, present=message.HasField("case_opened_at")
            ),
            published_at=_optional(message.published_at, present=message.HasField("published_at")),
            responsible=responsible,
        )

    def canonical(self, authority_id: str) -> bytes:
        """What makes two entries the same one, as bytes.

        Holds personal data: only ever hashed under the vault's key.
        """
        told = getattr(self, "_told", None)
        if told is None or told[0] != authority_id:
            told = (authority_id, self._canonical(authority_id))
            object.__setattr__(self, "_told", told)
        return told[1]

    def _canonical(self, authority_id: str) -> bytes:
        parts = [
            authority_id,
            canonical_party(self.party),
            sorted((person.capacity, canonical_party(person.party)) for person in self.responsible),
            self.list_id,
            sorted(self.measures),
            self.legal_basis,
            self.case_number,
            self.decided_by,
            [
                None if moment is None else _iso(moment)
                for moment in (
                    self.effective_at,
                    self.expires_at,
                    self.case_opened_at,
                    self.published_at,
                )
            ],
        ]
        return _canonical_json(parts).encode()


_ENTRY_FIELDS = tuple(item.name for item in fields(Entry) if item.init)


def check(entry: Entry, authority_id: str, policies: Policies, max_term: timedelta) -> None:
    """Holds an entry against the rules that do not depend on the present moment.

    Raises EntryError.
    """
    check_party(entry.party)
    _check_responsible(entry)
    if entry.list_id not in policies.lists:
        raise EntryError(
            EntryCode.LIST_UNKNOWN,
            f"there is no list {entry.list_id[:64]!r}; lists: {', '.join(sorted(policies.lists))}",
        )
    check_measures(entry.measures, authority_id, policies)
    _check_text(entry.case_number, MAX_CASE_NUMBER, EntryCode.CASE_NUMBER, "case number")
    check_legal_basis(entry.legal_basis)
    if entry.decided_by:
        _check_text(
            entry.decided_by, MAX_DECIDED_BY, EntryCode.FIELD_TOO_LONG, "name of the deciding court"
        )
    _check_term(entry, max_term)


def _party(
    kind: int, identifiers: Iterable[identity_pb2.Identifier], names: Iterable[str]
) -> Party:
    try:
        return Party(kind, tuple(Identifier.from_proto(item) for item in identifiers), tuple(names))
    except InvalidIdentifierError as error:
        raise EntryError(EntryCode.IDENTIFIER_INVALID, str(error)) from None


@lru_cache(KEPT)
def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _moment(value: Timestamp, *, present: bool, what: str) -> datetime:
    if not present:
        raise EntryError(EntryCode.DATE_MISSING, f"{what} is missing; give it")
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise EntryError(
            EntryCode.DATE_INVALID, f"{what} is not a moment between the years 1 and 9999"
        ) from None


def _term(message: registry_pb2.RestrictionEntry) -> datetime:
    if not message.HasField("expires_at"):
        raise EntryError(
            EntryCode.TERM_MISSING,
            "expires_at is missing: no restriction is open-ended, give its end",
        )
    return _moment(message.expires_at, present=True, what="expires_at")


def _optional(value: Timestamp, *, present: bool) -> datetime | None:
    return _moment(value, present=True, what="case_opened_at or published_at") if present else None


def _check_responsible(entry: Entry) -> None:
    if entry.responsible and entry.party.type != ORGANISATION:
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON, "only an organisation has responsible persons"
        )
    if len(entry.responsible) > MAX_RESPONSIBLE:
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON, f"at most {MAX_RESPONSIBLE} responsible persons"
        )
    for person in entry.responsible:
        if person.capacity not in identity_pb2.Capacity.values() or not person.capacity:
            raise EntryError(
                EntryCode.RESPONSIBLE_PERSON,
                "say in which capacity each responsible person answers",
            )
        check_party(person.party)


def check_measures(measures: Sequence[str], authority_id: str, policies: Policies) -> None:
    """Raises EntryError: none, too many, unknown, or not this authority's to impose."""
    if not 1 <= len(measures) <= MAX_MEASURES:
        raise EntryError(EntryCode.MEASURE_MISSING, f"give between 1 and {MAX_MEASURES} measures")
    if unknown := _missing(measures, policies.measures):
        raise EntryError(
            EntryCode.MEASURE_UNKNOWN,
            f"no such measure in the catalogue: {unknown}; give codes of the catalogue in force",
        )
    if refused := _missing(measures, policies.authorities[authority_id].entitlements):
        raise EntryError(
            EntryCode.MEASURE_NOT_ENTITLED,
            f"{authority_id} is not entitled to: {refused}; leave it out, or have the operator add"
            " it to your entitlements",
        )


def _missing(codes: Sequence[str], known: frozenset[str]) -> str:
    return (
        ""
        if known.issuperset(codes)
        else ", ".join(sorted(code[:64] for code in set(codes) - set(known)))
    )


def check_legal_basis(text: str) -> None:
    """Raises EntryError: empty, too long, or with line breaks."""
    _check_text(text, MAX_LEGAL_BASIS, EntryCode.LEGAL_BASIS, "legal basis")


def _check_text(text: str, limit: int, code: EntryCode, what: str) -> None:
    if not text.strip():
        raise EntryError(code, f"the {what} is missing; give it")
    if len(text) > limit:
        raise EntryError(code, f"the {what} is longer than {limit} characters; shorten it")
    if not text.isprintable():
        raise EntryError(code, f"the {what} holds control characters or line breaks")


def _check_term(entry: Entry, max_term: timedelta) -> None:
    moments = (entry.effective_at, entry.expires_at, entry.case_opened_at, entry.published_at)
    if any(moment is not None and not EARLIEST <= moment <= LATEST for moment in moments):
        raise EntryError(
            EntryCode.DATE_INVALID,
            f"dates have to lie between {EARLIEST.year} and {LATEST.year}; correct them",
        )
    check_term(entry.effective_at, entry.expires_at, max_term)


def check_term(effective_at: datetime, expires_at: datetime, max_term: timedelta) -> None:
    """Raises EntryError: inverted, too long, or beyond the calendar."""
    if expires_at > LATEST:
        raise EntryError(
            EntryCode.DATE_INVALID,
            f"dates have to lie between {EARLIEST.year} and {LATEST.year}; correct them",
        )
    if expires_at <= effective_at:
        raise EntryError(
            EntryCode.TERM_INVERTED,
            "the term ends before it begins; correct effective_at or expires_at",
        )
    if expires_at - effective_at > max_term:
        raise EntryError(
            EntryCode.TERM_TOO_LONG,
            f"the term is longer than {max_term.days} days; shorten it, and enter anew what goes on"
            " after it",
        )
