"""Several servers on one database: nothing is lost, nothing happens twice, and a database that goes
away leaves nothing half done.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from tests.support.postgres import postgres
from tests.support.registry import AIRLINE, COURT, NOW, World, entry, make_world, person, submit
from tipstaff_server.audit.log import verify
from tipstaff_server.errors import DatabaseUnavailableError, LifecycleError
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.database import Database
from tipstaff_server.storage.models import AuditRow, RestrictionRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, "postgresql")
    yield made
    made.close()


def acts(world: World) -> Counter[str]:
    """How often each act stands in the audit log."""
    with world.database.read() as session:
        return Counter(
            dict(session.execute(select(AuditRow.act, func.count()).group_by(AuditRow.act)).all())
        )


def test_two_replicas_that_decide_at_once_decide_once(world: World) -> None:
    replicas = [world.replica() for _ in range(3)]
    restrictions = [submit(world, entry(person(index))) for index in range(4)]
    answers: Counter[str] = Counter()

    def decide(index: int) -> None:
        for restriction in restrictions:
            try:
                replicas[index].restrictions.end(restriction, EndKind.REVOKE, "x", actor=COURT)
            except LifecycleError:
                answers["too late"] += 1
            else:
                answers["done"] += 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(decide, range(3)))
    assert answers == {"done": 4, "too late": 8}
    assert [lift.sequence for lift in world.registry.relief.since("aviation", 0)] == [1, 2, 3, 4]
    assert acts(world)["REVOKE"] == 4
    verify(world.registry.store)


def test_the_same_entry_at_several_replicas_is_one_restriction(world: World) -> None:
    replicas = [world.replica() for _ in range(3)]

    def enter(index: int) -> list[SubmitStatus]:
        items = [entry(person(number)) for number in range(5)]
        keys = [f"key-{number}" for number in range(5)]
        return [
            answer.status
            for answer in replicas[index].restrictions.submit_many(
                items, authority="court", actor=COURT, keys=keys
            )
        ]

    with ThreadPoolExecutor(3) as pool:
        statuses = [status for some in pool.map(enter, range(3)) for status in some]
    # Under one idempotency key everybody gets the first answer.
    assert statuses == [SubmitStatus.CREATED] * 15
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(RestrictionRow)) == 5
    assert acts(world)["SUBMIT"] == 5


def test_schedulers_of_several_replicas_let_each_restriction_begin_and_end_once(
    world: World,
) -> None:
    replicas = [world.replica() for _ in range(3)]
    for index in range(8):
        submit(
            world,
            entry(
                person(index),
                effective_at=NOW + timedelta(days=1),
                expires_at=NOW + timedelta(days=2),
            ),
        )
    for days, act in ((1, "ENTER_FORCE"), (2, "EXPIRE")):
        with ThreadPoolExecutor(3) as pool:
            done = list(
                pool.map(
                    lambda registry, now: registry.expire_due(now),
                    replicas,
                    [NOW + timedelta(days=days)] * 3,
                )
            )
        assert sum(due.activated + due.expired for due in done) == 8
        assert acts(world)[act] == 8
    verify(world.registry.store)


def test_disputes_at_several_replicas_suspend_once(world: World) -> None:
    replicas = [world.replica() for _ in range(3)]
    restriction = submit(world, entry())

    def dispute(index: int) -> bool:
        return (
            replicas[index]
            .disputes.open(restriction, "x", request_id=secrets.token_bytes(16), actor=AIRLINE)
            .dispute.suspended
        )

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(dispute, range(3)))
    assert world.registry.relief.head() == 1
    assert acts(world)["SUSPEND"] == 1


def test_a_restart_sees_what_was_acknowledged(world: World) -> None:
    restriction = submit(world, entry())
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    world.registry.close()
    again = world.replica()
    assert again.restrictions.get(restriction, actor=COURT).state == "RELEASED"
    assert (
        again.restrictions.submit(entry(), authority="court", actor=COURT).status
        is SubmitStatus.UNCHANGED
    )
    verify(again.store)


def cut(world: World) -> None:
    """Every connection of this database breaks, as when its server goes away."""
    name = world.database.engine.url.database
    postgres().execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )


def test_a_database_that_goes_away_in_the_middle_leaves_nothing_and_the_next_call_works(
    on_postgres: World,
) -> None:
    world = on_postgres
    restriction = submit(world, entry())
    before = verify(world.registry.store)

    def act() -> None:
        with world.registry.store.act() as unit:
            unit.lift(restriction, 1, "RELEASE")
            cut(world)

    with pytest.raises(DatabaseUnavailableError):
        act()
    assert world.registry.relief.head() == 0
    assert verify(world.registry.store) == before
    cut(world)
    assert (
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=COURT
        ).relief_sequence
        == 1
    )


def test_a_database_that_keeps_going_away_loses_and_doubles_nothing(on_postgres: World) -> None:
    world = on_postgres
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.05):
            cut(world)

    thread = threading.Thread(target=disturb)
    thread.start()
    restrictions: list[bytes] = []
    try:
        for index in range(12):
            while len(restrictions) <= index:
                with suppress(DatabaseUnavailableError):
                    answer = world.registry.restrictions.submit(
                        entry(person(index)),
                        authority="court",
                        actor=COURT,
                        idempotency_key=f"{index}",
                    )
                    restrictions.append(answer.restriction_id)
    finally:
        stop.set()
        thread.join()
    assert len(set(restrictions)) == 12
    assert acts(world)["SUBMIT"] == 12
    verify(world.registry.store)


def test_a_name_is_held_by_one_on_all_machines_and_freed_by_its_holders_end(
    on_postgres: World,
) -> None:
    other = Database(on_postgres.url)
    with on_postgres.database.exclusive("build/aviation") as mine:
        assert mine
        with other.exclusive("build/aviation") as theirs, other.exclusive("build/rail") as another:
            assert not theirs
            assert another
    with other.exclusive("build/aviation") as theirs:
        assert theirs
    other.close()


def test_a_holder_whose_connection_broke_is_told_before_its_work_counts(on_postgres: World) -> None:
    def hold() -> None:
        with on_postgres.database.exclusive("build/aviation") as mine:
            assert mine
            cut(on_postgres)

    with pytest.raises(DatabaseUnavailableError):
        hold()
