"""Result and rejects as CSV (UTF-8, RFC 4180 with line feeds), a batch at a time.

    row,verdict,reason,restriction_ids,case_numbers          with a key column: row,key,verdict,...
    1,CLEAR,NOT_LISTED,,
    2,RESTRICTED,IN_FORCE,0f1e...,（2026）示执1号

Rows are numbered from 1 after the header, in the order of the file; several restrictions are
separated by a space. Nothing of whom a row is about stands in either file, but for the key that the
caller asked for.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tipstaff_sdk.book.arrow_library import pyarrow
from tipstaff_sdk.decision.decide import Decision, Reason, Verdict
from tipstaff_sdk.screening.engine import BAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["REJECTS_HEADER", "ResultWriter", "rejects_text"]

REJECTS_HEADER: Final = b"row,reason\n"
_CLEAR: Final = np.array([False, *(reason.verdict is Verdict.CLEAR for reason in Reason)])
_FIRST, _LAST = ("row",), ("verdict", "reason", "restriction_ids", "case_numbers")


class ResultWriter:
    """Makes the text of batches.

    `key`: the header of the column that is passed through, None for none.
    """

    def __init__(self, key: str | None, *, only_hits: bool) -> None:
        self._columns = [*_FIRST, *([] if key is None else [key]), *_LAST]
        self._only_hits = only_hits
        verdicts = [reason.verdict.name for reason in Reason]
        self._verdicts = pyarrow().array(["", *verdicts])
        self._reasons = pyarrow().array(["", *(reason.name for reason in Reason)])

    def header(self) -> bytes:
        """The first line."""
        return _line(self._columns)

    def text(
        self,
        rows: NDArray[np.int64],
        reasons: NDArray[np.uint8],
        decisions: Mapping[int, Decision],
        key: Any,
    ) -> bytes:
        """rows:

        (n,) numbers in the file. reasons: (n,) uint8, BAD rows are left out. decisions: by place
        among the n, with details.
        """
        wanted = reasons != BAD
        if self._only_hits:
            wanted &= ~_CLEAR[reasons]
        places = None if wanted.all() else np.flatnonzero(wanted)
        if places is not None:
            rows, reasons = rows[places], reasons[places]
            key = None if key is None else key.take(pyarrow().array(places))
        if not len(rows):
            return b""
        return self._table(rows, reasons, _details(places, decisions, len(rows)), key)

    def _table(
        self,
        rows: NDArray[np.int64],
        reasons: NDArray[np.uint8],
        details: tuple[Any, Any],
        key: Any,
    ) -> bytes:
        arrow, writer = pyarrow(), pyarrow("csv")
        index = arrow.array(reasons)
        columns = [
            arrow.array(rows),
            *([] if key is None else [key]),
            self._verdicts.take(index),
            self._reasons.take(index),
            *details,
        ]
        sink = arrow.BufferOutputStream()
        table = arrow.Table.from_arrays(columns, names=self._columns)
        writer.write_csv(
            table,
            sink,
            writer.WriteOptions(include_header=False, quoting_style="needed", batch_size=1 << 14),
        )
        return bytes(sink.getvalue())


def _details(
    places: NDArray[np.intp] | None, decisions: Mapping[int, Decision], count: int
) -> tuple[Any, Any]:
    """Restriction ids and case numbers of each row that is written; null, which is written as
    nothing, for most.
    """
    arrow = pyarrow()
    bound = {
        place: decision.restrictions
        for place, decision in decisions.items()
        if decision.restrictions
    }
    if not bound:
        nothing = arrow.nulls(count, arrow.string())
        return nothing, nothing
    ids: list[str | None] = [None] * count
    cases: list[str | None] = [None] * count
    for place, restrictions in bound.items():
        at = place if places is None else int(np.searchsorted(places, place))
        ids[at] = " ".join(restriction.restriction_id.hex() for restriction in restrictions)
        cases[at] = " ".join(restriction.case_number for restriction in restrictions)
    return arrow.array(ids, arrow.string()), arrow.array(cases, arrow.string())


def rejects_text(rejects: Iterable[tuple[int, str]]) -> bytes:
    """Lines of row number and reason."""
    return b"".join(_line(row) for row in rejects)


def _line(values: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
