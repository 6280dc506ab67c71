"""Screeners and fork(): gunicorn, uWSGI, Celery and multiprocessing fork processes that hold an open screener.

grpc's own rules allow a fork only while no call is under way and no connection is open, so (1) before a fork every screener ends its
background work and closes its connection; (2) the parent starts it again; (3) the child keeps the mapped state and the keys, leaves
locks, outbox connection and counts to the parent, and starts background work of its own. Checks go on all the while.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ForkHooks", "watch_forks"]


@dataclass(frozen=True, slots=True)
class ForkHooks:
    """What to call with an object around a fork: functions that do not hold the object, or it would live for ever."""

    before: Callable[[Any], None]
    in_parent: Callable[[Any], None]
    in_child: Callable[[Any], None]


_watched: weakref.WeakKeyDictionary[object, ForkHooks] = weakref.WeakKeyDictionary()


def watch_forks(one: object, hooks: ForkHooks) -> None:
    """From now on `hooks` are called with `one` at every fork, for as long as it lives."""
    _watched[one] = hooks


def _before() -> None:
    for one, hooks in list(_watched.items()):
        hooks.before(one)


def _in_parent() -> None:
    for one, hooks in list(_watched.items()):
        hooks.in_parent(one)


def _in_child() -> None:
    for one, hooks in list(_watched.items()):
        hooks.in_child(one)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
