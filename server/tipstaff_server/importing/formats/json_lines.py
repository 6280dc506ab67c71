"""Rows of a file with one JSON object on each line, in bounded memory, whatever the file holds.

Each line has its own keys, and is numbered as in any editor, the first being 1. A line that is too
long, is no JSON, or no object, costs that line only.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, cast

from tipstaff_server.errors import EntryCode, EntryError, FileHeaderError
from tipstaff_server.importing.columns import Columns, field_of
from tipstaff_server.importing.formats.csv_rows import MAX_LINE, BrokenRow, Row, read_line
from tipstaff_server.importing.formats.values import cell_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from tipstaff_server.importing.cells import Cell

__all__ = ["JsonLines"]

MAX_IGNORED = 20
DIGITS_OF_A_NUMBER = 6


class JsonLines:
    """Reads a text file.

    `ignored` are keys that were not understood, a few of them, as they come up.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._ignored: dict[str, None] = {}
        # Lines of one file mostly have the same keys in the same order.
        self._columns = lru_cache(64)(Columns.of_keys)

    @property
    def ignored(self) -> tuple[str, ...]:
        """As in Columns."""
        return tuple(self._ignored)

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Every object of the file. Raises FileHeaderError: it holds none, or is one JSON array."""
        number, seen = 0, False
        while line := read_line(self._file):
            number += 1
            if not line.strip():
                continue
            if not seen and line.lstrip()[:1] == "[":
                raise FileHeaderError(
                    "the file is one JSON array; write one object on each line (JSON Lines)"
                )
            seen = True
            yield self._row(number, line)
        if not seen:
            raise FileHeaderError("the file is empty")

    def _row(self, number: int, line: str) -> Row | BrokenRow:
        if len(line) > MAX_LINE:
            return BrokenRow(number, EntryCode.ROW_TOO_LONG)
        try:
            value: object = json.loads(line, object_pairs_hook=_unique, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return BrokenRow(number, EntryCode.MALFORMED_ROW)
        if not isinstance(value, dict):
            return BrokenRow(number, EntryCode.MALFORMED_ROW)
        fields = cast("dict[str, object]", value)
        try:
            columns = self._columns(tuple(fields))
        except FileHeaderError:
            return BrokenRow(number, EntryCode.TOO_MANY_FIELDS)
        for name in columns.ignored:
            # A key that holds a number is somebody's data, and this is shown on a screen.
            if (
                len(self._ignored) < MAX_IGNORED
                and sum(character.isdigit() for character in name) < DIGITS_OF_A_NUMBER
            ):
                self._ignored[name] = None
        return row_of(number, columns, list(fields.items()))


def row_of(number: int, columns: Columns, values: list[tuple[str, object]]) -> Row | BrokenRow:
    """A row of named values, in the order of the columns."""
    cells: list[Cell] = []
    for name, value in values:
        if field_of(name) is None:
            cells.append("")
            continue
        try:
            cells.append(cell_of(value))
        except EntryError as error:
            return BrokenRow(number, error.code, name.strip())
    return Row(number, cells, columns)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
