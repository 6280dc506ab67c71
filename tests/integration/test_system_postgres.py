"""The registry on the PostgreSQL that a system's packages bring, which is older than the one that
all other tests run on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.databases import own_postgres
from tests.support.postgres import PostgresServer, launch, of_the_system, postgres
from tests.support.registry import (
    OPERATOR,
    World,
    enforced,
    entry,
    listed,
    make_world,
    person,
    submit,
)
from tipstaff_server.audit.log import verify
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(
        of_the_system() is None,
        reason="no PostgreSQL of the system: apt-get install postgresql (.ci/run does)",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_postgres(launch(of_the_system())) as running:
        yield running


@pytest.fixture
def world(server: PostgresServer, tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path, server)
    yield made
    made.close()


def test_it_is_another_version_than_the_usual_one(server: PostgresServer) -> None:
    query = "SHOW server_version_num"
    assert server.execute(query) != postgres().execute(query)


def test_who_is_entered_is_listed_and_who_disputes_or_is_released_is_not_enforced(
    world: World,
) -> None:
    ids = [submit(world, entry(person(number), case_number=str(number))) for number in range(3)]
    before = listed(world)
    numbers = [person(number).identifiers[0] for number in range(3)]
    assert set(before) == set(numbers)
    world.registry.disputes.open(ids[0], "not me", request_id=bytes(16), actor=OPERATOR)
    world.registry.restrictions.end(ids[1], EndKind.RELEASE, "paid", actor=OPERATOR)
    assert enforced(world, before) == {numbers[2]}
    assert set(listed(world)) == {numbers[2]}
    assert verify(world.registry.store) > len(ids)


def test_a_replica_sees_what_another_one_entered(world: World) -> None:
    restriction = submit(world, entry())
    world.replica().restrictions.end(restriction, EndKind.REVOKE, "wrong", actor=OPERATOR)
    assert listed(world) == {}


def test_one_builder_at_a_time_holds_the_lock(world: World) -> None:
    other = Database(world.url)
    with world.database.exclusive("build") as first, other.exclusive("build") as second:
        assert (first, second) == (True, False)
    with other.exclusive("build") as third:
        assert third
    other.close()
