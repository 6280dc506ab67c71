"""Two subjects that are one, one that is two, numbers and names that are somebody else's; looking
at subjects.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    TAX,
    World,
    enforced,
    entry,
    listed,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff_sdk.errors import InvalidNameError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.parties import Party
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction, Parts
from tipstaff_server.storage.models import AuditRow, PostState

if TYPE_CHECKING:
    from tipstaff_server.registry.subjects.view import SubjectView

DAY = timedelta(days=1)
PASSPORT = Identifier(IdentifierKind.PASSPORT, "E00000019")
ONE, OTHER, FIRM = person(1), person(2), organisation(0)
A, B, F = ONE.identifiers[0], OTHER.identifiers[0], FIRM.identifiers[0]
NAME, SECOND = ONE.names[0], OTHER.names[0]


def of(identifier: Identifier) -> Reference:
    return Reference(identifier=identifier)


def show(world: World, identifier: Identifier, actor: Any = OPERATOR) -> SubjectView:
    return world.registry.subjects.show(of(identifier), actor)


def merge(world: World, stays: Identifier = A, goes: Identifier = B, **options: Any) -> Any:
    return world.registry.subjects.merge(of(stays), of(goes), "one person", OPERATOR, **options)[0]


def split(world: World, identifier: Identifier, *numbers: Identifier, **parts: Any) -> Any:
    return world.registry.subjects.split(
        of(identifier), Parts(numbers, **parts), "two people", OPERATOR
    )


def correct(world: World, identifier: Identifier, **changes: Any) -> tuple[Any, int]:
    return world.registry.subjects.correct(
        of(identifier), Correction(**changes), "was wrong", OPERATOR
    )


def restrictions(world: World, audience: str = "aviation") -> dict[Any, set[bytes]]:
    """What the next listing has under each number."""
    return {
        number: {item.restriction_id for item in subject.restrictions}
        for number, subject in listed(world, audience).items()
    }


def acts(world: World, act: str) -> set[tuple[str, bytes]]:
    with world.database.read() as session:
        return {
            (row.object_kind, row.object_id)
            for row in session.scalars(select(AuditRow).where(AuditRow.act == act))
        }


def test_merged_everything_is_under_the_one_that_stays(world: World) -> None:
    first, second = (
        submit(world, entry(ONE, case_number="1")),
        submit(world, entry(OTHER, case_number="2")),
    )
    before, ids = listed(world), (show(world, A).subject_id, show(world, B).subject_id)
    view = merge(world)
    assert (view.subject_id, view.names, set(view.restriction_ids)) == (ids[0], 2, {first, second})
    assert view.identifiers == {IdentifierKind.RESIDENT_ID: 2}
    assert restrictions(world) == {A: {first, second}, B: {first, second}}
    assert set(listed(world)[B].names) == {canonical_name(NAME), canonical_name(SECOND)}
    assert enforced(world, before) == {A, B}, "nothing becomes less"
    assert acts(world, "MERGE") == {("subject", item) for item in ids}
    assert acts(world, "MOVE") == {("restriction", second)}
    with pytest.raises(NotFoundError):
        world.registry.subjects.show(Reference(subject_id=ids[1]), OPERATOR)
    told = world.registry.subjects.reveal(of(B), "to be sure", OPERATOR)
    assert told.names == (NAME, SECOND)
    assert set(told.identifiers) == {A, B}
    verify(world.registry.store)


def test_after_a_merge_lists_go_in_as_before(world: World) -> None:
    items = [entry(ONE, case_number="1"), entry(OTHER, case_number="2")]
    for item in items:
        submit(world, item)
    merge(world)
    answers = [
        world.registry.restrictions.submit(item, authority="court", actor=COURT).status
        for item in items
    ]
    assert answers == [SubmitStatus.UNCHANGED] * 2
    both = Party(ONE.type, (A, B), (NAME, SECOND))
    assert (
        world.registry.restrictions.submit(
            entry(both, case_number="3"), authority="court", actor=COURT
        ).status
        is SubmitStatus.CREATED
    )


def test_the_same_case_on_both_is_refused_and_nothing_is_half_done(world: World) -> None:
    for party in (ONE, OTHER):
        submit(world, entry(party, case_number="same"))
    submit(world, entry(OTHER, case_number="only"))
    before, entries = restrictions(world), verify(world.registry.store)
    with pytest.raises(
        LifecycleError, match=r"same case number \(1: [0-9a-f]{32} and [0-9a-f]{32}\)"
    ):
        world.registry.subjects.merge(
            Reference(restriction_id=min(before[A])),
            Reference(restriction_id=min(before[B])),
            "one person",
            OPERATOR,
        )
    assert restrictions(world) == before
    assert verify(world.registry.store) == entries


def test_what_cannot_be_merged(world: World) -> None:
    submit(world, entry(ONE, case_number="1"))
    submit(world, entry(FIRM, case_number="2"))
    with pytest.raises(LifecycleError, match="organisation cannot be one"):
        merge(world, A, F)
    with pytest.raises(InvalidRequestError, match="already"):
        merge(world, A, A)
    with pytest.raises(NotFoundError):
        merge(world, A, B)
    for actor in (COURT, AIRLINE):
        with pytest.raises(PermissionDeniedError):
            world.registry.subjects.merge(of(A), of(F), "x", actor)
    with pytest.raises(InvalidRequestError, match="reason"):
        world.registry.subjects.merge(of(A), of(F), "", OPERATOR)


def test_a_merge_that_is_sent_twice_happens_once(world: World) -> None:
    submit(world, entry(ONE, case_number="1"))
    submit(world, entry(OTHER, case_number="2"))
    key = Precondition(key="m")
    reference = Reference(subject_id=show(world, B).subject_id)
    first = world.registry.subjects.merge(of(A), reference, "one", OPERATOR, key)
    assert world.registry.subjects.merge(of(A), reference, "one", OPERATOR, key) == first


def test_merged_organisations_bring_those_who_answer_for_them(world: World) -> None:
    other = organisation(1)
    mine = submit(world, entry(FIRM, case_number="1", responsible=(responsible(1, 1),)))
    theirs = submit(
        world, entry(other, case_number="2", responsible=(responsible(2, 1), responsible(1, 1)))
    )
    before = listed(world)
    merge(world, F, other.identifiers[0])
    everything = {mine, theirs}
    assert restrictions(world) == {
        F: everything,
        other.identifiers[0]: everything,
        A: everything,
        B: everything,
    }
    assert [post.state for post in show(world, F).posts] == [PostState.HELD, PostState.HELD], (
        "one post of two that were the same"
    )
    assert enforced(world, before) == {F, other.identifiers[0], A, B}, (
        "each by a restriction that reached them in another way"
    )
    chief = next(post for post in show(world, A).posts)
    world.registry.posts.end(chief.post_id, None, "left", OPERATOR)
    assert A not in restrictions(world)
    assert A not in enforced(world, before)


def test_of_a_post_that_one_of_both_has_left_nothing_stays(world: World) -> None:
    submit(world, entry(FIRM, responsible=(responsible(1, 1), responsible(2, 1))))
    world.registry.posts.end(show(world, A).posts[0].post_id, None, "left", OPERATOR)
    before = listed(world)
    assert set(before) == {F, B}
    merge(world, B, A)
    assert set(restrictions(world)) == {F}
    assert enforced(world, before) == {F}


@pytest.mark.parametrize("_order", range(4))  # of the rows, which is that of random ids
def test_who_left_a_post_and_was_appointed_again_holds_it_after_a_merge(
    sqlite_world: World, _order: int
) -> None:
    world = sqlite_world
    submit(world, entry(FIRM, responsible=(responsible(1, 1), responsible(2, 1))))
    world.registry.posts.end(show(world, A).posts[0].post_id, None, "left", OPERATOR)
    world.clock.turn(days=1)
    world.registry.posts.add(of(F), responsible(1, 1), Dates(), "appointed again", OPERATOR)
    merge(world, B, A)
    assert set(restrictions(world)) == {F, A, B}


def test_exemptions_of_one_person_go_with_a_merge_and_a_split(world: World) -> None:
    restriction = submit(world, entry(FIRM, responsible=(responsible(1, 1), responsible(2, 3))))
    valid, why = (NOW - DAY, NOW + DAY), ("因私", "private")
    world.registry.restrictions.exempt(
        restriction, measures=[], valid=valid, why=why, actor=COURT, person=B
    )
    merge(world, A, B)
    assert [len(listed(world)[number].restrictions[0].exemptions) for number in (A, B, F)] == [
        1,
        1,
        0,
    ]
    clerk = next(post.post_id for post in show(world, A).posts if post.capacity == 3)
    split(world, A, B, names=(SECOND,), post_ids=(clerk,))
    # Each with its own reason, which is encrypted for one exemption alone.
    assert {listed(world)[number].restrictions[0].exemptions[0].reason.en for number in (A, B)} == {
        "private"
    }
    assert [len(listed(world)[number].restrictions[0].exemptions) for number in (A, B, F)] == [
        1,
        1,
        0,
    ]
    chief = next(post.post_id for post in show(world, A).posts)
    world.registry.posts.end(chief, None, "left", COURT)
    assert set(restrictions(world)) == {F, B}


def two(world: World) -> tuple[bytes, bytes]:
    """One subject with two numbers, two names and two restrictions."""
    both = Party(ONE.type, (A, B), (NAME, SECOND))
    return submit(world, entry(both, case_number="1")), submit(world, entry(both, case_number="2"))


def test_split_what_does_not_reach_a_number_is_lifted_at_once_and_the_rest_comes_back(
    world: World,
) -> None:
    first, second = two(world)
    before = listed(world)
    done = split(world, A, B, names=(SECOND,), restriction_ids=(second,))
    assert done.relief_sequence == 2
    assert enforced(world, before) == set(), "until the next listing nobody is wrongly denied"
    assert restrictions(world) == {A: {first}, B: {second}}
    after = listed(world)
    assert enforced(world, after) == {A, B}
    assert (after[A].names, after[B].names) == ((canonical_name(NAME),), (canonical_name(SECOND),))
    assert acts(world, "SPLIT") == {
        *(("subject", item) for item in (done.subject.subject_id, done.split_off.subject_id)),
        *(("restriction", item) for item in (first, second)),
    }
    verify(world.registry.store)


def test_split_under_one_name_that_both_have(world: World) -> None:
    first, _ = two(world)
    done = split(world, A, B, shared_names=(NAME,), restriction_ids=())
    assert (done.subject.names, done.split_off.names) == (2, 1)
    assert set(restrictions(world)) == {A}
    # Each goes on by itself: entries find the right one.
    third = submit(world, entry(Party(ONE.type, (B,), (NAME,)), case_number="3"))
    assert restrictions(world)[B] == {third}
    assert first in restrictions(world)[A]


def test_split_of_somebody_with_posts_leaves_the_organisation_restricted(world: World) -> None:
    submit(world, entry(FIRM, responsible=(responsible(1, 1),)))
    submit(world, entry(Party(ONE.type, (A, B), (NAME, SECOND)), case_number="p"))
    before = listed(world)
    split(world, A, B, names=(SECOND,))
    assert enforced(world, before) == {F}
    after = listed(world)
    assert set(after) == {A, F}
    assert enforced(world, after) == {A, F}
    moved = show(world, A).posts[0].post_id
    submit(world, entry(Party(ONE.type, (A, PASSPORT), (NAME,)), case_number="q"))
    split(world, A, PASSPORT, shared_names=(NAME,), post_ids=(moved,))
    through = [item for item in listed(world)[PASSPORT].restrictions if item.capacity]
    assert len(through) == 1
    assert not any(item.capacity for item in listed(world)[A].restrictions)


def test_split_of_an_organisation_frees_its_people_until_the_next_listing(world: World) -> None:
    other = organisation(1)
    both = Party(FIRM.type, (F, *other.identifiers), (*FIRM.names, *other.names))
    first = submit(
        world, entry(both, case_number="1", responsible=(responsible(1, 1), responsible(2, 3)))
    )
    second = submit(world, entry(both, case_number="2"))
    before = listed(world)
    clerk = next(post.post_id for post in show(world, F).posts if post.capacity == 3)
    done = split(
        world,
        F,
        *other.identifiers,
        names=other.names,
        restriction_ids=(second,),
        post_ids=(clerk,),
    )
    assert enforced(world, before) == set()
    assert restrictions(world) == {
        F: {first},
        A: {first},
        other.identifiers[0]: {second},
        B: {second},
    }
    assert listed(world)[B].restrictions[0].organisation_name == other.names[0]
    assert {("subject", show(world, number).subject_id) for number in (A, B)} <= acts(
        world, "SPLIT"
    )
    assert done.split_off.type == FIRM.type


def test_what_cannot_be_split_changes_nothing(world: World) -> None:
    first, _ = two(world)
    foreign = submit(world, entry(person(5), case_number="f"))
    head, entries = world.registry.relief.head(), verify(world.registry.store)
    wrong: list[tuple[type[Exception], tuple[Identifier, ...], dict[str, Any]]] = [
        (InvalidRequestError, (), {"names": (SECOND,)}),
        (InvalidRequestError, (B,), {}),
        (LifecycleError, (A, B), {"names": (SECOND,)}),
        (LifecycleError, (B,), {"names": (NAME, SECOND)}),
        (NotFoundError, person(5).identifiers, {"names": (SECOND,)}),
        (NotFoundError, (B,), {"names": ("某某",)}),
        (NotFoundError, (B,), {"names": (SECOND,), "restriction_ids": (foreign,)}),
        (NotFoundError, (B,), {"names": (SECOND,), "post_ids": (bytes(16),)}),
        (InvalidNameError, (B,), {"names": ("",)}),
    ]
    for error, numbers, parts in wrong:
        with pytest.raises(error):
            world.registry.subjects.split(
                Reference(restriction_id=first), Parts(numbers, **parts), "x", OPERATOR
            )
    with pytest.raises(PermissionDeniedError):
        world.registry.subjects.split(of(A), Parts((B,), (SECOND,)), "x", COURT)
    assert (world.registry.relief.head(), len(restrictions(world)[A])) == (head, 2)
    # Only the one look-up by number that failed on permission wrote nothing either.
    assert verify(world.registry.store) == entries


def test_a_wrong_number_or_name_goes_at_once(world: World) -> None:
    two(world)
    before = listed(world)
    view, sequence = correct(world, A, remove_identifiers=(B,), remove_names=(SECOND,))
    assert sequence == 2
    assert (sum(view.identifiers.values()), view.names) == (1, 1)
    assert enforced(world, before) == set()
    assert set(restrictions(world)) == {A}
    assert enforced(world, listed(world)) == {A}
    for changes in ({"remove_identifiers": (A,)}, {"remove_names": (NAME,)}):
        with pytest.raises(LifecycleError, match="without a"):
            correct(world, A, **changes)
    with pytest.raises(NotFoundError):
        correct(world, A, remove_identifiers=(B,))
    # The number is free for whose it is.
    submit(world, entry(Party(ONE.type, (B,), ("另一位",)), case_number="9"))
    verify(world.registry.store)


def test_the_only_number_is_replaced_in_one_step(world: World) -> None:
    restriction = submit(world, entry(ONE))
    before = listed(world)
    correct(
        world,
        A,
        remove_identifiers=(A,),
        add_identifiers=(PASSPORT,),
        remove_names=(NAME,),
        add_names=("正确的名字",),
    )
    assert enforced(world, before) == set()
    after = listed(world)
    assert restrictions(world) == {PASSPORT: {restriction}}
    assert after[PASSPORT].names == (canonical_name("正确的名字"),)
    assert after[PASSPORT].identifiers[0].stretched == world.registry.stretch.stretch(PASSPORT)


def test_what_is_only_added_lifts_nothing(world: World) -> None:
    submit(world, entry(ONE))
    assert (
        correct(world, A, add_identifiers=(PASSPORT, PASSPORT, A), add_names=("曾用名", "曾用名"))[
            1
        ]
        == 0
    )
    assert set(restrictions(world)) == {A, PASSPORT}
    assert show(world, A).names == 2


def test_what_cannot_be_added(world: World) -> None:
    submit(world, entry(ONE, case_number="1"))
    submit(world, entry(OTHER, case_number="2"))
    for number, code in ((B, EntryCode.IDENTIFIER_CONFLICT), (F, EntryCode.SUBJECT_TYPE)):
        with pytest.raises(EntryError) as refused:
            correct(world, A, add_identifiers=(number,))
        assert refused.value.code is code
    with pytest.raises(InvalidRequestError, match="to go or to come"):
        correct(world, A)
    with pytest.raises(InvalidRequestError, match="at a time"):
        correct(world, A, add_names=tuple(f"名字{index}" for index in range(17)))


def test_a_subject_is_shown_in_figures_and_revealed_with_a_reason(world: World) -> None:
    restriction = submit(world, entry(FIRM, responsible=(responsible(1, 1),)))
    view = show(world, F, COURT)
    assert (view.identifiers, view.names, view.restriction_ids) == (
        {IdentifierKind.ORGANISATION_CODE: 1},
        1,
        (restriction,),
    )
    assert [(post.capacity, post.state) for post in view.posts] == [(1, PostState.HELD)]
    assert F.number not in repr(view)
    with pytest.raises(NotFoundError):
        show(world, A, COURT)
    with pytest.raises(NotFoundError):
        show(world, F, TAX)
    with pytest.raises(PermissionDeniedError):
        show(world, F, AIRLINE)
    told = world.registry.subjects.reveal(
        Reference(restriction_id=restriction), "a letter to the firm", OPERATOR
    )
    assert (told.identifiers, told.names) == ((F,), FIRM.names)
    assert F.number not in repr(told)
    assert acts(world, "REVEAL") == {("subject", view.subject_id)}
    with pytest.raises(InvalidRequestError, match="reason"):
        world.registry.subjects.reveal(of(F), "", OPERATOR)
    with pytest.raises(PermissionDeniedError):
        world.registry.subjects.reveal(of(F), "x", COURT)


def test_an_authority_sees_its_own_share_of_a_subject(world: World) -> None:
    mine = submit(world, entry(ONE, case_number="1"))
    submit(
        world, entry(ONE, measures=("LOAN_PRICING",), case_number="2"), authority="tax", actor=TAX
    )
    submit(
        world,
        entry(FIRM, measures=("LOAN_PRICING",), responsible=(responsible(1, 1),)),
        authority="tax",
        actor=TAX,
    )
    assert show(world, A, COURT).restriction_ids == (mine,)
    assert show(world, A, COURT).posts == ()
    assert len(show(world, A, TAX).posts) == 1


def test_ended_restrictions_move_without_being_lifted_again(world: World) -> None:
    first, second = two(world)
    world.registry.restrictions.end(first, EndKind.RELEASE, "x", actor=COURT)
    head = world.registry.relief.head()
    assert split(world, A, B, names=(SECOND,), restriction_ids=(first,)).relief_sequence == head + 1
    assert restrictions(world) == {A: {second}}
    assert first in show(world, B).restriction_ids
