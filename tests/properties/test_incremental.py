"""Whatever happens in a registry, a listing built on the last build is the one that a build from
scratch makes, byte for byte.

Small buckets and small pieces, so that forty people are enough to meet every border. What is
published is signed off by the independent check, which reads the whole registry.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.support.builds import make_world
from tests.support.registry import COURT, OPERATOR, entry, organisation, person, responsible
from tipstaff_server.domain.actors import Actor
from tipstaff_server.domain.parties import Party
from tipstaff_server.errors import EntryError, InvalidRequestError, LifecycleError, NotFoundError
from tipstaff_server.listing import build as builder
from tipstaff_server.listing import rows as build_rows
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction, Parts
from tipstaff_server.storage.models import DisputeState

AIRLINE = Actor.provider("air-1", "aviation")
MEASURES = [
    ("AIR_TRAVEL",),
    ("RAIL_HIGH_CLASS",),
    ("AIR_TRAVEL", "RAIL_HIGH_CLASS"),
    ("LOAN_PRICING",),
]
AUDIENCES = st.sampled_from(["aviation", "rail"])
# Some of the people who are there, and some who are not.
PEOPLE = st.integers(30, 48)
KNOWN = st.integers(30, 37)
KNOWN_MORE = (32, 33, 34, 45)
DAYS = st.integers(-3, 12)
ORGANISATIONS = st.integers(0, 3)
MORE_NAMES = ["王小明", "JOHN SMITH"]
# What the registry does not do with the subjects as they are just then.
REFUSED = (EntryError, InvalidRequestError, LifecycleError, NotFoundError)


def named(party: Party) -> Reference:
    """A subject by its first number."""
    return Reference(identifier=party.identifiers[0])


class Builds(RuleBasedStateMachine):
    """Acts and time, and builds in between."""

    backend = "sqlite"
    restrictions: Bundle[bytes] = Bundle("restrictions")
    disputes: Bundle[str] = Bundle("disputes")
    posts: Bundle[bytes] = Bundle("posts")

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(builder, "LEAST_NUMBERS", 2)
        self.patch.setattr("tipstaff_sdk.packs.builder.RECORDS_A_BUCKET", 2)
        self.patch.setattr(build_rows, "AT_ONCE", 3)
        self.world = make_world(self.backend)
        self.registry = self.world.runtime.registry
        self.cases = 0
        # Whoever is to be split or corrected has more than one number and name; whoever answers for
        # somebody is there already.
        for index in KNOWN_MORE:
            known = person(index)
            self.enter(
                Party(
                    known.type,
                    (*known.identifiers, *person(1_000 + index).identifiers),
                    (*known.names, MORE_NAMES[0]),
                ),
                0,
                9,
            )
        for index in (0, 1):
            self.enter(
                organisation(index),
                0,
                9,
                measures=MEASURES[2],
                responsible=(responsible(30 + index), responsible(32)),
            )
        self.built: dict[str, str] = {
            "aviation": "there is no build to go on from",
            "rail": "there is no build to go on from",
        }

    def enter(self, party: Party, begins: int, length: int, **options: Any) -> Any:
        self.cases += 1
        start = self.world.clock.now + timedelta(days=begins)
        item = entry(
            party,
            effective_at=start,
            expires_at=start + timedelta(days=length),
            case_number=f"（2026）虚01执{self.cases}号",
            **options,
        )
        answer = self.registry.restrictions.submit(item, authority="court", actor=COURT)
        return answer.restriction_id or multiple()

    @rule(
        target=restrictions,
        index=PEOPLE,
        more=st.lists(st.sampled_from(MORE_NAMES), max_size=2, unique=True),
        begins=DAYS,
        length=st.integers(1, 12),
        measures=st.sampled_from(MEASURES),
        number=st.booleans(),
    )
    def enter_person(
        self,
        index: int,
        more: list[str],
        begins: int,
        length: int,
        measures: tuple[str, ...],
        number: bool,
    ) -> Any:
        known = person(index)
        numbers = (
            (*known.identifiers, *person(1_000 + index).identifiers)
            if number
            else known.identifiers
        )
        return self.enter(
            Party(known.type, numbers, (*known.names, *more)), begins, length, measures=measures
        )

    @rule(
        target=restrictions,
        index=ORGANISATIONS,
        people=st.lists(PEOPLE, max_size=3, unique=True),
        begins=DAYS,
        length=st.integers(1, 12),
        measures=st.sampled_from(MEASURES),
        capacity=st.integers(1, 2),
    )
    def enter_organisation(
        self,
        index: int,
        people: list[int],
        begins: int,
        length: int,
        measures: tuple[str, ...],
        capacity: int,
    ) -> Any:
        persons = tuple(responsible(number, capacity) for number in people)
        return self.enter(
            organisation(index), begins, length, measures=measures, responsible=persons
        )

    @rule(restriction=restrictions, kind=st.sampled_from(EndKind))
    def end(self, restriction: bytes, kind: EndKind) -> None:
        try:
            self.registry.restrictions.end(restriction, kind, "x", actor=COURT)
        except LifecycleError:
            return

    @rule(target=disputes, restriction=restrictions)
    def dispute(self, restriction: bytes) -> Any:
        self.cases += 1
        try:
            return self.registry.disputes.open(
                restriction, "x", request_id=self.cases.to_bytes(16, "big"), actor=OPERATOR
            ).dispute.case_number
        except LifecycleError:
            return multiple()

    @rule(case=disputes, outcome=st.sampled_from([DisputeState.REJECTED, DisputeState.REVOKED]))
    def answer(self, case: str, outcome: Any) -> None:
        try:
            self.registry.disputes.answer(case, outcome, "x", actor=COURT)
        except LifecycleError:
            return

    @rule(
        restriction=restrictions,
        measures=st.sampled_from([(), *MEASURES]),
        days=st.none() | st.integers(1, 20),
    )
    def amend(self, restriction: bytes, measures: tuple[str, ...], days: int | None) -> None:
        until = None if days is None else self.world.clock.now + timedelta(days=days)
        try:
            self.registry.restrictions.amend(
                restriction, Amendment(measures=measures, expires_at=until), "x", COURT
            )
        except (LifecycleError, EntryError):
            return

    @rule(restriction=restrictions, begins=DAYS, length=st.integers(1, 5))
    def exempt(self, restriction: bytes, begins: int, length: int) -> None:
        start = self.world.clock.now + timedelta(days=begins)
        try:
            self.registry.restrictions.exempt(
                restriction,
                measures=(),
                valid=(start, start + timedelta(days=length)),
                why=("就医", "hospital"),
                actor=COURT,
            )
        except LifecycleError:
            return

    @rule(
        target=posts,
        index=ORGANISATIONS,
        who=PEOPLE,
        capacity=st.integers(1, 2),
        begins=DAYS,
        length=st.none() | st.integers(1, 12),
    )
    def add_post(self, index: int, who: int, capacity: int, begins: int, length: int | None) -> Any:
        start = self.world.clock.now + timedelta(days=begins)
        dates = Dates(start, None if length is None else start + timedelta(days=length))
        with suppress(*REFUSED):
            return self.registry.posts.add(
                named(organisation(index)), responsible(who, capacity), dates, "x", OPERATOR
            ).post_id
        return multiple()

    @rule(post=posts, days=st.none() | DAYS)
    def end_post(self, post: bytes, days: int | None) -> None:
        with suppress(*REFUSED):
            self.registry.posts.end(
                post,
                None if days is None else self.world.clock.now + timedelta(days=days),
                "x",
                OPERATOR,
            )

    @rule(post=posts, begins=DAYS)
    def amend_post(self, post: bytes, begins: int) -> None:
        with suppress(*REFUSED):
            self.registry.posts.amend(
                post,
                Dates(self.world.clock.now + timedelta(days=begins), without_end=True),
                "x",
                OPERATOR,
            )

    @rule(first=KNOWN, second=KNOWN)
    def merge_people(self, first: int, second: int) -> None:
        with suppress(*REFUSED):
            self.registry.subjects.merge(named(person(first)), named(person(second)), "x", OPERATOR)

    @rule(first=ORGANISATIONS, second=ORGANISATIONS)
    def merge_organisations(self, first: int, second: int) -> None:
        with suppress(*REFUSED):
            self.registry.subjects.merge(
                named(organisation(first)), named(organisation(second)), "x", OPERATOR
            )

    @rule(
        index=st.sampled_from(KNOWN_MORE),
        name=st.sampled_from([None, *MORE_NAMES]),
        moved=st.none() | restrictions,
    )
    def split(self, index: int, name: str | None, moved: bytes | None) -> None:
        """The second number goes, with a name of its own or the one that both have, and perhaps
        with a restriction.
        """
        known = person(index)
        ids = () if moved is None else (moved,)
        names, shared = ((), known.names) if name is None else ((name,), ())
        with suppress(*REFUSED):
            self.registry.subjects.split(
                named(known),
                Parts(person(1_000 + index).identifiers, names, shared, ids),
                "x",
                OPERATOR,
            )

    @rule(
        index=st.sampled_from(KNOWN_MORE),
        remove=st.sampled_from(["", "number", *MORE_NAMES]),
        add=st.sampled_from(["", "number", *MORE_NAMES]),
    )
    def correct(self, index: int, remove: str, add: str) -> None:
        correction = Correction(
            remove_identifiers=person(1_000 + index).identifiers if remove == "number" else (),
            remove_names=(remove,) if remove in MORE_NAMES else (),
            add_identifiers=person(2_000 + index).identifiers if add == "number" else (),
            add_names=(add,) if add in MORE_NAMES else (),
        )
        with suppress(*REFUSED):
            self.registry.subjects.correct(named(person(index)), correction, "x", OPERATOR)

    @rule(days=st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0]))
    def wait(self, days: float) -> None:
        self.world.clock.turn(days=days)

    @rule()
    def advance(self) -> None:
        self.registry.expire_due(self.world.clock.now)

    @rule(audience=AUDIENCES)
    def rotate(self, audience: str) -> None:
        self.world.runtime.epochs.rotate(audience, timedelta(days=7))
        self.built[audience] = (
            self.built[audience] or "the epoch is another one than in the last build"
        )

    @rule(audience=AUDIENCES)
    def build(self, audience: str) -> None:
        built = self.world.compare(audience)
        assert built.why == self.built[audience]
        assert (built.touched is None) == bool(built.why)
        self.built[audience] = ""

    @rule(audience=AUDIENCES)
    def publish(self, audience: str) -> None:
        self.build(audience)
        self.world.publish(audience)

    def teardown(self) -> None:
        for audience in ("aviation", "rail"):
            self.publish(audience)
        self.world.close()
        self.patch.undo()


class PostgresBuilds(Builds):
    """The same on PostgreSQL."""

    backend = "postgresql"


def _settings(examples: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks
    )


TestBuilds = pytest.mark.timeout(600)(Builds.TestCase)
TestBuilds.settings = _settings(12)
TestPostgresBuilds = pytest.mark.timeout(600)(PostgresBuilds.TestCase)
TestPostgresBuilds.settings = _settings(4)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shard", range(4))
def test_builds_for_long(shard: int) -> None:
    machine = seed(shard)(type(f"Builds{shard}", (Builds,), {}))
    run_state_machine_as_test(machine, settings=_settings(60))
