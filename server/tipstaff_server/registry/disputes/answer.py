"""Answering disputes: upheld, corrected, or revoked.

    OPEN ──upheld──► REJECTED      the restriction was right: it is in force again, with the next listing
         ──corrected──► CORRECTED  it is amended in the same act, and in force again as amended; what became less is relief at once
         ──revoked──► REVOKED      it was wrong: it ends, and remedies follow

A restriction that other disputes suspend stays suspended until the last of them is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select

from tipstaff_server.domain.actors import Actor, ActorKind
from tipstaff_server.domain.checks import check_reason
from tipstaff_server.domain.lifecycle import Event, State
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.registry.disputes.open import Dispute, view_of
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
    check_version,
    first_answer,
    remember,
)
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.summary import RestrictionSummary, find, summary_of
from tipstaff_server.registry.restrictions.transitions import apply
from tipstaff_server.storage.models import DisputeRow, DisputeState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff_server.registry.restrictions.amendments import Amending
    from tipstaff_server.registry.unit import Core, Unit
    from tipstaff_server.storage.models import RestrictionRow

__all__ = ["AnsweredDispute", "Answering", "Outcome"]

Outcome = Literal[DisputeState.REJECTED, DisputeState.CORRECTED, DisputeState.REVOKED]
NOTHING = Amendment()


@dataclass(frozen=True, slots=True)
class AnsweredDispute:
    """The dispute and its restriction after the answer, and the relief sequence that carries what
    became less (0: nothing did).
    """

    dispute: Dispute
    restriction: RestrictionSummary
    relief_sequence: int


class Answering:
    """The part of the registry that answers disputes."""

    def __init__(self, core: Core, amending: Amending) -> None:
        self._core = core
        self._amending = amending

    def answer(
        self,
        case_number: str,
        outcome: Outcome,
        reason: str,
        actor: Actor,
        *,
        correction: Amendment = NOTHING,
        given: Precondition = ANY,
    ) -> AnsweredDispute:
        """Answers one. `correction` goes with CORRECTED, and only with that.

        Raises NotFoundError, LifecycleError (answered already), StaleVersionError, EntryError (as
        at an amendment), InvalidRequestError, PermissionDeniedError.
        """
        check_reason(reason)
        if (correction == NOTHING) is (outcome is DisputeState.CORRECTED):
            raise InvalidRequestError(
                "a correction goes with the answer `corrected`, and only with that: say what is"
                " corrected, or nothing"
            )
        if actor.kind not in {ActorKind.AUTHORITY, ActorKind.OPERATOR}:
            raise PermissionDeniedError(
                "only the authority that decided, or the operator, answers a dispute"
            )
        fields = [sorted(correction.measures), correction.legal_basis, correction.expires_at]
        request = ["ANSWER", case_number, outcome.value, *fields, reason]
        with self._core.act() as unit:
            row = unit.session.scalar(
                select(DisputeRow).where(DisputeRow.case_number == case_number).with_for_update()
            )
            if row is None:
                raise NotFoundError("there is no such dispute here; check the case number")
            restriction = find(unit.session, row.restriction_id, actor, self._core, lock=True)
            if first_answer(unit, self._core.vault, actor, given, request) is not None:
                return AnsweredDispute(
                    view_of(row, restriction),
                    summary_of(unit.session, restriction),
                    restriction.relief_sequence,
                )
            if row.state is not DisputeState.OPEN:
                raise LifecycleError(
                    f"this dispute is {row.state} already; a new one can be opened, with another"
                    " ground"
                )
            check_version(restriction, given)
            detail = {"restriction": restriction.id.hex(), "ground": row.ground}
            unit.log.add(
                unit.now,
                actor,
                f"DISPUTE_{outcome}",
                ("dispute", case_number.encode()),
                detail=detail,
                reason=reason,
            )
            sequence = self._carry_out(unit, row, restriction, outcome, correction, actor, reason)
            remember(unit, self._core.vault, actor, given, request, restriction.id)
            unit.session.flush()
            return AnsweredDispute(
                view_of(row, restriction), summary_of(unit.session, restriction), sequence
            )

    def _carry_out(
        self,
        unit: Unit,
        row: DisputeRow,
        restriction: RestrictionRow,
        outcome: Outcome,
        correction: Amendment,
        actor: Actor,
        reason: str,
    ) -> int:
        if outcome is DisputeState.REVOKED:
            sequence = apply(unit, restriction, Event.REVOKE, actor, reason)
            unit.session.refresh(row)
            return sequence
        sequence = (
            self._correct(unit, restriction, correction, actor, reason)
            if outcome is DisputeState.CORRECTED
            else 0
        )
        row.state, row.answered_at = outcome, unit.now
        unit.session.flush()
        if restriction.state is State.SUSPENDED and not _others_suspend(
            unit.session, restriction.id
        ):
            apply(unit, restriction, Event.REINSTATE, actor, reason)
        return sequence

    def _correct(
        self,
        unit: Unit,
        restriction: RestrictionRow,
        correction: Amendment,
        actor: Actor,
        reason: str,
    ) -> int:
        before = restriction.version
        sequence = self._amending.apply(unit, restriction, correction, actor, reason)
        if restriction.version == before:
            raise InvalidRequestError(
                "the correction changes nothing; say what is different, or answer `upheld`"
            )
        return sequence


def _others_suspend(session: Session, restriction_id: bytes) -> bool:
    found = session.scalar(
        select(func.count())
        .select_from(DisputeRow)
        .where(
            DisputeRow.restriction_id == restriction_id,
            DisputeRow.state == DisputeState.OPEN,
            DisputeRow.suspends.is_(True),
        )
    )
    return bool(found)
