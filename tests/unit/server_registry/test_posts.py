"""Who answers for an organisation, from and until: joining waits for the listing, leaving does not."""

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
    relief,
    responsible,
    submit,
)
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.registry.idempotency import ANY, Precondition
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.subjects.posts import Dates, Post
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.storage import migrations
from tipstaff_server.storage.models import AuditRow, DisputeState, PostState

if TYPE_CHECKING:
    from datetime import datetime

FIRM, CHIEF, CLERK = organisation(0), person(1), person(2)
DAY = timedelta(days=1)
WHY = ("私人消费", "private spending with own money")


def firm(world: World, *, by: Any = COURT, **changes: Any) -> bytes:
    """A restriction on the firm, which its chief and its clerk answer for."""
    given = {
        "responsible": (responsible(1, 1), responsible(2, 3)),
        "measures": ("AIR_TRAVEL", "RAIL_HIGH_CLASS"),
    } | changes
    return submit(world, entry(FIRM, **given), authority=by.id, actor=by)


def posts(world: World) -> dict[int, Post]:
    """The firm's posts by capacity."""
    return {
        post.capacity: post
        for post in world.registry.subjects.show(
            Reference(identifier=FIRM.identifiers[0]), OPERATOR
        ).posts
    }


def leave(
    world: World,
    capacity: int = 1,
    until: datetime | None = None,
    actor: Any = COURT,
    **options: Any,
) -> tuple[Post, int]:
    return world.registry.posts.end(posts(world)[capacity].post_id, until, "left", actor, **options)


def join(
    world: World,
    who: Party = CHIEF,
    capacity: int = 1,
    actor: Any = COURT,
    given: Precondition = ANY,
    **dates: Any,
) -> Post:
    add = world.registry.posts.add
    return add(
        Reference(identifier=FIRM.identifiers[0]),
        Responsible(capacity, who),
        Dates(**dates),
        "appointed",
        actor,
        given,
    )


def reached(world: World, audience: str = "aviation") -> set[Any]:
    return set(listed(world, audience))


A, B, C = FIRM.identifiers[0], CHIEF.identifiers[0], CLERK.identifiers[0]


def test_who_leaves_is_free_at_once_and_nobody_else_is(world: World) -> None:
    firm(world)
    before, rail = listed(world), listed(world, "rail")
    post, sequence = leave(world)
    assert (post.state, post.valid_until) == (PostState.LEFT, NOW)
    assert sequence > 0
    assert enforced(world, before) == {A, C}
    assert enforced(world, rail, "rail") == {A, C}
    assert reached(world) == {A, C}
    # An audience that never saw any of it does not hear of it.
    assert world.registry.relief.since("banking", 0) == []
    verify(world.registry.store)


def test_leaving_ends_every_restriction_of_the_organisation_for_the_person_and_none_of_their_own(
    world: World,
) -> None:
    firm(world)
    firm(world, by=TAX, measures=("LOAN_PRICING",), case_number="tax-1")
    own = submit(world, entry(CHIEF, case_number="own"))
    before, bank = listed(world), listed(world, "banking")
    leave(world)
    assert enforced(world, bank, "banking") == {A, B, C}
    assert enforced(world, before) == {A, B, C}
    assert [item.restriction_id for item in listed(world)[B].restrictions] == [own]
    now = relief(world, "banking")
    (through,) = [item for item in bank[B].restrictions if item.restriction_id != own]
    assert now.ends(frozenset(through.post_ids))


def test_of_two_posts_in_one_organisation_the_other_still_reaches(world: World) -> None:
    firm(world, responsible=(responsible(1, 1), responsible(1, 4)))
    before = listed(world)
    assert before[B].restrictions[0].capacity == 1
    leave(world)
    assert enforced(world, before) == {A, B}
    assert listed(world)[B].restrictions[0].capacity == 4
    leave(world, 4)
    assert enforced(world, before) == {A}
    assert reached(world) == {A}


def test_joining_waits_for_the_next_listing(world: World) -> None:
    firm(world, responsible=())
    head = world.registry.relief.head()
    post = join(world)
    assert post.state is PostState.HELD
    assert world.registry.relief.head() == head
    assert reached(world) == {A, B}
    (record,) = listed(world)[B].restrictions
    assert list(record.post_ids) == [post.post_id]


