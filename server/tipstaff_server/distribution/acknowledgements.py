"""Which versions providers say they enforce, on their way into the registry.

What a watch says at its beginning is kept beside the stream: relief waits for no database. While
the registry cannot be reached it is kept for the next try, until the stream ends or the provider
says something newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tipstaff_server.certificates.caller import Caller
from tipstaff_server.errors import StorageError
from tipstaff_server.logs import log_warning

if TYPE_CHECKING:
    from tipstaff.v1 import distribution_pb2

__all__ = ["Acknowledgements", "Keep"]

Keep = Callable[[Caller, "distribution_pb2.StateVersion"], Awaitable[None]]
AGAIN_SECONDS = 5.0


class Acknowledgements:
    """`keep` writes one down; it raises NotFoundError for a provider that the registry does not
    know, and StorageError.
    """

    def __init__(self, keep: Keep, *, again_seconds: float = AGAIN_SECONDS) -> None:
        self._keep = keep
        self._again_seconds = again_seconds
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def now(self, caller: Caller, enforced: distribution_pb2.StateVersion) -> None:
        """Keeps it before it returns. Raises what `keep` raises."""
        await self._keep(caller, enforced)
        self._forget(caller)

    def beside(self, caller: Caller, enforced: distribution_pb2.StateVersion) -> asyncio.Task[None]:
        """Keeps it as soon as that can be done; to be cancelled by whoever asked for it."""
        self._forget(caller)
        task = self._waiting[caller.name] = asyncio.create_task(self._until_kept(caller, enforced))
        task.add_done_callback(_seen)
        return task

    async def _until_kept(self, caller: Caller, enforced: distribution_pb2.StateVersion) -> None:
        while True:
            try:
                return await self._keep(caller, enforced)
            except StorageError:
                log_warning("acknowledgement_waits", provider=caller.name)
                await asyncio.sleep(self._again_seconds)

    def _forget(self, caller: Caller) -> None:
        """What the provider said before is overtaken."""
        if (task := self._waiting.pop(caller.name, None)) is not None:
            task.cancel()


def _seen(task: asyncio.Task[None]) -> None:
    """A stream that ended first asks for no result, and then the error is nobody's."""
    if not task.cancelled():
        task.exception()
