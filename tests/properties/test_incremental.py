"""Whatever happens in a registry, a listing built on the last build is the one that a build from scratch makes, byte for byte.

Small buckets and small pieces, so that forty people are enough to meet every border. What is published is signed off by the independent
check, which reads the whole registry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from tests.support.builds import make_world
from tests.support.registry import COURT, OPERATOR, entry, organisation, person, responsible
from tipstaff_server import build_rows, builder
from tipstaff_server.actors import Actor
from tipstaff_server.acts import EndKind
from tipstaff_server.amending import Amendment
from tipstaff_server.entries import Party
from tipstaff_server.errors import EntryError, LifecycleError
from tipstaff_server.models import DisputeState

AIRLINE = Actor.provider("air-1", "aviation")
MEASURES = [("AIR_TRAVEL",), ("RAIL_HIGH_CLASS",), ("AIR_TRAVEL", "RAIL_HIGH_CLASS"), ("LOAN_PRICING",)]
AUDIENCES = st.sampled_from(["aviation", "rail"])
# Some of the people who are there, and some who are not.
PEOPLE = st.integers(30, 48)
DAYS = st.integers(-3, 12)


class Builds(RuleBasedStateMachine):
    """Acts and time, and builds in between."""

    backend = "sqlite"
    restrictions: Bundle[bytes] = Bundle("restrictions")
    disputes: Bundle[str] = Bundle("disputes")

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(builder, "LEAST_NUMBERS", 2)
        self.patch.setattr("tipstaff_sdk.pack_builder.RECORDS_A_BUCKET", 2)
        self.patch.setattr(build_rows, "AT_ONCE", 3)
        self.world = make_world(self.backend)
        self.registry = self.world.runtime.registry
        self.cases = 0
        self.built: dict[str, str] = {"aviation": "there is no build to go on from", "rail": "there is no build to go on from"}

    def enter(self, party: Party, begins: int, length: int, **options: Any) -> Any:
        self.cases += 1
        start = self.world.clock.now + timedelta(days=begins)
        item = entry(
            party, effective_at=start, expires_at=start + timedelta(days=length), case_number=f"（2026）虚01执{self.cases}号", **options
        )
        answer = self.registry.submit(item, authority="court", actor=COURT)
        return answer.restriction_id or multiple()

    @rule(
        target=restrictions,
        index=PEOPLE,
        more=st.lists(st.sampled_from(["王小明", "JOHN SMITH"]), max_size=2, unique=True),
        begins=DAYS,
        length=st.integers(1, 12),
        measures=st.sampled_from(MEASURES),
        number=st.booleans(),
    )
    def enter_person(self, index: int, more: list[str], begins: int, length: int, measures: tuple[str, ...], number: bool) -> Any:
        known = person(index)
        numbers = (*known.identifiers, *person(1_000 + index).identifiers) if number else known.identifiers
        return self.enter(Party(known.type, numbers, (*known.names, *more)), begins, length, measures=measures)

    @rule(
        target=restrictions,
        index=st.integers(0, 3),
        people=st.lists(PEOPLE, max_size=3, unique=True),
        begins=DAYS,
        length=st.integers(1, 12),
        measures=st.sampled_from(MEASURES),
        capacity=st.integers(1, 2),
    )
    def enter_organisation(self, index: int, people: list[int], begins: int, length: int, measures: tuple[str, ...], capacity: int) -> Any:
        persons = tuple(responsible(number, capacity) for number in people)
        return self.enter(organisation(index), begins, length, measures=measures, responsible=persons)

    @rule(restriction=restrictions, kind=st.sampled_from(EndKind))
    def end(self, restriction: bytes, kind: EndKind) -> None:
        try:
            self.registry.end(restriction, kind, "x", actor=COURT)
        except LifecycleError:
            return

    @rule(target=disputes, restriction=restrictions)
    def dispute(self, restriction: bytes) -> Any:
        self.cases += 1
        try:
            return self.registry.open_dispute(
                restriction, "x", request_id=self.cases.to_bytes(16, "big"), actor=OPERATOR
            ).dispute.case_number
        except LifecycleError:
            return multiple()

    @rule(case=disputes, outcome=st.sampled_from([DisputeState.REJECTED, DisputeState.REVOKED]))
    def answer(self, case: str, outcome: Any) -> None:
        try:
            self.registry.answer_dispute(case, outcome, "x", actor=COURT)
        except LifecycleError:
            return

    @rule(restriction=restrictions, measures=st.sampled_from([(), *MEASURES]), days=st.none() | st.integers(1, 20))
    def amend(self, restriction: bytes, measures: tuple[str, ...], days: int | None) -> None:
        until = None if days is None else self.world.clock.now + timedelta(days=days)
        try:
            self.registry.amending.amend(restriction, Amendment(measures=measures, expires_at=until), "x", COURT)
        except (LifecycleError, EntryError):
            return

    @rule(restriction=restrictions, begins=DAYS, length=st.integers(1, 5))
    def exempt(self, restriction: bytes, begins: int, length: int) -> None:
        start = self.world.clock.now + timedelta(days=begins)
        try:
            self.registry.exempt(
                restriction, measures=(), valid=(start, start + timedelta(days=length)), why=("就医", "hospital"), actor=COURT
            )
        except LifecycleError:
            return

    @rule(days=st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0]))
    def wait(self, days: float) -> None:
        self.world.clock.turn(days=days)

    @rule()
    def advance(self) -> None:
        self.registry.expire_due(self.world.clock.now)

    @rule(audience=AUDIENCES)
    def rotate(self, audience: str) -> None:
        self.world.runtime.epochs.rotate(audience, timedelta(days=7))
        self.built[audience] = self.built[audience] or "the epoch is another one than in the last build"

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
    return settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks)


TestBuilds = pytest.mark.timeout(600)(Builds.TestCase)
TestBuilds.settings = _settings(12)
TestPostgresBuilds = pytest.mark.timeout(600)(PostgresBuilds.TestCase)
TestPostgresBuilds.settings = _settings(4)
