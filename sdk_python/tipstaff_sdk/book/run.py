"""One run over a book, in four steps that overlap.

1. The source is read in blocks of 4 MiB (csv_blocks.py) or batches of 65,536 rows
   (parquet_rows.py), front to back.
2. Worker threads parse each block and settle it (screening/engine.py): numbers to tokens, tokens
   through the filter, names looked through.
3. What the filter asks to prove goes to the same workers, one task a person: a stretch, the record,
   the decision.
4. Blocks are written in order. Every few seconds the files are brought to the disk and a checkpoint
   says how far they go.

All rows are decided for one moment, the run's beginning, on one version of the data. At most some
blocks are in memory, whatever the file's size. Result and rejects appear under their names when
both are complete, and the checks are counted (coverage) right before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from tipstaff_sdk.book.checkpoint import BookCheckpoint, Progress, fingerprint
from tipstaff_sdk.book.layout import Asked, Layout
from tipstaff_sdk.book.output import REJECTS_HEADER, ResultWriter, rejects_text
from tipstaff_sdk.book.people import people_of, typed_service
from tipstaff_sdk.book.source import Source, open_source
from tipstaff_sdk.decision.decide import Decision, Reason, Verdict
from tipstaff_sdk.errors import FormatError, StorageError
from tipstaff_sdk.screening.engine import BAD, Screening, by_person
from tipstaff_signing.files import fsync_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime
    from pathlib import Path
    from typing import BinaryIO

    from tipstaff_sdk.book.batches import Batch
    from tipstaff_sdk.screening.engine import Hit, Settled

__all__ = ["Job", "Summary", "screen_book"]

_AHEAD: Final = 2  # blocks in work beyond one for each thread
_CHECKPOINT_SECONDS: Final = 5.0


class Counting(Protocol):
    """What a run needs of a `Screener`."""

    def screening(self, measure: str) -> Screening: ...
    def checked(self, screening: Screening, reasons: Mapping[Reason, int]) -> None: ...


@dataclass(frozen=True)
class Job:
    """What to do. Result and rejects (None: beside the result) are replaced when they exist.

    service: what every row buys, apart from columns of its own. encoding: of a CSV file, "utf-8" or
    "gb18030"; None: found out. only_hits: leave clear rows out of the result. threads: None: as
    many as there are cores.
    """

    source: Path
    result: Path
    measure: str
    columns: Asked = field(default_factory=Asked)
    service: Mapping[str, str | float] = field(default_factory=dict[str, "str | float"])
    rejects: Path | None = None
    encoding: str | None = None
    only_hits: bool = False
    threads: int | None = None
    checkpoint_seconds: float = _CHECKPOINT_SECONDS

    @property
    def rejects_path(self) -> Path:
        """Where the rejects go."""
        return self.rejects or self.result.with_name(f"{self.result.stem}.rejects.csv")


@dataclass
class Summary:
    """What a book came to.

    rows: all of them; bad_rows: those in the rejects. moment: when all of them were decided for.
    resumed_rows: those that an earlier, interrupted run had done. seconds: of this run; parsing,
    settling: processor seconds of its workers for reading the format and for steps 1 to 4.
    """

    moment: datetime
    listing_version: int
    relief_sequence: int
    result: Path
    rejects: Path
    rows: int = 0
    bad_rows: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    resumed_rows: int = 0
    seconds: float = 0.0
    parsing: float = 0.0
    settling: float = 0.0

    @property
    def verdicts(self) -> Counter[Verdict]:
        """Rows by verdict."""
        verdicts: Counter[Verdict] = Counter()
        for reason, times in self.reasons.items():
            verdicts[reason.verdict] += times
        return verdicts


@dataclass
class _Done:
    """A block that went through steps 1 and 2, and what of step 3 is on its way."""

    batch: Batch
    settled: Settled
    proofs: list[tuple[list[Hit], Future[list[Decision]]]]
    end: int
    parsing: float
    settling: float


def screen_book(
    screener: Counting,
    job: Job,
    progress: Callable[[int, int, int], None] = lambda _done, _size, _rows: None,
) -> Summary:
    """Runs a job to its end; after an interruption, the same call goes on.

    `progress(position, whole, rows)` is called after each block.

    Raises:
        ConfigurationError: pyarrow is not installed. UnknownMeasureError, MeasureNotCoveredError,
            InvalidServiceError: a wrong call.
        FormatError: the file is not what its name says, or lacks a column.
        StorageError: a file cannot be read or written; what was done is kept, and the same call
            goes on.
    """
    try:
        source = open_source(job.source, job.encoding)
        screening = screener.screening(job.measure)
        layout = Layout.find(source.header, job.columns, _attributes(screening), job.source.name)
        _require_use(screening, job, layout)
        with _Files.open(job) as files:
            run = _Run(job, source, layout, screening, files)
            summary = run.run(progress)
            screener.checked(run.screening, summary.reasons)
            files.publish()
            return summary
    except OSError as error:
        raise StorageError(
            f"{error.filename or job.result}: {error.strerror}; check path, permissions and room on"
            " the disk"
        ) from error


def _attributes(screening: Screening) -> list[str]:
    known = (
        None
        if screening.state is None
        else screening.state.catalogue.measures.get(screening.measure)
    )
    return [attribute.name for attribute in known.attributes] if known is not None else []


def _require_use(screening: Screening, job: Job, layout: Layout) -> None:
    """A wrong call is an error now, and not one for each row."""
    state = screening.state
    if state is not None and not layout.services:
        state.require_use(
            job.measure, typed_service(job.service, state.catalogue, job.measure) or None
        )
    elif state is not None and job.measure not in state.clear:
        state.require_use(job.measure, None)


class _Run:
    def __init__(
        self, job: Job, source: Source, layout: Layout, screening: Screening, files: _Files
    ) -> None:
        self._job = job
        self._source = source
        self._layout = layout
        self._files = files
        self._digest = _digest(job, source, layout, screening)
        key = None if layout.key is None else source.header[layout.key]
        self._writer = ResultWriter(key, only_hits=job.only_hits)
        self._threads = job.threads or os.cpu_count() or 1
        self._progress, self.screening = self._begin(screening)
        state = screening.state
        clear = None if state is None else state.clear.get(job.measure)
        self._summary = Summary(
            moment=self.screening.now,
            listing_version=0 if clear is None else clear.listing_version,
            relief_sequence=0 if clear is None else clear.relief_sequence,
            result=job.result,
            rejects=job.rejects_path,
            resumed_rows=self._progress.rows,
        )

    def _begin(self, screening: Screening) -> tuple[Progress, Screening]:
        """Where an earlier run of the same job was, and its moment; or a beginning."""
        checkpoint = BookCheckpoint.load(self._files.checkpoint)
        if (
            checkpoint is not None
            and checkpoint.job == self._digest
            and _still_holds(screening, checkpoint.moment)
            and self._files.cut(checkpoint.progress)
        ):
            return checkpoint.progress, screening.at(checkpoint.moment)
        result, rejects = self._files.begin(self._writer.header())
        return Progress(self._source.begin, 0, 0, result, rejects, {}), screening

    def run(self, report: Callable[[int, int, int], None]) -> Summary:
        begin = saved = time.monotonic()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="tipstaff-screen")
        waiting: deque[Future[_Done]] = deque()
        try:
            for end, block in self._source.blocks(self._progress.position, self._layout):
                waiting.append(pool.submit(self._work, pool, block, end))
                if len(waiting) >= self._threads + _AHEAD:
                    saved = self._commit(waiting.popleft().result(), report, saved)
            while waiting:
                saved = self._commit(waiting.popleft().result(), report, saved)
        finally:
            pool.shutdown(cancel_futures=True)
        if self._source.changed():
            raise FormatError(
                f"{self._job.source.name} changed while it was read: run again when it is complete"
            )
        summary, done = self._summary, self._progress
        summary.rows, summary.bad_rows = done.rows, done.bad_rows
        summary.reasons = Counter(
            {Reason(reason): times for reason, times in sorted(done.reasons.items())}
        )
        summary.seconds = time.monotonic() - begin
        return summary

    def _work(self, pool: ThreadPoolExecutor, block: Any, end: int) -> _Done:
        begin = time.thread_time()
        batch = self._source.parse(block, self._layout)
        parsed = time.thread_time()
        state = self.screening.state
        people = people_of(
            batch, self._job.service, None if state is None else state.catalogue, self._job.measure
        )
        settled = self.screening.settle(people)
        proofs = [
            (hits, pool.submit(self.screening.prove, hits)) for hits in by_person(settled.hits)
        ]
        return _Done(batch, settled, proofs, end, parsed - begin, time.thread_time() - parsed)

    def _commit(self, done: _Done, report: Callable[[int, int, int], None], saved: float) -> float:
        """Step 4 for one block; when the last checkpoint was."""
        batch, reasons, progress = done.batch, done.settled.reasons, self._progress
        decisions: dict[int, Decision] = {}
        for hits, proof in done.proofs:
            for hit, decision in zip(hits, proof.result(), strict=True):
                decisions[hit.row] = decision
                reasons[hit.row] = decision.reason
        places = np.arange(batch.rows, dtype=np.int64) if batch.places is None else batch.places
        numbers = places + (progress.rows + 1)
        rejects = [(progress.rows + 1 + place, why) for place, why in batch.rejects]
        rejects += [(int(numbers[row]), str(error)) for row, error in done.settled.errors.items()]
        progress.result += self._files.write_result(
            self._writer.text(numbers, reasons, decisions, batch.key)
        )
        progress.rejects += self._files.write_rejects(rejects_text(sorted(rejects)))
        for reason, times in enumerate(np.bincount(reasons).tolist()):
            if times and reason != BAD:
                progress.reasons[reason] = progress.reasons.get(reason, 0) + times
        progress.rows += batch.rows
        progress.bad_rows += len(rejects)
        progress.position = done.end
        self._summary.parsing += done.parsing
        self._summary.settling += done.settling
        report(done.end, self._source.size, progress.rows)
        if time.monotonic() - saved < self._job.checkpoint_seconds:
            return saved
        self._files.save(BookCheckpoint(self._digest, self.screening.now, progress))
        return time.monotonic()


def _still_holds(screening: Screening, moment: datetime) -> bool:
    """Whether decisions for an earlier moment are those of now: not older than relief may be, and
    relief neither staler nor fresher.
    """
    state, now = screening.state, screening.now
    if state is None:
        return True
    if not moment <= now <= moment + state.relief_max_age:
        return False
    return state.relief_is_fresh(now) == state.relief_is_fresh(moment) and (
        now < state.expires_at
    ) == (moment < state.expires_at)


def _digest(job: Job, source: Source, layout: Layout, screening: Screening) -> str:
    """Of everything that shapes the result."""
    state = screening.state
    clear = None if state is None else state.clear.get(job.measure)
    data = (
        None
        if state is None or clear is None
        else [state.parameters.audience, clear.listing_version, clear.relief_sequence]
    )
    columns = [
        layout.width,
        layout.identifier,
        layout.name,
        layout.kind,
        layout.key,
        sorted(layout.services.items()),
    ]
    options = [job.measure, sorted(job.service.items()), job.only_hits]
    return fingerprint(
        [source.identity(), columns, options, data, state is not None and state.key is not None]
    )


class _Files:
    """Result and rejects under names of their own until they are complete, and the checkpoint.

    One run at a time.
    """

    def __init__(self, job: Job, result: BinaryIO, rejects: BinaryIO) -> None:
        self._targets = (job.result, job.rejects_path)
        self._parts = (result, rejects)
        self.checkpoint = _aside(job.result, "checkpoint")

    @classmethod
    @contextlib.contextmanager
    def open(cls, job: Job) -> Generator[_Files]:
        """Raises StorageError when another run writes the same result, OSError as the system says."""
        with (
            _aside(job.result, "part").open("ab") as result,
            _aside(job.rejects_path, "part").open("ab") as rejects,
        ):
            try:
                fcntl.flock(result, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"another run writes {job.result.name} at this moment: wait for it, or choose"
                    " another result"
                ) from None
            yield cls(job, result, rejects)

    def begin(self, header: bytes) -> tuple[int, int]:
        """Empty files but for their headers; their lengths."""
        self.checkpoint.unlink(missing_ok=True)
        for part in self._parts:
            part.truncate(0)
        return self.write_result(header), self.write_rejects(REJECTS_HEADER)

    def cut(self, progress: Progress) -> bool:
        """Cuts both to where a checkpoint left them; False when they are shorter."""
        lengths = (progress.result, progress.rejects)
        if any(
            os.fstat(part.fileno()).st_size < length
            for part, length in zip(self._parts, lengths, strict=True)
        ):
            return False
        for part, length in zip(self._parts, lengths, strict=True):
            part.truncate(length)
        return True

    def write_result(self, text: bytes) -> int:
        return self._parts[0].write(text)

    def write_rejects(self, text: bytes) -> int:
        return self._parts[1].write(text)

    def save(self, checkpoint: BookCheckpoint) -> None:
        """First the files, then what says how long they are."""
        self._sync()
        checkpoint.save(self.checkpoint)

    def publish(self) -> None:
        """Both files under their own names, and no checkpoint."""
        self._sync()
        for part, target in zip(self._parts, self._targets, strict=True):
            os.replace(part.name, target)  # noqa: PTH105  the part's name is a text
        self.checkpoint.unlink(missing_ok=True)
        for folder in {target.parent for target in self._targets}:
            fsync_dir(folder)

    def _sync(self) -> None:
        for part in self._parts:
            part.flush()
            os.fsync(part.fileno())


def _aside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")
