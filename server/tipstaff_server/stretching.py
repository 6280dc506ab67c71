"""Stretching many identifiers at once: scrypt releases the interpreter, so a few threads keep all
cores busy.

The cost is the deployment's (DESIGN §5): it is part of every locator, and changes with an epoch
only (registry/keys/stretch_change.py).
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.listing.sealing import Stretch

__all__ = ["Stretcher"]


class Stretcher:
    """A pool of threads over `Stretch`.

    Threads start at the first use; `close` (or a with block) ends them.

    `number` is that of the stretch in use; whoever computes first and writes later compares it in
    between.
    """

    def __init__(self, stretch: Stretch, *, threads: int, number: int = 1) -> None:
        self.stretch = stretch
        self.number = number
        self.threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="stretch")

    def submit(self, identifier: Identifier) -> Future[bytes]:
        """Starts stretching; the future gives 32 bytes."""
        return self._pool.submit(self.stretch.stretch, identifier)

    def submit_many(self, identifiers: Sequence[Identifier]) -> Future[list[bytes]]:
        """Starts stretching several, one after another in one thread; the future gives 32 bytes for
        each, in order.
        """
        return self._pool.submit(
            lambda: [self.stretch.stretch(identifier) for identifier in identifiers]
        )

    def close(self) -> None:
        """Ends the threads, dropping what has not been begun. May be repeated."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
