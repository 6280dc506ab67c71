"""Remedies (恢复): a restriction is revoked as wrong, so each provider that acted on it is told to
make good, and answers.

    revoked ──► OPEN ──fetched by the provider──► DELIVERED ──► ANSWERED ──a report comes in late──► OPEN

Opened in the transaction that revokes. Reports may come later than that, because providers keep
them while they are offline: `follow_up` finds those, and reminds of deadlines. What counts as
acting on a restriction is ACTED.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, func, or_, select

from tipstaff.v1 import enforcement_pb2
from tipstaff_server.domain.actors import DECIDERS, SYSTEM, Actor, ActorKind, require
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import ID_BYTES, check_id
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import (
    RemedyOutcome,
    RemedyRow,
    RemedyState,
    ReportRestrictionRow,
    ReportRow,
    RestrictionRow,
)
from tipstaff_server.vault.columns import REMEDY_NOTE

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from tipstaff_server.registry.unit import Unit

__all__ = ["ACTED", "AffectedReport", "FollowedUp", "Remedies", "RemedyView", "open_remedies"]

ACTED = (
    enforcement_pb2.OUTCOME_DENIED,
    enforcement_pb2.OUTCOME_DOWNGRADED,
    enforcement_pb2.OUTCOME_SURCHARGED,
    enforcement_pb2.OUTCOME_REVIEWED_AND_DENIED,
)
"""Outcomes after which there is something to make good."""

MAX_NOTE = 500
_PROVIDERS = frozenset({ActorKind.PROVIDER})
_REFUSAL = (
    "remedies are a provider's; authorities and the operator follow them with"
    " `tipstaff-server remedies`"
)
MAX_AFFECTED = 1_000
MAX_PAGE = 100
REMIND_BEFORE = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class AffectedReport:
    """One wrongful act; fields as AffectedReport in the contract."""

    report_id: bytes
    decision_id: bytes
    measure: str
    outcome: int
    acted_at: datetime


@dataclass(frozen=True, slots=True)
class RemedyView:
    """A remedy; fields as Remedy in the contract. `note` is empty for the provider's own calls."""

    remedy_id: bytes
    restriction_id: bytes
    provider_id: str
    state: RemedyState
    affected: tuple[AffectedReport, ...]
    affected_count: int
    opened_at: datetime
    due_at: datetime
    answered_at: datetime | None = None
    outcome: RemedyOutcome | None = None
    note: str = ""

    def overdue(self, now: datetime) -> bool:
        """Not answered, and the time is over."""
        return self.state is not RemedyState.ANSWERED and now >= self.due_at


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """What `follow_up` did: remedies opened (or opened again) for late reports, reminders,
    deadlines found passed.
    """

    opened: int
    reminded: int
    overdue: int


