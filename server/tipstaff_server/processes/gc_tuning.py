"""Python's cyclic garbage collector, for work that goes through millions of things: it looks
rarely, and not at what was there before.

By itself it looks after every 700 new objects, and again and again at all that the program has
loaded, to find nothing: a fifth of the time of an import. What has no cycles, and that is nearly
all, is freed at once as ever; the rest waits for a hundred times longer.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["collect_rarely"]

THRESHOLDS: Final = (50_000, 20, 100)


@contextmanager
def collect_rarely() -> Generator[None]:
    """While the block runs.

    For commands, and processes that do one thing: it holds for all threads.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
