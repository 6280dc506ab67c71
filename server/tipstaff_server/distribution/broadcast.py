"""Fan-out of changes to the providers that watch one audience.

A message is serialised once and shared by all subscribers. Each subscriber has a queue of bounded
length; one that does not keep up is dropped, because a bundle builds on the one before and cannot
be skipped. It reconnects, says what it enforces, and gets one bundle of what differs. So the
server's memory is bounded by subscribers × queue length references, whatever the network does.

Everything here runs on the event loop; nothing is awaited while state changes, so there are no
locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tipstaff_server.errors import StreamEnd, StreamEndedError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Broadcaster", "Message", "Subscription"]

QUEUE_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Message:
    """A serialised WatchResponse, and the timestamp version it brings its reader to."""

    timestamp: int
    payload: bytes


class Subscription:
    """One subscriber's queue. A context manager: leaving it unsubscribes."""

    def __init__(self, broadcaster: Broadcaster, limit: int) -> None:
        self._broadcaster = broadcaster
        self._limit = limit
        self._queue: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._ended: StreamEnd | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._broadcaster.discard(self)

    def offer(self, message: Message) -> bool:
        """Queues a message; False when the queue is full, and then the subscriber is ended as slow."""
        if len(self._queue) >= self._limit:
            self.end(StreamEnd.SLOW)
            return False
        self._queue.append(message)
        self._wake.set()
        return True

    def end(self, reason: StreamEnd) -> None:
        """Ends the stream at its reader's next step; what is queued is let go."""
        self._ended = reason
        self._queue.clear()
        self._wake.set()

    async def next(self, patience: float) -> Message | None:
        """The next message, or None when `patience` seconds pass without one.

        Raises StreamEndedError.
        """
        if not self._queue and self._ended is None:
            self._wake.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                return None
        if self._ended is not None:
            raise StreamEndedError(self._ended)
        return self._queue.popleft()


class Broadcaster:
    """All who watch one audience."""

    def __init__(self, *, queue_length: int = QUEUE_LENGTH) -> None:
        self._queue_length = queue_length
        self._subscriptions: set[Subscription] = set()
        self._stopping = False

    def __len__(self) -> int:
        """How many watch."""
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """A new subscription; messages published from now on reach it.

        Raises StreamEndedError once stopping.
        """
        if self._stopping:
            raise StreamEndedError(StreamEnd.STOPPING)
        subscription = Subscription(self, self._queue_length)
        self._subscriptions.add(subscription)
        return subscription

    def discard(self, subscription: Subscription) -> None:
        """Forgets a subscription; one that is unknown is no error."""
        self._subscriptions.discard(subscription)

    def publish(self, message: Message) -> int:
        """Hands a message to everybody and returns how many were dropped because they were too
        slow.
        """
        slow = [
            subscription for subscription in self._subscriptions if not subscription.offer(message)
        ]
        self._subscriptions.difference_update(slow)
        return len(slow)

    def stop(self) -> None:
        """Ends every stream; nobody can subscribe any more."""
        self._stopping = True
        for subscription in self._subscriptions:
            subscription.end(StreamEnd.STOPPING)
        self._subscriptions.clear()
