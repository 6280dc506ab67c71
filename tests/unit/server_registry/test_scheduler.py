"""What happens by itself: once, whoever looks and however many at a time; and not at the word of a
clock that jumps.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tests.support.registry import AIRLINE, COURT, NOW, World, entry, person, submit
from tests.unit.server_registry.test_remedies import report
from tipstaff_server.audit.log import verify
from tipstaff_server.daemon.schedule import SETTLE_SECONDS, Looked, Scheduler
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.registry.disputes.open import Chased
from tipstaff_server.registry.restrictions.remedies import FollowedUp
from tipstaff_server.registry.restrictions.transitions import Due, EndKind
from tipstaff_server.storage.models import AuditRow

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Ticks:
    """A monotonic clock that is turned."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def pass_time(world: World, ticks: Ticks, **step: float) -> None:
    """Both clocks go on evenly."""
    ticks.now += timedelta(**step).total_seconds()
    world.clock.turn(**step)


def acts(world: World) -> Counter[str]:
    with world.database.read() as session:
        return Counter(
            dict(session.execute(select(AuditRow.act, func.count()).group_by(AuditRow.act)).all())
        )


def test_several_replicas_that_look_at_once_do_everything_once(world: World) -> None:
    ticks = Ticks()
    schedulers = [
        Scheduler(registry, world.clock, monotonic=ticks)
        for registry in (world.registry, world.replica(), world.replica())
    ]
    for index in range(4):
        submit(
            world,
            entry(
                person(index),
                effective_at=NOW + timedelta(days=1),
                expires_at=NOW + timedelta(days=20),
            ),
        )
        disputed = submit(world, entry(person(10 + index), expires_at=NOW + timedelta(days=20)))
        world.registry.disputes.open(
            disputed, "x", request_id=index.to_bytes(16, "big"), actor=AIRLINE
        )
        wrong = submit(world, entry(person(20 + index)))
        world.registry.restrictions.end(wrong, EndKind.REVOKE, "x", actor=COURT)
        report(world, wrong)
    with ThreadPoolExecutor(3) as pool:
        seen: list[Looked] = []
        for days in (0, 1, 12, 3, 10):
            pass_time(world, ticks, days=days)
            seen += pool.map(lambda scheduler: scheduler.look(), schedulers)
    assert not any(looked.waiting for looked in seen)
    assert sum(looked.due.activated for looked in seen) == acts(world)["ENTER_FORCE"] == 4
    assert sum(looked.due.expired for looked in seen) == acts(world)["EXPIRE"] == 8
    assert sum(looked.disputes.reminded for looked in seen) == acts(world)["DISPUTE_REMIND"] == 4
    assert sum(looked.disputes.overdue for looked in seen) == acts(world)["DISPUTE_OVERDUE"] == 4
    assert sum(looked.remedies.opened for looked in seen) == acts(world)["REMEDY_OPEN"] == 4
    assert sum(looked.remedies.reminded for looked in seen) == acts(world)["REMEDY_REMIND"] == 4
    assert sum(looked.remedies.overdue for looked in seen) == acts(world)["REMEDY_OVERDUE"] == 4
    verify(world.registry.store)


def nothing(looked: Sequence[Looked]) -> bool:
    return all(
        (item.due, item.disputes, item.remedies) == (Due(0, 0), Chased(0, 0), FollowedUp(0, 0, 0))
        for item in looked
    )


def test_a_clock_that_jumps_years_ahead_and_back_begins_and_ends_nothing(world: World) -> None:
    ticks = Ticks()
    scheduler = Scheduler(world.registry, world.clock, monotonic=ticks)
    restriction = submit(world, entry())
    coming = submit(world, entry(person(1), effective_at=NOW + timedelta(days=10)))
    scheduler.look()
    for jump in (3_650, -3_650):
        world.clock.turn(days=jump)
        looked = [scheduler.look()]
        pass_time(world, ticks, seconds=30)
        looked.append(scheduler.look())
        assert [item.waiting for item in looked] == [True, True]
        assert nothing(looked)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.ACTIVE
    pass_time(world, ticks, seconds=SETTLE_SECONDS)
    assert not scheduler.look().waiting
    assert world.registry.restrictions.get(coming, actor=COURT).state is State.NOTICED


def test_a_clock_that_was_put_right_is_believed_after_a_while(world: World) -> None:
    ticks = Ticks()
    scheduler = Scheduler(world.registry, world.clock, monotonic=ticks)
    restriction = submit(world, entry())
    scheduler.look()
    world.clock.turn(days=400)
    assert scheduler.look().waiting
    pass_time(world, ticks, seconds=SETTLE_SECONDS)
    assert scheduler.look().due.expired == 1
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.EXPIRED


def test_a_server_that_was_away_for_weeks_works_off_what_is_due_at_its_first_look(
    world: World,
) -> None:
    submit(world, entry())
    world.clock.turn(days=400)
    assert Scheduler(world.registry, world.clock, monotonic=Ticks()).look().due.expired == 1
