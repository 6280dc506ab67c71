"""What happens to a restriction after it was entered: it ends, its time comes, it is exempted from."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from tipstaff_server.domain.actors import SYSTEM, Actor, ActorKind
from tipstaff_server.domain.checks import ID_BYTES, check_id, check_reason
from tipstaff_server.domain.lifecycle import LIFTS, TERMINAL, Event, Moment, State, check_may, step
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    PermissionDeniedError,
)
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
    check_version,
    first_answer,
    remember,
)
from tipstaff_server.registry.restrictions.remedies import open_remedies
from tipstaff_server.registry.restrictions.summary import (
    RestrictionSummary,
    find,
    measures_of,
    summary_of,
)
from tipstaff_server.registry.subjects.resolver import holder
from tipstaff_server.storage.models import (
    DisputeRow,
    DisputeState,
    DraftRow,
    ExemptionRow,
    RestrictionRow,
)
from tipstaff_server.vault.columns import blind_of, seal_exemption_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.registry.unit import Core, Unit

__all__ = ["Acting", "Due", "EndKind", "Ended", "apply"]

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


class Acting:
    """The part of the registry that acts on restrictions."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, restriction_id: bytes, actor: Actor) -> RestrictionSummary:
        """One restriction. Raises NotFoundError: no such restriction of this actor."""
        check_id(restriction_id)
        with self._core.database.read() as session:
            return summary_of(session, find(session, restriction_id, actor, self._core))

    def end(
        self,
        restriction_id: bytes,
        kind: EndKind,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Ended:
        """Ends one.

        Raises NotFoundError, LifecycleError, StaleVersionError, InvalidRequestError (no reason, a
        used key), PermissionDeniedError.
        """
        check_id(restriction_id)
        check_reason(reason)
        if actor.kind not in {ActorKind.AUTHORITY, ActorKind.OPERATOR}:
            raise PermissionDeniedError(
                "only the authority that decided, or the operator, ends a restriction"
            )
        with self._core.act() as unit:
            row = find(unit.session, restriction_id, actor, self._core, lock=True)
            request = [kind.value, restriction_id.hex(), reason]
            if first_answer(unit, self._core.vault, actor, given, request) is not None:
                return Ended(summary_of(unit.session, row), row.relief_sequence)
            check_version(row, given)
            sequence = apply(unit, row, Event(kind.value), actor, reason)
            remember(unit, self._core.vault, actor, given, request, row.id)
            unit.session.flush()
            return Ended(summary_of(unit.session, row), sequence)

    def exempt(
        self,
        restriction_id: bytes,
        *,
        measures: Sequence[str],
        valid: tuple[datetime, datetime],
        why: tuple[str, str],
        actor: Actor,
        given: Precondition = ANY,
        person: Identifier | None = None,
    ) -> bytes:
        """Permits something inside a restriction, from the next listing on; the exemption's id.

        `measures`: codes, none for all of them; `valid`: from, until (exclusive); `why`: for the
        counter, Chinese and English; `person`: for this one alone, whom the restriction reaches
        through an organisation (因私消费); none: for everybody whom it reaches. Raises NotFoundError,
        LifecycleError (it has ended), StaleVersionError, InvalidRequestError,
        PermissionDeniedError.
        """
        check_id(restriction_id)
        for text in why:
            check_reason(text)
        if actor.kind not in {ActorKind.AUTHORITY, ActorKind.OPERATOR}:
            raise PermissionDeniedError("only the authority that decided, or the operator, exempts")
        if valid[0] >= valid[1]:
            raise InvalidRequestError("the exemption ends before it begins")
        with self._core.act() as unit:
            row = find(unit.session, restriction_id, actor, self._core, lock=True)
            subject = (
                None if person is None else _reached(unit, row, blind_of(self._core.vault, person))
            )
            request = [
                "EXEMPT",
                restriction_id.hex(),
                sorted(measures),
                *valid,
                *why,
                *([subject.hex()] if subject else []),
            ]
            if (known := first_answer(unit, self._core.vault, actor, given, request)) is not None:
                return known
            check_version(row, given)
            if row.state in TERMINAL:
                raise LifecycleError(
                    f"this restriction is {row.state} already: nothing needs to be permitted"
                )
            if not set(measures) <= set(measures_of(unit.session, row)):
                raise InvalidRequestError(
                    "the restriction does not hold all of these measures; exempt from those that it"
                    " holds"
                )
            exemption = secrets.token_bytes(ID_BYTES)
            unit.session.add(
                ExemptionRow(
                    id=exemption,
                    restriction_id=row.id,
                    measures=" ".join(sorted(set(measures))),
                    valid_from=valid[0],
                    valid_until=valid[1],
                    reason_zh="",
                    reason_en="",
                    reason=seal_exemption_reason(self._core.vault, exemption, why),
                    created_at=unit.now,
                    subject_id=subject,
                )
            )
            row.version += 1
            remember(unit, self._core.vault, actor, given, request, exemption)
            if subject:
                detail = {"exemption": exemption.hex(), "restriction": row.id.hex()}
                unit.log.add(
                    unit.now, actor, "EXEMPT", ("subject", subject), detail=detail, reason=why[0]
                )
            unit.log.add(
                unit.now,
                actor,
                "EXEMPT",
                ("restriction", row.id),
                detail={"exemption": exemption.hex()},
                reason=why[0],
            )
        return exemption

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
            with self._core.database.read() as session:
                if session.scalar(select(RestrictionRow.id).where(*due).limit(1)) is None:
                    return done
            with self._core.act() as unit:
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
                    apply(unit, row, event, SYSTEM, "")
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


def apply(unit: Unit, row: RestrictionRow, event: Event, actor: Actor, reason: str) -> int:
    """One event on one locked restriction: state, relief, disputes, remedies, audit; the relief
    sequence, or 0.

    Raises LifecycleError, PermissionDeniedError.
    """
    check_may(event, actor.kind)
    before = row.state
    moment = Moment(
        now=unit.now,
        effective_at=row.effective_at,
        expires_at=row.expires_at,
        was_active=row.activated_at is not None,
    )
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
    unit.log.add(
        unit.now,
        actor,
        event.value,
        ("restriction", row.id),
        detail={
            "from": before,
            "to": row.state,
            "version": row.version,
            "relief_sequence": sequence,
        },
        reason=reason,
    )
    if row.state is State.REVOKED:
        unit.session.flush()
        open_remedies(unit, row.id)
    return sequence


def _reached(unit: Unit, row: RestrictionRow, blind: bytes) -> bytes:
    found = holder(unit.session, row.subject_id, blind)
    if found is None:
        raise InvalidRequestError(
            "the restriction does not reach this person through a post: there is nothing to exempt"
            " from"
        )
    return found


def _close_disputes(unit: Unit, row: RestrictionRow) -> None:
    """Open disputes end with the restriction: revoked is the answer to all of them."""
    state = DisputeState.REVOKED if row.state is State.REVOKED else DisputeState.CLOSED
    unit.session.execute(
        update(DisputeRow)
        .where(DisputeRow.restriction_id == row.id, DisputeRow.state == DisputeState.OPEN)
        .values(state=state, answered_at=unit.now)
    )
