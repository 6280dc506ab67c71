"""Following the server in the background: one thread on the watch, one that sends what waits and
notices a silent watch.

1. Open the watch, saying what is enforced here; the server answers with its versions, then pushes
   each change.
2. Apply what is pushed; when a push does not suffice, refresh.
3. Every `flush_interval`, and soon after something was reported, send what waits and say what is
   enforced by now.
4. A watch that is silent longer than `heartbeat_timeout` is cancelled.
5. After a failure wait a time drawn from 0 to a doubling bound ("full jitter", Brooker, AWS
   Architecture Blog 2015), on top of what the server advised, and start again.

The threads are daemons and hold nothing that a killed process would lose.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.errors import TipstaffError, UnavailableError
from tipstaff_sdk.sync.status import SyncState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tipstaff_sdk.sync.session import Session
    from tipstaff_sdk.sync.transport import WatchStream

__all__ = ["Backoff", "Follower", "SyncRecord"]

_COALESCE_SECONDS: Final = 0.05
_CANCELLED_SECONDS: Final = 2.0
_log = logging.getLogger("tipstaff")


class Backoff:
    """Waits after failures: drawn from 0 to a bound that doubles from `initial` to `maximum`."""

    def __init__(
        self,
        initial: float,
        maximum: float,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._draw = draw
        self._failures = 0

    def failed(self, error: BaseException | None = None) -> float:
        """Seconds to wait now: at least what the server advised in `error`, though nobody can ask
        for more than the maximum.
        """
        bound = min(self._maximum, self._initial * 2.0 ** min(self._failures, 60))
        self._failures += 1
        advised = error.retry_after if isinstance(error, UnavailableError) else 0.0
        return min(advised, self._maximum) + self._draw(0.0, bound)

    def succeeded(self) -> None:
        """Starts over."""
        self._failures = 0


class SyncRecord:
    """What `status()` says of contact with the server. Thread-safe."""

    def __init__(
        self, state: SyncState, clock: Callable[[], datetime], changed: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()
        self.state = state
        self.since = clock()
        self.last_success: datetime | None = None
        self.last_error: str | None = None

    def after_fork_in_child(self) -> None:
        """A lock that nobody in this process holds."""
        self._lock = threading.Lock()

    def succeeded(self, state: SyncState | None = None) -> None:
        """Data was confirmed with the server; `state` is the new one, if it changes."""
        with self._lock:
            self.last_success = self._clock()
            changed = self.last_error is not None
            self.last_error = None
        self._move(state, changed=changed)

    def failed(self, error: BaseException, state: SyncState | None = None) -> None:
        """Contact failed."""
        text = str(error) or type(error).__name__
        with self._lock:
            changed = self.last_error != text
            self.last_error = text
        if changed:
            _log.warning("sync failed, the last verified data stays in use: %s", text)
        self._move(state, changed=changed)

    def move(self, state: SyncState) -> None:
        """Only the state changes."""
        self._move(state, changed=False)

    def _move(self, state: SyncState | None, *, changed: bool) -> None:
        with self._lock:
            if state is not None and state is not self.state:
                self.state, self.since = state, self._clock()
                changed = True
        if changed:
            self._changed()


class Follower:
    """Two threads over a session; `start` once, `stop` once. For another start make another one."""

    def __init__(self, session: Session, record: SyncRecord, *, delay: float = 0.0) -> None:
        self._session = session
        self._record = record
        self._delay = delay
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._watch: WatchStream | None = None
        self._silent_since: float | None = None
        self._farewell = False
        self._threads = [
            threading.Thread(target=self._send_loop, name="tipstaff-send", daemon=True),
        ]
        if session.online:
            self._threads.append(
                threading.Thread(target=self._watch_loop, name="tipstaff-watch", daemon=True)
            )

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something waits to be sent."""
        self._wake.set()

    def stop(self, timeout: float, *, send: bool = True) -> bool:
        """Ends the threads within about `timeout` seconds; True when they ended.

        With `send`, what waits is sent first as far as time allows.
        """
        deadline = time.monotonic() + timeout
        self._farewell = send
        self._stop.set()
        self._wake.set()
        watch = self._watch
        if watch is not None:
            watch.cancel()
        # A listener runs in one of the threads, and may close the screener or fork; that thread
        # cannot wait for itself.
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._farewell = False
        give_up = time.monotonic() + _CANCELLED_SECONDS
        while (
            left := [thread for thread in others if thread.is_alive()]
        ) and time.monotonic() < give_up:
            # Whatever they still do needs the connection; more than once, because one may just be
            # making a new one.
            self._session.disconnect()
            left[0].join(_CANCELLED_SECONDS / 20)
        return not left

    def _watch_loop(self) -> None:
        settings = self._session.settings
        backoff = Backoff(settings.backoff_initial, settings.backoff_maximum)
        self._stop.wait(self._delay)
        while not self._stop.is_set():
            try:
                self._contact(backoff)
            except TipstaffError as error:
                if self._stop.is_set():
                    return
                self._record.failed(error, SyncState.RETRYING)
                self._stop.wait(backoff.failed(error))
            except Exception as error:  # noqa: BLE001  a defect must not end the thread in silence; the next round may do better
                _log.exception("sync failed unexpectedly; please report this")
                self._record.failed(error, SyncState.RETRYING)
                self._stop.wait(max(1.0, backoff.failed()))

    def _contact(self, backoff: Backoff) -> None:
        """One watch, from its opening to its end."""
        session = self._session
        session.ensure_keys()
        stream = session.watch()
        self._watch = stream
        if self._stop.is_set():
            stream.cancel()
        try:
            self._silent_since = time.monotonic()
            for response in stream:
                self._silent_since = None
                session.take(response)
                backoff.succeeded()
                self._record.succeeded(SyncState.FOLLOWING)
                if self._stop.is_set():
                    return
                self._silent_since = time.monotonic()
        finally:
            self._silent_since = None
            self._watch = None
            stream.cancel()
        raise UnavailableError("the server ended the watch; it is opened again")

    def _send_loop(self) -> None:
        settings = self._session.settings
        backoff = Backoff(settings.backoff_initial, settings.backoff_maximum)
        tick = min(settings.flush_interval, settings.heartbeat_timeout / 4)
        due = time.monotonic() + settings.flush_interval
        not_before = 0.0
        while not self._stop.is_set():
            woken = self._wake.wait(tick)
            self._notice_silence()
            if woken:
                self._wake.clear()
                # Events come in crowds; the next ones of this crowd travel along.
                self._stop.wait(_COALESCE_SECONDS)
            now = time.monotonic()
            if now < not_before or not (woken or now >= due):
                continue
            wait = self._flush(backoff)
            not_before = time.monotonic() + wait
            due = time.monotonic() + max(wait, settings.flush_interval)
        if self._farewell:
            self._flush(backoff)

    def _notice_silence(self) -> None:
        silent_since, watch = self._silent_since, self._watch
        if watch is None or silent_since is None:
            return
        if time.monotonic() - silent_since > self._session.settings.heartbeat_timeout:
            _log.warning("the watch has been silent for too long and is opened again")
            watch.cancel()

    def _flush(self, backoff: Backoff) -> float:
        """Sends what waits; how many seconds to leave the server alone afterwards."""
        try:
            self._session.flush()
        except TipstaffError as error:
            if not isinstance(error, UnavailableError):
                # An outage is the watch's to report; this is something else.
                self._record.failed(error)
            return backoff.failed(error)
        except Exception:  # noqa: BLE001  as in the watch
            _log.exception("sending failed unexpectedly; please report this")
            return max(1.0, backoff.failed())
        backoff.succeeded()
        return 0.0
