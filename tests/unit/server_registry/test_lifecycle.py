"""The table of state × event, every cell of it."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from tests.support.registry import NOW
from tipstaff.v1 import registry_pb2
from tipstaff_server.domain.lifecycle import (
    LIFTS,
    LISTED,
    TERMINAL,
    Event,
    Moment,
    State,
    allowed,
    step,
)
from tipstaff_server.errors import LifecycleError

RUNNING = Moment(NOW, NOW - timedelta(days=1), NOW + timedelta(days=1), was_active=True)
OVER = Moment(NOW, NOW - timedelta(days=2), NOW - timedelta(days=1), was_active=True)

# Written down a second time, by hand, from docs/architecture.md.
EXPECTED = {
    "DRAFT": {"ANNOUNCE": "NOTICED", "REVOKE": "REVOKED", "EXPIRE": "EXPIRED"},
    "NOTICED": {
        "ENTER_FORCE": "ACTIVE",
        "SUSPEND": "SUSPENDED",
        "REPAIR": "REPAIRED",
        "REVOKE": "REVOKED",
        "EXPIRE": "EXPIRED",
    },
    "ACTIVE": {
        "SUSPEND": "SUSPENDED",
        "RELEASE": "RELEASED",
        "REPAIR": "REPAIRED",
        "REVOKE": "REVOKED",
        "EXPIRE": "EXPIRED",
    },
    "SUSPENDED": {
        "REINSTATE": "ACTIVE",
        "RELEASE": "RELEASED",
        "REPAIR": "REPAIRED",
        "REVOKE": "REVOKED",
        "EXPIRE": "EXPIRED",
    },
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_each_event_in_each_state_does_what_the_table_says(state: State, event: Event) -> None:
    moment = OVER if event is Event.EXPIRE else RUNNING
    wanted = EXPECTED.get(state, {}).get(event)
    if wanted is None:
        with pytest.raises(LifecycleError, match=f"{event} is not possible in state {state}"):
            step(state, event, moment)
    else:
        assert step(state, event, moment) == wanted
    assert (event in allowed(state)) is (wanted is not None)


@pytest.mark.parametrize(
    ("state", "event", "moment", "hint"),
    [
        (
            State.NOTICED,
            Event.ENTER_FORCE,
            Moment(NOW, NOW + timedelta(seconds=1), NOW + timedelta(days=1), was_active=False),
            "not before",
        ),
        (State.NOTICED, Event.ENTER_FORCE, OVER, "term ended"),
        (State.SUSPENDED, Event.REINSTATE, OVER, "term ended"),
        (State.ACTIVE, Event.SUSPEND, OVER, "term ended"),
        (State.ACTIVE, Event.EXPIRE, RUNNING, "not before"),
        (
            State.SUSPENDED,
            Event.RELEASE,
            Moment(NOW, NOW, NOW + timedelta(days=1), was_active=False),
            "never been in force",
        ),
    ],
)
def test_an_event_at_the_wrong_moment_is_refused_with_the_reason(
    state: State, event: Event, moment: Moment, hint: str
) -> None:
    with pytest.raises(LifecycleError, match=hint):
        step(state, event, moment)


def test_at_the_very_moment_it_begins_and_ends() -> None:
    edge = Moment(NOW, NOW, NOW + timedelta(days=1), was_active=False)
    assert step(State.NOTICED, Event.ENTER_FORCE, edge) is State.ACTIVE
    assert (
        step(State.ACTIVE, Event.EXPIRE, Moment(NOW, NOW - timedelta(days=1), NOW, was_active=True))
        is State.EXPIRED
    )


def test_reinstated_before_it_takes_effect_it_is_noticed_again() -> None:
    early = Moment(NOW, NOW + timedelta(days=1), NOW + timedelta(days=2), was_active=False)
    assert step(State.SUSPENDED, Event.REINSTATE, early) is State.NOTICED


def test_nothing_leaves_an_end_and_states_are_the_contract_s() -> None:
    assert all(not allowed(state) for state in TERMINAL)
    assert {state for state in State if not allowed(state)} == TERMINAL
    assert {State.NOTICED, State.ACTIVE} == LISTED
    assert {Event.SUSPEND, Event.RELEASE, Event.REPAIR, Event.REVOKE} == LIFTS
    names = {
        # Not a dict
        name.removeprefix("RESTRICTION_STATE_")
        for name in registry_pb2.RestrictionState.keys()  # noqa: SIM118
    }
    assert {state.value for state in State} == names - {"UNSPECIFIED"}
