"""The outbox's tables.

Triggers count what waits, so that asking costs the same however much it is, and holds between
processes.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["prepare"]

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    payload BLOB NOT NULL,
    created_at REAL NOT NULL,
    refused TEXT
);
CREATE INDEX event_pending ON event (kind, sequence) WHERE refused IS NULL;
CREATE TABLE depth (pending INTEGER NOT NULL, set_aside INTEGER NOT NULL);
INSERT INTO depth VALUES (0, 0);
CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    UPDATE depth SET pending = pending + 1;
END;
CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    UPDATE depth SET pending = pending - (old.refused IS NULL), set_aside = set_aside - (old.refused IS NOT NULL);
END;
CREATE TRIGGER event_refused AFTER UPDATE OF refused ON event WHEN (old.refused IS NULL) <> (new.refused IS NULL) BEGIN
    UPDATE depth SET pending = pending + (new.refused IS NULL) - (old.refused IS NULL),
                     set_aside = set_aside + (new.refused IS NOT NULL) - (old.refused IS NOT NULL);
END;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Sets the connection up, and makes the tables when the file is new. Raises sqlite3.Error."""
    # Not WAL: before 3.51.3 a WAL with several connections could be corrupted (sqlite.org/wal.html,
    # the WAL-reset bug).
    connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _statements(_SCHEMA):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version > _SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"it was written by a newer version (layout {version}); install that version"
        )


def _statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit our transaction first."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
