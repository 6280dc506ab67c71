"""Medians of wall times, of repeats during which the machine did nothing else.

On a shared machine most of what a clock shows may be somebody else's. The system counts what all
processors spend (/proc/stat); what is left without ours is others'. A repeat during which others
took over a tenth of a core is measured again, as long as there is patience left; then it counts all
the same, and the report says how many did.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PATIENCE", "Patience", "median_of_each", "median_seconds", "quiet_seconds"]

_STAT: Final = Path("/proc/stat")
_TICK: Final = 0.01  # what the system counts in
_SHARE: Final = 0.1
_PAUSE: Final = 0.5


class Patience:
    """seconds: left to wait for quiet, in the whole run. repeats, disturbed: how many there were,
    and how many of them were not quiet.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.repeats = 0
        self.disturbed = 0


PATIENCE: Final = Patience()


def _others() -> float:
    """Seconds that processors spent on others since the start; 0 where the system does not say."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    mine = os.times()
    spent = (user + nice + system + irq + softirq + steal) * _TICK
    return spent - mine.user - mine.system - mine.children_user - mine.children_system


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quiet_seconds(work: Callable[[], object]) -> float:
    """Wall time of `work`, once, when nobody else works."""
    while True:
        others = _others()
        taken = _seconds(work)
        quiet = _others() - others <= max(2 * _TICK, _SHARE * taken)
        if quiet or PATIENCE.seconds <= 0:
            PATIENCE.repeats += 1
            PATIENCE.disturbed += not quiet
            return taken
        time.sleep(_PAUSE)
        PATIENCE.seconds -= taken + _PAUSE


def median_seconds(work: Callable[[], object], repeats: int, *, alone: bool = True) -> float:
    """Median wall time of `work`, after one run to warm up, without the garbage collector. alone:
    no process that runs on helps with it.
    """
    return median_of_each({"": work}, repeats, alone=alone)[""]


def median_of_each(
    work: Mapping[str, Callable[[], object]], repeats: int, *, alone: bool = True
) -> dict[str, float]:
    """Median wall time of each, taking turns, so that what else the machine does falls on all of
    them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for one in work.values():
        one()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, one in work.items():
                times[name].append(quiet_seconds(one) if alone else _seconds(one))
    finally:
        gc.enable()
    return {name: statistics.median(found) for name, found in times.items()}
