"""Disputes (异议): somebody says that a restriction is wrong.

What opening one does is the list's policy; by default enforcement is suspended until it is
answered, and relief says so at once (核实期间暂不执行). One suspension for each ground: a ground that was
examined while the restriction stayed does not suspend again.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from tipstaff_server.domain.actors import Actor, ActorKind
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_id
from tipstaff_server.domain.lifecycle import TERMINAL, Event, State
from tipstaff_server.errors import (
    CallLimitError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.restrictions.summary import locked
from tipstaff_server.registry.restrictions.transitions import apply
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import (
    DisputeEffect,
    DisputeGround,
    DisputeRow,
    DisputeState,
    RestrictionRow,
)
from tipstaff_server.vault.columns import DISPUTE_STATEMENT

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from tipstaff_server.registry.unit import Unit

__all__ = ["Chased", "DisputeOpenings", "DisputeView", "OpenedDispute", "view_of"]

MAX_STATEMENT = 2_000
HOUR = timedelta(hours=1)
REMIND_BEFORE = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class DisputeView:
    """A dispute; fields as Dispute in the contract.

    `suspended`: its restriction is not enforced now.
    """

    case_number: str
    state: DisputeState
    suspended: bool
    opened_at: datetime
    answer_due_at: datetime


@dataclass(frozen=True, slots=True)
class OpenedDispute:
    """The dispute, and the relief sequence that carries the suspension (0: nothing is suspended)."""

    dispute: DisputeView
    relief_sequence: int


@dataclass(frozen=True, slots=True)
class Chased:
    """What `follow_up` did: reminders, and deadlines found passed."""

    reminded: int
    overdue: int


class DisputeOpenings(RegistryPart):
    """What takes disputes, and reminds of answers."""

    def open(
        self,
        restriction_id: bytes,
        statement: str,
        *,
        request_id: bytes,
        actor: Actor,
        decision_id: bytes = b"",
        ground: DisputeGround = DisputeGround.OTHER,
    ) -> OpenedDispute:
        """Opens a dispute.

        The same `request_id` (16 bytes) of the same actor again gives the first answer.

        Raises:
            NotFoundError: no such restriction for this actor.
            LifecycleError: it has ended, or is a draft.
            CallLimitError: a provider opens too many.
            InvalidRequestError: the statement is empty or too long, or the request id was used.
        """
        check_id(restriction_id)
        check_id(request_id)
        if decision_id:
            check_id(decision_id)
        if not 1 <= len(statement.strip()) <= MAX_STATEMENT:
            raise InvalidRequestError(f"a statement has 1 to {MAX_STATEMENT} characters")
        with self._store.act(actor) as unit:
            restriction = locked(unit, restriction_id)
            before = unit.session.scalar(
                select(DisputeRow).where(
                    DisputeRow.opened_by == str(actor), DisputeRow.request_id == request_id
                )
            )
            if before is not None:
                if before.restriction_id != restriction_id:
                    raise InvalidRequestError(
                        "this request id was used for another restriction; choose a new one"
                    )
                return OpenedDispute(view_of(before, restriction), before.relief_sequence)
            self._bound(unit)
            row = self._open(unit, restriction, ground)
            row.request_id, row.decision_id = request_id, decision_id or None
            row.statement = self._store.vault.encrypt_text(
                DISPUTE_STATEMENT, row.case_number.encode(), statement
            )
            unit.session.add(row)
            return OpenedDispute(view_of(row, restriction), row.relief_sequence)

    def get(self, case_number: str, actor: Actor) -> DisputeView:
        """One dispute, for who opened it, its authority or the operator. Raises NotFoundError."""
        with self._store.read() as session:
            row = session.get(DisputeRow, case_number)
            restriction = None if row is None else session.get(RestrictionRow, row.restriction_id)
            if row is None or restriction is None or not _may_follow(row, restriction, actor):
                raise NotFoundError("there is no such dispute here; check the case number")
            return view_of(row, restriction)

    def follow_up(self, now: datetime) -> Chased:
        """Reminds of answers that are due soon, and notes those that are overdue, each once.

        Safe to run on several replicas.
        """
        with self._store.read() as session:
            if session.scalar(_near(now).limit(1)) is None:
                return Chased(0, 0)
        reminded = overdue = 0
        with self._store.act() as unit:
            unit.now = now
            for row in unit.session.scalars(_near(now).with_for_update()):
                if row.answer_due_at <= now:
                    row.escalated_at, act = now, AuditAct.DISPUTE_OVERDUE
                    overdue += 1
                else:
                    row.reminded_at, act = now, AuditAct.DISPUTE_REMIND
                    reminded += 1
                unit.note(
                    act,
                    ("dispute", row.case_number.encode()),
                    detail={"restriction": row.restriction_id.hex()},
                )
        return Chased(reminded, overdue)

    def _bound(self, unit: Unit) -> None:
        """Raises CallLimitError: a provider opened as many disputes within the last hour as it may."""
        if unit.actor.kind is not ActorKind.PROVIDER:
            return
        recent = (DisputeRow.opened_by == str(unit.actor), DisputeRow.opened_at > unit.now - HOUR)
        recently = unit.session.execute(
            select(func.count(), func.min(DisputeRow.opened_at)).where(*recent)
        ).one()
        if recently[0] >= self._store.rules.disputes_per_hour:
            wait = (recently[1] + HOUR - unit.now).total_seconds()
            raise CallLimitError(
                f"at most {self._store.rules.disputes_per_hour} disputes of one provider within an hour"
                " are taken",
                wait,
            )

    @staticmethod
    def _open(unit: Unit, restriction: RestrictionRow, ground: DisputeGround) -> DisputeRow:
        if restriction.state is State.DRAFT:
            raise LifecycleError("a draft restricts nobody yet: withdraw it (revoke) or amend it")
        if restriction.state in TERMINAL:
            raise LifecycleError(
                f"this restriction is {restriction.state} already: there is nothing left to dispute"
                " at a counter"
            )
        policy = unit.policies.lists[restriction.list_id]
        suspends = policy.dispute_effect is DisputeEffect.SUSPEND and not _was_examined(
            unit.session, restriction.id, ground
        )
        case_number = _case_number()
        unit.note(
            AuditAct.DISPUTE_OPEN,
            ("dispute", case_number.encode()),
            detail={"restriction": restriction.id.hex(), "ground": ground, "suspends": suspends},
        )
        sequence = 0
        if suspends and restriction.state in {State.ACTIVE, State.NOTICED}:
            sequence = apply(unit, restriction, Event.SUSPEND)
        elif restriction.state is State.SUSPENDED:
            sequence = restriction.relief_sequence
        return DisputeRow(
            case_number=case_number,
            opened_by=str(unit.actor),
            restriction_id=restriction.id,
            ground=ground,
            state=DisputeState.OPEN,
            suspends=suspends,
            opened_at=unit.now,
            answer_due_at=unit.now + timedelta(days=policy.answer_days),
            relief_sequence=sequence,
        )


def view_of(row: DisputeRow, restriction: RestrictionRow) -> DisputeView:
    """A dispute as everybody who knows of its restriction may see it."""
    return DisputeView(
        case_number=row.case_number,
        state=row.state,
        suspended=restriction.state is State.SUSPENDED,
        opened_at=row.opened_at,
        answer_due_at=row.answer_due_at,
    )


def _may_follow(row: DisputeRow, restriction: RestrictionRow, actor: Actor) -> bool:
    if actor.kind is ActorKind.OPERATOR or row.opened_by == str(actor):
        return True
    return actor.kind is ActorKind.AUTHORITY and restriction.authority_id == actor.id


def _was_examined(session: Session, restriction_id: bytes, ground: DisputeGround) -> bool:
    """Whether this ground was looked into, and the restriction stayed."""
    answers = (DisputeState.REJECTED, DisputeState.CORRECTED)
    examined = session.scalar(
        select(func.count())
        .select_from(DisputeRow)
        .where(
            DisputeRow.restriction_id == restriction_id,
            DisputeRow.ground == ground,
            DisputeRow.state.in_(answers),
        )
    )
    return bool(examined)


def _near(now: datetime) -> Select[DisputeRow]:
    """Open disputes whose answer is due soon and was not reminded of, or is overdue and was not
    noted.
    """
    return select(DisputeRow).where(
        DisputeRow.state == DisputeState.OPEN,
        or_(
            and_(DisputeRow.answer_due_at <= now, DisputeRow.escalated_at.is_(None)),
            and_(
                DisputeRow.answer_due_at > now,
                DisputeRow.answer_due_at <= now + REMIND_BEFORE,
                DisputeRow.reminded_at.is_(None),
            ),
        ),
    )


def _case_number() -> str:
    """YY-XXXX-XXXX-XXXX-XXXX: 80 random bits, for people to read out; says nothing about anybody."""
    text = base64.b32encode(secrets.token_bytes(10)).decode()
    return "-".join(["YY", *(text[start : start + 4] for start in range(0, 16, 4))])
