"""Looking for restrictions, and at what was done with one.

Everybody sees their own; the operator sees all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.audit import reasons
from tipstaff_server.domain.actors import DECIDERS, Actor, ActorKind, require
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_id
from tipstaff_server.registry.restrictions.summary import RestrictionSummary, find, summary_of
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import AuditRow, IdentifierRow, RestrictionRow
from tipstaff_server.vault.columns import blind_of

if TYPE_CHECKING:
    from datetime import datetime

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.lifecycle import State

__all__ = ["HistoryEntry", "Search", "Wanted"]

DEFAULT_PAGE, MAX_PAGE = 100, 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for; what is not given does not matter.

    `after`: the last id of the page before.
    """

    identifier: Identifier | None = None
    case_number: str = ""
    state: State | None = None
    after: bytes = b""
    limit: int = DEFAULT_PAGE


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One act on a restriction. `detail` is JSON without personal data; `reason` may hold names."""

    sequence: int
    at: datetime
    actor: str
    act: str
    detail: str
    reason: str


class Search(RegistryPart):
    """What people read of restrictions."""

    def get(self, restriction_id: bytes, actor: Actor) -> RestrictionSummary:
        """One restriction without its subject. Raises NotFoundError: none of this actor's."""
        check_id(restriction_id)
        with self._store.read() as session:
            return summary_of(session, find(session, restriction_id, actor, self._store))

    def search(self, wanted: Wanted, actor: Actor) -> list[RestrictionSummary]:
        """A page, in the order of ids.

        A search by number is an act: the audit log keeps who made it, not the number.

        Raises PermissionDeniedError; InvalidRequestError: `after` is no id.
        """
        require(
            actor,
            DECIDERS,
            "only authorities and the operator search the registry; a provider checks against its"
            " listing",
        )
        if wanted.after:
            check_id(wanted.after)
        limit = min(wanted.limit or DEFAULT_PAGE, MAX_PAGE)
        query = (
            select(RestrictionRow)
            .where(RestrictionRow.id > wanted.after)
            .order_by(RestrictionRow.id)
            .limit(limit)
        )
        if actor.kind is ActorKind.AUTHORITY:
            query = query.where(RestrictionRow.authority_id == actor.id)
        if wanted.case_number:
            query = query.where(RestrictionRow.case_number == wanted.case_number)
        if wanted.state is not None:
            query = query.where(RestrictionRow.state == wanted.state)
        if wanted.identifier is None:
            with self._store.read() as session:
                return [summary_of(session, row) for row in session.scalars(query)]
        blind = blind_of(self._store.vault, wanted.identifier)
        owner = (
            select(IdentifierRow.subject_id).where(IdentifierRow.blind == blind).scalar_subquery()
        )
        with self._store.act(actor) as unit:
            owned = query.where(RestrictionRow.subject_id == owner)
            page = [summary_of(unit.session, row) for row in unit.session.scalars(owned)]
            unit.note(AuditAct.SEARCH, ("registry", b""), detail={"found": len(page)})
        return page

    def history(self, restriction_id: bytes, actor: Actor) -> list[HistoryEntry]:
        """All acts on one restriction, in order. Raises NotFoundError, PermissionDeniedError."""
        check_id(restriction_id)
        require(
            actor,
            DECIDERS,
            "only the authority that decided, or the operator, reads a restriction's history",
        )
        with self._store.read() as session:
            find(session, restriction_id, actor, self._store)
            rows = session.scalars(
                select(AuditRow)
                .where(AuditRow.object_kind == "restriction", AuditRow.object_id == restriction_id)
                .order_by(AuditRow.sequence)
            ).all()
            told = reasons.read(session, self._store.vault, rows)
            return [
                HistoryEntry(
                    row.sequence, row.at, row.actor, row.act, row.detail, told.get(row.sequence, "")
                )
                for row in rows
            ]
