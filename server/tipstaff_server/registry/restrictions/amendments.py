"""Correcting a restriction that stays (更正).

What becomes less (a measure goes, the term ends earlier) takes effect at once: relief takes the old
restriction back, and the next listing brings the new one. Until then providers see nothing of it,
which is the right way to be wrong for a while. What becomes more waits for the next listing, like
everything that restricts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_id
from tipstaff_server.domain.lifecycle import LISTED, TERMINAL, State
from tipstaff_server.errors import EntryCode, EntryError, LifecycleError, PermissionDeniedError
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
)
from tipstaff_server.registry.restrictions.entry import (
    check_legal_basis,
    check_measures,
    check_term,
)
from tipstaff_server.registry.restrictions.summary import locked, measures_of, summary_of
from tipstaff_server.registry.restrictions.transitions import Ended
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.models import ApprovalMode, DraftRow, MeasureSetRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.storage.models import RestrictionRow

__all__ = ["Amendment", "Amendments", "apply_amendment"]


@dataclass(frozen=True, slots=True)
class Amendment:
    """What is to be different. Nothing given: as it is."""

    measures: tuple[str, ...] = ()
    legal_basis: str = ""
    expires_at: datetime | None = None


class Amendments(RegistryPart):
    """What corrects restrictions that stay."""

    def amend(
        self,
        restriction_id: bytes,
        amendment: Amendment,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Ended:
        """Corrects one.

        Returns:
            The restriction after it, and the relief sequence that takes the old one back (0:
            nothing became less).

        Raises:
            NotFoundError: no such restriction of this actor.
            LifecycleError: it has ended.
            StaleVersionError: somebody acted on it since the caller looked.
            EntryError: the amendment could not be entered either.
            InvalidRequestError: no reason, or a used idempotency key.
            PermissionDeniedError: neither the authority that decided nor the operator.
        """
        check_id(restriction_id)
        fields = [sorted(amendment.measures), amendment.legal_basis, amendment.expires_at]
        request = Request(
            actor,
            reason,
            given,
            words=["AMEND", restriction_id.hex(), *fields, reason],
            refusal="only the authority that decided, or the operator, corrects a restriction",
        )
        with self._store.perform(request) as unit:
            row = locked(unit, restriction_id)
            sequence = row.relief_sequence
            if unit.is_new(row):
                sequence = apply_amendment(unit, row, amendment)
                unit.remember(row.id)
            return Ended(summary_of(unit.session, row), sequence)


def apply_amendment(unit: Unit, row: RestrictionRow, amendment: Amendment) -> int:
    """Corrects a locked restriction within an act; answers and raises as `Amendments.amend`."""
    if row.state in TERMINAL:
        raise LifecycleError(
            f"this restriction is {row.state} already: there is nothing left to correct"
        )
    before = measures_of(unit.session, row)
    after = tuple(sorted(set(amendment.measures))) or before
    expires_at = amendment.expires_at or row.expires_at
    legal_basis = amendment.legal_basis.strip() or row.legal_basis
    if (after, expires_at, legal_basis) == (before, row.expires_at, row.legal_basis):
        return 0
    if row.expires_at <= unit.now:
        # The scheduler may not have looked yet; a term that is over is over, and nothing makes
        # it longer.
        raise LifecycleError(
            f"its term ended at {row.expires_at.isoformat()}: there is nothing left to correct"
        )
    check_measures(after, row.authority_id, unit.policies)
    check_legal_basis(legal_basis)
    check_term(row.effective_at, expires_at, unit.store.rules.max_term)
    more = bool(set(after) - set(before)) or expires_at > row.expires_at
    _check_two_persons(unit, row, more=more)
    if expires_at <= unit.now:
        raise EntryError(
            EntryCode.TERM_OVER,
            "the term would be over already; release, repair or revoke it instead",
        )
    sequence = 0
    if row.state in LISTED and (set(before) - set(after) or expires_at < row.expires_at):
        # Lifted for whoever enforces the measures as they were; the next listing's record
        # stands above this lift.
        sequence = row.relief_sequence = unit.lift(row.id, row.measure_set_id, "AMEND")
        row.relief_floor = sequence
    detail = {
        "measures": [before, after],
        "expires_at": [row.expires_at.isoformat(), expires_at.isoformat()],
        "legal_basis": [row.legal_basis, legal_basis],
        "version": row.version + 1,
        "relief_sequence": sequence,
    }
    row.measure_set_id = _measure_set(unit.session, after)
    row.expires_at, row.legal_basis = expires_at, legal_basis
    row.version += 1
    unit.note(AuditAct.AMEND, ("restriction", row.id), detail=detail)
    unit.session.flush()
    return sequence


def _check_two_persons(unit: Unit, row: RestrictionRow, *, more: bool) -> None:
    """What a second person approved, no single one makes more of.

    A draft waits for another person than the one who amended it.
    """
    if row.state is State.DRAFT:
        if not unit.actor.is_person:
            raise PermissionDeniedError(
                "amending a draft takes a person: use a certificate that names an officer"
                " (…/officer/…)"
            )
        unit.session.execute(
            update(DraftRow)
            .where(DraftRow.restriction_id == row.id)
            .values(entered_by=str(unit.actor))
        )
    elif more and unit.policies.lists[row.list_id].approval is ApprovalMode.TWO_PERSONS:
        raise LifecycleError(
            "on this list more takes two persons: enter what is added as a restriction of its own,"
            " with its own case number"
        )


def _measure_set(session: Session, measures: tuple[str, ...]) -> int:
    codes = " ".join(measures)
    known = session.scalar(select(MeasureSetRow.id).where(MeasureSetRow.codes == codes))
    if known is None:
        made = MeasureSetRow(codes=codes)
        session.add(made)
        session.flush()
        return made.id
    return known
