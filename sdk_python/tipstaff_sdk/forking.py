"""Screeners and fork(): gunicorn, uWSGI, Celery and multiprocessing fork processes that hold an open screener.

grpc's own rules allow a fork only while no call is under way and no connection is open, so (1) before a fork every screener ends its
background work and closes its connection; (2) the parent starts it again; (3) the child keeps the mapped state and the keys, leaves
locks, outbox connection and counts to the parent, and starts background work of its own. Checks go on all the while.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forkable", "watch_forks"]


class Forkable(Protocol):
    """What is told about forks."""

    def before_fork(self) -> None:
        """In the parent, before."""
        ...

    def after_fork_in_parent(self) -> None:
        """In the parent, after."""
        ...

    def after_fork_in_child(self) -> None:
        """In the child."""
        ...


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch_forks(one: Forkable) -> None:
    """From now on `one` is told, for as long as it lives."""
    _watched.add(one)


def _before() -> None:
    for one in list(_watched):
        one.before_fork()


def _in_parent() -> None:
    for one in list(_watched):
        one.after_fork_in_parent()


def _in_child() -> None:
    for one in list(_watched):
        one.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
