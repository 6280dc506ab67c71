"""Disputes are answered in time or somebody hears of it, and nobody floods the registry with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from tests.support.registry import AIRLINE, COURT, RAILWAY, World, entry, make_world, person, submit
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import CallLimitError
from tipstaff_server.storage.models import AuditRow, DisputeState

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.domain.actors import Actor


def dispute(world: World, restriction: bytes, number: int, actor: Actor = AIRLINE) -> str:
    opened = world.registry.disputes.open(
        restriction, "not me", request_id=number.to_bytes(16, "big"), actor=actor
    )
    return opened.dispute.case_number


def test_an_answer_that_is_due_is_reminded_of_once_and_noted_once_when_it_is_late(
    world: World,
) -> None:
    restriction = submit(world, entry())
    dispute(world, restriction, 1)
    answered = dispute(world, submit(world, entry(person(1))), 2)
    world.registry.disputes.answer(answered, DisputeState.REJECTED, "x", actor=COURT)
    replica = world.replica()
    seen = []
    for days in (5, 8, 1, 2, 5):
        now = world.clock.turn(days=days)
        done = [registry.disputes.follow_up(now) for registry in (world.registry, replica)]
        seen.append((sum(item.reminded for item in done), sum(item.overdue for item in done)))
    assert seen == [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0)]
    with world.database.read() as session:
        acts = list(
            session.scalars(
                select(AuditRow.act).where(AuditRow.act.in_(["DISPUTE_REMIND", "DISPUTE_OVERDUE"]))
            )
        )
    assert sorted(acts) == ["DISPUTE_OVERDUE", "DISPUTE_REMIND"]
    # Nobody is restricted again because an authority was slow.
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.SUSPENDED
    verify(world.registry.store)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_flood_of_disputes_of_one_provider_is_bounded_and_the_others_are_not(
    tmp_path: Path, backend: str
) -> None:
    world = make_world(tmp_path, backend, disputes_per_hour=3)
    restriction = submit(world, entry(measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS")))
    numbers = [dispute(world, restriction, number) for number in range(3)]
    with pytest.raises(CallLimitError, match="ask again in 3600"):
        dispute(world, restriction, 3)
    assert dispute(world, restriction, 2) == numbers[2]  # a repeated call is none
    dispute(world, restriction, 4, RAILWAY)
    dispute(world, restriction, 5, COURT)
    world.clock.turn(hours=1)
    dispute(world, restriction, 3)
    world.close()
