"""What happens to a restriction after it was entered: it ends, its time comes, it is exempted from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_id
from tipstaff_server.domain.lifecycle import LIFTS, TERMINAL, Event, Moment, State, check_may, step
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
)
from tipstaff_server.registry.restrictions.remedies import open_remedies
from tipstaff_server.registry.restrictions.summary import (
    RestrictionSummary,
    locked,
    summary_of,
)
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.models import (
    DisputeRow,
    DisputeState,
    DraftRow,
    RestrictionRow,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import Unit

__all__ = ["Due", "EndKind", "Ended", "Transitions", "apply"]

DUE_BATCH = 500


class EndKind(StrEnum):
    """How a restriction ends before its term; named as in the contract."""

    RELEASE = "RELEASE"
    REPAIR = "REPAIR"
    REVOKE = "REVOKE"


@dataclass(frozen=True, slots=True)
class Ended:
    """A restriction after its end, and the relief sequence that carries it (0: it was never in a
    listing).
    """

    restriction: RestrictionSummary
    relief_sequence: int


@dataclass(frozen=True, slots=True)
class Due:
    """How many restrictions entered into force and how many expired, because their time had come."""

    activated: int
    expired: int


class Transitions(RegistryPart):
    """What ends restrictions, and what their time does."""

    def end(
        self,
        restriction_id: bytes,
        kind: EndKind,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Ended:
        """Ends one before its term.

        Raises:
            NotFoundError: no such restriction of this actor.
            LifecycleError: it has ended, or cannot end like this.
            StaleVersionError: somebody acted on it since the caller looked.
            InvalidRequestError: no reason, or a used idempotency key.
            PermissionDeniedError: neither the authority that decided nor the operator.
        """
        check_id(restriction_id)
        request = Request(
            actor,
            reason,
            given,
            words=[kind.value, restriction_id.hex(), reason],
            refusal="only the authority that decided, or the operator, ends a restriction",
        )
        with self._store.perform(request) as unit:
            row = locked(unit, restriction_id)
            sequence = row.relief_sequence
            if unit.is_new(row):
                sequence = apply(unit, row, Event(kind.value))
                unit.remember(row.id)
            return Ended(summary_of(unit.session, row), sequence)

    def expire_due(self, now: datetime) -> Due:
        """Lets restrictions enter into force and expire whose time has come.

        Safe to run often and on several replicas.
        """
        activated = self._advance(Event.ENTER_FORCE, now)
        expired = self._advance(Event.EXPIRE, now)
        return Due(activated, expired)

    def _advance(self, event: Event, now: datetime) -> int:
        due = _due(event, now)
        done = 0
        while True:
            with self._store.read() as session:
                if session.scalar(select(RestrictionRow.id).where(*due).limit(1)) is None:
                    return done
            with self._store.act() as unit:
                # The chosen moment counts, not the clock's: a scheduler that is late must not skip
                # anything.
                unit.now = now
                # In the order of an index of moments: in that of ids the database might go through
                # all there are to find the few due.
                order = (
                    (
                        RestrictionRow.effective_at
                        if event is Event.ENTER_FORCE
                        else RestrictionRow.expires_at
                    ),
                    RestrictionRow.id,
                )
                rows = unit.session.scalars(
                    select(RestrictionRow)
                    .where(*due)
                    .order_by(*order)
                    .limit(DUE_BATCH)
                    .with_for_update()
                ).all()
                for row in rows:
                    apply(unit, row, event)
                done += len(rows)


def _due(event: Event, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Which restrictions the event is due for."""
    if event is Event.ENTER_FORCE:
        return (
            RestrictionRow.state == State.NOTICED,
            RestrictionRow.effective_at <= now,
            RestrictionRow.expires_at > now,
        )
    return (
        RestrictionRow.state.in_(sorted(set(State) - TERMINAL)),
        RestrictionRow.expires_at <= now,
    )


def apply(unit: Unit, row: RestrictionRow, event: Event, *, by: Actor | None = None) -> int:
    """Lets one event happen to a locked restriction: state, relief, disputes, remedies, audit.

    Args:
        unit: the act that it is a part of.
        row: the restriction.
        event: what happens.
        by: who makes it happen, when that is not the act's actor.

    Returns:
        The relief sequence that carries it; 0: providers need not be told.

    Raises:
        LifecycleError: it cannot happen now.
        PermissionDeniedError: not this actor's to make happen.
    """
    check_may(event, (by or unit.actor).kind)
    before = row.state
    moment = Moment(unit.now, row.effective_at, row.expires_at, row.activated_at is not None)
    row.state = step(before, event, moment)
    row.version += 1
    if before is State.DRAFT:
        unit.session.execute(delete(DraftRow).where(DraftRow.restriction_id == row.id))
    if row.state is State.ACTIVE and row.activated_at is None:
        row.activated_at = unit.now
    sequence = 0
    if event in LIFTS and before is not State.DRAFT:
        sequence = row.relief_sequence = unit.lift(row.id, row.measure_set_id, event.value)
    if event is Event.REINSTATE:
        row.relief_floor = unit.relief_head()
    if row.state in TERMINAL:
        row.ended_at = unit.now
        _close_disputes(unit, row)
    detail = {
        "from": before,
        "to": row.state,
        "version": row.version,
        "relief_sequence": sequence,
    }
    unit.note(AuditAct(event.value), ("restriction", row.id), detail=detail, by=by)
    if row.state is State.REVOKED:
        unit.session.flush()
        open_remedies(unit, row.id)
    return sequence


def _close_disputes(unit: Unit, row: RestrictionRow) -> None:
    """Open disputes end with the restriction: revoked is the answer to all of them."""
    state = DisputeState.REVOKED if row.state is State.REVOKED else DisputeState.CLOSED
    unit.session.execute(
        update(DisputeRow)
        .where(DisputeRow.restriction_id == row.id, DisputeRow.state == DisputeState.OPEN)
        .values(state=state, answered_at=unit.now)
    )
