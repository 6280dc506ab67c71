"""Work on all subjects, a span of their ids at a time, shared by as many processes as there are
cores.

    for item in of_all(runtime, sealing, "aviation", now): ...

`sealing(runtime, "aviation", now)` is a context manager, a function of a module; it gives
`work(span)`, which yields what becomes of the subjects with an id in the span. Items come in the
order of ids, whoever made them.

It pays from some ten thousand subjects on, and where nothing else wants the other cores: below
that, on a single core, and in the pool that builds several audiences at once, it is
`work(EVERYBODY)`, in this process. Memory is bounded by a few spans.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select

from tipstaff_server.deployment import Runtime
from tipstaff_server.domain.spans import EVERYBODY, Span
from tipstaff_server.processes.helper import Helper, cores
from tipstaff_server.storage.models import SubjectRow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from tipstaff_server.config import Config
    from tipstaff_server.processes.helper import Link
    from tipstaff_server.storage.database import Database

__all__ = ["of_all"]

Item = TypeVar("Item")
LEAST_SUBJECTS = 20_000
SUBJECTS = 1_000
# Spans that a process has waiting, so that it goes on while its last one travels.
WAITING = 2
_Work: TypeAlias = "Callable[..., AbstractContextManager[Callable[[Span], Iterable[Item]]]]"


def of_all(runtime: Runtime, make: _Work[Item], *arguments: Any) -> Generator[Item]:
    """See the module.

    `make`, its arguments and its items can be pickled. Raises what they raise; ProcessEndedError.
    """
    database = runtime.store.database
    if cores() <= 1 or not _many(database):
        with make(runtime, *arguments) as work:
            yield from work(EVERYBODY)
        return
    with ExitStack() as stack:
        helpers = [
            stack.enter_context(Helper("share", _share, runtime.config, make, arguments))
            for _ in range(cores())
        ]
        waiting: deque[Helper] = deque()
        for helper, span in zip(cycle(helpers), _spans(database)):
            if len(waiting) >= WAITING * len(helpers):
                yield from waiting.popleft().receive()
            helper.send(span)
            waiting.append(helper)
        for helper in waiting:
            yield from helper.receive()


def _share(link: Link, config: Config, make: _Work[Any], arguments: tuple[Any, ...]) -> None:
    with Runtime(config) as runtime, make(runtime, *arguments) as work:
        while True:
            link.send(list(work(link.receive())))


def _spans(database: Database) -> Iterator[Span]:
    after = EVERYBODY.after
    while after < EVERYBODY.last:
        with database.read() as session:
            found = session.scalar(
                select(SubjectRow.id)
                .where(SubjectRow.id > after)
                .order_by(SubjectRow.id)
                .offset(SUBJECTS - 1)
                .limit(1)
            )
        last = EVERYBODY.last if found is None else found
        yield Span(after, last)
        after = last


def _many(database: Database) -> bool:
    with database.read() as session:
        large = select(SubjectRow.id).order_by(SubjectRow.id).offset(LEAST_SUBJECTS - 1).limit(1)
        return session.scalar(large) is not None
