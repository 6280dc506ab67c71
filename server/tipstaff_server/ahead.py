"""Reading in a process of its own, ahead of the one that works on what was read: two cores then share the work.

    of(read, path)      the items of read(path), in the same order

Memory is bounded by a few items: the reader waits until its last one was taken.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any, TypeVar

from tipstaff_server import logs
from tipstaff_server.collecting import collect_rarely
from tipstaff_server.errors import ProcessEndedError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from multiprocessing.connection import Connection

__all__ = ["of", "possible", "read_ahead"]

Item = TypeVar("Item")

END_SECONDS = 5.0
_END = b""


def possible() -> bool:
    """Whether there is a core for another process, and none of ours has taken it already."""
    return len(os.sched_getaffinity(0)) > 1 and multiprocessing.parent_process() is None


def of(read: Callable[..., Iterator[Item]], *arguments: Any) -> Generator[Item]:
    """What `read(*arguments)` gives. `read` is a function of a module; its items and arguments can be pickled.

    Raises what it raises, if it is a ServerError; ProcessEndedError: the process that reads was killed.
    """
    # Not forked: connections and threads would not survive it.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(sender, read, arguments), name="ahead", daemon=True)
    process.start()
    sender.close()  # ours: when the reader's is closed too, waiting ends
    try:
        yield from _received(receiver)  # pyright: ignore[reportArgumentType]  # as Windows has it
    finally:
        receiver.close()
        process.join(END_SECONDS)
        process.kill()
        process.join()
        process.close()


def _received(receiver: Connection) -> Iterator[Any]:
    while True:
        try:
            found = receiver.recv()
        except EOFError:
            raise ProcessEndedError("a process that reads was ended from outside; look whether memory is short, and try again") from None
        if isinstance(found, ServerError):
            raise found
        if found == _END:
            return
        yield found


def _read(sender: Connection, read: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
    """The process: the items, then the end, or the error that ended it."""
    logs.configure("error")
    try:
        with collect_rarely():
            for item in read(*arguments):
                sender.send(item)
        sender.send(_END)
    except ServerError as error:
        sender.send(error)
    except BrokenPipeError:
        pass  # nobody wants the rest


LEAST_SUBJECTS = 20_000
AT_ONCE = 500


def read_ahead(runtime, read, *arguments):
    from sqlalchemy import select
    from tipstaff_server.models import SubjectRow
    pays = possible()
    if pays:
        with runtime.registry.database.read() as session:
            large = select(SubjectRow.id).order_by(SubjectRow.id).offset(LEAST_SUBJECTS - 1).limit(1)
            pays = session.scalar(large) is not None
    if not pays:
        yield from read(runtime.registry, *arguments)
        return
    for some in of(_pages, runtime.config, read, arguments):
        yield from some


def _pages(config, read, arguments):
    from itertools import islice
    from tipstaff_server.registry import Registry
    with Registry.open(config) as registry:
        items = read(registry, *arguments)
        while some := list(islice(items, AT_ONCE)):
            yield some