class Remedies(RegistryPart):
    """What makes good."""

    def mine(
        self, actor: Actor, *, answered: bool = False, after: bytes = b"", limit: int = 0
    ) -> list[RemedyView]:
        """Gives a provider its own remedies, by id; new ones count as delivered from here on.

        Raises:
            PermissionDeniedError: not a provider.
            InvalidRequestError: `after` is no id.
        """
        require(actor, _PROVIDERS, _REFUSAL)
        if after:
            check_id(after)
        conditions = [RemedyRow.provider_id == actor.id, RemedyRow.id > after]
        if not answered:
            conditions.append(RemedyRow.state != RemedyState.ANSWERED)
        query = (
            select(RemedyRow)
            .where(*conditions)
            .order_by(RemedyRow.id)
            .limit(min(limit or MAX_PAGE, MAX_PAGE))
        )
        with self._store.read() as session:
            rows = session.scalars(query).all()
            if all(row.state is not RemedyState.OPEN for row in rows):
                return [self._view(session, row) for row in rows]
        with self._store.act(actor) as unit:
            delivered = unit.session.scalars(query.with_for_update()).all()
            for row in delivered:
                if row.state is RemedyState.OPEN:
                    row.state, row.delivered_at = RemedyState.DELIVERED, unit.now
                    unit.note(AuditAct.REMEDY_DELIVER, ("remedy", row.id))
            unit.session.flush()
            return [self._view(unit.session, row) for row in delivered]

    def answer(
        self, remedy_id: bytes, outcome: RemedyOutcome, note: str, actor: Actor
    ) -> RemedyView:
        """Keeps what a provider says it did. The same outcome again changes nothing.

        Raises:
            NotFoundError: no such remedy of this provider.
            LifecycleError: it was answered otherwise already.
            InvalidRequestError: the note is too long, or the id is none.
        """
        require(actor, _PROVIDERS, _REFUSAL)
        check_id(remedy_id)
        if len(note) > MAX_NOTE:
            raise InvalidRequestError(f"a note has at most {MAX_NOTE} characters")
        with self._store.act(actor) as unit:
            row = unit.session.scalar(
                select(RemedyRow)
                .where(RemedyRow.id == remedy_id, RemedyRow.provider_id == actor.id)
                .with_for_update()
            )
            if row is None:
                raise NotFoundError(
                    "there is no such remedy of this provider; list them to see which there are"
                )
            if row.state is RemedyState.ANSWERED:
                if row.outcome is not outcome:
                    raise LifecycleError(
                        f"this remedy was answered already, with {row.outcome}; tell the authority"
                        " about a correction"
                    )
                return self._view(unit.session, row)
            row.state, row.outcome, row.answered_at = RemedyState.ANSWERED, outcome, unit.now
            row.note = self._store.vault.encrypt_text(REMEDY_NOTE, row.id, note) if note else None
            unit.note(AuditAct.REMEDY_ANSWER, ("remedy", row.id), detail={"outcome": outcome})
            unit.session.flush()
            return self._view(unit.session, row)

    def all(
        self, actor: Actor, *, answered: bool = True, provider_id: str | None = None
    ) -> list[RemedyView]:
        """Gives remedies with their notes, by deadline.

        An authority sees those of its own restrictions, the operator sees all.
        """
        require(
            actor,
            DECIDERS,
            "only the authority that decided, or the operator, follows remedies of others",
        )
        query = select(RemedyRow).order_by(RemedyRow.due_at, RemedyRow.id)
        if actor.kind is ActorKind.AUTHORITY:
            query = query.join(RestrictionRow, RestrictionRow.id == RemedyRow.restriction_id)
            query = query.where(RestrictionRow.authority_id == actor.id)
        if not answered:
            query = query.where(RemedyRow.state != RemedyState.ANSWERED)
        if provider_id is not None:
            query = query.where(RemedyRow.provider_id == provider_id)
        with self._store.read() as session:
            return [self._view(session, row, with_note=True) for row in session.scalars(query)]

    def follow_up(self, now: datetime) -> FollowedUp:
        """Opens what late reports ask for, and reminds of deadlines, each once.

        Safe to run often and on several replicas.
        """
        with self._store.read() as session:
            if (
                session.execute(_missing().limit(1)).first() is None
                and session.scalar(_near(now).limit(1)) is None
            ):
                return FollowedUp(0, 0, 0)
        with self._store.act() as unit:
            unit.now = now
            opened = open_remedies(unit)
            reminded = overdue = 0
            for row in unit.session.scalars(_near(now).with_for_update()):
                if row.due_at <= now:
                    row.escalated_at, act = now, AuditAct.REMEDY_OVERDUE
                    overdue += 1
                else:
                    row.reminded_at, act = now, AuditAct.REMEDY_REMIND
                    reminded += 1
                unit.note(act, ("remedy", row.id), detail={"provider": row.provider_id})
        return FollowedUp(opened, reminded, overdue)

    def _view(self, session: Session, row: RemedyRow, *, with_note: bool = False) -> RemedyView:
        query = (
            select(ReportRow)
            .join(ReportRestrictionRow, _same_report())
            .where(
                ReportRestrictionRow.restriction_id == row.restriction_id,
                ReportRow.provider_id == row.provider_id,
            )
            .where(ReportRow.outcome.in_(ACTED))
            .order_by(ReportRow.acted_at, ReportRow.report_id)
            .limit(MAX_AFFECTED)
        )
        note = (
            self._store.vault.decrypt_text(REMEDY_NOTE, row.id, row.note)
            if with_note and row.note is not None
            else ""
        )
        return RemedyView(
            remedy_id=row.id,
            restriction_id=row.restriction_id,
            provider_id=row.provider_id,
            state=row.state,
            affected=tuple(
                AffectedReport(
                    report.report_id,
                    report.decision_id,
                    report.measure,
                    report.outcome,
                    report.acted_at,
                )
                for report in session.scalars(query)
            ),
            affected_count=row.affected,
            opened_at=row.opened_at,
            due_at=row.due_at,
            answered_at=row.answered_at,
            outcome=row.outcome,
            note=note,
        )


