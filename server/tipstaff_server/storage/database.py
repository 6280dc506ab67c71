"""The registry's database: SQLite by default, PostgreSQL for real, the same statements on both.

Reading and writing are told apart, because SQLite must be told before the first statement:

    with database.write() as session: ...    # BEGIN IMMEDIATE; commits at the end, rolls back on an exception
    with database.read() as session: ...     # BEGIN; sees one state

Keep both short: under SQLite's rollback journal a reader holds back the commit of a writer. WAL is
used only where the library is free of the corruption that connections could cause there before
3.51.3.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from tipstaff_server.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from tipstaff_server.config import Config

__all__ = ["Database"]

WAL_SAFE_SINCE = (3, 51, 3)
CONNECT_SECONDS = 10
_WRITE = "tipstaff_write"
_LOCK = text("SELECT pg_try_advisory_lock(:key)")
_UNLOCK = text("SELECT pg_advisory_unlock(:key)")


class Database:
    """An engine with the two kinds of transaction.

    Thread-safe; open one per process, after forking.
    """

    def __init__(self, url: str, *, busy_timeout_seconds: float = 30.0, pool_size: int = 8) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        in_memory = self.is_sqlite and parsed.database in {None, "", ":memory:"}
        options: dict[str, Any] = {"pool_pre_ping": not self.is_sqlite}
        if not self.is_sqlite:
            # A wait for another writer ends here as it does on SQLite, and one for a lost server
            # ends at all.
            waiting = f"-c lock_timeout={int(busy_timeout_seconds * 1000)}"
            # Nothing is prepared: a plan that was kept from when a table was small would read all
            # of it when it is large.
            options["connect_args"] = {
                "connect_timeout": CONNECT_SECONDS,
                "options": waiting,
                "prepare_threshold": None,
            }
        if in_memory:
            options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        else:
            options |= {"pool_size": pool_size, "max_overflow": pool_size}
        self.engine: Engine = create_engine(parsed, **options)
        if self.is_sqlite:
            _prepare_sqlite(self.engine, busy_timeout_seconds)
        self._writer = self.engine.execution_options(**{_WRITE: True})
        # Several statements of one reader see one state. SQLite's transactions do so anyway.
        self._reader = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )

    @classmethod
    def open(cls, config: Config) -> Database:
        """The configured database; connects at the first use."""
        return cls(
            config.database_url,
            busy_timeout_seconds=config.database.busy_timeout_seconds,
            pool_size=config.database.pool_size,
        )

    @contextmanager
    def read(self) -> Generator[Session]:
        """A session that sees one state and writes nothing. Raises DatabaseUnavailableError."""
        with (
            _translated(),
            Session(self._reader, autoflush=False, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def write(self) -> Generator[Session]:
        """A session that commits when the block ends and undoes everything when it raises.

        Raises DatabaseUnavailableError: no answer, or another writer held the database for longer
        than the time-out.
        """
        with (
            _translated(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            # Begins now, and waits for another writer here rather than in the middle
            session.connection()
            yield session

    @contextmanager
    def connection(self) -> Generator[Connection]:
        """A bare connection in a writing transaction, for migrations."""
        with _translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def exclusive(self, name: str) -> Generator[bool]:
        """Holds a name that nobody else on this database can hold meanwhile, however many machines;
        False: somebody else holds it.

        A holder that dies lets go of it. Leaving the block raises DatabaseUnavailableError when the
        lock was lost on the way: what was done under it must then not count. On SQLite every holder
        is on this machine, and True is the answer: lock a file there.
        """
        if self.is_sqlite:
            yield True
            return
        key = int.from_bytes(
            hashlib.sha256(b"tipstaff/lock/" + name.encode()).digest()[:8], "big", signed=True
        )
        with (
            _translated(),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            if not connection.execute(_LOCK, {"key": key}).scalar_one():
                yield False
                return
            try:
                yield True
            except BaseException:
                with suppress(SQLAlchemyError):
                    connection.execute(_UNLOCK, {"key": key})
                # A connection that went back into the pool might keep the lock
                connection.invalidate()
                raise
            # On a connection that broke this fails: the lock was lost on the way.
            connection.execute(_UNLOCK, {"key": key})

    def close(self) -> None:
        """Lets go of all pooled connections. May be repeated."""
        self.engine.dispose()


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (OperationalError, TimeoutError) as error:
        raise DatabaseUnavailableError(
            f"the database does not answer ({_cause(error)}); try again, then look at its state"
        ) from None
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise DatabaseUnavailableError("the connection to the database broke; try again") from None


def _cause(error: Exception) -> str:
    """The driver's own words: never SQLAlchemy's message, which repeats the parameters."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(original).splitlines()[0] if str(original) else type(original).__name__


def _prepare_sqlite(engine: Engine, busy_timeout_seconds: float) -> None:
    journal = "WAL" if sqlite3.sqlite_version_info >= WAL_SAFE_SINCE else "DELETE"

    def connect(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = (
            None  # the driver would begin late, and deferred: we begin ourselves
        )
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_seconds * 1000)}")
        cursor.execute(f"PRAGMA journal_mode = {journal}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute("PRAGMA trusted_schema = OFF")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writing one fails at once when another writes; an
        # immediate one waits.
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN"
        )

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
