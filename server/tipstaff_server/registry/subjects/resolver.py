"""Finding whom an entry is on, or making a new subject.

A number that is known must come with a name that is known for it. Otherwise the entry is refused: a
mistyped number would put one person's restriction on another, and that is the worst thing that this
system can do (docs/threat-model.md).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tipstaff_server.domain.checks import ID_BYTES
from tipstaff_server.errors import EntryCode, EntryError
from tipstaff_server.storage.bulk import one_of
from tipstaff_server.storage.models import (
    IdentifierRow,
    NameRow,
    PostState,
    ResponsibleLinkRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import (
    NAME,
    NUMBER,
    STRETCHED,
    blind_of,
    name_blind,
    number_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.parties import Party
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.vault.vault import Vault

__all__ = ["Resolver", "Staged", "holder", "identifier_row"]

IDS_AT_ONCE = 256


@dataclass(slots=True)
class _Known:
    """What is known of subjects: by identifier, their type, the indices of their names, their
    links.
    """

    owners: dict[bytes, bytes] = field(default_factory=dict)
    types: dict[bytes, int] = field(default_factory=dict)
    names: dict[bytes, set[bytes]] = field(default_factory=dict)
    links: set[tuple[bytes, bytes, int]] = field(default_factory=set)
    left: set[tuple[bytes, bytes, int]] = field(default_factory=set)


class Resolver:
    """Knows the subjects of one batch of entries: those of the database, and those added before."""

    def __init__(
        self,
        session: Session,
        vault: Vault,
        stretched: dict[bytes, bytes],
        stretch: Callable[[Identifier], bytes],
        now: datetime,
    ) -> None:
        self.session = session
        self.vault = vault
        self.now = now
        self.known = _Known()
        self.new_id = _random_ids().__next__
        self._stretched = stretched
        self._stretch = stretch
        self._rows: dict[type, list[dict[str, Any]]] = {}
        self._blinds: dict[Identifier, bytes] = {}

    @classmethod
    def of(cls, unit: Unit) -> Resolver:
        """The resolver of an act, with what was stretched for it."""
        store = unit.store
        stretch = store.stretcher.stretch.stretch
        return cls(unit.session, store.vault, unit.stretched, stretch, unit.now)

    def blind(self, identifier: Identifier) -> bytes:
        """Gives an identifier's blind index.

        It is remembered: an entry asks three times, and the keys are the same until the commit.
        """
        index = self._blinds.get(identifier)
        if index is None:
            index = self._blinds[identifier] = blind_of(self.vault, identifier)
        return index

    def load(self, parties: Iterable[Party]) -> None:
        """Reads what the database knows of these parties."""
        blinds = {self.blind(identifier) for party in parties for identifier in party.identifiers}
        for asked in one_of(self.session, IdentifierRow.blind, blinds):
            known_numbers = self.session.execute(
                select(IdentifierRow.blind, IdentifierRow.subject_id, SubjectRow.type)
                .join(SubjectRow, SubjectRow.id == IdentifierRow.subject_id)
                .where(asked)
            )
            for row in known_numbers:
                self.known.owners[row.blind] = row.subject_id
                self.known.types[row.subject_id] = row.type
        for asked in one_of(self.session, NameRow.subject_id, self.known.types):
            for name in self.session.execute(
                select(NameRow.subject_id, NameRow.blind).where(asked)
            ):
                self.known.names.setdefault(name.subject_id, set()).add(name.blind)
        link = ResponsibleLinkRow
        for asked in one_of(self.session, link.organisation_id, self.known.types):
            query = select(link.organisation_id, link.person_id, link.capacity, link.state).where(
                asked
            )
            for post in self.session.execute(query):
                known = self.known.left if post.state is PostState.LEFT else self.known.links
                known.add((post.organisation_id, post.person_id, post.capacity))

    def known_subjects(self) -> Iterable[bytes]:
        """Ids of the subjects that the database knows."""
        return self.known.types

    def stage(self) -> Staged:
        """A place for what one entry adds; nothing of it counts before `keep`."""
        return Staged(self)

    def stretched(self, blind: bytes, identifier: Identifier) -> bytes:
        """Gives the stretched identifier. Computes it here only if nobody asked for it in time."""
        computed = self._stretched.get(blind)
        return self._stretch(identifier) if computed is None else computed

    def absorb(self, rows: dict[type, list[dict[str, Any]]]) -> None:
        """Rows that an accepted entry adds."""
        for table, some in rows.items():
            self._rows.setdefault(table, []).extend(some)

    def take(self) -> dict[type, list[dict[str, Any]]]:
        """The rows to insert since this was asked last, by table."""
        taken, self._rows = self._rows, {}
        return taken


class Staged:
    """What one entry adds, on top of what is known."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known = resolver.known
        self._new = _Known()
        self._rows: dict[type, list[dict[str, Any]]] = {}

    def resolve(self, party: Party) -> bytes:
        """Finds the party's subject, or makes it; gives the subject's id.

        Raises:
            EntryError: the numbers belong to several subjects, or the name is not known for the number.
        """
        blinds = {self._resolver.blind(identifier): identifier for identifier in party.identifiers}
        owners = {owner for blind in blinds if (owner := self._owner(blind)) is not None}
        if len(owners) > 1:
            raise EntryError(
                EntryCode.IDENTIFIER_CONFLICT,
                "these numbers belong to different subjects here; enter them one by one",
            )
        names = party.canonical_names()
        subject = owners.pop() if owners else self._create(party)
        self._check_known(subject, party, names)
        for blind, identifier in blinds.items():
            if self._owner(blind) is None:
                self._add_identifier(subject, blind, identifier)
        for canonical, shown in names.items():
            self._add_name(subject, canonical, shown)
        return subject

    def anchor(self, party: Party) -> bytes:
        """Whom a draft is on: the subject that is known, as it is, or a new one with the first
        number and no name.

        Nothing else of the entry counts before a second person has approved it: a name or a number
        more would widen what is in force. Raises EntryError as `resolve` does.
        """
        Staged(self._resolver).resolve(
            party
        )  # what it adds is thrown away; that it could be added is what counts
        owners = (self._owner(self._resolver.blind(identifier)) for identifier in party.identifiers)
        known = next((owner for owner in owners if owner is not None), None)
        if known is not None:
            return known
        subject = self._create(party)
        first = party.identifiers[0]
        self._add_identifier(subject, self._resolver.blind(first), first)
        return subject

    def link(self, organisation: bytes, person: bytes, capacity: int) -> bool:
        """Notes that the person answers for the organisation from now on.

        Does nothing when that is known.

        Returns:
            False: they have left that post. Lists name people long after they left, so only `Posts.add`
            puts somebody back.
        """
        link = (organisation, person, capacity)
        if link in self._known.links or link in self._new.links:
            return True
        if link in self._known.left:
            return False
        self._new.links.add(link)
        self._put(
            ResponsibleLinkRow,
            {
                "id": self._resolver.new_id(),
                "organisation_id": organisation,
                "person_id": person,
                "capacity": capacity,
                "valid_from": self._resolver.now,
                "valid_until": None,
                "state": PostState.HELD,
                "changed_at": self._resolver.now,
                "relief_sequence": 0,
            },
        )
        return True

    def keep(self) -> None:
        """The entry was accepted: what it adds counts from here on."""
        self._known.owners.update(self._new.owners)
        self._known.types.update(self._new.types)
        self._known.links.update(self._new.links)
        for subject, names in self._new.names.items():
            self._known.names.setdefault(subject, set()).update(names)
        self._resolver.absorb(self._rows)

    def _owner(self, blind: bytes) -> bytes | None:
        return self._new.owners.get(blind) or self._known.owners.get(blind)

    def _names(self, subject: bytes) -> set[bytes]:
        return self._known.names.get(subject, set()) | self._new.names.get(subject, set())

    def _check_known(self, subject: bytes, party: Party, names: dict[str, str]) -> None:
        kind = self._new.types.get(subject) or self._known.types[subject]
        if kind != party.type:
            raise EntryError(
                EntryCode.SUBJECT_TYPE,
                "this number is known as one of a person, or of an organisation: the other of"
                " the two",
            )
        known = self._names(subject)
        if known and not any(
            name_blind(self._resolver.vault, subject, name) in known for name in names
        ):
            raise EntryError(
                EntryCode.NAME_CONFLICT,
                "this number is known under another name; check both, and give a known name"
                " together with the new one",
            )

    def _create(self, party: Party) -> bytes:
        subject = self._resolver.new_id()
        self._new.types[subject] = party.type
        self._put(SubjectRow, {"id": subject, "type": party.type, "created_at": self._resolver.now})
        return subject

    def _add_identifier(self, subject: bytes, blind: bytes, identifier: Identifier) -> None:
        self._new.owners[blind] = subject
        stretched = self._resolver.stretched(blind, identifier)
        self._put(
            IdentifierRow,
            identifier_row(self._resolver.vault, subject, identifier, stretched, blind),
        )

    def _add_name(self, subject: bytes, canonical: str, shown: str) -> None:
        blind = name_blind(self._resolver.vault, subject, canonical)
        known = self._names(subject)
        if blind in known:
            return
        self._new.names.setdefault(subject, set()).add(blind)
        value = self._resolver.vault.encrypt_text(NAME, subject + blind, shown)
        self._put(
            NameRow, {"subject_id": subject, "blind": blind, "position": len(known), "value": value}
        )

    def _put(self, table: type, row: dict[str, Any]) -> None:
        self._rows.setdefault(table, []).append(row)


