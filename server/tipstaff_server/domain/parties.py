"""Whom an entry is on: a party with its numbers and names, and who answers for an organisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tipstaff.v1 import identity_pb2
from tipstaff_sdk.errors import InvalidNameError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.errors import EntryCode, EntryError

__all__ = [
    "EARLIEST",
    "LATEST",
    "MAX_IDENTIFIERS",
    "MAX_NAMES",
    "ORGANISATION",
    "PERSON",
    "Party",
    "Responsible",
    "canonical_party",
    "check_party",
    "rebuild",
]

PERSON = int(identity_pb2.SUBJECT_TYPE_PERSON)
ORGANISATION = int(identity_pb2.SUBJECT_TYPE_ORGANISATION)
MAX_IDENTIFIERS, MAX_NAMES = 8, 16
EARLIEST = datetime(1949, 10, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Party:
    """Identifiers and names of one person or organisation; the current name first."""

    type: int
    identifiers: tuple[Identifier, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    # Asked for at every step of an entry's way, and computed at the first.
    _canonical: dict[str, str] = field(init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Millions of them travel from process to process: what dataclasses do by themselves takes
        # four times as long.
        return rebuild, (
            Party,
            "_canonical",
            getattr(self, "_canonical", None),
            self.type,
            self.identifiers,
            self.names,
        )

    def canonical_names(self) -> dict[str, str]:
        """Canonical name → the name as given, in order. Raises EntryError."""
        try:
            return self._canonical
        except AttributeError:
            object.__setattr__(self, "_canonical", self._canonical_names())
        return self._canonical

    def _canonical_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        try:
            for name in self.names:
                names.setdefault(canonical_name(name), name)
        except InvalidNameError as error:
            raise EntryError(EntryCode.NAME_INVALID, str(error)) from None
        return names


@dataclass(frozen=True, slots=True)
class Responsible:
    """A person who answers for an organisation; `capacity` as in the contract."""

    capacity: int
    party: Party

    def __reduce__(self) -> tuple[Any, ...]:
        return Responsible, (self.capacity, self.party)


def rebuild(kind: type[Any], kept: str, value: object, *values: Any) -> Any:
    """A `kind` of these values that has computed already what it keeps under a name."""
    made = kind(*values)
    if value is not None:
        object.__setattr__(made, kept, value)
    return made


def canonical_party(party: Party) -> list[object]:
    return [
        party.type,
        sorted((int(item.kind), item.number) for item in party.identifiers),
        sorted(party.canonical_names()),
    ]


def check_party(party: Party) -> None:
    """Raises EntryError: no number or name, too many of them, or one that does not fit the type."""
    if party.type not in {PERSON, ORGANISATION}:
        raise EntryError(
            EntryCode.SUBJECT_TYPE, "say whether the subject is a person or an organisation"
        )
    if not 1 <= len(party.identifiers) <= MAX_IDENTIFIERS:
        raise EntryError(
            EntryCode.IDENTIFIER_MISSING, f"give between 1 and {MAX_IDENTIFIERS} identifiers"
        )
    of_organisation = {item.kind is IdentifierKind.ORGANISATION_CODE for item in party.identifiers}
    if of_organisation != {party.type == ORGANISATION}:
        raise EntryError(
            EntryCode.SUBJECT_TYPE,
            "an organisation has a unified social credit code, a person any other kind of number",
        )
    if not 1 <= len(party.names) <= MAX_NAMES:
        raise EntryError(EntryCode.NAME_MISSING, f"give between 1 and {MAX_NAMES} names")
    party.canonical_names()
