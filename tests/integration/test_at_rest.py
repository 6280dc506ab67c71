"""A dump of the database names nobody: a list is imported, people are disputed, reported and
exempted, then every raw byte is searched.

`make test` imports SOME_ROWS, `make soak` 20,000.
"""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import select, text

from tests.support.keeping import CHUNK, Search, spellings
from tests.support.messages import denial
from tests.support.postgres import postgres
from tests.support.registry import AIRLINE, NOW, OPERATOR, World, make_world
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.importing import Importer
from tipstaff_server.importing.synthetic.files import write_csv
from tipstaff_server.importing.synthetic.lists import Synthetic
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import Base, RestrictionRow
from tipstaff_server.vault.epochs import EpochKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, SOME_ROWS = 20_000, 2_000
SOME = 20


@pytest.fixture(params=["sqlite", "postgresql"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = make_world(tmp_path, request.param)
    yield made
    made.close()


def import_list(world: World, rows: int) -> list[tuple[str, str]]:
    """The list's names and numbers, once they are in the registry."""
    file = world.folder / "list.csv"
    write_csv(file, Synthetic(7, NOW.date()), rows, encoding="utf-8", language="en")
    importer = Importer(
        world.registry, authority="court", list_id="joint-discipline", actor=OPERATOR
    )
    result = importer.run(file, world.folder / "rejects.csv")
    assert (result.created, result.rejected) == (rows, 0)
    with file.open(newline="", encoding="utf-8") as opened:
        return [(row[0], row[3]) for row in list(csv.reader(opened))[1:]]


def live(world: World, people: list[tuple[str, str]]) -> None:
    """What people write names and numbers into: statements, reasons, notes, exemptions, keys of
    their own.
    """
    with world.database.read() as session:
        active = (
            select(RestrictionRow.id)
            .where(RestrictionRow.state == State.ACTIVE)
            .order_by(RestrictionRow.id)
            .limit(SOME)
        )
        ids = session.scalars(active).all()
    assert len(ids) == SOME
    EpochKeys(world.store).current("aviation")
    for number, restriction in enumerate(ids):
        said = " ".join(people[number])
        world.registry.disputes.open(
            restriction,
            f"this is not {said}",
            request_id=number.to_bytes(16, "big"),
            actor=OPERATOR,
        )
        span = (NOW, NOW + timedelta(days=1))
        world.registry.restrictions.exempt(
            restriction,
            measures=(),
            valid=span,
            why=(f"{said} 就医", f"{said} is ill"),
            actor=OPERATOR,
        )
        report(world, restriction)
        world.registry.restrictions.end(
            restriction, EndKind.REVOKE, f"{said} was mistaken for somebody", actor=OPERATOR
        )
    for remedy in world.registry.remedies.mine(AIRLINE):
        world.registry.remedies.answer(
            remedy.remedy_id, "RESTORED", "told " + " ".join(people[1]), AIRLINE
        )  # type: ignore[arg-type]
    world.registry.expire_due(world.clock())
    rekeying.rotate(world.store, actor=OPERATOR)


def report(world: World, restriction: bytes) -> None:
    message = denial(
        restriction, NOW, report_id=restriction, decision_id=restriction, listing_version=1
    )
    Feedback(world.store).submit_reports(AIRLINE.id, [message])


def dump(world: World) -> bytes:
    """Everything on disk, the journal too; from PostgreSQL, which compresses, also every table as
    text.
    """
    if world.is_sqlite:
        return world.raw()
    server, database = postgres(), world.database.engine.url.database
    parts = [world.raw()]
    parts += [
        path.read_bytes()
        for path in sorted((server.folder / "data" / "pg_wal").iterdir())
        if path.is_file()
    ]
    with psycopg.connect(f"host={server.folder} user=postgres dbname={database}") as connection:
        for table in Base.metadata.tables:
            with connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
                parts += [bytes(block) for block in copy]
    return b"".join(parts)


def test_a_dump_of_the_database_contains_no_identifier_and_no_name(world: World) -> None:
    check_dump(world, SOME_ROWS)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_dump_of_the_database_contains_none_of_20_000_identifiers_or_names(world: World) -> None:
    check_dump(world, ROWS)


def check_dump(world: World, rows: int) -> None:
    people = import_list(world, rows)
    texts = {item for pair in people for item in pair}
    assert len(texts) > rows
    live(world, people)
    content = dump(world)
    assert len(content) > 1_000 * rows
    search = Search(texts)
    assert search(content) == set()

    # The search does find what is there: one name and one number, in clear, in a column that nobody
    # encrypts.
    name, number = people[rows // 2][0], people[rows // 3][1]
    with world.database.write() as session:
        session.execute(
            text("UPDATE lists SET title_en = :planted"), {"planted": f"of {name}, {number}"}
        )
    assert search(dump(world)) == {name, number}


@pytest.mark.parametrize(
    "spelling", sorted(spellings("买买提·吐尔逊") | spellings("11010119900307761X"))
)
def test_the_search_knows_this_spelling(spelling: bytes) -> None:
    people = {"买买提·吐尔逊", "11010119900307761X", "张三"}
    search = Search(people)
    for place in (b"", b"x" * CHUNK, b"x" * (CHUNK - 2)):
        assert len(search(place + spelling + b"\x00 more")) == 1
    assert search(spelling[:-1]) == set()
