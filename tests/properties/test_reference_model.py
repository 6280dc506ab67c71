"""The real thing against the reference model (tests/support/model.py): registry, builder, sign-off,
repository, reader, screener.

`make test` runs 100 examples of 6 steps; `make soak` runs 2,000 of up to 60 steps, in shards that
share no seed, so that all cores have work.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.deployment import Deployment
from tests.support.model import Model, Restriction, Subject
from tests.support.registry import COURT, OPERATOR, TAX, organisation, person
from tipstaff_sdk import TipstaffError, Verdict
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.errors import LifecycleError
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import DisputeState

MEASURES = {
    "hotel": "STAR_HOTEL",
    "tour": "TOURISM",
    "loan": "LOAN_PRICING",
}  # the last is no business of the audience
AUTHORITIES = {"court": COURT, "tax": TAX}
SHARDS = 8
LAST_DAY = timedelta(days=300)  # the root key's signature lasts a year

# Two people and two organisations, each with names of every kind; the second person has a second
# number besides.
PEOPLE = [person(0), person(1), organisation(0), organisation(1)]
MORE_NAMES = ["阿依古丽·买买提", "Anna Maria Müller", "曾用名甲"]
PASSPORT = Identifier(IdentifierKind.PASSPORT, "E00000019")
NUMBERS = [party.identifiers[0] for party in PEOPLE] + [PASSPORT, person(7).identifiers[0]]
NAMES = [party.names[0] for party in PEOPLE] + MORE_NAMES

usually = st.sampled_from([True, True, True, False])
people = st.integers(0, 3)
ORGANISATIONS = (2, 3)
spans = st.sampled_from(
    [
        timedelta(minutes=20),
        timedelta(hours=3),
        timedelta(days=2),
        timedelta(days=9),
        timedelta(days=200),
    ]
)
starts = st.sampled_from([timedelta(days=-1)] * 4 + [timedelta(minutes=30), timedelta(days=3)])
offsets = st.sampled_from(
    [
        timedelta(days=-1),
        timedelta(days=-1),
        timedelta(0),
        timedelta(minutes=30),
        timedelta(days=3),
        timedelta(days=10),
    ]
)
some_measures = st.sets(st.sampled_from(sorted(MEASURES.values())), min_size=1)


class ReferenceMachine(RuleBasedStateMachine):
    """Acts on both, and asks both."""

    @initialize(
        first=st.tuples(*[st.tuples(some_measures, starts, spans, st.booleans())] * 4),
        ready=st.sampled_from([True] * 7 + [False]),
    )
    def begin(
        self, first: tuple[tuple[set[str], timedelta, timedelta, bool], ...], *, ready: bool
    ) -> None:
        self.real = Deployment("hospitality")
        began = self.real.clock.now
        self.end = began + LAST_DAY
        measures = frozenset(self.real.runtime.registry.policies().audience("hospitality"))
        self.model = Model(measures, began - timedelta(minutes=1))
        self.model.pass_time(timedelta(minutes=1))
        self.ids: list[bytes] = []
        self.authority: dict[bytes, str] = {}
        self.suspends: dict[bytes, bool] = {}
        self.open: dict[bytes, str] = {}
        self.rejected: set[bytes] = set()
        self.cases = 0
        self.online = True
        self.watching = True
        for who, (measures, first_day, lasts, suspends) in enumerate(first):
            more, answers = {MORE_NAMES[who % 3]}, who % 2 if who == ORGANISATIONS[0] else None
            given = {"answers": answers, "suspends": suspends, "passport": True}
            self.enter_one(who, "court", measures | {"TOURISM"}, first_day, lasts, more, **given)
        if ready:
            self.publish()

    # ---- The registry ----

    @rule(
        who=people,
        authority=st.sampled_from(sorted(AUTHORITIES)),
        measures=some_measures,
        starts=offsets,
        lasts=spans,
        more=st.sets(st.sampled_from(MORE_NAMES), max_size=2),
        answers=st.none() | st.integers(0, 1),
        suspends=st.booleans(),
        passport=st.booleans(),
    )
    def enter(self, **drawn: Any) -> None:
        self.enter_one(**drawn)

    def enter_one(
        self,
        who: int,
        authority: str,
        measures: set[str],
        starts: timedelta,
        lasts: timedelta,
        more: set[str],
        **rest: Any,
    ) -> None:
        if authority == "tax":
            measures = {"LOAN_PRICING", "AIR_TRAVEL"}  # what it is entitled to
        first = self.model.now + starts
        end = max(first, self.model.now) + lasts
        party, answers = PEOPLE[who], rest["answers"] if who >= 2 else None
        numbers = (
            {party.identifiers[0], PASSPORT}
            if rest["passport"] and who == 1
            else set(party.identifiers)
        )
        self.cases += 1
        entry = Entry(
            party=Party(
                party.type,
                tuple(sorted(numbers, key=lambda number: number.kind)),
                (party.names[0], *sorted(more)),
            ),
            list_id="joint-discipline" if rest["suspends"] else "court-high-consumption",
            measures=tuple(sorted(measures)),
            legal_basis="示例规定",
            case_number=f"（2026）示执{self.cases}号",
            effective_at=first,
            expires_at=end,
            responsible=() if answers is None else (Responsible(1, PEOPLE[answers]),),
        )
        answer = self.real.runtime.registry.restrictions.submit(
            entry, authority=authority, actor=AUTHORITIES[authority]
        )
        assert not answer.detail
        subject = self.model.subjects.setdefault(f"s{who}", Subject())
        subject.numbers |= {number.number for number in numbers}
        subject.names |= {party.names[0], *more}
        if answers is not None:
            chief = self.model.subjects.setdefault(f"s{answers}", Subject())
            chief.numbers.add(PEOPLE[answers].identifiers[0].number)
            chief.names.add(PEOPLE[answers].names[0])
            chief.answers_for.add(f"s{who}")
        made = Restriction(
            f"s{who}", frozenset(measures), first, end, was_active=first <= self.model.now
        )
        self.model.restrictions[answer.restriction_id] = made
        self.ids.append(answer.restriction_id)
        self.authority[answer.restriction_id], self.suspends[answer.restriction_id] = (
            authority,
            rest["suspends"],
        )

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), kind=st.sampled_from(EndKind))
    def end_one(self, data: st.DataObject, kind: EndKind) -> None:
        which = self.draw(data)
        model = self.model.restrictions[which]
        if model.state in {"OVER", "EXPIRED"} or (kind is EndKind.RELEASE and not model.was_active):
            with pytest.raises(LifecycleError):
                self.real.runtime.registry.restrictions.end(which, kind, "示例", actor=OPERATOR)
            return
        self.real.runtime.registry.restrictions.end(which, kind, "示例", actor=OPERATOR)
        self.real.relieve()
        self.model.lift(which, "OVER")
        self.open.pop(which, None)
        self.push()

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def dispute(self, data: st.DataObject) -> None:
        which = self.draw(data)
        model = self.model.restrictions[which]
        if which in self.open or model.state in {"OVER", "EXPIRED"}:
            return
        self.cases += 1
        opened = self.real.runtime.registry.disputes.open(
            which, "示例", request_id=self.cases.to_bytes(16, "big"), actor=OPERATOR
        )
        self.open[which] = opened.dispute.case_number
        self.real.relieve()
        if self.suspends[which] and which not in self.rejected:
            self.model.lift(which, "SUSPENDED")
            self.push()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), revoked=st.booleans())
    def answer(self, data: st.DataObject, *, revoked: bool) -> None:
        which = data.draw(
            st.sampled_from([one for one in self.ids if one in self.open]), label="which"
        )
        number = self.open.pop(which)
        outcome = DisputeState.REVOKED if revoked else DisputeState.REJECTED
        self.real.runtime.registry.disputes.answer(number, outcome, "示例", actor=OPERATOR)
        self.real.relieve()
        if revoked:
            self.model.lift(which, "OVER")
            self.push()
            return
        self.reinstate(which)

    def reinstate(self, which: bytes) -> None:
        self.rejected.add(which)
        model = self.model.restrictions[which]
        model.state, model.reinstated = "IN_FORCE", len(self.model.lifts)
        model.was_active = model.was_active or model.starts <= self.model.now

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), starts=starts, lasts=spans, narrow=st.booleans(), publish=usually)
    def exempt(
        self,
        data: st.DataObject,
        starts: timedelta,
        lasts: timedelta,
        *,
        narrow: bool,
        publish: bool,
    ) -> None:
        which = self.draw(data)
        model = self.model.restrictions[which]
        measures = {min(model.measures)} if narrow else set()
        valid = self.model.now + starts, self.model.now + starts + lasts
        exempt = partial(
            self.real.runtime.registry.restrictions.exempt,
            which,
            why=("奔丧", "a funeral"),
            actor=OPERATOR,
        )
        if model.state in {"OVER", "EXPIRED"}:
            with pytest.raises(LifecycleError):
                exempt(measures=sorted(measures), valid=valid)
            return
        exempt(measures=sorted(measures), valid=valid)
        model.exemptions.append((frozenset(measures), *valid))
        if publish:
            self.publish()

    def draw(self, data: st.DataObject) -> bytes:
        """A restriction: one that counts for the audience, where there is one."""
        alive = [i for i in self.ids if self.model.restrictions[i].state not in {"OVER", "EXPIRED"}]
        counting = [i for i in alive if self.model.restrictions[i].measures & self.model.measures]
        return data.draw(st.sampled_from(counting or alive or self.ids), label="which")

    # ---- The operator's server and the provider ----

    @rule()
    def publish(self) -> None:
        self.real.publish()
        self.model.publish()
        self.push()

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def publish_while_a_dispute_comes_and_goes(self, data: st.DataObject) -> None:
        """The build has read the relief head already: the lift is behind it, and the record says
        that it is over again.
        """
        which = self.draw(data)
        fresh = which not in self.open and self.model.restrictions[which].state == "IN_FORCE"
        before = len(self.model.lifts)

        def dispute() -> None:
            self.cases += 1
            opened = self.real.runtime.registry.disputes.open(
                which, "示例", request_id=self.cases.to_bytes(16, "big"), actor=OPERATOR
            )
            self.real.relieve()
            if self.suspends[which] and which not in self.rejected:
                self.model.lift(which, "SUSPENDED")
            case = opened.dispute.case_number
            self.real.runtime.registry.disputes.answer(
                case, DisputeState.REJECTED, "示例", actor=OPERATOR
            )
            self.reinstate(which)

        self.real.publish(dispute if fresh else None)
        self.model.publish(before)
        self.push()

    def push(self) -> None:
        """What is published is pushed to a provider that watches, at once."""
        if self.watching and self.online and self.model.listing is not None:
            self.sync(serving=True)

    @rule()
    def sign_again(self) -> None:
        self.real.sign_again()
        self.model.relief_signed = self.model.now

    @rule(serving=usually)
    def sync(self, *, serving: bool) -> None:
        if serving:
            self.sign_again()
        if self.online and self.model.sync():
            self.real.screener.sync()
        else:
            with pytest.raises(TipstaffError):
                self.real.screener.sync()

    @rule(minutes=st.integers(1, 45), serving=usually)
    def a_while_later(self, minutes: int, *, serving: bool) -> None:
        """What happens at most sites most of the time."""
        self.pass_time(timedelta(minutes=minutes))
        self.sync(serving=serving)

    @rule(online=usually, watching=usually)
    def connect(self, *, online: bool, watching: bool) -> None:
        self.online, self.watching = online, watching
        (self.real.go_online if online else self.real.go_offline)()

    @rule()
    def restart(self) -> None:
        self.real.restart()

    @rule(
        step=st.sampled_from(
            [
                timedelta(minutes=minutes)
                for minutes in (1, 10, 29, 30, 31, 60, 180, 1440, 3 * 1440, 8 * 1440)
            ]
        ),
    )
    def pass_time(self, step: timedelta) -> None:
        if self.model.now + step < self.end:
            self.real.clock.now += step
            self.model.pass_time(step)
            self.real.runtime.registry.expire_due(self.real.clock.now)
            over = {"OVER", "EXPIRED"}  # whose disputes are closed with them
            self.open = {
                which: case
                for which, case in self.open.items()
                if self.model.restrictions[which].state not in over
            }

    # ---- What all of it is for ----

    @rule(
        number=st.sampled_from(NUMBERS),
        name=st.sampled_from(NAMES),
        own=st.none() | people,
        measure=st.sampled_from(["TOURISM", "STAR_HOTEL"]),
        stars=st.integers(0, 5),
        skew=st.sampled_from(
            [
                timedelta(0),
                timedelta(hours=1),
                timedelta(hours=-1),
                timedelta(minutes=-10),
                timedelta(days=-30),
                timedelta(days=8),
            ]
        ),
    )
    def check(
        self,
        number: Identifier,
        name: str,
        own: int | None,
        measure: str,
        stars: int,
        skew: timedelta,
    ) -> None:
        """Anybody under anybody's name, or one of the four under their own, by a clock that may be
        wrong.
        """
        if own is not None:
            number, name = PEOPLE[own].identifiers[0], PEOPLE[own].names[0]
        self.compare(number, name, measure, stars, skew, column=2)

    @invariant()
    def everybody_is_as_the_model_says(self) -> None:
        """Everybody under the first and the last of their names and under somebody else's, after
        each step.
        """
        for party in PEOPLE:
            known = self.model.subjects.get(self.subject(party))
            names = sorted(known.names) if known else MORE_NAMES
            for name in {party.names[0], names[0], names[-1], NAMES[-1]}:
                self.compare(party.identifiers[0], name, "TOURISM", 0, timedelta(0))
            self.compare(party.identifiers[0], party.names[0], "STAR_HOTEL", 1, timedelta(0))
        self.compare(PASSPORT, PEOPLE[1].names[0], "STAR_HOTEL", 0, timedelta(0))

    @staticmethod
    def subject(party: Party) -> str:
        return f"s{PEOPLE.index(party)}"

    def compare(
        self,
        number: Identifier,
        name: str,
        measure: str,
        stars: int,
        skew: timedelta,
        column: int = 0,
    ) -> None:
        hotel = measure == "STAR_HOTEL"
        service = {"stars": stars} if hotel else None
        self.real.skew = skew
        try:
            decision = self.real.screener.check(number, name=name, measure=measure, service=service)
            many = self.real.screener.check_many(
                [(number, name)] * column, measure=measure, service=service
            )
        finally:
            self.real.skew = timedelta(0)
        clock = self.model.now + skew
        reasons, standing = self.model.check(
            clock, number.number, name, measure, covered=not hotel or stars >= 1
        )
        assert decision.reason.name in reasons, (decision.reason.name, reasons)
        assert {restriction.restriction_id for restriction in decision.restrictions} == standing
        assert all(
            (one.reason, one.restrictions) == (decision.reason, decision.restrictions)
            for one in many
        )
        if decision.verdict is Verdict.RESTRICTED:
            assert standing
            for which in standing:
                assert self.model.may_deny(clock, number.number, name, measure, which)

    def teardown(self) -> None:
        self.real.close()


def machine_settings(examples: int, steps: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=slow,
        print_blob=True,
    )


@pytest.mark.timeout(600)
def test_the_real_thing_is_what_the_model_says():
    run_state_machine_as_test(ReferenceMachine, settings=machine_settings(100, 6))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_real_thing_is_what_the_model_says_for_long(shard: int):
    machine = seed(shard)(type(f"ReferenceMachine{shard}", (ReferenceMachine,), {}))
    run_state_machine_as_test(machine, settings=machine_settings(2_000 // SHARDS, 60))
