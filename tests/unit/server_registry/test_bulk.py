"""Rows that are written while the next ones are made are all in by the end of the block, or none of
the transaction's are.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tests.support.registry import NOW, World
from tipstaff_server.storage.bulk import WORTH_COPYING, Behind
from tipstaff_server.storage.models import SubjectRow

if TYPE_CHECKING:
    from collections.abc import Sequence

PERSON = 1


def rows(first: int, count: int = WORTH_COPYING) -> dict[type, list[dict[str, Any]]]:
    return {
        SubjectRow: [
            {"id": number.to_bytes(16, "big"), "type": PERSON, "created_at": NOW}
            for number in range(first, first + count)
        ]
    }


def there(world: World) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(SubjectRow)) or 0


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("parts", [[], [3], [100, 0, 7, 100]])
def test_all_parts_are_in(world: World, parts: Sequence[int], many: bool) -> None:
    with world.database.write() as session, Behind(session, (SubjectRow,), many=many) as writing:
        for number, count in enumerate(parts):
            writing.put(rows(1_000 * number, count))
    assert there(world) == sum(parts)


def test_the_session_is_the_caller_s_again_after_a_wait(world: World) -> None:
    with world.database.write() as session, Behind(session, (SubjectRow,)) as writing:
        writing.put(rows(0))
        writing.wait()
        assert session.scalar(select(func.count()).select_from(SubjectRow)) == WORTH_COPYING


def write(
    world: World, parts: Sequence[dict[type, list[dict[str, Any]]]], then: Exception | None = None
) -> None:
    with world.database.write() as session, Behind(session, (SubjectRow,)) as writing:
        for part in parts:
            writing.put(part)
        if then is not None:
            raise then


@pytest.mark.parametrize("when", ["in the middle", "at the end"])
def test_what_does_not_go_in_undoes_the_transaction(world: World, when: str) -> None:
    parts = [
        rows(0),
        rows(5),
        *([rows(1_000)] if when == "in the middle" else []),
    ]  # some of the second are there already
    with pytest.raises(IntegrityError):
        write(world, parts)
    assert there(world) == 0


def test_whoever_fails_on_the_way_waits_for_the_thread_and_undoes_it(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        write(world, [rows(0, 5_000)], ZeroDivisionError())
    assert there(world) == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("insert")]