def test_a_leave_date_ahead_stands_in_records_and_is_relieved_when_it_comes(world: World) -> None:
    firm(world)
    before = listed(world)
    post, sequence = leave(world, until=NOW + 10 * DAY)
    assert (post.state, sequence) == (PostState.HELD, 0)
    assert listed(world)[B].restrictions[0].expires_at.ToDatetime(NOW.tzinfo) == NOW + 10 * DAY
    assert listed(world)[A].restrictions[0].expires_at.ToDatetime(NOW.tzinfo) == NOW + 300 * DAY
    world.registry.expire_due(world.clock.turn(days=9))
    assert enforced(world, before) == {A, B, C}
    world.clock.turn(days=1)
    assert reached(world) == {A, C}, "also before anybody looks"
    world.registry.expire_due(world.clock.now)
    assert enforced(world, before) == {A, C}
    head = world.registry.relief.head()
    world.registry.expire_due(world.clock.turn(days=1))
    assert world.registry.relief.head() == head, "once"


def test_a_beginning_ahead_reaches_nobody_before(world: World) -> None:
    firm(world, responsible=())
    assert join(world, valid_from=NOW + DAY).state is PostState.COMING
    assert reached(world) == {A}
    world.registry.expire_due(world.clock.turn(days=1))
    assert reached(world) == {A, B}
    assert world.registry.relief.head() == 0


def test_a_leave_date_in_the_past_takes_effect_now(world: World) -> None:
    firm(world)
    world.clock.turn(days=30)
    before = listed(world)
    post, sequence = leave(world, until=NOW + 3 * DAY)
    assert (post.state, post.valid_until) == (PostState.LEFT, NOW + 3 * DAY)
    assert sequence > 0
    assert enforced(world, before) == {A, C}


def test_dates_are_corrected_as_far_as_nobody_is_restricted_again(world: World) -> None:
    firm(world)
    world.clock.turn(days=30)
    amend = world.registry.posts.amend
    identity = posts(world)[1].post_id
    assert leave(world, until=NOW + 60 * DAY)[0].state is PostState.HELD
    assert amend(identity, Dates(valid_until=NOW + 90 * DAY), "later", COURT)[1] == 0
    assert amend(identity, Dates(without_end=True), "never mind", COURT)[0].valid_until is None
    post, sequence = leave(world)
    assert leave(world) == (post, sequence), "left already"
    earlier, again = leave(world, until=NOW + DAY)
    assert (earlier.valid_until, again) == (NOW + DAY, sequence)
    for dates in (Dates(without_end=True), Dates(valid_until=NOW + 60 * DAY)):
        with pytest.raises(LifecycleError, match="enter it again"):
            amend(identity, dates, "was wrong", COURT)
    assert reached(world) == {A, C}


def test_a_post_that_begins_later_after_all_is_lifted_and_comes_back_under_another_id(
    world: World,
) -> None:
    firm(world)
    before = listed(world)
    old = posts(world)[1].post_id
    post, sequence = world.registry.posts.amend(
        old, Dates(valid_from=NOW + 5 * DAY), "not yet", COURT
    )
    assert post.state is PostState.COMING
    assert post.post_id != old
    assert sequence > 0
    assert enforced(world, before) == {A, C}
    world.registry.expire_due(world.clock.turn(days=5))
    after = listed(world)
    assert enforced(world, after) == {A, B, C}


def test_a_post_left_by_mistake_is_entered_again_and_relief_does_not_lift_it_for_good(
    world: World,
) -> None:
    firm(world)
    began = posts(world)[1].valid_from
    leave(world)
    join(world, valid_from=began)
    assert enforced(world, listed(world)) == {A, B, C}


def test_a_stale_list_does_not_put_anybody_back(world: World) -> None:
    firm(world)
    leave(world)
    again = firm(world, case_number="another", responsible=(responsible(1, 1), responsible(2, 1)))
    assert reached(world) == {A, C}
    (submitted,) = world.registry.restrictions.history(again, COURT)
    assert '"posts_left_before":1' in submitted.detail


