"""Answering disputes: upheld, corrected, or revoked.

    OPEN ──upheld──► REJECTED      it was right: it is in force again, with the next listing
         ──corrected──► CORRECTED  it is amended in the same act, and in force again as amended
         ──revoked──► REVOKED      it was wrong: it ends, and remedies follow

What became less by a correction is relief at once. A restriction that other disputes suspend stays
suspended until the last of them is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.lifecycle import Event, State
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.disputes.open import DisputeView, view_of
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
)
from tipstaff_server.registry.restrictions.amendments import Amendment, apply_amendment
from tipstaff_server.registry.restrictions.summary import (
    RestrictionSummary,
    locked,
    summary_of,
)
from tipstaff_server.registry.restrictions.transitions import apply
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.models import DisputeRow, DisputeState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.storage.models import RestrictionRow

__all__ = ["AnsweredDispute", "DisputeAnswers", "DisputeOutcome"]

DisputeOutcome = Literal[DisputeState.REJECTED, DisputeState.CORRECTED, DisputeState.REVOKED]
NOTHING = Amendment()


@dataclass(frozen=True, slots=True)
class AnsweredDispute:
    """The dispute and its restriction after the answer, and the relief sequence that carries what
    became less (0: nothing did).
    """

    dispute: DisputeView
    restriction: RestrictionSummary
    relief_sequence: int


class DisputeAnswers(RegistryPart):
    """What answers disputes."""

    def answer(
        self,
        case_number: str,
        outcome: DisputeOutcome,
        reason: str,
        actor: Actor,
        *,
        correction: Amendment = NOTHING,
        given: Precondition = ANY,
    ) -> AnsweredDispute:
        """Answers one. `correction` goes with CORRECTED, and only with that.

        Raises:
            NotFoundError: no such dispute of this actor's restrictions.
            LifecycleError: it is answered already.
            StaleVersionError: somebody acted on the restriction since the caller looked.
            EntryError: the correction could not be entered either.
            InvalidRequestError: no reason, a used idempotency key, or a correction that does not
                fit.
            PermissionDeniedError: neither the authority that decided nor the operator.
        """
        fields = [sorted(correction.measures), correction.legal_basis, correction.expires_at]
        request = Request(
            actor,
            reason,
            given,
            words=["ANSWER", case_number, outcome.value, *fields, reason],
            refusal="only the authority that decided, or the operator, answers a dispute",
        )
        request.check()
        if (correction == NOTHING) is (outcome is DisputeState.CORRECTED):
            raise InvalidRequestError(
                "a correction goes with the answer `corrected`, and only with that: say what is"
                " corrected, or nothing"
            )
        with self._store.perform(request) as unit:
            row = unit.session.scalar(
                select(DisputeRow).where(DisputeRow.case_number == case_number).with_for_update()
            )
            if row is None:
                raise NotFoundError("there is no such dispute here; check the case number")
            restriction = locked(unit, row.restriction_id)
            sequence = restriction.relief_sequence
            if unit.is_new():
                sequence = _answer(unit, row, restriction, outcome, correction)
                unit.remember(restriction.id)
            return AnsweredDispute(
                view_of(row, restriction), summary_of(unit.session, restriction), sequence
            )


def _answer(
    unit: Unit,
    row: DisputeRow,
    restriction: RestrictionRow,
    outcome: DisputeOutcome,
    correction: Amendment,
) -> int:
    """Answers a locked dispute; the relief sequence that carries what became less, or 0."""
    if row.state is not DisputeState.OPEN:
        raise LifecycleError(
            f"this dispute is {row.state} already; a new one can be opened, with another ground"
        )
    unit.check_version(restriction)
    detail = {"restriction": restriction.id.hex(), "ground": row.ground}
    name = AuditAct(f"DISPUTE_{outcome}")
    unit.note(name, ("dispute", row.case_number.encode()), detail=detail)
    if outcome is DisputeState.REVOKED:
        sequence = apply(unit, restriction, Event.REVOKE)
        unit.session.refresh(row)
        return sequence
    sequence = 0
    if outcome is DisputeState.CORRECTED:
        sequence = _correct(unit, restriction, correction)
    row.state, row.answered_at = outcome, unit.now
    unit.session.flush()
    if restriction.state is State.SUSPENDED and not _others_suspend(unit.session, restriction.id):
        apply(unit, restriction, Event.REINSTATE)
    return sequence


def _correct(unit: Unit, restriction: RestrictionRow, correction: Amendment) -> int:
    before = restriction.version
    sequence = apply_amendment(unit, restriction, correction)
    if restriction.version == before:
        raise InvalidRequestError(
            "the correction changes nothing; say what is different, or answer `upheld`"
        )
    return sequence


def _others_suspend(session: Session, restriction_id: bytes) -> bool:
    suspending = session.scalar(
        select(func.count())
        .select_from(DisputeRow)
        .where(
            DisputeRow.restriction_id == restriction_id,
            DisputeRow.state == DisputeState.OPEN,
            DisputeRow.suspends.is_(True),
        )
    )
    return bool(suspending)
