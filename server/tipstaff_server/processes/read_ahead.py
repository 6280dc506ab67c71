"""Reading in a process of its own, ahead of the one that works on what was read: two cores then
share the work.

    of(read, path)      the items of read(path), in the same order

Memory is bounded by a few items: the reader waits until its last one was taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tipstaff_server.processes.helper import Helper

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tipstaff_server.processes.helper import Link

__all__ = ["of"]

Item = TypeVar("Item")


def of(read: Callable[..., Iterator[Item]], *arguments: Any) -> Generator[Item]:
    """What `read(*arguments)` gives.

    `read` is a function of a module; its items and arguments can be pickled.

    Raises what it raises, if it is one of ours; ProcessEndedError: the process that reads was
    killed.
    """
    with Helper("ahead", _read, read, arguments) as reader:
        while found := reader.receive():
            yield from found


def _read(link: Link, read: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
    for item in read(*arguments):
        link.send((item,))
    link.send(())
