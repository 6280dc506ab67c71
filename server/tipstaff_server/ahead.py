"""Reading the registry in a process of its own, a page ahead of the one that works on what was read: two cores then share a build.

    read_ahead(runtime, read, "aviation", now)      the items of read(registry, "aviation", now), in the same order

It pays from some tens of thousands of subjects on, and where nothing else wants the other core: below that, on a single core, and in the
pool that builds several audiences at once, it just reads. Memory is bounded by two pages.
"""

from __future__ import annotations

import multiprocessing
import os
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select

from tipstaff_server import logs
from tipstaff_server.errors import PublicationError, ServerError
from tipstaff_server.models import SubjectRow
from tipstaff_server.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from tipstaff_server.config import Config
    from tipstaff_server.runtime import Runtime

__all__ = ["read_ahead"]

Item = TypeVar("Item")

LEAST_SUBJECTS = 20_000
AT_ONCE = 500
END_SECONDS = 5.0


def read_ahead(runtime: Runtime, read: Callable[..., Iterator[Item]], *arguments: Any) -> Iterator[Item]:
    """What `read(registry, *arguments)` gives. `read` is a function of a module, its items and arguments can be pickled.

    Raises what it raises; PublicationError: the process that reads was killed.
    """
    if not _pays(runtime):
        yield from read(runtime.registry, *arguments)
        return
    # Not forked: connections and threads would not survive it.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(sender, runtime.config, read, arguments), name="read-ahead", daemon=True)
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
            raise PublicationError("the process that reads the registry was ended; look whether memory is short, and try again") from None
        if isinstance(found, ServerError):
            raise found
        if not found:
            return
        yield from found


def _read(sender: Connection, config: Config, read: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
    """The process: lists of items, an empty one at the end, or the error that ended it."""
    logs.configure("error")
    try:
        with Registry.open(config) as registry:
            items = read(registry, *arguments)
            while some := list(islice(items, AT_ONCE)):
                sender.send(some)
            sender.send([])
    except ServerError as error:
        sender.send(error)
    except BrokenPipeError:
        pass  # nobody wants the rest


def _pays(runtime: Runtime) -> bool:
    if len(os.sched_getaffinity(0)) <= 1 or multiprocessing.parent_process() is not None:
        return False
    with runtime.registry.database.read() as session:
        large = select(SubjectRow.id).order_by(SubjectRow.id).offset(LEAST_SUBJECTS - 1).limit(1)
        return session.scalar(large) is not None