def open_remedies(unit: Unit, restriction_id: bytes | None = None) -> int:
    """Opens, or opens again, what reports on revoked restrictions ask for.

    Args:
        unit: the act that it is a part of.
        restriction_id: the restriction; None: all of them.

    Returns:
        How many remedies.
    """
    query = _missing()
    if restriction_id is not None:
        query = query.where(RestrictionRow.id == restriction_id)
    missing = unit.session.execute(query).all()
    due = unit.now + timedelta(days=unit.store.rules.remedy_days)
    for row in missing:
        known = unit.session.get(RemedyRow, row.remedy_id) if row.remedy_id is not None else None
        if known is None:
            remedy, act = secrets.token_bytes(ID_BYTES), AuditAct.REMEDY_OPEN
            unit.session.add(
                RemedyRow(
                    id=remedy,
                    restriction_id=row.restriction_id,
                    provider_id=row.provider_id,
                    state=RemedyState.OPEN,
                    affected=row.times,
                    opened_at=unit.now,
                    due_at=due,
                )
            )
        else:
            remedy, act = known.id, AuditAct.REMEDY_REOPEN
            known.affected = row.times
            known.state, known.due_at = RemedyState.OPEN, due
            known.delivered_at = known.answered_at = known.reminded_at = known.escalated_at = (
                known.outcome
            ) = known.note = None
        detail = {
            "restriction": row.restriction_id.hex(),
            "provider": row.provider_id,
            "affected": row.times,
        }
        unit.note(act, ("remedy", remedy), detail=detail, by=SYSTEM)
    return len(missing)


def _missing() -> Select[bytes, str, int, bytes]:
    """Revoked restriction and provider, with more acts than its remedy knows of."""
    times = func.count().label("times")
    return (
        select(
            ReportRestrictionRow.restriction_id,
            ReportRestrictionRow.provider_id,
            times,
            RemedyRow.id.label("remedy_id"),
        )
        .join(RestrictionRow, RestrictionRow.id == ReportRestrictionRow.restriction_id)
        .join(ReportRow, _same_report())
        .outerjoin(
            RemedyRow,
            and_(
                RemedyRow.restriction_id == ReportRestrictionRow.restriction_id,
                RemedyRow.provider_id == ReportRestrictionRow.provider_id,
            ),
        )
        .where(RestrictionRow.state == State.REVOKED, ReportRow.outcome.in_(ACTED))
        .group_by(
            ReportRestrictionRow.restriction_id,
            ReportRestrictionRow.provider_id,
            RemedyRow.id,
            RemedyRow.affected,
        )
        .having(times > func.coalesce(RemedyRow.affected, 0))
        .order_by(ReportRestrictionRow.restriction_id, ReportRestrictionRow.provider_id)
    )


def _same_report() -> ColumnElement[bool]:
    return and_(
        ReportRow.provider_id == ReportRestrictionRow.provider_id,
        ReportRow.report_id == ReportRestrictionRow.report_id,
    )


def _near(now: datetime) -> Select[RemedyRow]:
    """Unanswered remedies whose deadline is near and was not reminded of, or has passed and was not
    noted.
    """
    return select(RemedyRow).where(
        RemedyRow.state != RemedyState.ANSWERED,
        or_(
            and_(RemedyRow.due_at <= now, RemedyRow.escalated_at.is_(None)),
            and_(
                RemedyRow.due_at > now,
                RemedyRow.due_at <= now + REMIND_BEFORE,
                RemedyRow.reminded_at.is_(None),
            ),
        ),
    )
