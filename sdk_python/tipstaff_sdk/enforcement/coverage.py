"""How many checks were made, per measure and hour, without anybody's name (应查必查).

Counting costs a check two dictionary look-ups and no lock: every thread counts in a table of its
own that only it writes and that only grows. The collector copies the tables, takes the difference
to what it took before, and puts the sums into the durable outbox. Counts that were not yet
collected are lost with a killed process; that is bounded by `flush_interval`, and reports are never
affected.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tipstaff.v1 import enforcement_pb2
from tipstaff_sdk.decision.decide import Reason, Verdict
from tipstaff_sdk.enforcement.outbox import EventKind, OutboxEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Coverage", "coverage_events"]

_NOT_IN_FILTER: Final = frozenset({Reason.NO_DATA, Reason.EXPIRED, Reason.NOT_LISTED})
_HOUR: Final = timedelta(hours=1)
_Key = tuple[str, Reason]
_Totals = dict[tuple[datetime, str, Reason], int]


class _Table:
    """One thread's counts. `hours` maps the start of an hour to counts by (measure, reason)."""

    __slots__ = ("begin", "current", "end", "hours", "taken", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.hours: dict[datetime, dict[_Key, int]] = {}
        self.taken: _Totals = {}
        self.begin = self.end = datetime.min.replace(tzinfo=UTC)
        self.current: dict[_Key, int] = {}

    def turn(self, now: datetime) -> None:
        """Moves to the hour of `now`; also backwards, when a clock was corrected."""
        self.begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        self.end = self.begin + _HOUR
        self.current = self.hours.setdefault(self.begin, {})


class Coverage:
    """Counts checks from any thread."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._tables: list[_Table] = []
        self._untaken: _Totals = {}

    def after_fork_in_child(self) -> None:
        """Forgets what the parent counted: the parent still has it."""
        self._reset()

    def count(self, now: datetime, key: tuple[str, Reason], times: int = 1) -> None:
        """One check at `now` (aware) of a measure with a reason; `times` of the same at once."""
        try:
            table: _Table = self._local.table
        except AttributeError:
            table = self._join()
        if not table.begin <= now < table.end:
            table.turn(now)
        current = table.current
        current[key] = current.get(key, 0) + times

    def _join(self) -> _Table:
        table = self._local.table = _Table()
        with self._lock:
            self._tables.append(table)
        return table

    def collect(self) -> _Totals:
        """What was counted since the last collection, by (hour, measure, reason); `restore` gives
        back what could not be kept.
        """
        with self._lock:
            totals: Counter[tuple[datetime, str, Reason]] = Counter(self._untaken)
            self._untaken = {}
            for table in list(self._tables):
                # Asked before counting, so that a thread that ends in between is counted once more.
                ended = not table.thread.is_alive()
                totals.update(_difference(table))
                if ended:
                    self._tables.remove(table)
            return dict(totals)

    def restore(self, totals: _Totals) -> None:
        """Takes back what could not be kept; the next collection has it again."""
        with self._lock:
            for key, number in totals.items():
                self._untaken[key] = self._untaken.get(key, 0) + number


def _difference(table: _Table) -> _Totals:
    """What `table` counted since last time.

    Copying a dict is one step under the interpreter's lock, so no count is seen by halves.
    """
    difference: _Totals = {}
    current = table.begin
    for hour in list(table.hours):
        for (measure, reason), number in table.hours[hour].copy().items():
            key = (hour, measure, reason)
            if number > table.taken.get(key, 0):
                difference[key] = number - table.taken.get(key, 0)
                table.taken[key] = number
        if hour < current - _HOUR:
            # Its thread moved on over an hour ago; nothing more is counted there.
            del table.hours[hour]
            table.taken = {key: number for key, number in table.taken.items() if key[0] != hour}
    return difference


def coverage_events(totals: _Totals) -> list[OutboxEvent]:
    """One `CoverageCount` per measure and hour, each with an id of its own."""
    return [
        _event(hour, measure, totals)
        for hour, measure in sorted({(hour, measure) for hour, measure, _ in totals})
    ]


def _event(hour: datetime, measure: str, totals: _Totals) -> OutboxEvent:
    cells = [
        (reason, number)
        for (at, code, reason), number in totals.items()
        if at == hour and code == measure
    ]
    count = enforcement_pb2.CoverageCount(
        count_id=os.urandom(16),
        measure=measure,
        checked=sum(number for _, number in cells),
        clear=_sum(cells, Verdict.CLEAR),
        filter_hits=sum(number for reason, number in cells if reason not in _NOT_IN_FILTER),
        restricted=_sum(cells, Verdict.RESTRICTED),
        review=_sum(cells, Verdict.REVIEW),
        unknown=_sum(cells, Verdict.UNKNOWN),
    )
    count.hour.FromDatetime(hour)
    return OutboxEvent(count.count_id, EventKind.COVERAGE, count.SerializeToString())


def _sum(cells: Iterable[tuple[Reason, int]], wanted: Verdict) -> int:
    return sum(number for reason, number in cells if reason.verdict is wanted)
