"""A restriction was wrong: every provider that acted on it is told, answers, and is reminded."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from tests.support.messages import denial
from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    RAILWAY,
    TAX,
    World,
    entry,
    person,
    submit,
)
from tipstaff.v1 import enforcement_pb2
from tipstaff_server.audit.log import verify
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.registry.restrictions.remedies import ACTED
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import AuditRow, DisputeState, RemedyOutcome, RemedyState

if TYPE_CHECKING:
    from tipstaff_server.domain.actors import Actor

MEASURES = {"aviation": "AIR_TRAVEL", "rail": "RAIL_HIGH_CLASS"}


def report(
    world: World,
    restriction: bytes,
    outcome: int = enforcement_pb2.OUTCOME_DENIED,
    provider: Actor = AIRLINE,
    **changes: Any,
) -> bytes:
    message = denial(
        restriction, world.clock(), measure=MEASURES[provider.audience], outcome=outcome
    )
    message.acted_at.FromDatetime(changes.get("acted_at", world.clock()))
    (result,) = Feedback(world.store).submit_reports(provider.id, [message])
    assert not result.detail
    return message.report_id


def wrong(world: World, restriction: bytes) -> None:
    world.registry.restrictions.end(
        restriction, EndKind.REVOKE, "it was somebody else", actor=COURT
    )


def restricted(world: World, index: int = 0) -> bytes:
    return submit(world, entry(person(index), measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS")))


def test_every_provider_that_acted_has_the_remedy_in_hand_and_nobody_else(world: World) -> None:
    restriction, other = restricted(world), restricted(world, 1)
    acted = [report(world, restriction, outcome) for outcome in ACTED]
    report(world, restriction, enforcement_pb2.OUTCOME_OVERRIDDEN)
    report(world, restriction, enforcement_pb2.OUTCOME_DENIED, RAILWAY)
    report(world, other)
    wrong(world, restriction)
    (airline,) = world.registry.remedies.mine(AIRLINE)
    assert airline.restriction_id == restriction
    assert {item.report_id for item in airline.affected} == set(acted)
    assert (airline.affected_count, airline.state, airline.due_at) == (
        4,
        RemedyState.DELIVERED,
        NOW + timedelta(days=15),
    )
    (railway,) = world.registry.remedies.mine(RAILWAY)
    assert railway.affected_count == 1
    assert railway.remedy_id != airline.remedy_id


@pytest.mark.parametrize("kind", [EndKind.RELEASE, EndKind.REPAIR])
def test_an_end_that_was_right_asks_for_nothing(world: World, kind: EndKind) -> None:
    restriction = restricted(world)
    report(world, restriction)
    world.registry.restrictions.end(restriction, kind, "paid", actor=COURT)
    assert world.registry.remedies.mine(AIRLINE) == []


def test_a_dispute_that_is_granted_asks_for_it_too(world: World) -> None:
    restriction = restricted(world)
    report(world, restriction)
    number = world.registry.disputes.open(
        restriction, "not me", request_id=bytes(16), actor=AIRLINE
    ).dispute.case_number
    world.registry.disputes.answer(number, DisputeState.REVOKED, "indeed", actor=COURT)
    assert len(world.registry.remedies.mine(AIRLINE)) == 1


def test_an_act_that_nobody_did_asks_for_nothing(world: World) -> None:
    restriction = restricted(world)
    for outcome in set(enforcement_pb2.Outcome.values()) - {0, *ACTED}:
        report(world, restriction, outcome)
    wrong(world, restriction)
    assert world.registry.remedies.all(OPERATOR) == []


def test_a_provider_answers_once_and_the_authority_reads_it(world: World) -> None:
    restriction = restricted(world)
    report(world, restriction)
    wrong(world, restriction)
    (mine,) = world.registry.remedies.mine(AIRLINE)
    world.clock.turn(days=2)
    answered = world.registry.remedies.answer(
        mine.remedy_id, RemedyOutcome.RESTORED, "rebooked 张三", AIRLINE
    )
    assert (answered.state, answered.outcome, answered.note) == (
        RemedyState.ANSWERED,
        RemedyOutcome.RESTORED,
        "",
    )
    again = world.registry.remedies.answer(mine.remedy_id, RemedyOutcome.RESTORED, "again", AIRLINE)
    assert again == answered
    with pytest.raises(LifecycleError, match="RESTORED"):
        world.registry.remedies.answer(mine.remedy_id, RemedyOutcome.DECLINED, "", AIRLINE)
    assert world.registry.remedies.mine(AIRLINE) == []
    assert world.registry.remedies.mine(AIRLINE, answered=True) == [answered]
    for reader in (COURT, OPERATOR):
        (read,) = world.registry.remedies.all(reader)
        assert (read.note, read.provider_id, read.answered_at) == (
            "rebooked 张三",
            "air-1",
            NOW + timedelta(days=2),
        )
    assert world.registry.remedies.all(OPERATOR, answered=False) == []
    assert world.registry.remedies.all(OPERATOR, provider_id="rail-1") == []
    assert world.registry.remedies.all(TAX) == []
    assert "张三".encode() not in world.raw()
    verify(world.registry.store)


def test_what_is_not_ones_own_is_not_there(world: World) -> None:
    restriction = restricted(world)
    report(world, restriction)
    wrong(world, restriction)
    (mine,) = world.registry.remedies.mine(AIRLINE)
    for identity, who, error in (
        (mine.remedy_id, RAILWAY, NotFoundError),
        (bytes(16), AIRLINE, NotFoundError),
        (b"1", AIRLINE, InvalidRequestError),
        (mine.remedy_id, COURT, PermissionDeniedError),
    ):
        with pytest.raises(error):
            world.registry.remedies.answer(identity, RemedyOutcome.RESTORED, "", who)
    with pytest.raises(InvalidRequestError, match="500"):
        world.registry.remedies.answer(mine.remedy_id, RemedyOutcome.RESTORED, "x" * 501, AIRLINE)
    with pytest.raises(PermissionDeniedError):
        world.registry.remedies.all(AIRLINE)
    with pytest.raises(PermissionDeniedError):
        world.registry.remedies.mine(COURT)


def test_reports_that_come_late_open_it_and_open_it_again(world: World) -> None:
    restriction = restricted(world)
    wrong(world, restriction)
    assert world.registry.remedies.follow_up(world.clock()).opened == 0
    report(world, restriction)
    assert world.registry.remedies.follow_up(world.clock()).opened == 1
    assert world.registry.remedies.follow_up(world.clock()).opened == 0
    (mine,) = world.registry.remedies.mine(AIRLINE)
    world.registry.remedies.answer(mine.remedy_id, RemedyOutcome.COMPENSATED, "", AIRLINE)
    world.clock.turn(days=20)
    report(world, restriction)
    assert world.registry.remedies.follow_up(world.clock()).opened == 1
    (again,) = world.registry.remedies.mine(AIRLINE)
    assert (again.remedy_id, again.affected_count, again.outcome) == (mine.remedy_id, 2, None)
    assert again.due_at == world.clock() + timedelta(days=15)


def test_deadlines_are_reminded_of_once_and_noted_once_when_they_pass(world: World) -> None:
    restriction = restricted(world)
    report(world, restriction)
    wrong(world, restriction)
    replica = world.replica()
    seen = []
    for days in (5, 8, 1, 2, 5):
        now = world.clock.turn(days=days)
        done = [registry.remedies.follow_up(now) for registry in (world.registry, replica)]
        seen.append((sum(item.reminded for item in done), sum(item.overdue for item in done)))
    assert seen == [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0)]
    (open_one,) = world.registry.remedies.all(OPERATOR)
    assert open_one.overdue(world.clock())
    with world.database.read() as session:
        acts = list(
            session.scalars(
                select(AuditRow.act)
                .where(AuditRow.object_kind == "remedy")
                .order_by(AuditRow.sequence)
            )
        )
    assert acts == ["REMEDY_OPEN", "REMEDY_REMIND", "REMEDY_OVERDUE"]


def test_pages_give_all_of_them(world: World) -> None:
    for index in range(5):
        restriction = restricted(world, index)
        report(world, restriction)
        wrong(world, restriction)
    found, after = [], b""
    while page := world.registry.remedies.mine(AIRLINE, after=after, limit=2):
        found += page
        after = page[-1].remedy_id
    assert len({item.remedy_id for item in found}) == 5
    assert world.registry.remedies.mine(AIRLINE) == found
