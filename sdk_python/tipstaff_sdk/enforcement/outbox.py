"""The durable outbox: what has to reach the operator, kept in SQLite until the operator has
answered for it.

1. `put` returns when the event is on disk (rollback journal, synchronous=FULL); many callers share
   one commit.
2. Sending is at least once; every event carries its id, so it counts once.
3. An event leaves the outbox only when the server answered ACCEPTED or DUPLICATE for it.
4. A REJECTED event is set aside, with the reason, and no longer sent; `status()` shows how many
   there are.
5. The outbox is bounded: what does not fit is refused aloud, nothing is dropped in silence.

Threads and processes may share one file. Events hold no identifier and no name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.enforcement.outbox_schema import prepare
from tipstaff_sdk.errors import ClosedError, OutboxError, OutboxFullError, TipstaffError
from tipstaff_signing.files import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

__all__ = ["BATCH", "EventKind", "Outbox", "OutboxDepth", "OutboxEvent"]

BATCH: Final = 1_000
"""The most events that one request may carry (enforcement.proto)."""
_BUSY_SECONDS: Final = 10.0


class EventKind(IntEnum):
    """What an event's payload is."""

    REPORT = 1
    COVERAGE = 2


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One message for the operator: a 16-byte id and a serialized `Report` or `CoverageCount`."""

    event_id: bytes
    kind: EventKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How much waits: events to send, events set aside, and when the oldest one to send was put in
    (Unix time).
    """

    pending: int
    set_aside: int
    oldest: float | None


class _Ticket:
    """One caller's events on their way into a shared commit.

    `wake` is set when they are done, or when their caller is to commit.
    """

    __slots__ = ("done", "error", "events", "leave", "wake")

    def __init__(self, events: Sequence[OutboxEvent], leave: int) -> None:
        self.events = events
        self.leave = leave
        self.done = False
        self.error: TipstaffError | None = None
        self.wake = threading.Event()


