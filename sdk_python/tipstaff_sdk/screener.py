"""`Screener`: check people against the listing, report what was done, keep the data up to date.

    with Screener.open("tipstaff.toml") as screener:
        decision = screener.check(number, name=name, measure="AIR_TRAVEL")

Checks answer from local, verified data and never touch the network. Everything here is thread-safe
and survives fork().
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from tipstaff.v1 import enforcement_pb2
from tipstaff_sdk.decision.decide import Decision, Outcome, decide
from tipstaff_sdk.enforcement import remedies as remedying
from tipstaff_sdk.enforcement.disputes import (
    Dispute,
    DisputeGround,
    DisputeProgress,
    dispute_from,
    dispute_request,
    progress_from,
)
from tipstaff_sdk.enforcement.outbox import EventKind, OutboxEvent
from tipstaff_sdk.errors import (
    ClosedError,
    ConfigurationError,
    OutboxFullError,
    TipstaffError,
    UnavailableError,
)
from tipstaff_sdk.screening.bulk import CheckedColumns, check_columns, check_rows
from tipstaff_sdk.screening.engine import FalsePositives, Screening
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.follower import Follower, SyncRecord
from tipstaff_sdk.sync.fork import ForkHooks, settle, watch_forks
from tipstaff_sdk.sync.health import make_status
from tipstaff_sdk.sync.session import Session
from tipstaff_sdk.sync.status import Availability, Status, SyncState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from tipstaff_sdk.decision.decide import Reason, Restriction
    from tipstaff_sdk.enforcement.remedies import Remedy, RemedyOutcome
    from tipstaff_sdk.errors import InvalidIdentifierError, InvalidNameError
    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.keys.store import KeyStore
    from tipstaff_sdk.listing.catalogue import Catalogue

__all__ = ["Screener"]

_log = logging.getLogger("tipstaff")
_FORK_SECONDS: Final = 2.0
_FORK_PAUSE: Final = 0.2
_POLL_SECONDS: Final = 0.5


def utc_now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)


class Screener:
    """Make one with `open`; end it with `close` or a `with` block."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        keys: KeyStore | None = None,
    ) -> None:
        """Opens what is on disk. Applications call `open`; this is for those who have `Settings`
        already, or a place of their own for epoch keys (`keys.store.KeyStore`).

        Raises:
            ConfigurationError: state_dir cannot be used, or the trusted root or key file cannot be
                read.
        """
        self._settings = settings
        # The same clock without a frame of Python: every check asks it.
        self._clock: Callable[[], datetime] = (
            partial(datetime.now, UTC) if clock is utc_now else clock
        )
        self._listeners: list[Callable[[Status], None]] = []
        self._condition = threading.Condition()
        self._follower: Follower | None = None
        self._closed = False
        self._pausing = False
        self._false_positives = FalsePositives()
        _make_private(settings.state_dir)
        self._record = SyncRecord(
            SyncState.STARTING if settings.background else SyncState.OFF, clock, self._announce
        )
        self._session = Session(
            settings, clock=clock, publish=self._announce, wake=self._wake, keys=keys
        )
        try:
            self._load()
            if settings.background:
                self._follow()
        except BaseException:
            self._session.close()
            raise
        # Unbound, because the hooks must not hold the screener.
        watch_forks(
            self,
            ForkHooks(
                Screener._before_fork, Screener._after_fork_in_parent, Screener._after_fork_in_child
            ),
        )
        _open.add(self)

    @classmethod
    def open(cls, config: str | Path | None = None, **options: object) -> Self:
        """A screener over the last verified data, at once: nothing here waits for the network
        (`wait_ready` does).

        `config` is a tipstaff.toml; see `Settings` for it and for `options`, which go before
        environment and file.

        Raises:
            ConfigurationError: the settings cannot work; the message says what to do.
        """
        return cls(Settings.load(config, options=options))

    @classmethod
    async def aopen(cls, config: str | Path | None = None, **options: object) -> Self:
        """`open` for asyncio: reading the disk does not block the loop.

        `async with await Screener.aopen(...) as screener:`.
        """
        return await asyncio.to_thread(cls.open, config, **options)

    def check(
        self,
        identifier: Identifier | str,
        *,
        name: str,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> Decision:
        """Whether something stands against offering this person or organisation this service, from
        local data, in microseconds.

        `identifier` is an `Identifier`, or a text for a resident ID. `service` describes what is
        bought, as the measure asks. Missing or old data is no error: the verdict is then UNKNOWN or
        REVIEW, and the reason says why.

        Raises:
            InvalidIdentifierError, InvalidNameError: wrongly typed; ask again.
            UnknownMeasureError, MeasureNotCoveredError, InvalidServiceError: a wrong call.
            ClosedError: after `close`.
        """
        now = self._clock()
        loaded = self._session.loaded
        if loaded is None and self._closed:
            raise ClosedError("the screener is closed: open a new one")
        decision = decide(
            None if loaded is None else loaded.state, now, identifier, name, measure, service
        )
        self._session.coverage.count(now, (measure, decision.reason))
        return decision

    def check_many(
        self,
        rows: Iterable[tuple[Identifier | str, str]],
        *,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> list[Decision | InvalidIdentifierError | InvalidNameError]:
        """`check` for many rows of (identifier, name) at once; one entry per row, in order.

        All rows are decided on one version of the data. A row with a bad identifier or name has the
        error in its place, and the others are decided all the same. Wrong calls raise as in
        `check`. Some 100 times faster than `check` per row where resident IDs are texts.
        """
        return check_rows(self.screening(measure), rows, service, self._session.coverage)

    def check_columns(
        self,
        numbers: Any,
        names: Any,
        *,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> CheckedColumns:
        """`check` for a column of resident IDs and one of names, without an object for each row:
        some 50 ns where nobody is listed.

        A column is a list of str, a NumPy array of texts or a text column of pyarrow, polars or
        pandas (numbers also 'S18', or uint8 of shape (n, 18)). All rows are decided on one version
        of the data; wrong ones are named, and the others decided all the same.

        Raises:
            InvalidColumnError: no such column, or of different lengths. Wrong calls raise as in
                `check`.
        """
        return check_columns(
            self.screening(measure), numbers, names, service, self._session.coverage
        )

    def screening(self, measure: str) -> Screening:
        """The data as it is now, for checks of many at this moment.

        Counts nothing: `checked` does, when they are done.
        """
        now = self._clock()
        loaded = self._session.loaded
        if loaded is None and self._closed:
            raise ClosedError("the screener is closed: open a new one")
        return Screening(
            None if loaded is None else loaded.state, now, measure, self._false_positives
        )

    def checked(self, screening: Screening, reasons: Mapping[Reason, int]) -> None:
        """Counts what came of a `screening`, on disk when it returns.

        Raises OutboxError: the disk refuses; the counts stay in memory until it takes them.
        """
        for reason, times in reasons.items():
            self._session.coverage.count(screening.now, (screening.measure, reason), times)
        with contextlib.suppress(OutboxFullError):  # they stay in memory; sending makes room
            self._session.keep_coverage()

    def report(
        self, decision: Decision, outcome: Outcome, *, acted_at: datetime | None = None
    ) -> bytes:
        """Reports what was done about `decision`.

        On disk when it returns, and sent by itself; the report's id, 16 bytes.

        Raises:
            OutboxFullError: no room; nothing was dropped. OutboxError: the disk refuses.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        report = enforcement_pb2.Report(
            report_id=os.urandom(16),
            decision_id=decision.decision_id,
            restriction_ids=[restriction.restriction_id for restriction in decision.restrictions],
            measure=decision.measure,
            verdict=enforcement_pb2.Verdict.ValueType(decision.verdict),
            reason=enforcement_pb2.Reason.ValueType(decision.reason),
            outcome=enforcement_pb2.Outcome.ValueType(Outcome(outcome)),
            listing_version=decision.listing_version,
            relief_sequence=decision.relief_sequence,
        )
        report.decided_at.FromDatetime(decision.decided_at)
        report.acted_at.FromDatetime(acted_at or self._clock())
        self._session.outbox.put(
            [OutboxEvent(report.report_id, EventKind.REPORT, report.SerializeToString())]
        )
        self._wake()
        return report.report_id

    def dispute(
        self,
        decision: Decision,
        statement: str,
        *,
        restriction: Restriction | None = None,
        ground: DisputeGround = DisputeGround.OTHER,
    ) -> Dispute:
        """Opens a dispute about the restriction that `decision` rests on, for the person at the
        counter. Needs the network.

        With several restrictions, `restriction` says which; `ground` says why it is wrong, as the
        person puts it. The same call again, after a failure, opens no second dispute.

        Raises:
            NotDisputableError: no restriction, several and none named, or no statement of 1 to
                2,000 characters.
            TransportError: the server cannot be reached or refuses; nothing was opened as far as is
                known, so try again.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        return dispute_from(
            self._session.open_dispute(
                dispute_request(decision, statement, restriction, DisputeGround(ground))
            )
        )

    def follow_dispute(self, case_number: str) -> DisputeProgress:
        """Where a dispute stands, for whoever holds its case number, wherever it was opened.

        Needs the network.

        Raises:
            NotFoundError: there is no such number. UnavailableError: too many wrong numbers within
                an hour, or no network.
            TransportError: the server refuses.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        return progress_from(self._session.transport().follow_dispute(case_number))

    def remedies(self, *, include_answered: bool = False) -> list[Remedy]:
        """What this provider has to make good: restrictions that it acted on and that were revoked
        as wrong. Needs the network.

        Raises TransportError: the server cannot be reached or refuses.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        return remedying.fetch(self._session.transport(), include_answered=include_answered)

    def answer_remedy(
        self, remedy: Remedy | bytes, outcome: RemedyOutcome, note: str = ""
    ) -> Remedy:
        """Says what was done to make good.

        `note`: up to 500 characters for the authority, without names. Needs the network.

        The same outcome again changes nothing, so a call that failed may be repeated.

        Raises:
            RequestRefusedError: answered otherwise already, or the note is too long.
                TransportError: as above.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        return remedying.answer(self._session.transport(), remedy, outcome, note)

    def sync(self) -> Status:
        """Brings data up to date and sends what waits, now, in this thread.

        Data stays as it is when it fails.

        Raises:
            TransportError, UntrustedError, FormatError, StorageError, OutboxError: what failed and
                what to do.
        """
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")
        try:
            self._session.refresh()
        except TipstaffError as error:
            if isinstance(error, UnavailableError):
                # The connection would wait before it tries again; the next call has one that tries
                # at once.
                self._session.disconnect()
            self._record.failed(error)
            raise
        self._record.succeeded()
        self._session.flush()
        return self.status()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Whether hits can be proved (`Status.ready`), waiting for it at most `timeout` seconds.

        Without background sync nothing becomes ready by itself: call `sync` first.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not self._ready():
                left = (
                    _POLL_SECONDS
                    if deadline is None
                    else min(_POLL_SECONDS, deadline - time.monotonic())
                )
                if left <= 0 or self._closed:
                    return False
                self._condition.wait(left)
        return True

    def _ready(self) -> bool:
        loaded = self._session.loaded
        return loaded is not None and loaded.availability(self._clock()) is Availability.FRESH

    def status(self) -> Status:
        """What is true now. Local; never raises for trouble, but shows it."""
        return make_status(self._settings.audience, self._session, self._record, self._clock())

    def on_change(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Calls `callback` with the status after each change of data or of sync state, in a thread
        of ours; the result ends that.

        A callback should be short. What it raises is logged, and goes no further.
        """
        self._listeners.append(callback)

        def forget() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(callback)

        return forget

    @property
    def catalogue(self) -> Catalogue | None:
        """The measures of the listing in use; None while there is none."""
        loaded = self._session.loaded
        return None if loaded is None else loaded.state.catalogue

    def set_aside(self) -> list[tuple[OutboxEvent, str]]:
        """The events that the server refused, each with its reason."""
        return self._session.outbox.set_aside()

    def retry_set_aside(self) -> int:
        """Puts the refused events back in line, once the cause is gone; how many."""
        return self._session.outbox.retry_set_aside()

    def close(self) -> None:
        """Keeps the counts, sends what waits as far as `close_timeout` allows, and ends threads,
        connection and files. Idempotent.
        """
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._condition.notify_all()
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop(self._settings.close_timeout)
        try:
            self._session.keep_coverage()
        except TipstaffError as error:
            _log.warning("the last counts could not be kept: %s", error)
        self._session.close()
        self._record.move(SyncState.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"Screener(audience={self._settings.audience!r}, closed={self._closed})"

    def _load(self) -> None:
        try:
            self._session.load()
        except ConfigurationError:
            raise
        except TipstaffError as error:
            # A damaged copy is no reason not to start: the next sync brings a good one.
            self._record.failed(error)

    def _follow(self, delay: float = 0.0) -> None:
        self._follower = Follower(self._session, self._record, delay=delay)
        self._follower.start()

    def _wake(self) -> None:
        follower = self._follower
        if follower is not None:
            follower.wake()

    def _announce(self) -> None:
        with self._condition:
            self._condition.notify_all()
        for callback in tuple(self._listeners):
            try:
                callback(self.status())
            except Exception:  # noqa: BLE001  a listener is not ours, and must not end the sync
                _log.exception("a listener failed")

    def _before_fork(self) -> None:
        """Ends background work and the connection, so that the child may have its own.

        See sync/fork.py.
        """
        follower, self._follower = self._follower, None
        self._pausing = follower is not None
        if follower is not None and not follower.stop(_FORK_SECONDS, send=False):
            _log.warning(
                "background work did not end before a fork; the child may have to be started again"
            )
        if self._session.disconnect():
            settle()

    def _after_fork_in_parent(self) -> None:
        """Background work again, a moment later, because forks come in rows."""
        if self._pausing and not self._closed:
            self._follow(_FORK_PAUSE)

    def _after_fork_in_child(self) -> None:
        """The same data, and background work of its own."""
        if self._closed:
            return
        self._condition = threading.Condition()
        self._false_positives.after_fork_in_child()
        self._record.after_fork_in_child()
        self._session.after_fork_in_child()
        if self._pausing:
            self._record.move(SyncState.STARTING)
            self._follow(_FORK_PAUSE)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigurationError(
            f"state_dir: cannot make {folder} ({error.strerror}); correct the path or its"
            " permissions"
        ) from error
    if not writable:
        raise ConfigurationError(
            f"state_dir: {folder} is not writable for this user; correct its owner or permissions"
        )


_open: weakref.WeakSet[Screener] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that forgets `close` keeps its counts all the same."""
    for screener in list(_open):
        screener.close()
