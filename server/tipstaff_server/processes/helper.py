"""Processes that this one starts for a part of its work, and talks with over a pipe.

    with Helper("reader", work, argument) as helper:      # work(Link, argument) runs there; a function of a module
        helper.send(…)
        helper.receive()                                   # what was sent, or raises what was raised there

Not forked: connections and threads would not survive it. When this process goes, however it goes,
the pipe breaks, and they end.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any, Self

from tipstaff_bloom import BloomError
from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.errors import ProcessEndedError, ServerError
from tipstaff_server.processes.gc_tuning import collect_rarely

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from types import TracebackType

__all__ = ["Helper", "Link", "cores"]

END_SECONDS = 5.0
RAISED = (ServerError, TipstaffError, BloomError)


def cores() -> int:
    """How many processes may share a work here: one in a process that is a helper itself, or one of
    several builds at once.
    """
    return 1 if multiprocessing.parent_process() is not None else len(os.sched_getaffinity(0))


class Link:
    """The helper's end. Both methods raise EOFError or OSError when the other end is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, item: Any) -> None:
        """Waits until there is room for it."""
        self._connection.send((item, None))

    def receive(self) -> Any:
        """What was sent from the other side; waits for it."""
        return self._connection.recv()

    def fail(self, error: Exception) -> None:
        """To be raised on the other side."""
        self._connection.send((None, error))


class Helper:
    """See the module."""

    def __init__(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        """Starts it. `work` and arguments can be pickled."""
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_run, args=(other, work, arguments), name=name, daemon=True
        )
        self._process.start()
        other.close()  # ours: when the helper's is closed too, waiting ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join(END_SECONDS)
        self._process.kill()
        self._process.join()
        self._process.close()

    def send(self, item: Any) -> None:
        """Raises ProcessEndedError: it was killed."""
        try:
            self._connection.send(item)
        except OSError:
            raise _ended() from None

    def receive(self) -> Any:
        """What it sent; waits for it.

        Raises what was raised there, of ours; ProcessEndedError: it was killed.
        """
        try:
            item, error = self._connection.recv()
        except (EOFError, OSError):
            raise _ended() from None
        if error is not None:
            raise error
        return item


def _ended() -> ProcessEndedError:
    return ProcessEndedError(
        "a process that did a part of the work was ended; look whether memory is short, and try"
        " again"
    )


def _run(connection: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The process."""
    logs.configure("error")
    link = Link(connection)
    try:
        with collect_rarely():
            work(link, *arguments)
    except RAISED as error:
        link.fail(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody wants the rest
