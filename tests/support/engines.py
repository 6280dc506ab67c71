"""One SQLAlchemy dialect for all engines of a process, and one cache of compiled statements.

A test opens a database of its own, often several, and SQLAlchemy keeps what it has compiled for an
engine and its dialect: each test would compile the same statements again. What it asks of a
database at the first connection (its version, its isolation level) is the same for all, too.

`tests/conftest.py` imports this. Processes that tests start do not: they run what is delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

STATEMENTS = 2_000
_dialects: dict[tuple[type, str], Any] = {}
_statements: LRUCache[Any, Any] = LRUCache(STATEMENTS)


class _OneForAll(type):
    """Calling a class of this kind gives the object that was made before with the same options."""

    def __call__(cls, **options: Any) -> Any:
        key = (cls, repr(sorted(options.items())))
        if key not in _dialects:
            _dialects[key] = super().__call__(**options)
        return _dialects[key]


class _Shared:
    """What both dialects do."""

    _initialised = False

    def initialize(self, connection: Connection) -> None:
        """Asks a database for its version and defaults, once."""
        if not self._initialised:
            super().initialize(connection)
            self._initialised = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """SQLAlchemy calls this for each new engine."""
        engine.update_execution_options(compiled_cache=_statements)


class SharedSQLite(_Shared, SQLiteDialect_pysqlite, metaclass=_OneForAll):
    """SQLite, shared."""

    supports_statement_cache = True


class SharedPostgreSQL(_Shared, PGDialect_psycopg, metaclass=_OneForAll):
    """PostgreSQL through psycopg, shared."""

    supports_statement_cache = True


def share() -> None:
    """Makes engines that are created from now on share."""
    registry.register("sqlite", __name__, SharedSQLite.__name__)
    registry.register("postgresql.psycopg", __name__, SharedPostgreSQL.__name__)
