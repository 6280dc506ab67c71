"""What is asked of a registry of millions goes through an index:

PostgreSQL's own plans, of the statements that are really sent.

A small table is read whole whatever indexes it has, so here the planner is told not to: what still
reads all of one has no index to use.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from tests.support.registry import (
    AIRLINE,
    COURT,
    OPERATOR,
    entry,
    make_world,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.restrictions.search import Wanted
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.signoff import reader as standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.support.registry import World

LARGE = "subjects|identifiers|names|responsible_links|restrictions|exemptions|relief_log|disputes|audit_log|reports|report_restrictions"
CASE = "（2026）虚01执7号"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A registry on PostgreSQL that holds a little of everything."""
    made = make_world(tmp_path, "postgresql")
    for number in range(30):
        submit(made, entry(person(number), case_number=f"（2026）虚01执{number}号"))
    submit(made, entry(organisation(0), responsible=(responsible(90),)))
    yield made
    made.close()


def plans(world: World, act: Callable[[], object]) -> list[str]:
    """The plan of every statement that reads or changes rows while `act` runs."""
    found: list[str] = []
    asking: list[bool] = []

    def explain(
        connection: Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        _many: bool,
    ) -> None:
        if asking or not statement.startswith(("SELECT", "UPDATE")):
            return
        asking.append(True)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        found.append(
            "\n".join(
                row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            )
        )
        asking.pop()

    event.listen(world.database.engine, "before_cursor_execute", explain)
    try:
        act()
    finally:
        event.remove(world.database.engine, "before_cursor_execute", explain)
    assert found
    return found


def first(world: World) -> bytes:
    return world.registry.restrictions.search(Wanted(case_number=CASE), COURT)[0].restriction_id


ACTS: dict[str, Callable[[World], object]] = {
    "entering somebody who is known": lambda world: submit(
        world, entry(person(3), case_number="（2026）虚02执1号")
    ),
    "entering an organisation": lambda world: submit(
        world, entry(organisation(5), responsible=(responsible(91),))
    ),
    "releasing": lambda world: world.registry.restrictions.end(
        first(world), EndKind.RELEASE, "performed", actor=COURT
    ),
    "revoking": lambda world: world.registry.restrictions.end(
        first(world), EndKind.REVOKE, "wrong", actor=COURT
    ),
    "disputing": lambda world: world.registry.disputes.open(
        first(world), "mistaken", request_id=bytes(16), actor=AIRLINE
    ),
    "searching by number": lambda world: world.registry.restrictions.search(
        Wanted(identifier=person(4).identifiers[0]), COURT
    ),
    "searching by case number": lambda world: world.registry.restrictions.search(
        Wanted(case_number=CASE), OPERATOR
    ),
    "looking at a history": lambda world: world.registry.restrictions.history(first(world), COURT),
    "letting terms begin and end": lambda world: world.registry.expire_due(world.clock()),
    "letting all terms end": lambda world: world.registry.expire_due(world.clock.turn(days=400)),
    "chasing disputes": lambda world: world.registry.disputes.follow_up(world.clock()),
    "reading relief": lambda world: world.registry.relief.since("aviation", 0),
    "building a listing": lambda world: list(
        ListingReader(world.registry.store).subjects("aviation", world.clock())
    ),
    "signing a listing off": lambda world: list(standing.read(world.store, "aviation")),
}


@pytest.mark.parametrize("name", ACTS)
def test_no_large_table_is_read_whole(world: World, name: str) -> None:
    for plan in plans(world, lambda: ACTS[name](world)):
        assert not re.search(rf"Seq Scan on ({LARGE})\b", plan), plan


def test_a_case_number_has_an_index_of_its_own(world: World) -> None:
    found = plans(
        world, lambda: world.registry.restrictions.search(Wanted(case_number=CASE), OPERATOR)
    )
    assert any("ix_restrictions_case_number_id" in plan for plan in found)


def test_what_is_due_is_found_by_its_moment(world: World) -> None:
    found = [
        plan
        for plan in plans(world, lambda: world.registry.expire_due(world.clock()))
        if "restrictions" in plan
    ]
    assert found
    assert all(
        re.search(r"ix_restrictions_state_(effective_at|expires_at)", plan) for plan in found
    ), found


@pytest.mark.parametrize("name", ["building a listing", "signing a listing off"])
def test_on_sqlite_a_page_reads_its_own_subjects_and_nobody_else(tmp_path: Path, name: str) -> None:
    """SQLite knows of no table how large it is, and prefers any index that it can compare with."""
    made = make_world(tmp_path)
    submit(made, entry(person(0)))
    submit(made, entry(organisation(0), responsible=(responsible(90),)))
    found: list[str] = []

    def explain(
        connection: Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        _many: bool,
    ) -> None:
        if statement.startswith("SELECT") and "subject_id" in statement:
            raw: Any = connection.connection.driver_connection
            found.extend(
                row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            )

    event.listen(made.database.engine, "before_cursor_execute", explain)
    ACTS[name](made)
    made.close()
    tables = [step for step in found if re.match(r"SEARCH|SCAN", step)]
    assert len(tables) >= 6
    assert [
        step
        for step in tables
        if not re.search(r"\((subject_id|person_id|restriction_id)[>=]", step)
    ] == []


def test_the_plans_would_show_a_table_that_is_read_whole(world: World) -> None:
    def read_all() -> None:
        with world.database.read() as session:
            session.connection().exec_driver_sql(
                "SELECT count(*) FROM restrictions WHERE legal_basis = 'none'"
            )

    assert any(re.search(rf"Seq Scan on ({LARGE})\b", plan) for plan in plans(world, read_all))
