"""Streams that are open, so that they can be ended from this side: a certificate revoked or run
out, a server that stops.

A stream is a task. To end it the task is cancelled, and the gate, which sees the cancellation,
answers with the reason. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.errors import CallLimitError, StreamEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tipstaff_server.certificates.peer import Peer

__all__ = ["OpenCall", "OpenCalls"]

# A caller with too many watches has to close one first; nothing says when.
WATCH_WAIT_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class OpenCall:
    """One stream. `ended` is set when this side ended it."""

    peer: Peer
    method: str
    task: asyncio.Task[object]
    ended: StreamEnd | None = None

    def end(self, reason: StreamEnd) -> None:
        """Cancels the stream, once."""
        if self.ended is None:
            self.ended = reason
            self.task.cancel()


class OpenCalls:
    """All streams that are open now."""

    def __init__(self) -> None:
        self._open: set[OpenCall] = set()
        self._counts: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def opened(self, peer: Peer, method: str, most: int) -> Generator[OpenCall]:
        """The current task as a stream, until the block ends.

        Raises CallLimitError when the caller has `most` of them open already.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines run in tasks
        key = (peer.caller.uri, method)
        count = self._counts.get(key, 0)
        if count >= most:
            raise CallLimitError(
                f"{count} streams of this kind are open already, and {most} are allowed; close one",
                WATCH_WAIT_SECONDS,
            )
        call = OpenCall(peer, method, task)
        self._counts[key] = count + 1
        self._open.add(call)
        try:
            yield call
        finally:
            self._open.discard(call)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def end_where(self, reason: Callable[[OpenCall], StreamEnd | None]) -> int:
        """Ends each stream that `reason` has a reason for; how many."""
        ended = 0
        for call in list(self._open):
            if call.ended is None and (why := reason(call)) is not None:
                call.end(why)
                ended += 1
        return ended