def identifier_row(
    vault: Vault, subject: bytes, identifier: Identifier, stretched: bytes, blind: bytes
) -> dict[str, Any]:
    """An identifier as it is stored; `blind`: its blind index."""
    return {
        "blind": blind,
        "kind": int(identifier.kind),
        "subject_id": subject,
        "value": vault.encrypt(NUMBER, blind, number_bytes(identifier)),
        "stretched": vault.encrypt(STRETCHED, blind, stretched),
    }


def holder(session: Session, organisation: bytes, blind: bytes) -> bytes | None:
    """Whoever has this number and holds a post in the organisation, or is to; None: nobody."""
    link = ResponsibleLinkRow
    posts = (
        select(link.person_id)
        .join(IdentifierRow, IdentifierRow.subject_id == link.person_id)
        .where(IdentifierRow.blind == blind)
    )
    return session.scalar(
        posts.where(link.organisation_id == organisation, link.state != PostState.LEFT).limit(1)
    )


def _random_ids() -> Iterator[bytes]:
    """Ids without end.

    Asking the system for one at a time costs more than all else that is done with one.
    """
    while True:
        random = secrets.token_bytes(IDS_AT_ONCE * ID_BYTES)
        yield from (random[start : start + ID_BYTES] for start in range(0, len(random), ID_BYTES))
