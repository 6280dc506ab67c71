"""Alembic migrations, run from the program:

`upgrade(database)`, `downgrade(database, revision)`, `check(database)`.

A version's file begins with the four digits of its revision, and each follows the one before. So
what every start asks, whether the schema is this program's, is answered without Alembic, whose
import costs as much as a tenth of a start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from tipstaff_server.errors import SchemaVersionError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from tipstaff_server.storage.database import Database

__all__ = ["REVISIONS", "check", "downgrade", "upgrade"]

REVISIONS: Final = tuple(
    sorted(
        path.name[:4]
        for path in (Path(__file__).parent / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")
    )
)


def upgrade(database: Database, revision: str = "head") -> None:
    """Brings the schema up to `revision` in one transaction.

    Raises SchemaVersionError: the database is newer than this program.
    """
    from alembic import command  # noqa: PLC0415  see the module

    with database.connection() as connection:
        _known(connection)
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Takes the schema back to `revision` ("base": nothing left) in one transaction."""
    from alembic import command  # noqa: PLC0415  see the module

    with database.connection() as connection:
        _known(connection)
        command.downgrade(_config(connection), revision)


def check(database: Database) -> None:
    """Raises SchemaVersionError unless the schema is exactly this program's."""
    with database.engine.connect() as connection:
        current = _known(connection)
    if current != REVISIONS[-1]:
        raise SchemaVersionError(
            f"the database has schema {current or 'none'}, this program works with {REVISIONS[-1]};"
            " run `tipstaff-server migrate` after a backup"
        )


def _known(connection: Connection) -> str | None:
    """The database's revision.

    Raises SchemaVersionError for one that this program has never heard of.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    current: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if current is not None and current not in REVISIONS:
        raise SchemaVersionError(
            f"the database has schema {current}, which this program does not know; use the newer"
            " program"
        )
    return current


def _config(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415  see the module

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
