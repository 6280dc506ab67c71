"""What happens by itself when its time has come: terms begin and end, deadlines are reminded of,
late reports open remedies.

Each step is one act on the registry, under its locks, and does once what is due whoever looks and
however often: so any number of replicas may look at once. The clock comes from outside. A clock
that jumps is not believed at once, because what it ends stays ended: after a jump the scheduler
waits until the clock has gone on evenly for a while, and says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.registry.disputes.open import Chased
from tipstaff_server.registry.restrictions.remedies import FollowedUp
from tipstaff_server.registry.restrictions.transitions import Due

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tipstaff_server.clock import Clock
    from tipstaff_server.registry.registry import Registry

__all__ = ["Looked", "Scheduler"]

JUMP_SECONDS = 300.0
SETTLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look did. `waiting`: the clock has jumped, so nothing was done."""

    due: Due
    disputes: Chased
    remedies: FollowedUp
    waiting: bool = False


class Scheduler:
    """Looks, whenever it is told to.

    One for each server; not thread-safe, the database is what several share.
    """

    def __init__(
        self, registry: Registry, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._settled_at = float("-inf")

    def look(self) -> Looked:
        """Does what is due.

        Raises StorageError; what was done until then is done, the rest at the next look.
        """
        now = self._clock()
        if self._jumped(now):
            return Looked(Due(0, 0), Chased(0, 0), FollowedUp(0, 0, 0), waiting=True)
        return Looked(
            self._registry.expire_due(now),
            self._registry.disputes.follow_up(now),
            self._registry.remedies.follow_up(now),
        )

    def _jumped(self, now: datetime) -> bool:
        ticks = self._monotonic()
        if self._last is not None:
            apart = (now - self._last[0]).total_seconds() - (ticks - self._last[1])
            if abs(apart) > JUMP_SECONDS:
                self._settled_at = ticks + SETTLE_SECONDS
        self._last = now, ticks
        return ticks < self._settled_at
