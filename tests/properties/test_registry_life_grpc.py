"""The life cycle through the real API, over real sockets with mutual TLS, against a small model: no
forbidden state, no lost act.

`make test` runs EXAMPLES on each database, `make soak` SOAK_EXAMPLES. The model knows nothing of
tables: what state each restriction is in and which version it has, which acts stand in its history,
what was lifted. After every step everything that the API shows is held against it, the audit chain
is verified, and another authority is shown to see nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import grpc
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
    run_state_machine_as_test,
)
from sqlalchemy import select

from tests.support.databases import BACKENDS, LiveEndpoint
from tests.support.messages import entry_message
from tipstaff.v1 import dispute_pb2, dispute_pb2_grpc, registry_pb2, registry_pb2_grpc
from tipstaff_server.audit.log import verify
from tipstaff_server.storage.models import ReliefRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

EXAMPLES = {"sqlite": 30, "postgresql": 15}
SOAK_EXAMPLES = 1_000
STEPS, SOAK_STEPS = 12, 40
SECONDS = 30
COURT, TAX, OPERATOR = "authorities/court", "authorities/tax", "operator"
AIRLINE, RAILWAY = "providers/skyline-air", "providers/riverside-rail"
MEASURE_OF = {AIRLINE: "AIR_TRAVEL", RAILWAY: "RAIL_HIGH_CLASS"}
MEASURES = ("AIR_TRAVEL", "LOAN_PRICING", "RAIL_HIGH_CLASS")
SUSPENDING, CONTINUING = "joint-discipline", "court-dishonest"
KINDS = {
    registry_pb2.END_KIND_RELEASE: ("RELEASE", "RELEASED"),
    registry_pb2.END_KIND_REPAIR: ("REPAIR", "REPAIRED"),
    registry_pb2.END_KIND_REVOKE: ("REVOKE", "REVOKED"),
}
OVER = {"RELEASED", "REPAIRED", "REVOKED", "EXPIRED"}
LISTED = {"NOTICED", "ACTIVE"}
GROUNDS = (dispute_pb2.DISPUTE_GROUND_IDENTITY, dispute_pb2.DISPUTE_GROUND_FACTS)
STATES = {
    dispute_pb2.DISPUTE_OUTCOME_UPHELD: dispute_pb2.DISPUTE_STATE_REJECTED,
    dispute_pb2.DISPUTE_OUTCOME_CORRECTED: dispute_pb2.DISPUTE_STATE_CORRECTED,
    dispute_pb2.DISPUTE_OUTCOME_REVOKED: dispute_pb2.DISPUTE_STATE_REVOKED,
}
OUTCOMES = tuple(STATES)
Code = grpc.StatusCode


@cache
def live(backend: str) -> LiveEndpoint:
    """One endpoint for all examples on a database; it ends with the process."""
    return LiveEndpoint(backend)


@dataclass
class Model:
    """One restriction as the model sees it; days count from the beginning."""

    id: bytes
    entry: registry_pb2.RestrictionEntry
    state: str
    begins: int
    ends: int
    was_active: bool
    measures: tuple[str, ...]
    version: int = 1
    lifted_at: int = 0
    acts: list[str] = field(default_factory=lambda: ["SUBMIT"])
    suspending: set[str] = field(default_factory=set[str])
    examined: set[int] = field(default_factory=set[int])

    def act(self, name: str, state: str | None = None) -> None:
        """One act that counts."""
        self.acts.append(name)
        self.version += 1
        self.state = state or self.state
        if self.state in OVER:
            self.suspending.clear()


@dataclass(frozen=True)
class Opened:
    """A dispute of the model's restriction `index`."""

    index: int
    case_number: str
    ground: dispute_pb2.DisputeGround.ValueType


@dataclass(frozen=True)
class Sent:
    """A call that was acknowledged under a key: it may be repeated, and then gives the same id."""

    who: str
    method: str
    request: Any
    answer: bytes


def answer_id(response: Any) -> bytes:
    """What a repeated call has to give again."""
    exemption: bytes = getattr(response, "exemption_id", b"")
    return exemption or response.restriction.restriction_id


