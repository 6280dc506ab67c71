"""From a block of CSV to columns.

Bytes are looked at as they are, and only columns that are used become text.

A row with too few or too many values is rejected. When such a row spans lines, a quote was left
open and swallowed the rows behind it: then every line of the block that holds an odd number of
quotes is read without them, so that no row is lost unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tipstaff_sdk.book.arrow_library import pyarrow
from tipstaff_sdk.book.batches import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tipstaff_sdk.book.layout import Layout

__all__ = ["CsvRows"]

_SEPARATOR: Final = "\n"


@dataclass
class _Wrong:
    """A row of another width: which one of the block, from 0, and how many values it has."""

    place: int
    values: int
    spans_lines: bool


class CsvRows:
    """Parses blocks of one file. Safe to share between threads."""

    def __init__(self, layout: Layout, delimiter: str, encoding: str) -> None:
        self._layout = layout
        self._delimiter = delimiter
        self._encoding = encoding

    def parse(self, block: bytes) -> Batch:
        """The rows of a block of whole rows."""
        table, wrong = self._read(block)
        if any(row.spans_lines for row in wrong):
            table, wrong = self._read(_closed(block))
        layout = self._layout
        width = layout.width
        columns = (
            {column: table.column(_label(column)).combine_chunks() for column in layout.used}
            if len(table)
            else None
        )
        rejects = [
            (
                row.place,
                f"The row has {row.values} values where the header has {width}: correct the row.",
            )
            for row in wrong
        ]
        rows = len(table) + len(wrong)
        empty = pyarrow().array([], pyarrow().string())

        def text(column: int | None) -> Any:
            if column is None:
                return None
            return empty if columns is None else self._text(columns[column])

        return Batch(
            numbers=text(layout.identifier),
            names=text(layout.name),
            kinds=text(layout.kind),
            services={attribute: text(column) for attribute, column in layout.services.items()},
            key=text(layout.key),
            rows=rows,
            places=_places(rows, [row.place for row in wrong]),
            rejects=rejects,
        )

    def _read(self, block: bytes) -> tuple[Any, list[_Wrong]]:
        arrow, csv = pyarrow(), pyarrow("csv")
        wrong: list[_Wrong] = []

        def note(row: Any) -> str:
            wrong.append(
                _Wrong(row.number - 1, row.actual_columns, "\n" in row.text.rstrip("\r\n"))
            )
            return "skip"

        labels = [_label(column) for column in range(self._layout.width)]
        if not block.strip(b"\r\n"):
            return arrow.table({label: arrow.array([], arrow.binary()) for label in labels}), wrong
        table = csv.read_csv(
            arrow.BufferReader(block),
            read_options=csv.ReadOptions(
                column_names=labels, use_threads=False, block_size=len(block) + 1
            ),
            parse_options=csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=block.find(b'"') >= 0,
                invalid_row_handler=note,
            ),
            convert_options=csv.ConvertOptions(
                include_columns=[_label(column) for column in self._layout.used],
                column_types=dict.fromkeys(labels, arrow.binary()),
                null_values=[],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        return table, wrong

    def _text(self, column: Any) -> Any:
        """Bytes as text; null where a row is not in the encoding of the file."""
        arrow = pyarrow()
        if self._encoding == "utf-8":
            try:
                return column.cast(arrow.string())
            except arrow.ArrowInvalid:
                return _careful(column, self._encoding)
        return self._transcoded(column)

    def _transcoded(self, column: Any) -> Any:
        arrow, compute = pyarrow(), pyarrow("compute")
        joined = compute.binary_join(
            arrow.ListArray.from_arrays([0, len(column)], column), _SEPARATOR.encode()
        )[0].as_py()
        if joined.isascii():
            return column.cast(arrow.string())
        try:
            texts = joined.decode(self._encoding).split(_SEPARATOR)
        except UnicodeDecodeError:
            return _careful(column, self._encoding)
        if len(texts) != len(column):  # line ends in quoted values
            return _careful(column, self._encoding)
        return arrow.array(texts, arrow.string())


def _label(column: int) -> str:
    return str(column)


def _careful(column: Any, encoding: str) -> Any:
    def text(raw: bytes) -> str | None:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            return None

    arrow = pyarrow()
    return arrow.array([text(raw) for raw in column.to_pylist()], arrow.string())


def _closed(block: bytes) -> bytes:
    """Without the quotes of those lines on which they do not match."""
    return b"\n".join(
        line.replace(b'"', b"") if line.count(b'"') % 2 else line for line in block.split(b"\n")
    )


def _places(rows: int, wrong: Sequence[int]) -> NDArray[np.int64] | None:
    return np.delete(np.arange(rows, dtype=np.int64), np.array(wrong, np.int64)) if wrong else None
