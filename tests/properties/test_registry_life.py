"""A small model of the life cycle, driven against the real registry: no forbidden state, no lost
act, and the audit chain holds.

The model knows nothing of tables or sequences beyond counting: what state each restriction is in,
what is listed, what was lifted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from tests.support.registry import AIRLINE, COURT, NOW, entry, listed, make_world, person, submit
from tipstaff_server.audit.log import verify
from tipstaff_server.errors import LifecycleError
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import DisputeState

ENDS = {EndKind.RELEASE: "RELEASED", EndKind.REPAIR: "REPAIRED", EndKind.REVOKE: "REVOKED"}
OVER = {"RELEASED", "REPAIRED", "REVOKED", "EXPIRED"}


@dataclass
class Model:
    """One restriction as the model sees it."""

    state: str
    begins: int
    ends: int
    was_active: bool
    suspending: set[str] = field(default_factory=set)
    rejected: bool = False
    lifted_at: int = 0
    floor: int = 0


class RegistryLife(RuleBasedStateMachine):
    """Days pass, restrictions come and go."""

    backend = "sqlite"
    restrictions: Bundle[int] = Bundle("restrictions")
    disputes: Bundle[tuple[int, str]] = Bundle("disputes")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(mkdtemp())
        self.world = make_world(self.folder, self.backend, horizon=timedelta(days=3))
        self.day = 0
        self.lifts = self.requests = 0
        self.models: list[Model] = []
        self.ids: list[bytes] = []

    @rule(target=restrictions, begins=st.integers(-2, 5), length=st.integers(1, 12))
    def enter(self, begins: int, length: int) -> Any:
        index = len(self.models)
        start, end = self.day + begins, self.day + begins + length
        item = entry(
            person(index),
            effective_at=NOW + timedelta(days=start),
            expires_at=NOW + timedelta(days=end),
        )
        if end <= self.day:
            assert (
                self.world.registry.restrictions.submit(item, authority="court", actor=COURT).code
                == "TERM_OVER"
            )
            return multiple()
        self.ids.append(submit(self.world, item))
        active = start <= self.day
        self.models.append(Model("ACTIVE" if active else "NOTICED", start, end, was_active=active))
        return index

    @rule(index=restrictions, kind=st.sampled_from(EndKind))
    def end(self, index: int, kind: EndKind) -> None:
        model = self.models[index]
        possible = model.state in {"NOTICED", "ACTIVE", "SUSPENDED"} and (
            kind is not EndKind.RELEASE or model.was_active
        )
        if not possible:
            with pytest.raises(LifecycleError):
                self.world.registry.restrictions.end(self.ids[index], kind, "x", actor=COURT)
            return
        self.lifts += 1
        assert (
            self.world.registry.restrictions.end(
                self.ids[index], kind, "x", actor=COURT
            ).relief_sequence
            == self.lifts
        )
        model.state, model.lifted_at = ENDS[kind], self.lifts
        model.suspending.clear()

    @rule(target=disputes, index=restrictions)
    def dispute(self, index: int) -> Any:
        model = self.models[index]
        self.requests += 1
        request = self.requests.to_bytes(
            16, "big"
        )  # a repeated one would only give the first answer again
        if model.state in OVER:
            with pytest.raises(LifecycleError):
                self.world.registry.disputes.open(
                    self.ids[index], "x", request_id=request, actor=AIRLINE
                )
            return multiple()
        if model.state in {"ACTIVE", "NOTICED"} and not model.rejected and self.day >= model.ends:
            with pytest.raises(LifecycleError, match="term ended"):
                self.world.registry.disputes.open(
                    self.ids[index], "x", request_id=request, actor=AIRLINE
                )
            return multiple()
        opened = self.world.registry.disputes.open(
            self.ids[index], "x", request_id=request, actor=AIRLINE
        )
        number = opened.dispute.case_number
        if not model.rejected:
            if model.state != "SUSPENDED":
                self.lifts += 1
                model.state, model.lifted_at = "SUSPENDED", self.lifts
                assert opened.relief_sequence == self.lifts
            model.suspending.add(number)
        assert opened.dispute.suspended == (model.state == "SUSPENDED")
        return index, number

    @rule(which=consumes(disputes))
    def reject(self, which: tuple[int, str]) -> None:
        index, number = which
        model = self.models[index]
        reinstates = model.state == "SUSPENDED" and not model.suspending - {number}
        if model.state in OVER or (reinstates and self.day >= model.ends):
            with pytest.raises(LifecycleError):
                self.world.registry.disputes.answer(number, DisputeState.REJECTED, "x", actor=COURT)
            return
        self.world.registry.disputes.answer(number, DisputeState.REJECTED, "x", actor=COURT)
        model.rejected = True
        model.suspending.discard(number)
        if reinstates:
            model.state, model.floor = (
                "ACTIVE" if self.day >= model.begins else "NOTICED",
                self.lifts,
            )
            model.was_active = model.was_active or model.state == "ACTIVE"

    @rule(days=st.integers(1, 4), work=st.booleans())
    def pass_time(self, days: int, *, work: bool) -> None:
        self.day += days
        self.world.clock.now = NOW + timedelta(days=self.day)
        if not work:
            return
        self.world.registry.expire_due(self.world.clock.now)
        for model in self.models:
            if model.state == "NOTICED" and model.begins <= self.day < model.ends:
                model.state, model.was_active = "ACTIVE", True
            if model.state not in OVER and model.ends <= self.day:
                model.state = "EXPIRED"
                model.suspending.clear()

    @invariant()
    def same_states(self) -> None:
        for identity, model in zip(self.ids, self.models, strict=True):
            assert self.world.registry.restrictions.get(identity, actor=COURT).state == model.state

    @invariant()
    def same_listing_and_relief(self) -> None:
        found = {
            record.restriction_id: record
            for subject in listed(self.world).values()
            for record in subject.restrictions
        }
        wanted = {
            identity
            for identity, model in zip(self.ids, self.models, strict=True)
            if model.state in {"ACTIVE", "NOTICED"}
            and model.ends > self.day
            and model.begins <= self.day + 3
        }
        assert set(found) == wanted
        assert self.world.registry.relief.head() == self.lifts
        lifts = self.world.registry.relief.since("aviation", 0)
        assert [lift.sequence for lift in lifts] == list(range(1, self.lifts + 1))
        last = {lift.restriction_id: lift.sequence for lift in lifts}
        for identity, record in found.items():
            # Nothing that is listed is lifted: its floor is at or above its last lift.
            assert (
                last.get(identity, 0)
                <= record.relief_floor
                == self.models[self.ids.index(identity)].floor
            )

    @invariant()
    def audit_holds(self) -> None:
        verify(self.world.registry.store)

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.folder)


class PostgresLife(RegistryLife):
    """The same on PostgreSQL."""

    backend = "postgresql"


def _settings(examples: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks
    )


TestRegistryLife = pytest.mark.timeout(300)(RegistryLife.TestCase)
TestRegistryLife.settings = _settings(20)
TestPostgresLife = pytest.mark.timeout(300)(PostgresLife.TestCase)
TestPostgresLife.settings = _settings(6)
