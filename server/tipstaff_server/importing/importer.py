"""Importing one file, from encoding to report.

1. Find format and encoding (formats/sheet.py, formats/encodings.py); understand the header
   (columns.py).
2. Read rows (formats) and turn them into entries (convert.py), a batch at a time (batches.py), a
   long file in another process.
3. Stretch the next batch's new identifiers in threads while one batch is written.
4. Write each batch in one transaction. A run that is cut off is simply run again: what is there
   already stays as it is.
5. Write refused rows to the rejects file, with line, column and reason, and nothing personal.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, update

from tipstaff_server.domain.checks import ID_BYTES
from tipstaff_server.errors import EntryCode, NotFoundError
from tipstaff_server.importing.batches import ImportBatch, Order, read
from tipstaff_server.importing.columns import Field
from tipstaff_server.importing.formats.sheet import inspect_sheet
from tipstaff_server.importing.rejects import Rejects
from tipstaff_server.processes.collector import collect_rarely
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.storage.models import ImportRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.importing.formats.encodings import EncodedSource
    from tipstaff_server.registry.registry import Registry
    from tipstaff_server.registry.restrictions.submission import Submission

__all__ = ["ImportResult", "Importer"]

BATCH = 1_000
# Which column a refusal by the registry is about.
FIELD_OF = {
    EntryCode.NAME_CONFLICT: Field.NAME,
    EntryCode.IDENTIFIER_CONFLICT: Field.NUMBER,
    EntryCode.CASE_NUMBER: Field.CASE_NUMBER,
    EntryCode.CASE_CONFLICT: Field.CASE_NUMBER,
    EntryCode.LEGAL_BASIS: Field.LEGAL_BASIS,
    EntryCode.MEASURE_MISSING: Field.MEASURES,
    EntryCode.MEASURE_NOT_ENTITLED: Field.MEASURES,
    EntryCode.DATE_INVALID: Field.PUBLISHED,
    EntryCode.TERM_INVERTED: Field.TERM,
    EntryCode.TERM_TOO_LONG: Field.TERM,
    EntryCode.TERM_OVER: Field.TERM,
}


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How an import went. `rejects`: the rejects file, None when every row went in;
    `without_number`: responsible persons given by name only, whom nothing can reach."""

    encoding: str
    rows: int
    created: int
    unchanged: int
    rejected: int
    without_number: int
    ignored_columns: tuple[str, ...]
    rejects: Path | None


class Importer:
    """Imports files for one authority into one list."""

    def __init__(
        self, registry: Registry, *, authority: str, list_id: str, actor: Actor, batch: int = BATCH
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._list_id = list_id
        self._actor = actor
        self._batch = batch
        self._policies = registry.policies()
        self._policies.authority(authority)
        if list_id not in self._policies.lists:
            raise NotFoundError(
                f"there is no list {list_id!r}; lists: {', '.join(sorted(self._policies.lists))}"
            )

    def run(
        self,
        path: Path,
        rejects: Path,
        progress: Callable[[int, int], None] = lambda _done, _size: None,
    ) -> ImportResult:
        """Imports `path`; refused rows go to `rejects`.

        `progress(bytes done, bytes in all)` is called after each batch.

        Raises FileEncodingError, FileHeaderError, ImportFileError, DatabaseUnavailableError (run it
        again).
        """
        source = inspect_sheet(path)
        run_id = self._begin(source)
        counts = dict.fromkeys(SubmitStatus, 0)
        order = Order(source, self._authority, self._list_id, self._policies, self._batch)
        batch = ImportBatch()
        # The database works on one batch while the next one is read: one thread commits, so batches
        # keep their order.
        with (
            collect_rarely(),
            Rejects(rejects) as refused,
            closing(read(order)) as batches,
            ThreadPoolExecutor(1, thread_name_prefix="commit") as committing,
        ):
            waiting: tuple[ImportBatch, Future[list[Submission]]] | None = None
            for batch in batches:
                for line, column, code in batch.refused:
                    refused.add(line, column, code)
                prepared = self._registry.restrictions.prepare(
                    batch.entries, authority=self._authority, actor=self._actor
                )
                if waiting is not None:
                    _count(*waiting, counts, refused)
                waiting = (batch, committing.submit(self._registry.restrictions.commit, prepared))
                progress(batch.position, source.size)
            if waiting is not None:
                _count(*waiting, counts, refused)
            progress(source.size, source.size)
        self._finish(run_id, counts, refused.count)
        return ImportResult(
            encoding=source.encoding,
            rows=sum(counts.values()) + refused.count - counts[SubmitStatus.REJECTED],
            created=counts[SubmitStatus.CREATED],
            unchanged=counts[SubmitStatus.UNCHANGED],
            rejected=refused.count,
            without_number=batch.without_number,
            ignored_columns=batch.ignored,
            rejects=rejects if refused.count else None,
        )

    def _begin(self, source: EncodedSource) -> bytes:
        run_id = secrets.token_bytes(ID_BYTES)
        with self._registry.store.write() as session:
            row = {
                "id": run_id,
                "file_digest": source.digest,
                "authority_id": self._authority,
                "list_id": self._list_id,
                "started_at": self._registry.store.clock(),
                "finished_at": None,
                "created": 0,
                "unchanged": 0,
                "rejected": 0,
            }
            session.execute(insert(ImportRow), [row])
        return run_id

    def _finish(self, run_id: bytes, counts: dict[SubmitStatus, int], rejected: int) -> None:
        with self._registry.store.write() as session:
            session.execute(
                update(ImportRow)
                .where(ImportRow.id == run_id)
                .values(
                    finished_at=self._registry.store.clock(),
                    created=counts[SubmitStatus.CREATED],
                    unchanged=counts[SubmitStatus.UNCHANGED],
                    rejected=rejected,
                )
            )


def _count(
    batch: ImportBatch,
    answers: Future[list[Submission]],
    counts: dict[SubmitStatus, int],
    refused: Rejects,
) -> None:
    """Waits for the answers to a batch."""
    for (line, columns), answer in zip(batch.places, answers.result(), strict=True):
        counts[answer.status] += 1
        if answer.code is not None:
            refused.add(line, columns.header(FIELD_OF.get(answer.code)), answer.code)
