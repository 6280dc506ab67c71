"""Reading in a process of its own, ahead of the one that works on what was read: two cores then
share the work.

    read_ahead(read, path)      the items of read(path), in the same order

One worker keeps the reader, and each call takes one item more from it. Memory is bounded by a few
items.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tipstaff_server.processes.executor import map_in_order, open_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["read_ahead"]

Item = TypeVar("Item")
# One is read while the one before travels.
IN_FLIGHT: Final = 2
# The worker's reader, from its first call on.
_readers: Final[list[Iterator[Any]]] = []


def read_ahead(read: Callable[..., Iterator[Item]], *arguments: Any) -> Generator[Item]:
    """Yields what `read(*arguments)` gives.

    Args:
        read: A function of a module; its items can be pickled.
        arguments: What `read` takes; they can be pickled.

    Raises:
        ProcessEndedError: The process that reads was killed.
        ServerError, TipstaffError, BloomError, SigningError: As `read` raises them.
    """
    with open_executor(1) as executor:
        following = partial(_following, read)
        for items in map_in_order(executor, following, repeat(arguments), in_flight=IN_FLIGHT):
            if not items:
                return
            yield from items


def _following(read: Callable[..., Iterator[Item]], arguments: tuple[Any, ...]) -> tuple[Item, ...]:
    """The reader's next item, alone; nothing after the last one."""
    if not _readers:
        _readers.append(read(*arguments))
    for item in _readers[0]:
        return (item,)
    return ()
