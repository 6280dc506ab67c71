"""Merging, splitting, correcting, joining and leaving in any order: every restriction is there
exactly once, and nobody is wrongly denied.

The model is small: which numbers, names, restrictions and posts each subject has. What must hold
after every step:

1. the registry shows each subject as the model has it, so each restriction is on exactly one
   subject;
2. the next listing says under each number and name what the model says;
3. of the last listing, what relief leaves in force is still true: the same restriction reaches the
   same number under the same name.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.registry import (
    COURT,
    OPERATOR,
    entry,
    listed,
    make_world,
    organisation,
    person,
    relief,
    submit,
)
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.parties import ORGANISATION, PERSON, Party, Responsible
from tipstaff_server.errors import LifecycleError
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction, Parts

if TYPE_CHECKING:
    from datetime import datetime

PICK = st.integers(0, 1 << 16)
PEOPLE = 4


@dataclass
class Subject:
    """What the model knows of one."""

    identity: bytes
    firm: bool
    numbers: set[Identifier]
    names: set[str]
    restrictions: set[bytes] = field(default_factory=set)


class RegistrySubjects(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.world = make_world(Path(self._folder.name))
        self.subjects: list[Subject] = []
        # Organisation, person, capacity → for each beginning whether it is held.
        self.posts: dict[tuple[bytes, bytes, int], dict[datetime, bool]] = {}
        self.cases = 0
        self.snapshot: dict[Identifier, Any] = {}

    def teardown(self) -> None:
        verify(self.world.registry.store)
        self.world.close()
        self._folder.cleanup()

    @initialize()
    def people(self) -> None:
        """Everybody has two numbers and two names, and most answer for a firm."""
        people = [two_of_each(index) for index in range(1, 1 + PEOPLE)]
        officers = ((people[0], people[1]), (people[1], people[2]))
        for party in people:
            self.enter(party)
        for index, some in enumerate(officers):
            self.enter(organisation(index), *some)
        self.snapshot = listed(self.world)

    def enter(self, party: Party, *officers: Party) -> None:
        responsible = tuple(Responsible(1, officer) for officer in officers)
        restriction = submit(
            self.world, entry(party, case_number=self.case(), responsible=responsible)
        )
        view = self.world.registry.subjects.show(
            Reference(identifier=party.identifiers[0]), OPERATOR
        )
        names = {canonical_name(name) for name in party.names}
        self.subjects.append(
            Subject(
                view.subject_id,
                party.type == ORGANISATION,
                set(party.identifiers),
                names,
                {restriction},
            )
        )
        for post in view.posts if officers else ():
            self.posts[post.organisation_id, post.person_id, post.capacity] = {
                self.world.clock.now: True
            }

    def case(self) -> str:
        self.cases += 1
        return f"case-{self.cases}"

    def pick(self, number: int, *, firm: bool | None = None) -> Subject:
        some = [subject for subject in self.subjects if firm is None or subject.firm is firm]
        return some[number % len(some)]

    @rule()
    def publish(self) -> None:
        self.snapshot = listed(self.world)

    @rule(which=PICK)
    def release(self, which: int) -> None:
        subject = self.pick(which)
        for restriction in sorted(subject.restrictions)[:1]:
            with suppress(LifecycleError):  # released before
                self.world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)

    @rule(one=PICK, other=PICK)
    def merge(self, one: int, other: int) -> None:
        stays, goes = self.pick(one), self.pick(other)
        if (
            stays is goes
            or stays.firm is not goes.firm
            or sum(item.firm is stays.firm for item in self.subjects) < 2
        ):
            return
        self.world.registry.subjects.merge(
            Reference(stays.identity), Reference(goes.identity), "one", OPERATOR
        )
        for name in ("numbers", "names", "restrictions"):
            getattr(stays, name).update(getattr(goes, name))
        self.subjects.remove(goes)
        moved = {key: posts for key, posts in self.posts.items() if goes.identity not in key[:2]}
        for key, posts in self.posts.items():
            if goes.identity in key[:2]:
                firm, who = (
                    stays.identity if party == goes.identity else party for party in key[:2]
                )
                join_posts(moved.setdefault((firm, who, key[2]), {}), posts)
        self.posts = moved

    @rule(which=PICK, draw=st.data())
    def split(self, which: int, draw: st.DataObject) -> None:
        subject = self.pick(which)
        if len(subject.numbers) < 2:
            return
        numbers = draw.draw(
            st.sets(
                st.sampled_from(sorted(subject.numbers, key=lambda item: item.number)), min_size=1
            )
        )
        names = draw.draw(st.sets(st.sampled_from(sorted(subject.names)), min_size=1))
        shared = draw.draw(st.sets(st.sampled_from(sorted(names))))
        gone = (
            draw.draw(st.sets(st.sampled_from(sorted(subject.restrictions))))
            if subject.restrictions
            else set()
        )
        view = self.world.registry.subjects.show(Reference(subject.identity), OPERATOR)
        posts = {item.post_id: item for item in view.posts}
        taken = draw.draw(st.sets(st.sampled_from(sorted(posts)))) if posts else set()
        parts = Parts(
            tuple(numbers), tuple(names - shared), tuple(shared), tuple(gone), tuple(taken)
        )
        try:
            done = self.world.registry.subjects.split(
                Reference(subject.identity), parts, "two", OPERATOR
            )
        except LifecycleError:
            assert numbers == subject.numbers or names - shared == subject.names
            return
        made = Subject(done.split_off.subject_id, subject.firm, numbers, names, gone)
        subject.numbers -= numbers
        subject.names -= names - shared
        subject.restrictions -= gone
        self.subjects.append(made)
        for item in (posts[identity] for identity in taken):
            posts_before = self.posts[item.organisation_id, item.person_id, item.capacity]
            # Posts that were left may go over too; a merge may have kept a twin's beginning.
            began = item.valid_from
            if began not in posts_before:
                (began,) = (other for other, held in posts_before.items() if held)
            still_held = posts_before.pop(began)
            firm = (
                made.identity if item.organisation_id == subject.identity else item.organisation_id
            )
            who = made.identity if item.person_id == subject.identity else item.person_id
            self.posts.setdefault((firm, who, item.capacity), {})[began] = still_held

    @rule(which=PICK, number=PICK)
    def take_a_number_away(self, which: int, number: int) -> None:
        subject = self.pick(which)
        wrong = sorted(subject.numbers, key=lambda item: item.number)[number % len(subject.numbers)]
        correction = Correction(remove_identifiers=(wrong,))
        try:
            self.world.registry.subjects.correct(
                Reference(subject.identity), correction, "wrong", OPERATOR
            )
        except LifecycleError:
            assert len(subject.numbers) == 1
            return
        subject.numbers.remove(wrong)

    @rule(which=PICK, number=PICK)
    def take_a_name_away(self, which: int, number: int) -> None:
        subject = self.pick(which)
        wrong = sorted(subject.names)[number % len(subject.names)]
        try:
            self.world.registry.subjects.correct(
                Reference(subject.identity), Correction(remove_names=(wrong,)), "wrong", OPERATOR
            )
        except LifecycleError:
            assert len(subject.names) == 1
            return
        subject.names.remove(wrong)

    @rule(firm=PICK, who=PICK, capacity=st.integers(1, 2))
    def join(self, firm: int, who: int, capacity: int) -> None:
        organisation_, subject = self.pick(firm, firm=True), self.pick(who, firm=False)
        key = (organisation_.identity, subject.identity, capacity)
        taken = Responsible(capacity, Party(PERSON, tuple(subject.numbers), tuple(subject.names)))
        self.world.clock.turn(seconds=1)
        try:
            self.world.registry.posts.add(
                Reference(organisation_.identity), taken, Dates(), "x", OPERATOR
            )
        except LifecycleError:
            assert any(self.posts[key].values())
        else:
            self.posts.setdefault(key, {})[self.world.clock.now] = True

    @rule(which=PICK)
    def leave(self, which: int) -> None:
        held = sorted(key for key, posts in self.posts.items() if any(posts.values()))
        if not held:
            return
        key = held[which % len(held)]
        self.world.clock.turn(seconds=1)
        for post in self.world.registry.subjects.show(Reference(key[1]), OPERATOR).posts:
            if (post.organisation_id, post.capacity) == (key[0], key[2]):
                self.world.registry.posts.end(post.post_id, None, "x", OPERATOR)
        self.posts[key] = dict.fromkeys(self.posts[key], False)

    @invariant()
    def every_restriction_is_on_exactly_one_subject(self) -> None:
        counted: Counter[bytes] = Counter()
        for subject in self.subjects:
            view = self.world.registry.subjects.show(Reference(subject.identity), OPERATOR)
            assert set(view.restriction_ids) == subject.restrictions
            assert (sum(view.identifiers.values()), view.names) == (
                len(subject.numbers),
                len(subject.names),
            )
            counted.update(view.restriction_ids)
        assert len(counted) == (self.cases if self.subjects else 0)
        assert set(counted.values()) <= {1}

    @invariant()
    def what_relief_leaves_in_force_is_still_true(self) -> None:
        if not self.subjects:
            return
        truth = listed(self.world)
        assert said(truth) == self.expected()
        lifted = relief(self.world, "aviation")
        assert said(self.snapshot, lifted) <= said(truth)

    def expected(self) -> set[tuple[Identifier, str, bytes]]:
        live = {
            restriction: subject
            for subject in self.subjects
            for restriction in subject.restrictions
            if self.world.registry.restrictions.get(restriction, actor=OPERATOR).state == "ACTIVE"
        }
        found: set[tuple[Identifier, str, bytes]] = set()
        for subject in self.subjects:
            firms = {
                firm
                for (firm, who, _), posts in self.posts.items()
                if any(posts.values()) and who == subject.identity
            }
            reach = {
                item for item, owner in live.items() if owner is subject or owner.identity in firms
            }
            found |= {
                (number, name, item)
                for number in subject.numbers
                for name in subject.names
                for item in reach
            }
        return found


def join_posts(known: dict[datetime, bool], others: dict[datetime, bool]) -> None:
    """Two turn out to be one: what both began at the same moment is one post, left when either left
    it; of two that are held one stays.
    """
    for began, held in sorted(others.items(), key=lambda item: (item[1], item[0])):
        if began in known:
            known[began] = known[began] and held
        elif not (held and any(known.values())):
            known[began] = held


def two_of_each(index: int) -> Party:
    known = person(index)
    return Party(
        known.type,
        (*known.identifiers, Identifier(IdentifierKind.PASSPORT, f"E0000001{index}")),
        (*known.names, f"曾用名{index}"),
    )


def said(listing: dict[Identifier, Any], lifted: Any = None) -> set[tuple[Identifier, str, bytes]]:
    """Number, name and restriction of all that is in force in a listing, after relief."""
    return {
        (number, name, item.restriction_id)
        for number, subject in listing.items()
        for name in subject.names
        for item in subject.restrictions
        if lifted is None
        or not (
            lifted.lifts(item.restriction_id, item.relief_floor)
            or lifted.ends(frozenset(item.post_ids))
        )
    }


TestRegistrySubjects = pytest.mark.timeout(600)(RegistrySubjects.TestCase)
TestRegistrySubjects.settings = settings(max_examples=6, stateful_step_count=16, deadline=None)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_subjects_for_long() -> None:
    run_state_machine_as_test(
        RegistrySubjects, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
    )
