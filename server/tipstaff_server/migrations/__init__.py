"""Alembic migrations, run from the program: `upgrade(database)`, `downgrade(database, revision)`, `check(database)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tipstaff_server.errors import SchemaVersionError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tipstaff_server.database import Database

__all__ = ["check", "downgrade", "upgrade"]


def upgrade(database: Database, revision: str = "head") -> None:
    """Brings the schema up to `revision` in one transaction. Raises SchemaVersionError: the database is newer than this program."""
    with database.connection() as connection:
        _known(connection)
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Takes the schema back to `revision` ("base": nothing left) in one transaction."""
    with database.connection() as connection:
        _known(connection)
        command.downgrade(_config(connection), revision)


def check(database: Database) -> None:
    """Raises SchemaVersionError unless the schema is exactly this program's."""
    with database.engine.connect() as connection:
        current = _known(connection)
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    if current != head:
        raise SchemaVersionError(
            f"the database has schema {current or 'none'}, this program works with {head}; run `tipstaff-server migrate` after a backup"
        )


def _known(connection: Connection) -> str | None:
    """The database's revision. Raises SchemaVersionError for one that this program has never heard of."""
    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(_config(None))
    if current is not None and current not in {item.revision for item in script.walk_revisions()}:
        raise SchemaVersionError(f"the database has schema {current}, which this program does not know; use the newer program")
    return current


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
