"""Work on all subjects, a span of their ids at a time, shared by as many processes as there are
cores.

    for item in deployment.over_all_subjects(sealing, "aviation", now): ...

`sealing(deployment, "aviation", now)` is a context manager, a function of a module; it gives
`work(span)`, which yields what becomes of the subjects with an id in the span. Items come in the
order of ids, whoever made them. A process opens the deployment and enters `sealing` once.

It pays from some ten thousand subjects on, and where nothing else wants the other cores: below
that, on a single core, and in a worker that builds one of several audiences, it is
`work(EVERYBODY)`, in this process. Memory is bounded by a few spans.
"""

from __future__ import annotations

import atexit
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import select

from tipstaff_server.domain.spans import EVERYBODY, Span
from tipstaff_server.processes.executor import cores, map_in_order, open_executor
from tipstaff_server.storage.models import SubjectRow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from tipstaff_server.storage.database import Database

__all__ = ["SpanWork", "over_all_subjects"]

Item = TypeVar("Item")
LEAST_SUBJECTS = 20_000
SUBJECTS = 1_000
# Spans in flight for each process, so that it goes on while its last one travels.
WAITING = 2
_DoSpan: TypeAlias = "Callable[[Span], Iterable[Item]]"


@dataclass(frozen=True, slots=True)
class SpanWork(Generic[Item]):
    """A work on subjects. All of it can be pickled.

    Attributes:
        open_deployment: Opens the deployment.
        make: Takes the deployment and `arguments`, and gives the work on a span.
        arguments: The rest of what `make` takes.
    """

    open_deployment: Callable[[], AbstractContextManager[Any]]
    make: Callable[..., AbstractContextManager[_DoSpan[Item]]]
    arguments: tuple[Any, ...]


def over_all_subjects(deployment: Any, database: Database, work: SpanWork[Item]) -> Generator[Item]:
    """Yields the items of all subjects, in the order of their ids.

    Args:
        deployment: The one that is open in this process.
        database: Its database.
        work: What is done, here or in other processes (see the module).

    Raises:
        ProcessEndedError: A process was killed.
        ServerError, TipstaffError, BloomError, SigningError: As the work raises them.
    """
    workers = cores()
    if workers <= 1 or not _many(database):
        with work.make(deployment, *work.arguments) as do_span:
            yield from do_span(EVERYBODY)
        return
    share = partial(_share, secrets.token_hex(), work)
    with open_executor(workers) as executor:
        for items in map_in_order(executor, share, _spans(database), in_flight=WAITING * workers):
            yield from items


class _Prepared:
    """What this worker has open: the deployment, and the work of one run in it."""

    def __init__(self) -> None:
        self._run = ""
        self._do_span: _DoSpan[Any] | None = None
        self._opened = ExitStack()
        atexit.register(self._opened.close)

    def of(self, run: str, work: SpanWork[Item]) -> _DoSpan[Item]:
        """The work on a span; it is prepared once in each run."""
        if self._do_span is None or self._run != run:
            self._opened.close()
            self._do_span = None
            deployment = self._opened.enter_context(work.open_deployment())
            self._do_span = self._opened.enter_context(work.make(deployment, *work.arguments))
            self._run = run
        return self._do_span


_PREPARED: Final = _Prepared()


def _share(run: str, work: SpanWork[Item], span: Span) -> list[Item]:
    return list(_PREPARED.of(run, work)(span))


def _spans(database: Database) -> Iterator[Span]:
    after = EVERYBODY.after
    while after < EVERYBODY.last:
        with database.read() as session:
            last_in_page = session.scalar(
                select(SubjectRow.id)
                .where(SubjectRow.id > after)
                .order_by(SubjectRow.id)
                .offset(SUBJECTS - 1)
                .limit(1)
            )
        last = EVERYBODY.last if last_in_page is None else last_in_page
        yield Span(after, last)
        after = last


def _many(database: Database) -> bool:
    with database.read() as session:
        large = select(SubjectRow.id).order_by(SubjectRow.id).offset(LEAST_SUBJECTS - 1).limit(1)
        return session.scalar(large) is not None