def test_what_cannot_be_said_of_a_post(world: World) -> None:
    firm(world)
    identity = posts(world)[1].post_id
    end, amend = world.registry.posts.end, world.registry.posts.amend
    with pytest.raises(LifecycleError, match="already"):
        join(world)
    with pytest.raises(InvalidRequestError, match="over already"):
        join(world, person(5), valid_from=NOW - 2 * DAY, valid_until=NOW)
    with pytest.raises(InvalidRequestError, match="before it begins"):
        end(identity, NOW - DAY, "x", COURT)
    with pytest.raises(InvalidRequestError, match="1949"):
        end(identity, NOW.replace(year=2300), "x", COURT)
    with pytest.raises(InvalidRequestError, match="which date"):
        amend(identity, Dates(), "x", COURT)
    with pytest.raises(InvalidRequestError, match="reason"):
        end(identity, None, "", COURT)
    with pytest.raises(InvalidRequestError, match="16 bytes"):
        end(b"x", None, "x", COURT)
    with pytest.raises(NotFoundError):
        end(bytes(16), None, "x", COURT)
    with pytest.raises(NotFoundError):
        end(identity, None, "x", TAX)
    with pytest.raises(PermissionDeniedError):
        end(identity, None, "x", AIRLINE)
    with pytest.raises(NotFoundError):
        join(world, person(5), actor=TAX)
    for wrong in (Responsible(9, person(5)), Responsible(1, organisation(3))):
        with pytest.raises(EntryError) as refused:
            world.registry.posts.add(Reference(identifier=A), wrong, Dates(), "x", COURT)
        assert refused.value.code is EntryCode.RESPONSIBLE_PERSON
    with pytest.raises(EntryError) as conflict:
        join(world, person(2, "另一个名字"), 4)
    assert conflict.value.code is EntryCode.NAME_CONFLICT
    submit(world, entry(person(6), case_number="p"))
    with pytest.raises(InvalidRequestError, match="only an organisation"):
        world.registry.posts.add(
            Reference(identifier=person(6).identifiers[0]),
            Responsible(1, person(5)),
            Dates(),
            "x",
            COURT,
        )
    for reference in (Reference(), Reference(subject_id=bytes(16), restriction_id=bytes(16))):
        with pytest.raises(InvalidRequestError, match="which subject"):
            world.registry.posts.add(reference, Responsible(1, person(5)), Dates(), "x", COURT)
    assert reached(world) == {A, B, C, person(6).identifiers[0]}


def test_an_act_on_a_post_that_is_sent_twice_happens_once(world: World) -> None:
    firm(world, responsible=())
    key = Precondition(key="join-1")
    assert join(world, given=key) == join(world, given=key)
    end = Precondition(key="end-1")
    assert leave(world, given=end) == leave(world, given=end)
    with pytest.raises(InvalidRequestError, match="another request"):
        leave(world, until=NOW + DAY, given=end)


def test_each_act_names_the_person_and_the_organisation_in_the_audit_log(world: World) -> None:
    firm(world)
    leave(world)
    with world.database.read() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.act == "POST_END")).all()
    post = posts(world)[1]
    assert {(row.object_kind, row.object_id) for row in rows} == {
        ("subject", post.person_id),
        ("subject", post.organisation_id),
    }


def test_a_released_restriction_is_not_lifted_again_and_a_suspended_one_comes_back_without_the_person(
    world: World,
) -> None:
    restriction = firm(world)
    number = world.registry.disputes.open(
        restriction, "x", request_id=bytes(16), actor=AIRLINE
    ).dispute.case_number
    assert leave(world)[1] == 0, "suspended: nothing is enforced that could be lifted"
    world.registry.disputes.answer(number, DisputeState.REJECTED, "x", actor=COURT)
    assert reached(world) == {A, C}
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    assert leave(world, 3)[1] == 0


def test_private_spending_is_permitted_to_one_officer_alone(world: World) -> None:
    restriction = firm(world)
    valid = (NOW - DAY, NOW + DAY)
    world.registry.restrictions.exempt(
        restriction, measures=[], valid=valid, why=WHY, actor=COURT, person=B
    )
    found = listed(world)
    assert [len(found[number].restrictions[0].exemptions) for number in (A, B, C)] == [0, 1, 0]
    world.registry.restrictions.exempt(
        restriction, measures=["AIR_TRAVEL"], valid=valid, why=WHY, actor=COURT
    )
    found = listed(world)
    assert [len(found[number].restrictions[0].exemptions) for number in (A, B, C)] == [1, 2, 1]
    for nobody in (A, person(9).identifiers[0]):
        with pytest.raises(InvalidRequestError, match="does not reach"):
            world.registry.restrictions.exempt(
                restriction, measures=[], valid=valid, why=WHY, actor=COURT, person=nobody
            )
    leave(world)
    with pytest.raises(InvalidRequestError, match="does not reach"):
        world.registry.restrictions.exempt(
            restriction, measures=[], valid=valid, why=WHY, actor=COURT, person=B
        )
    person_id = posts(world)[1].person_id
    with world.database.read() as session:
        objects = session.execute(
            select(AuditRow.object_kind, AuditRow.object_id).where(AuditRow.act == "EXEMPT")
        ).all()
    assert ("subject", person_id) in {tuple(item) for item in objects}


def test_migrations_down_and_up_keep_posts_and_what_is_for_everybody(world: World) -> None:
    restriction = firm(world)
    valid = (NOW - DAY, NOW + DAY)
    for who in (None, C):
        world.registry.restrictions.exempt(
            restriction, measures=[], valid=valid, why=WHY, actor=COURT, person=who
        )
    leave(world)
    migrations.downgrade(world.database, "0006")
    migrations.upgrade(world.database)
    found = listed(world)
    assert set(found) == {A, C}, "who has left does not come back"
    assert [len(found[number].restrictions[0].exemptions) for number in (A, C)] == [1, 1]
    verify(world.registry.store)
