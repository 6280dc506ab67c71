"""Transactions and pragmas, migrations up and down, and nothing that PostgreSQL would not take."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.support.registry import World, entry, submit
from tipstaff_server.errors import DatabaseUnavailableError, SchemaVersionError
from tipstaff_server.storage import migrations
from tipstaff_server.storage.database import WAL_SAFE_SINCE, Database
from tipstaff_server.storage.models import Base, Meta, RestrictionRow


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path}/x.db", busy_timeout_seconds=0.2)


def test_sqlite_is_set_up_for_keeping_what_was_committed(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA secure_delete")) == 1
        assert session.scalar(text("PRAGMA busy_timeout")) == 200
        safe = sqlite3.sqlite_version_info >= WAL_SAFE_SINCE
        assert session.scalar(text("PRAGMA journal_mode")) == ("wal" if safe else "delete")


def test_migrated_schema_is_the_models(database: Database) -> None:
    migrations.upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    migrations.check(database)


def test_the_versions_that_a_start_knows_are_alembics() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert [item.revision for item in script.walk_revisions()] == list(
        reversed(migrations.REVISIONS)
    )
    assert script.get_current_head() == migrations.REVISIONS[-1]


def test_a_database_without_schema_is_refused_with_the_command(database: Database) -> None:
    with pytest.raises(SchemaVersionError, match="tipstaff-server migrate"):
        migrations.check(database)


def test_a_newer_schema_is_left_alone(database: Database) -> None:
    migrations.upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (migrations.check, migrations.upgrade):
        with pytest.raises(SchemaVersionError, match="9999"):
            act(database)


def test_down_and_up_again_with_data_in_it(world: World) -> None:
    submit(world, entry())
    migrations.downgrade(world.database, "base")
    assert inspect(world.database.engine).get_table_names() == ["alembic_version"]
    migrations.upgrade(world.database)
    with world.database.read() as session:
        assert session.scalars(select(RestrictionRow)).all() == []


def test_a_failing_block_leaves_nothing(database: Database) -> None:
    migrations.upgrade(database)

    def fail() -> None:
        with database.write() as session:
            session.execute(insert(Meta), [{"name": "a", "value": b"1"}])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as session:
        assert session.scalars(select(Meta)).all() == []


def test_a_writer_that_waits_too_long_is_told_so_and_a_retry_works(database: Database) -> None:
    migrations.upgrade(database)
    begun, finish = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write():
            begun.set()
            finish.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(10)
    with pytest.raises(DatabaseUnavailableError, match="locked"), database.write():
        pytest.fail("two writers at once")
    finish.set()
    thread.join()
    with database.write() as session:
        session.execute(insert(Meta), [{"name": "a", "value": b"1"}])


def test_writers_of_several_threads_queue_up_and_lose_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db", busy_timeout_seconds=20)
    migrations.upgrade(database)

    def add(index: int) -> None:
        for step in range(5):
            with database.write() as session:
                count = len(session.scalars(select(Meta)).all())
                session.add(Meta(name=f"{index}-{step}", value=b"%d" % count))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert sorted(int(row.value) for row in session.scalars(select(Meta))) == list(range(20))


def test_foreign_keys_hold(database: Database) -> None:
    migrations.upgrade(database)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("INSERT INTO entitlements (authority_id, measure) VALUES ('a', 'B')"))


def test_an_error_never_repeats_parameters(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/x.db")
    with pytest.raises(DatabaseUnavailableError) as caught, database.read() as session:
        session.execute(select(Meta).where(Meta.name == "a secret"))
    assert "secret" not in str(caught.value)


def test_every_table_and_index_can_be_written_for_postgresql() -> None:
    dialect = postgresql.dialect()
    ddl = [
        str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.sorted_tables
    ]
    ddl += [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in Base.metadata.sorted_tables
        for index in table.indexes
    ]
    assert any("BYTEA" in statement for statement in ddl)
    assert any("TIMESTAMP WITH TIME ZONE" in statement for statement in ddl)
    names = [index.name for table in Base.metadata.sorted_tables for index in table.indexes]
    assert all(name and len(name) <= 63 for name in names)
