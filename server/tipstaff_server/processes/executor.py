"""The executor that shares work among processes, and a map over it.

    with open_executor(cores()) as executor:
        for result in map_in_order(executor, function, arguments, in_flight=4): ...

A worker logs errors only, and its garbage collector runs rarely. No worker outlives the process
that started it: one that ends the executor waits for its workers, and workers notice when it is
killed (`_end_with_parent`). Errors of ours are raised where the result is asked for. Any other
error is printed by the worker, and is a ProcessEndedError there.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections import deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from tipstaff_bloom import BloomError
from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.errors import ProcessEndedError, ServerError
from tipstaff_server.processes.collector import collect_rarely
from tipstaff_signing.errors import SigningError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Executor, Future

__all__ = ["cores", "map_in_order", "open_executor"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")
OURS: Final = (ServerError, TipstaffError, BloomError, SigningError)
# What holds until a worker ends.
_WORKER: Final = ExitStack()


def cores() -> int:
    """How many processes may share a work here.

    One in a process that is itself a worker, such as one of several builds at once.
    """
    return 1 if multiprocessing.parent_process() is not None else len(os.sched_getaffinity(0))


@contextmanager
def open_executor(workers: int, method: Literal["spawn", "fork"] = "spawn") -> Generator[Executor]:
    """Gives an executor of processes on this machine.

    Work that still waits when the block ends is not done.

    Args:
        workers: How many processes there are at most.
        method: How they start. A forked one needs no seconds for its imports, but connections and
            threads do not survive it: only for a process that has neither.
    """
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context(method), initializer=_begin
    )
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def map_in_order(
    executor: Executor,
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    *,
    in_flight: int,
) -> Generator[Result]:
    """Yields `function` of each argument, in the order of the arguments.

    Args:
        executor: Where it is called.
        function: A function of a module, or a partial of one.
        arguments: They are taken one by one, as results are.
        in_flight: How many calls wait, run or have a result that was not taken yet. It bounds
            memory.

    Raises:
        ProcessEndedError: A worker was killed, or stopped at an error that is not ours.
        ServerError, TipstaffError, BloomError, SigningError: As `function` raises them.
    """
    futures: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            if len(futures) >= in_flight:
                yield futures.popleft().result()
            futures.append(executor.submit(_call, function, argument))
        while futures:
            yield futures.popleft().result()
    except BrokenExecutor:
        raise _ended() from None


def _ended() -> ProcessEndedError:
    return ProcessEndedError(
        "a process that did a part of the work was ended; look whether memory is short, and try"
        " again"
    )


def _begin() -> None:
    """Sets a worker up."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    logs.configure("error")
    _WORKER.enter_context(collect_rarely())


def _end_with_parent() -> None:
    """Ends this worker when the process that started it is gone.

    Otherwise it would wait for work for ever: it holds both ends of the queue itself.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _call(function: Callable[[Argument], Result], argument: Argument) -> Result:
    try:
        return function(argument)
    except OURS:
        raise
    except Exception:  # noqa: BLE001  an error of the program: printed where it happened
        traceback.print_exc()
        raise _ended() from None