class Outbox:
    """The queue in `path`. Opens at first use.

    Raises:
        OutboxError: the file cannot be opened, read or written.
        OutboxFullError: no room.
        ClosedError: used after `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: int = 100_000,
        wait: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._limit = limit
        self._wait = wait
        self._clock = clock
        self._closed = False
        self._abandoned: list[sqlite3.Connection] = []
        self._reset()

    def _reset(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._commit_lock = threading.RLock()
        self._queue_lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._leader: _Ticket | None = None

    def after_fork_in_child(self) -> None:
        """Leaves the parent's connection and callers to the parent.

        SQLite forbids using or closing it here, so it is only kept.
        """
        if self._connection is not None:
            self._abandoned.append(self._connection)
        self._reset()

    def put(self, events: Sequence[OutboxEvent], *, leave: int = 0) -> None:
        """Keeps all of `events` or none; on disk when it returns.

        An id that is already waiting is left as it is.

        `leave` is how much room must stay for others.
        """
        if not events:
            return
        deadline = time.monotonic() + self._wait
        while True:
            try:
                self._put_once(events, leave)
            except OutboxFullError:
                if time.monotonic() >= deadline:
                    raise
                # Another thread or process makes the room, so there is nothing to be woken by.
                time.sleep(0.05)
            else:
                return

    def _put_once(self, events: Sequence[OutboxEvent], leave: int) -> None:
        """One caller commits at a time, for all who queued up to then, and hands over to the first
        of those who came meanwhile.
        """
        ticket = _Ticket(events, leave)
        with self._queue_lock:
            self._queue.append(ticket)
            if self._leader is None:
                self._leader = ticket
                ticket.wake.set()
        try:
            ticket.wake.wait()
        except BaseException:
            self._leave_queue(ticket)
            raise
        if not ticket.done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error

    def _lead(self) -> None:
        group: list[_Ticket] = []
        try:
            with self._queue_lock:
                group, self._queue = self._queue, []
            self._commit_group(group)
        finally:
            with self._queue_lock:
                self._hand_over()
            for ticket in group:
                ticket.wake.set()

    def _hand_over(self) -> None:
        self._leader = self._queue[0] if self._queue else None
        if self._leader is not None:
            self._leader.wake.set()

    def _leave_queue(self, ticket: _Ticket) -> None:
        """For a caller that was interrupted while it waited, perhaps just when its turn to commit
        came.
        """
        with self._queue_lock:
            if ticket in self._queue:
                self._queue.remove(ticket)
                if self._leader is ticket:
                    self._hand_over()

    def _commit_group(self, group: list[_Ticket]) -> None:
        try:
            with self._transaction() as connection:
                room = self._limit - sum(
                    connection.execute("SELECT pending, set_aside FROM depth").fetchone()
                )
                for ticket in group:
                    if len(ticket.events) > room - ticket.leave:
                        ticket.error = self._full()
                        continue
                    room -= len(ticket.events)
                    self._insert(connection, ticket.events)
        except BaseException as error:
            # Nobody in the group may take an event for kept that is not.
            known = (
                error
                if isinstance(error, TipstaffError)
                else OutboxError("keeping the event was interrupted: report it again")
            )
            for ticket in group:
                ticket.error = known
            if known is not error:
                raise
        finally:
            for ticket in group:
                ticket.done = True

    def _insert(self, connection: sqlite3.Connection, events: Sequence[OutboxEvent]) -> None:
        now = self._clock()
        connection.executemany(
            "INSERT OR IGNORE INTO event (event_id, kind, payload, created_at) VALUES (?, ?, ?, ?)",
            [(event.event_id, int(event.kind), event.payload, now) for event in events],
        )

    def _full(self) -> OutboxFullError:
        return OutboxFullError(
            f"the outbox holds {self._limit} events, its limit (outbox_limit): bring the server"
            " connection back so that it empties, look at `tipstaff status`, and report this"
            " decision again"
        )

    def batch(self, kind: EventKind, limit: int = BATCH) -> list[OutboxEvent]:
        """The oldest events to send, at most `limit`."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT event_id, payload FROM event WHERE kind = ? AND refused IS NULL ORDER BY"
                " sequence LIMIT ?",
                (int(kind), limit),
            ).fetchall()
        return [OutboxEvent(event_id, kind, payload) for event_id, payload in rows]

    def settle(self, arrived: Sequence[bytes], refused: Sequence[tuple[bytes, str]] = ()) -> None:
        """Removes events that the server has, and sets aside those that it refused, each with the
        reason.
        """
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM event WHERE event_id = ?", [(event_id,) for event_id in arrived]
            )
            connection.executemany(
                "UPDATE event SET refused = ? WHERE event_id = ?",
                [(reason, event_id) for event_id, reason in refused],
            )

    def set_aside(self) -> list[tuple[OutboxEvent, str]]:
        """The events that the server refused, oldest first, with its reasons."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT event_id, kind, payload, refused FROM event WHERE refused IS NOT NULL ORDER"
                " BY sequence"
            ).fetchall()
        return [
            (OutboxEvent(event_id, EventKind(kind), payload), reason)
            for event_id, kind, payload, reason in rows
        ]

    def retry_set_aside(self) -> int:
        """Puts refused events back in line, after the cause has been removed; how many."""
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE event SET refused = NULL WHERE refused IS NOT NULL"
            ).rowcount

    def depth(self) -> OutboxDepth:
        """How much waits."""
        with self._transaction(write=False) as connection:
            pending, set_aside = connection.execute(
                "SELECT pending, set_aside FROM depth"
            ).fetchone()
            (oldest,) = (
                connection.execute(
                    "SELECT min(created_at) FROM event WHERE refused IS NULL"
                ).fetchone()
                if pending
                else (None,)
            )
        return OutboxDepth(pending, set_aside, oldest)

    @contextlib.contextmanager
    def sole_sender(self) -> Generator[bool]:
        """True while no other thread or process sends from this outbox; others skip their turn
        rather than send everything twice.
        """
        lock = FileLock(self._path.with_suffix(".lock"), timeout=0)
        try:
            mine = lock.acquire()
        except OSError as error:
            raise self._failed(error) from error
        try:
            yield mine
        finally:
            lock.release()

    def close(self) -> None:
        """Closes the file. What waits stays on disk for the next start."""
        with self._commit_lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = True) -> Generator[sqlite3.Connection]:
        with self._commit_lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise self._failed(error) from error

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        if self._connection is None:
            # Made by us first, so that it is never readable by others.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _failed(self, error: Exception) -> OutboxError:
        text = str(error)
        if "full" in text or "No space" in text:
            what = "make room on the disk that holds state_dir, then report again"
        elif "locked" in text:
            what = "another process held it for too long: end it, then report again"
        elif "malformed" in text or "not a database" in text:
            what = (
                "move the file aside and keep it for the operator, who can read its events; a new"
                " one is made"
            )
        else:
            what = "check that state_dir is writable for this user, then report again"
        return OutboxError(f"the outbox {self._path} failed ({text}): {what}")