class LifeThroughTheApi(RuleBasedStateMachine):
    """Authorities enter, correct, exempt and end; providers dispute; days pass."""

    backend = "sqlite"
    restrictions: Bundle[int] = Bundle("restrictions")
    disputes: Bundle[Opened] = Bundle("disputes")
    keyed: Bundle[Sent] = Bundle("keyed")

    @initialize()
    def begin(self) -> None:
        self.real = live(self.backend)
        self.real.begin_anew()
        self.began = self.real.began
        self.day = self.lifts = self.keys = self.people = self.opened = 0
        self.models: list[Model] = []
        self.touched: set[int] = set()

    # What is sent

    def at(self, day: int) -> datetime:
        return self.began + timedelta(days=day)

    def key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    def call(self, who: str, method: str, request: Any) -> Any:
        stub = (
            dispute_pb2_grpc.DisputeServiceStub
            if "Dispute" in method
            else registry_pb2_grpc.RegistryServiceStub
        )
        return getattr(stub(self.real.channel(who)), method)(request, timeout=SECONDS)

    def refused(self, code: grpc.StatusCode, who: str, method: str, request: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(who, method, request)
        assert caught.value.code() is code, caught.value.details()
        assert caught.value.details()

    def submit(
        self, *requests: registry_pb2.SubmitRestrictionsRequest
    ) -> list[registry_pb2.SubmitRestrictionsResponse]:
        stub = registry_pb2_grpc.RegistryServiceStub(self.real.channel(COURT))
        return list(stub.SubmitRestrictions(iter(requests), timeout=SECONDS))

    def entry(
        self, begins: int, ends: int, measures: Sequence[str], list_id: str
    ) -> registry_pb2.RestrictionEntry:
        self.people += 1
        return entry_message(
            self.people, self.at(begins), self.at(ends), measures=measures, list_id=list_id
        )

    # Entering

    @rule(
        target=restrictions,
        items=st.lists(
            st.tuples(
                st.integers(-2, 5),
                st.integers(1, 12),
                st.sets(st.sampled_from(MEASURES), min_size=1),
                st.sampled_from([SUSPENDING] * 3 + [CONTINUING]),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def enter(self, items: list[tuple[int, int, set[str], str]]) -> Any:
        """A stream of entries, each answered for itself."""
        entries = [
            self.entry(self.day + begins, self.day + begins + length, sorted(some), which)
            for begins, length, some, which in items
        ]
        requests = [
            registry_pb2.SubmitRestrictionsRequest(idempotency_key=self.key(), entry=made)
            for made in entries
        ]
        answers = self.submit(*requests)
        assert [answer.idempotency_key for answer in answers] == [
            request.idempotency_key for request in requests
        ]
        made: list[int] = []
        for (after, length, some, _), request, answer in zip(items, requests, answers, strict=True):
            begins, ends = self.day + after, self.day + after + length
            if ends <= self.day:
                assert (answer.status, answer.restriction_id) == (
                    registry_pb2.SUBMIT_STATUS_REJECTED,
                    b"",
                )
                assert answer.detail
                continue
            assert answer.status == registry_pb2.SUBMIT_STATUS_CREATED, answer.detail
            active = begins <= self.day
            measures = tuple(sorted(some))
            self.models.append(
                Model(
                    answer.restriction_id,
                    request.entry,
                    "ACTIVE" if active else "NOTICED",
                    begins,
                    ends,
                    active,
                    measures,
                )
            )
            made.append(len(self.models) - 1)
            # The same again, under the same key and without one; then the key, and the case, for
            # something else.
            other = registry_pb2.RestrictionEntry()
            other.CopyFrom(request.entry)
            other.legal_basis = "另一依据"
            repeated, known, used_key, used_case = self.submit(
                request,
                registry_pb2.SubmitRestrictionsRequest(entry=request.entry),
                registry_pb2.SubmitRestrictionsRequest(
                    idempotency_key=request.idempotency_key, entry=other
                ),
                registry_pb2.SubmitRestrictionsRequest(entry=other),
            )
            assert repeated == answer
            assert (known.status, known.restriction_id) == (
                registry_pb2.SUBMIT_STATUS_UNCHANGED,
                answer.restriction_id,
            )
            for conflicting in (used_key, used_case):
                assert conflicting.status == registry_pb2.SUBMIT_STATUS_REJECTED
                assert conflicting.detail
        self.touched.update(made)
        return multiple(*made)

    @rule(index=restrictions)
    def enter_again(self, index: int) -> None:
        """However long after, and whatever became of it: it is there already."""
        model = self.models[index]
        (answer,) = self.submit(registry_pb2.SubmitRestrictionsRequest(entry=model.entry))
        assert (answer.status, answer.restriction_id) == (
            registry_pb2.SUBMIT_STATUS_UNCHANGED,
            model.id,
        )

    # Acting

    @rule(
        target=keyed,
        index=restrictions,
        kind=st.sampled_from(sorted(KINDS)),
        who=st.sampled_from([COURT, OPERATOR]),
    )
    def end(self, index: int, kind: registry_pb2.EndKind.ValueType, who: str) -> Any:
        model = self.models[index]
        act, state = KINDS[kind]
        request = registry_pb2.EndRestrictionRequest(
            restriction_id=model.id, kind=kind, reason=f"x {act}", idempotency_key=self.key()
        )
        self.touched.add(index)
        if model.state in OVER or (act == "RELEASE" and not model.was_active):
            self.refused(Code.FAILED_PRECONDITION, who, "EndRestriction", request)
            return multiple()
        response = self.call(who, "EndRestriction", request)
        self.lifts += 1
        model.act(act, state)
        model.lifted_at = self.lifts
        assert response.relief_sequence == self.lifts
        assert response.restriction.version == model.version
        return Sent(who, "EndRestriction", request, answer_id(response))

    @rule(
        target=keyed,
        index=restrictions,
        measures=st.one_of(st.just(set()), st.sets(st.sampled_from(MEASURES), min_size=1)),
        longer=st.integers(-4, 4),
    )
    def amend(self, index: int, measures: set[str], longer: int) -> Any:
        model = self.models[index]
        request = registry_pb2.AmendRestrictionRequest(
            restriction_id=model.id,
            measures=sorted(measures),
            reason="更正",
            expected_version=model.version,
            idempotency_key=self.key(),
        )
        ends = model.ends + longer
        request.expires_at.FromDatetime(self.at(ends))
        self.touched.add(index)
        after = tuple(sorted(measures)) or model.measures
        changes = (after, ends) != (model.measures, model.ends)
        if model.state in OVER or (changes and model.ends <= self.day):
            self.refused(Code.FAILED_PRECONDITION, COURT, "AmendRestriction", request)
            return multiple()
        if changes and ends <= max(self.day, model.begins):
            self.refused(Code.INVALID_ARGUMENT, COURT, "AmendRestriction", request)
            return multiple()
        response = self.call(COURT, "AmendRestriction", request)
        less = bool(set(model.measures) - set(after)) or ends < model.ends
        if model.state in LISTED and less:
            self.lifts += 1
            model.lifted_at = self.lifts
        assert response.relief_sequence == (self.lifts if model.state in LISTED and less else 0)
        if changes:
            model.measures, model.ends = after, ends
            model.act("AMEND")
        return Sent(COURT, "AmendRestriction", request, answer_id(response))

    @rule(target=keyed, index=restrictions, first=st.integers(-1, 3), length=st.integers(0, 3))
    def exempt(self, index: int, first: int, length: int) -> Any:
        model = self.models[index]
        request = registry_pb2.ExemptRestrictionRequest(
            restriction_id=model.id, measures=model.measures[:1], idempotency_key=self.key()
        )
        request.reason.zh, request.reason.en = "赴诊", "to the doctor"
        request.valid_from.FromDatetime(self.at(self.day + first))
        request.valid_until.FromDatetime(self.at(self.day + first + length))
        self.touched.add(index)
        if not length:
            self.refused(Code.INVALID_ARGUMENT, COURT, "ExemptRestriction", request)
            return multiple()
        if model.state in OVER:
            self.refused(Code.FAILED_PRECONDITION, COURT, "ExemptRestriction", request)
            return multiple()
        response = self.call(COURT, "ExemptRestriction", request)
        model.act("EXEMPT")
        return Sent(COURT, "ExemptRestriction", request, answer_id(response))

    @rule(sent=keyed)
    def repeat(self, sent: Sent) -> None:
        """A repeated call gives the same answer and changes nothing; the key for anything else is
        refused.
        """
        assert answer_id(self.call(sent.who, sent.method, sent.request)) == sent.answer
        other = type(sent.request)()
        other.CopyFrom(sent.request)
        if isinstance(other, registry_pb2.ExemptRestrictionRequest):
            other.reason.en = "something else"
        else:
            other.reason = "something else"
        self.refused(Code.INVALID_ARGUMENT, sent.who, sent.method, other)

    @rule(index=restrictions, behind=st.integers(1, 3))
    def act_on_what_has_changed(self, index: int, behind: int) -> None:
        """Whoever says which version they saw is told when it is another one by now."""
        model = self.models[index]
        request = registry_pb2.EndRestrictionRequest(
            restriction_id=model.id,
            kind=registry_pb2.END_KIND_REVOKE,
            reason="x",
            expected_version=model.version + behind,
        )
        self.refused(Code.ABORTED, COURT, "EndRestriction", request)
        self.touched.add(index)

    # Disputing

    @rule(
        target=disputes,
        index=restrictions,
        who=st.sampled_from([AIRLINE, RAILWAY, COURT]),
        ground=st.sampled_from(GROUNDS),
    )
    def dispute(self, index: int, who: str, ground: dispute_pb2.DisputeGround.ValueType) -> Any:
        model = self.models[index]
        self.opened += 1
        request = dispute_pb2.OpenDisputeRequest(
            request_id=self.opened.to_bytes(16, "big"),
            restriction_id=model.id,
            statement="不是我",
            ground=ground,
        )
        self.touched.add(index)
        if who in MEASURE_OF and MEASURE_OF[who] not in model.measures:
            self.refused(Code.NOT_FOUND, who, "OpenDispute", request)
            return multiple()
        suspends = ground not in model.examined and model.entry.list_id == SUSPENDING
        if model.state in OVER or (suspends and model.state in LISTED and self.day >= model.ends):
            self.refused(Code.FAILED_PRECONDITION, who, "OpenDispute", request)
            return multiple()
        response = self.call(who, "OpenDispute", request)
        number = response.dispute.case_number
        if suspends:
            model.suspending.add(number)
            if model.state in LISTED:
                self.lifts += 1
                model.lifted_at = self.lifts
                model.act("SUSPEND", "SUSPENDED")
        assert response.dispute.suspended == (model.state == "SUSPENDED")
        assert response.relief_sequence == (model.lifted_at if model.state == "SUSPENDED" else 0)
        assert self.call(who, "OpenDispute", request) == response
        return Opened(index, number, ground)

    @rule(which=consumes(disputes), outcome=st.sampled_from(OUTCOMES))
    def answer(self, which: Opened, outcome: dispute_pb2.DisputeOutcome.ValueType) -> None:
        model = self.models[which.index]
        self.touched.add(which.index)
        request = dispute_pb2.AnswerDisputeRequest(
            case_number=which.case_number,
            outcome=outcome,
            reason="查明",
            expected_version=model.version,
            idempotency_key=self.key(),
        )
        corrected = outcome == dispute_pb2.DISPUTE_OUTCOME_CORRECTED
        if corrected:
            request.correction.expires_at.FromDatetime(self.at(model.ends + 1))
        self.refused(Code.NOT_FOUND, TAX, "AnswerDispute", request)
        reinstates = (
            outcome != dispute_pb2.DISPUTE_OUTCOME_REVOKED
            and model.state == "SUSPENDED"
            and not model.suspending - {which.case_number}
        )
        if model.state in OVER or (self.day >= model.ends and (reinstates or corrected)):
            self.refused(Code.FAILED_PRECONDITION, COURT, "AnswerDispute", request)
            return
        response = self.call(COURT, "AnswerDispute", request)
        self.take_answer(model, which, outcome, reinstates=reinstates)
        assert (response.restriction.version, response.dispute.state) == (
            model.version,
            STATES[outcome],
        )
        assert response.relief_sequence == (
            self.lifts if outcome == dispute_pb2.DISPUTE_OUTCOME_REVOKED else 0
        )
        assert self.call(COURT, "AnswerDispute", request).restriction == response.restriction

    def take_answer(
        self,
        model: Model,
        which: Opened,
        outcome: dispute_pb2.DisputeOutcome.ValueType,
        *,
        reinstates: bool,
    ) -> None:
        if outcome == dispute_pb2.DISPUTE_OUTCOME_REVOKED:
            self.lifts += 1
            model.lifted_at = self.lifts
            model.act("REVOKE", "REVOKED")
            return
        model.examined.add(which.ground)
        model.suspending.discard(which.case_number)
        if outcome == dispute_pb2.DISPUTE_OUTCOME_CORRECTED:
            model.ends += 1
            model.act("AMEND")
        if reinstates:
            in_force = self.day >= model.begins
            model.act("REINSTATE", "ACTIVE" if in_force else "NOTICED")
            model.was_active = model.was_active or in_force

    # Time

    @rule(days=st.integers(1, 4), work=st.booleans())
    def pass_time(self, days: int, work: bool) -> None:
        """Days pass; the server's calendar loop looks, or has not looked yet."""
        self.day += days
        now = self.real.clock.turn(days=days)
        if not work:
            return
        registry = self.real.runtime.registry
        registry.expire_due(now)
        registry.disputes.follow_up(now)
        registry.remedies.follow_up(now)
        for index, model in enumerate(self.models):
            if model.state == "NOTICED" and model.begins <= self.day < model.ends:
                model.act("ENTER_FORCE", "ACTIVE")
                model.was_active = True
                self.touched.add(index)
            if model.state not in OVER and model.ends <= self.day:
                model.act("EXPIRE", "EXPIRED")
                self.touched.add(index)

    # What must hold after every step

    @invariant()
    def the_authority_sees_its_own_as_it_is_and_another_sees_nothing(self) -> None:
        if hasattr(self, "real"):
            self.shows(COURT, self.wanted())
            self.shows(TAX, set())

    def wanted(self) -> set[Any]:
        return {
            (
                m.id,
                f"RESTRICTION_STATE_{m.state}",
                m.version,
                m.measures,
                self.at(m.ends).replace(tzinfo=None),
            )
            for m in self.models
        }

    def shows(self, who: str, expected: set[Any]) -> None:
        """States, versions, measures and terms, by a search for everything."""
        found = self.call(
            who, "SearchRestrictions", registry_pb2.SearchRestrictionsRequest(page_size=500)
        ).restrictions
        state = registry_pb2.RestrictionState.Name
        assert {
            (
                r.restriction_id,
                state(r.state),
                r.version,
                tuple(r.measures),
                r.expires_at.ToDatetime(),
            )
            for r in found
        } == expected
        assert len(found) == len(expected)

    @invariant()
    def no_act_is_lost_or_doubled(self) -> None:
        """The history of whatever was touched has each acknowledged act once, in order; nobody else
        reads it.
        """
        for index in sorted(getattr(self, "touched", ())):
            self.same_history(self.models[index])
        self.touched = set()

    def same_history(self, model: Model) -> None:
        request = registry_pb2.GetHistoryRequest(restriction_id=model.id)
        entries = self.call(COURT, "GetHistory", request).entries
        assert [entry.act for entry in entries] == model.acts
        sequences = [entry.sequence for entry in entries]
        assert sequences == sorted(set(sequences))
        self.refused(Code.NOT_FOUND, TAX, "GetHistory", request)
        self.refused(
            Code.NOT_FOUND,
            TAX,
            "GetRestriction",
            registry_pb2.GetRestrictionRequest(restriction_id=model.id),
        )

    @invariant()
    def relief_has_no_gap_and_the_audit_chain_holds(self) -> None:
        if not hasattr(self, "real"):
            return
        registry = self.real.runtime.registry
        verify(registry.store)
        with registry.store.database.read() as session:
            lifts = session.execute(
                select(ReliefRow.sequence, ReliefRow.restriction_id).order_by(ReliefRow.sequence)
            ).all()
        assert [lift.sequence for lift in lifts] == list(range(1, self.lifts + 1))
        last = {lift.restriction_id: lift.sequence for lift in lifts}
        assert all(last.get(model.id, 0) == model.lifted_at for model in self.models)
        assert registry.relief.head() == self.lifts

    def teardown(self) -> None:
        if hasattr(self, "real"):
            for model in self.models:
                self.same_history(model)
            self.shows(OPERATOR, self.wanted())


def machine_settings(examples: int, steps: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=checks,
        print_blob=True,
    )


def machine(backend: str) -> type[LifeThroughTheApi]:
    return type(f"LifeThroughTheApi_{backend}", (LifeThroughTheApi,), {"backend": backend})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_api_does_what_the_model_says(backend: str) -> None:
    run_state_machine_as_test(machine(backend), settings=machine_settings(EXAMPLES[backend], STEPS))


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_api_does_what_the_model_says_for_long(backend: str) -> None:
    run_state_machine_as_test(
        machine(backend), settings=machine_settings(SOAK_EXAMPLES, SOAK_STEPS)
    )
