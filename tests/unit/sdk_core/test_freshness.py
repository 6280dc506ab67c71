"""The freshness matrix (docs/architecture.md): what each age of listing and relief answers to each
kind of person, under an injected clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from tests.support import identities
from tests.support.sealed_world import AIR, DAY, HOUR, NOW, SealedWorld, exemption, restriction
from tipstaff_sdk.decision.decide import DecisionState, decide
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.relief import Relief, Segment
from tipstaff_sdk.screening.engine import Screening

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
BUILT = (
    NOW - 6 * HOUR
)  # SealedWorld's listing; relief counts from it, and is 30 minutes old at most
RESTRICTED, LIFTED, LAPSED, COMING, EXEMPT, CLEAR = (
    Identifier.resident_id(identities.resident_id(number)) for number in range(6)
)
NAMES = ("RESTRICTED", "LIFTED", "LAPSED", "COMING", "EXEMPT", "CLEAR")
PEOPLE = dict(zip(NAMES, (RESTRICTED, LIFTED, LAPSED, COMING, EXEMPT, CLEAR), strict=True))

FRESH = ("IN_FORCE", "LIFTED", "LAPSED", "NOT_YET_EFFECTIVE", "EXEMPT", "NOT_LISTED")
STALE = ("STALE_RELIEF", *FRESH[1:])
EXPIRED = ("EXPIRED",) * 6
NO_DATA = ("NO_DATA",) * 6


@dataclass(frozen=True)
class Case:
    """now: the provider's clock. signed: relief's time, None without relief. expires: the
    listing's. gap: in the segments.
    """

    expected: tuple[str, ...]
    now: datetime = NOW
    signed: datetime | None = NOW - MINUTE
    expires: datetime = NOW + 7 * DAY
    gap: bool = False
    key: bool = True


MATRIX = {
    "all is fresh": Case(FRESH),
    "relief is signed this moment": Case(FRESH, signed=NOW),
    "relief is as old as it may be": Case(FRESH, signed=NOW - 30 * MINUTE),
    "relief is a second too old": Case(STALE, signed=NOW - 30 * MINUTE - SECOND),
    "relief is of yesterday": Case(STALE, signed=NOW - DAY),
    "there is no relief": Case((STALE[0], STALE[0], *STALE[2:]), signed=None),
    "relief is fresh and has a gap": Case(STALE, gap=True),
    "relief is old and has a gap": Case(STALE, signed=NOW - DAY, gap=True),
    "the listing's last second": Case(FRESH, now=NOW + 7 * DAY - SECOND, signed=NOW + 7 * DAY - MINUTE),
    "the listing expires now": Case(EXPIRED, now=NOW + 7 * DAY, signed=NOW + 7 * DAY),
    "the listing expired, and relief is old": Case(EXPIRED, now=NOW + 9 * DAY),
    "the listing expired, and there is no relief": Case(EXPIRED, now=NOW + 9 * DAY, signed=None),
    "the listing is old and runs, relief is fresh": Case(FRESH, now=NOW + 6 * DAY, signed=NOW + 6 * DAY),
    "no key for the listing's epoch": Case(NO_DATA, key=False),
    "no key, and expired": Case(NO_DATA, now=NOW + 9 * DAY, key=False),
    "the clock is an hour ahead": Case(STALE, now=NOW + HOUR),
    "the clock is an hour behind": Case(STALE, now=NOW - HOUR),
    "the clock is twenty minutes ahead": Case(FRESH, now=NOW + 20 * MINUTE),
    "the clock is twenty minutes behind": Case(FRESH, now=NOW - 20 * MINUTE),
    "the clock is a month behind": Case(STALE, now=NOW - 30 * DAY),
    "the clock is a month ahead": Case(EXPIRED, now=NOW + 30 * DAY),
    "set back, after the listing expired": Case(EXPIRED, now=NOW - DAY, signed=NOW - MINUTE, expires=NOW - 2 * MINUTE),
    "set back, and relief was signed at the listing's very end": Case(EXPIRED, now=NOW - DAY, signed=NOW - MINUTE, expires=NOW - MINUTE),
    "set back to before the listing was built, without relief": Case(
        (STALE[0], STALE[0], *STALE[2:]), now=BUILT - HOUR, signed=None
    ),
}  # fmt: skip


def state_of(case: Case) -> DecisionState:
    world = SealedWorld()
    terms = {
        "RESTRICTED": {},
        "LIFTED": {},
        # It ended, and the other one began, between the build of the listing and the last signature
        # of relief.
        "LAPSED": {"end": BUILT - MINUTE},
        "COMING": {"first": NOW + 20 * DAY},
        "EXEMPT": {"exemptions": [exemption(BUILT - HOUR, NOW + 20 * DAY)]},
    }
    for number, (name, term) in enumerate(terms.items(), 1):
        world.list(
            PEOPLE[name], name.lower(), restriction(number, **{"end": NOW + 100 * DAY, **term})
        )  # type: ignore[arg-type]
    world.segments = [
        Segment(11, 12, ((11, bytes([2]) * 16),)),
        *([Segment(14, 14, ())] if case.gap else []),
    ]
    relief = None if case.signed is None else Relief.from_segments(world.segments, 10, case.signed)
    keys = {} if not case.key else {world.key.epoch: world.key}
    return world.state(
        relief=relief, parameters=world.parameters(expires_at=case.expires), epoch_keys=keys
    )


@pytest.mark.parametrize("name", MATRIX)
def test_the_freshness_matrix(name: str) -> None:
    case = MATRIX[name]
    state = state_of(case)
    found = tuple(
        decide(state, case.now, person, who.lower(), AIR).reason.name
        for who, person in PEOPLE.items()
    )
    assert found == case.expected


@pytest.mark.parametrize("name", MATRIX)
def test_columns_are_settled_by_the_same_matrix(name: str) -> None:
    case = MATRIX[name]
    settled = Screening(state_of(case), case.now, AIR).settled
    assert settled.name == case.expected[-1]


def test_a_term_that_ended_does_not_begin_again_when_the_clock_is_set_back() -> None:
    world = SealedWorld()
    world.list(RESTRICTED, "restricted", restriction(1, end=NOW - 10 * MINUTE))
    state = world.state(relief=Relief.from_segments([], 10, NOW - 5 * MINUTE))
    for back in (timedelta(), 15 * MINUTE, 20 * MINUTE, HOUR, 30 * DAY):
        assert decide(state, NOW - back, RESTRICTED, "restricted", AIR).reason.name == "LAPSED"


def test_an_exemption_that_began_still_holds_when_the_clock_is_set_back() -> None:
    world = SealedWorld()
    world.list(
        RESTRICTED,
        "restricted",
        restriction(1, exemptions=[exemption(NOW - 10 * MINUTE, NOW + HOUR)]),
    )
    state = world.state(relief=Relief.from_segments([], 10, NOW - 5 * MINUTE))
    assert decide(state, NOW - 20 * MINUTE, RESTRICTED, "restricted", AIR).reason.name == "EXEMPT"


def test_a_clock_that_stands_still_behind_does_not_keep_relief_fresh() -> None:
    """The floor holds terms, not ages: otherwise relief of any age would look new to a clock behind
    it.
    """
    world = SealedWorld()
    world.list(RESTRICTED, "restricted", restriction())
    state = world.state(relief=Relief.from_segments([], 10, NOW))
    assert state.held(NOW - DAY) == NOW
    assert state.held(NOW + DAY) == NOW + DAY
    assert decide(state, NOW - DAY, RESTRICTED, "restricted", AIR).reason.name == "STALE_RELIEF"
