"""Rows of a CSV file, one after another, in bounded memory, whatever the file holds.

A broken record never takes its neighbours with it: when a quote is not closed, its first line alone
is refused and reading goes on with the next. A row is numbered by the line that it begins on, the
header's being 1.
"""

from __future__ import annotations

import csv
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tipstaff_server.errors import EntryCode, FileHeaderError
from tipstaff_server.importing.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from tipstaff_server.importing.cells import Cell

__all__ = ["BrokenRow", "Row", "open_csv", "read_line", "read_rows", "split_header"]

MAX_LINE = 64 << 10
MAX_LINES_IN_ROW = 16
DELIMITERS = ",\t;"


@dataclass(frozen=True, slots=True)
class Row:
    """One record: the line that it begins on, its fields, and what they are where each record says
    so itself.
    """

    line: int
    fields: list[Cell] = field(repr=False)
    columns: Columns | None = None


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A record that is not one; `column`: which field it is about, when it is about one."""

    line: int
    code: EntryCode
    column: str = ""


class _RunawayError(Exception):
    """A quoted field goes on and on."""


class _Feed:
    """Lines for the csv module: bounded, numbered, and can be given back."""

    def __init__(self, file: TextIO, after: int) -> None:
        self._file = file
        self._waiting: deque[tuple[int, str]] = deque()
        self._number = after
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_LINES_IN_ROW:
            raise _RunawayError
        number, line = self._waiting.popleft() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self.taken.append((number, line))
        if len(line) > MAX_LINE:
            raise _RunawayError
        return line

    def begin(self) -> None:
        """A new record."""
        self.taken = []

    def give_back(self) -> None:
        """All lines of this record but its first are to be read again."""
        self._waiting.extendleft(reversed(self.taken[1:]))

    def _read(self) -> tuple[int, str]:
        self._number += 1
        return self._number, read_line(self._file)


def read_line(file: TextIO) -> str:
    """The next line, of a longer one the first MAX_LINE + 1 characters; empty at the end."""
    rest = line = file.readline(MAX_LINE + 1)
    while len(rest) > MAX_LINE and not rest.endswith(("\n", "\r")):
        rest = file.readline(MAX_LINE + 1)
    return line


def open_csv(file: TextIO) -> tuple[Columns, Iterator[Row | BrokenRow]]:
    """Columns, and the rows behind the header: the first line that is not empty.

    Raises FileHeaderError.
    """
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            break
        if line.strip():
            delimiter, headers = split_header(line)
            columns = Columns.read(headers)
            return columns, read_rows(file, delimiter, width=columns.width, after=number)
    raise FileHeaderError("the file is empty, or its first line is longer than any header")


def split_header(line: str) -> tuple[str, list[str]]:
    """A header line's delimiter (the most frequent of comma, tab, semicolon) and its fields."""
    delimiter = max(DELIMITERS, key=line.count)
    try:
        return delimiter, next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return delimiter, []


def read_rows(
    file: TextIO, delimiter: str, *, width: int, after: int = 0
) -> Iterator[Row | BrokenRow]:
    """Records of a text file opened with newline="", of which `after` lines are read.

    Empty lines are passed over.

    `width`: how many fields a row should have. One of several lines with another number of them is
    a quote that was never closed.
    """
    feed = _Feed(file, after)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (_RunawayError, csv.Error):
            fields = None
        if fields is None or (len(feed.taken) > 1 and len(fields) != width):
            line, text = feed.taken[0]
            feed.give_back()
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
            yield BrokenRow(line, _what_is_wrong(text, several=len(feed.taken) > 1))
            continue
        if any(text.strip() for text in fields):
            yield Row(feed.taken[0][0], list["Cell"](fields))


def _what_is_wrong(text: str, *, several: bool) -> EntryCode:
    if len(text) > MAX_LINE:
        return EntryCode.ROW_TOO_LONG
    return EntryCode.UNCLOSED_QUOTE if several or text.count('"') % 2 else EntryCode.MALFORMED_ROW
