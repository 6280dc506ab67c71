"""Many rows at once:

`COPY` on PostgreSQL, several times as fast as statements; statements where there is no such thing.

Both are part of the session's transaction, and fail with the same errors. `Behind` writes parts of
a batch while the next ones are made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import (
    BigInteger,
    Boolean,
    Integer,
    LargeBinary,
    SmallInteger,
    bindparam,
    insert,
    text,
)
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from tipstaff_server.storage.models.base import UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session
    from sqlalchemy.types import TypeEngine

    from tipstaff_server.storage.models.base import Base

__all__ = ["Behind", "bulk_insert", "insert_all", "one_of"]

CHUNK = 5_000
# COPY takes two round trips more than a statement; a few rows are not worth them.
WORTH_COPYING = 20
# From SQLAlchemy's types to PostgreSQL's, the more special first. All others are texts.
_TYPES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (SmallInteger, "int2"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Boolean, "bool"),
    (LargeBinary, "bytea"),
    (UtcDateTime, "timestamptz"),
)


# One value that the server cuts up: to make an array of so many takes the driver longer than all
# else that it does with a batch.
_CUT = text(
    "ANY(ARRAY(SELECT substring(:joined FROM :size * i + 1 FOR :size) FROM generate_series(0,"
    " :last) AS i))"
).bindparams(
    bindparam("joined", type_=LargeBinary),
    bindparam("size", type_=Integer),
    bindparam("last", type_=Integer),
)


def bulk_insert(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows that all name the same columns. What the session holds back goes before them."""
    if len(rows) >= WORTH_COPYING and _is_postgresql(session):
        session.flush()
        _copy(session, table, rows)
    elif rows:
        session.execute(insert(table), rows)


def insert_all(
    session: Session,
    tables: Sequence[type[Base]],
    rows: Mapping[type[Base], Sequence[dict[str, Any]]],
) -> None:
    """Inserts the rows of several tables, each after those that it refers to."""
    for table in tables:
        bulk_insert(session, table, rows.get(table, ()))


class Behind:
    """A with block: what is put is inserted by the time it ends well; of many rows on PostgreSQL by
    a thread, while the caller goes on.

    The session is the thread's from each `put` to the next `wait`, so whoever uses it in between
    waits first.
    """

    def __init__(
        self, session: Session, tables: Sequence[type[Base]], *, many: bool = True
    ) -> None:
        """`tables`: in which order; each after those that it refers to.

        `many`: whether there will be several parts.
        """
        self._session = session
        self._tables = tables
        self._many = many
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        if self._many and _is_postgresql(self._session):
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="insert")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        if kind is None:
            self.wait()

    def put(self, rows: Mapping[type[Base], Sequence[dict[str, Any]]]) -> None:
        """Inserts them. Raises what inserting those before has raised."""
        self.wait()
        if self._thread is None:
            self._insert(rows)
        else:
            self._writing = self._thread.submit(self._insert, rows)

    def wait(self) -> None:
        """Until what was put is in. Raises what inserting it has raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _insert(self, rows: Mapping[type[Base], Sequence[dict[str, Any]]]) -> None:
        insert_all(self._session, self._tables, rows)


def one_of(
    session: Session, column: InstrumentedAttribute[bytes], values: Collection[bytes]
) -> Iterator[ColumnElement[bool]]:
    """Conditions that together ask for the rows whose column is one of `values`; each is for a
    query of its own.

    On PostgreSQL it is one query, whatever their number; elsewhere one for some thousands. All
    values have the same length.
    """
    items = list(values)
    if _is_postgresql(session):
        if items:
            yield column.bool_op("=")(
                _CUT.bindparams(joined=b"".join(items), size=len(items[0]), last=len(items) - 1)
            )
        return
    for start in range(0, len(items), CHUNK):
        yield column.in_(items[start : start + CHUNK])


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _copy(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    # They come with an extra, which those have who use PostgreSQL.
    import psycopg  # noqa: PLC0415
    from psycopg.types.string import BytesBinaryDumper  # noqa: PLC0415

    columns = tuple(rows[0])
    statement, types = _statement(table, columns)
    # Of as many columns as the table has
    values = itemgetter(*columns)  # pyright: ignore[reportUnknownVariableType]
    connection: Any = session.connection().connection.driver_connection
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            # The one that is kept for the type itself wraps each value in Python; this one does
            # not.
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(values(row))
    except psycopg.IntegrityError as error:
        raise IntegrityError(statement, None, error) from None
    except psycopg.OperationalError as error:
        raise OperationalError(statement, None, error) from None
    except psycopg.Error as error:
        raise DatabaseError(statement, None, error) from None


@cache
def _statement(table: type[Base], columns: tuple[str, ...]) -> tuple[str, list[str]]:
    """The COPY statement, and PostgreSQL's type of each column."""
    described = table.__table__.c
    names = ", ".join(described[name].name for name in columns)
    return f"COPY {table.__tablename__} ({names}) FROM STDIN (FORMAT BINARY)", [
        _type(described[name].type) for name in columns
    ]


def _type(kind: TypeEngine[Any]) -> str:
    return next((name for known, name in _TYPES if isinstance(kind, known)), "text")
