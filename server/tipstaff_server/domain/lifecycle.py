"""The life of a restriction: a table of state × event → state, with its guards and with who may
(docs/architecture.md has the picture).

    DRAFT ─ANNOUNCE─► NOTICED ─ENTER_FORCE─► ACTIVE ─SUSPEND─► SUSPENDED ─REINSTATE─► ACTIVE
    NOTICED, ACTIVE, SUSPENDED ─REPAIR─► REPAIRED   ─EXPIRE─► EXPIRED
    DRAFT, NOTICED, ACTIVE, SUSPENDED ─REVOKE─► REVOKED
    ACTIVE, SUSPENDED ─RELEASE─► RELEASED           (only what has been in force can be let go)

Whatever is not in the table cannot happen. Nothing here touches the database: it is asked before
every act.

    event                      guard                                       who may
    ANNOUNCE                   another person than the one who entered it  a person of authority or operator
    ENTER_FORCE                its first moment has come, its term runs    by itself
    SUSPEND                    its term runs                               whoever opens a dispute
    REINSTATE                  its term runs, no other dispute suspends    authority, operator
    RELEASE, REPAIR, REVOKE    RELEASE: it has been in force               authority, operator
    EXPIRE                     its term is over                            by itself

Of authorities only the one that decided. A list that asks for no second person has no drafts: an
entry begins as NOTICED or ACTIVE.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from tipstaff_server.domain.actors import DECIDERS, ActorKind
from tipstaff_server.errors import LifecycleError, PermissionDeniedError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "LIFTS",
    "LISTED",
    "TERMINAL",
    "WHO",
    "Event",
    "Moment",
    "State",
    "allowed",
    "check_may",
    "effective_after",
    "step",
]


class State(StrEnum):
    """Where a restriction stands; named as RestrictionState in the contract."""

    DRAFT = "DRAFT"
    NOTICED = "NOTICED"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    RELEASED = "RELEASED"
    REPAIRED = "REPAIRED"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


class Event(StrEnum):
    """What may happen to it."""

    ANNOUNCE = "ANNOUNCE"
    ENTER_FORCE = "ENTER_FORCE"
    SUSPEND = "SUSPEND"
    REINSTATE = "REINSTATE"
    RELEASE = "RELEASE"
    REPAIR = "REPAIR"
    REVOKE = "REVOKE"
    EXPIRE = "EXPIRE"


@dataclass(frozen=True, slots=True)
class Moment:
    """What the guards look at.

    All times aware; `expires_at` is exclusive; `was_active`: it has been in force before.
    """

    now: datetime
    effective_at: datetime
    expires_at: datetime
    was_active: bool


TERMINAL = frozenset({State.RELEASED, State.REPAIRED, State.REVOKED, State.EXPIRED})
"""States that nothing leaves."""

LISTED = frozenset({State.NOTICED, State.ACTIVE})
"""States in which a restriction may stand in a listing."""

LIFTS = frozenset({Event.SUSPEND, Event.RELEASE, Event.REPAIR, Event.REVOKE})
"""Events after which relief has to reach providers. Expiry is in every record, so it needs none."""

_TABLE: dict[tuple[State, Event], State] = {
    (State.DRAFT, Event.ANNOUNCE): State.NOTICED,
    (State.DRAFT, Event.REVOKE): State.REVOKED,
    (State.DRAFT, Event.EXPIRE): State.EXPIRED,
    (State.NOTICED, Event.ENTER_FORCE): State.ACTIVE,
    (State.NOTICED, Event.SUSPEND): State.SUSPENDED,
    (State.NOTICED, Event.REPAIR): State.REPAIRED,
    (State.NOTICED, Event.REVOKE): State.REVOKED,
    (State.NOTICED, Event.EXPIRE): State.EXPIRED,
    (State.ACTIVE, Event.SUSPEND): State.SUSPENDED,
    (State.ACTIVE, Event.RELEASE): State.RELEASED,
    (State.ACTIVE, Event.REPAIR): State.REPAIRED,
    (State.ACTIVE, Event.REVOKE): State.REVOKED,
    (State.ACTIVE, Event.EXPIRE): State.EXPIRED,
    (State.SUSPENDED, Event.REINSTATE): State.ACTIVE,
    (State.SUSPENDED, Event.RELEASE): State.RELEASED,
    (State.SUSPENDED, Event.REPAIR): State.REPAIRED,
    (State.SUSPENDED, Event.REVOKE): State.REVOKED,
    (State.SUSPENDED, Event.EXPIRE): State.EXPIRED,
}

WHO: dict[Event, frozenset[ActorKind]] = {
    Event.ANNOUNCE: DECIDERS,
    Event.ENTER_FORCE: frozenset({ActorKind.SYSTEM}),
    Event.SUSPEND: DECIDERS | {ActorKind.PROVIDER},
    Event.REINSTATE: DECIDERS,
    Event.RELEASE: DECIDERS,
    Event.REPAIR: DECIDERS,
    Event.REVOKE: DECIDERS,
    Event.EXPIRE: frozenset({ActorKind.SYSTEM}),
}
"""Who may make an event happen."""


def check_may(event: Event, kind: ActorKind) -> None:
    """Raises PermissionDeniedError: this event is not for that kind of actor to make happen."""
    if kind not in WHO[event]:
        raise PermissionDeniedError(
            f"a {kind} does not {event}; that is for: {', '.join(sorted(WHO[event]))}"
        )


def allowed(state: State) -> frozenset[Event]:
    """Events that the table knows for this state, guards aside."""
    return frozenset(event for known, event in _TABLE if known is state)


def step(state: State, event: Event, moment: Moment) -> State:
    """The state after `event`. Raises LifecycleError when the table or a guard forbids it."""
    target = _TABLE.get((state, event))
    if target is None:
        options = ", ".join(sorted(allowed(state))) or "nothing: it has ended"
        raise LifecycleError(f"{event} is not possible in state {state}; possible: {options}")
    if event is Event.ENTER_FORCE and moment.now < moment.effective_at:
        raise LifecycleError(
            f"it enters into force at {moment.effective_at.isoformat()}, not before"
        )
    if (
        event in {Event.ENTER_FORCE, Event.REINSTATE, Event.SUSPEND}
        and moment.now >= moment.expires_at
    ):
        raise LifecycleError(f"its term ended at {moment.expires_at.isoformat()}")
    if event is Event.EXPIRE and moment.now < moment.expires_at:
        raise LifecycleError(f"its term ends at {moment.expires_at.isoformat()}, not before")
    if event is Event.RELEASE and not moment.was_active:
        raise LifecycleError(
            "it has never been in force, so it cannot be released; repair or revoke it"
        )
    if event is Event.REINSTATE and moment.now < moment.effective_at:
        return State.NOTICED
    return target


def effective_after(
    effective_at: datetime, published_at: datetime | None, notice_days: int, now: datetime
) -> datetime:
    """The first moment of enforcement: a list's notice period runs from the publication, or from
    now when there was none.
    """
    if not notice_days:
        return effective_at
    announced = min(published_at or now, now)
    return max(effective_at, announced + timedelta(days=notice_days))
