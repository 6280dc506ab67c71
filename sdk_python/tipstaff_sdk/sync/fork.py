"""Screeners and fork(): gunicorn, uWSGI, Celery and multiprocessing fork processes that hold an
open screener.

grpc's own rules allow a fork only while no call is under way and no connection is open, so (1)
before a fork every screener ends its background work, closes its connection, and waits until grpc's
own threads have finished with it: one that is caught at it would leave the child a lock that nobody
opens any more; (2) the parent starts it again; (3) the child keeps the mapped state and the keys,
leaves locks, outbox connection and counts to the parent, and starts background work of its own.
Checks go on all the while.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ForkHooks", "register_after_grpc", "watch_forks"]


@dataclass(frozen=True, slots=True)
class ForkHooks:
    """What to call with an object around a fork: functions that do not hold the object, or it would
    live for ever.
    """

    before: Callable[[Any], None]
    in_parent: Callable[[Any], None]
    in_child: Callable[[Any], None]


_watched: weakref.WeakKeyDictionary[object, ForkHooks] = weakref.WeakKeyDictionary()


def watch_forks(one: object, hooks: ForkHooks) -> None:
    """From now on `hooks` are called with `one` at every fork, for as long as it lives."""
    _watched[one] = hooks


def settle() -> None:
    """Waits until no thread of this process but Python's own has run for a while: at most a second,
    usually a tenth of it.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    seen, quiet = None, 0
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = _switches()
        quiet = quiet + 1 if now == seen and now is not None else 0
        seen = now


def _switches() -> dict[str, str] | None:
    """How often each native thread was switched to, by its id; None while one of them runs, or
    where the system does not say (no /proc).
    """
    ours = {str(thread.native_id) for thread in threading.enumerate()}
    found: dict[str, str] = {}
    try:
        for task in Path("/proc/self/task").iterdir():
            if task.name not in ours:
                lines = (task / "status").read_text(encoding="ascii", errors="replace").splitlines()
                if any(line.startswith("State:\tR") for line in lines):
                    return None
                found[task.name] = "".join(line for line in lines if "ctxt_switches" in line)
    except OSError:  # a thread ended while we looked
        return None
    return found


def register_after_grpc() -> None:
    """Moves our hooks around grpc's own, which it registers with the first channel: before a fork
    ours have to come first, after it last.

    Python runs the hooks before a fork in reverse order of registration, and cannot take one back;
    so the last registration acts and those before it do nothing.
    """
    with _registering:
        if not _after_grpc.is_set():
            _after_grpc.set()
            _register()


def _register() -> None:
    number = next(_numbers)
    _newest[0] = number
    os.register_at_fork(
        before=lambda: _call(number, "before"),
        after_in_parent=lambda: _call(number, "in_parent"),
        after_in_child=lambda: _call(number, "in_child"),
    )


def _call(number: int, hook: Literal["before", "in_parent", "in_child"]) -> None:
    if number == _newest[0]:
        for one, hooks in list(_watched.items()):
            getattr(hooks, hook)(one)


_SETTLE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.02
_QUIET_LOOKS: Final = 3

_registering: Final = threading.Lock()
_after_grpc: Final = threading.Event()
_numbers: Final = itertools.count()
_newest: Final = [0]
_register()
