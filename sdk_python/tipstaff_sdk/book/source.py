"""A file of people, CSV or Parquet, as one kind of thing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from tipstaff_sdk.book.csv_blocks import CsvFile
from tipstaff_sdk.book.csv_rows import CsvRows
from tipstaff_sdk.book.parquet_rows import ParquetFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_sdk.book.batches import Batch
    from tipstaff_sdk.book.layout import Layout

__all__ = ["Source", "open_source"]

_PARQUET_MAGIC: Final = b"PAR1"


class Source(Protocol):
    """header: names of the columns. begin, size: positions, bytes of CSV and rows of Parquet."""

    header: tuple[str, ...]
    begin: int
    size: int

    def blocks(self, begin: int, layout: Layout) -> Iterator[tuple[int, Any]]:
        """Pieces for `parse` from a position on, each with the position behind it."""
        ...

    def parse(self, block: Any, layout: Layout) -> Batch:
        """In any thread."""
        ...

    def identity(self) -> list[object]:
        """What tells this file, and how it is read, from another."""
        ...

    def changed(self) -> bool:
        """Whether it is another file by now."""
        ...


def open_source(path: Path, encoding: str | None) -> Source:
    """By its first bytes. Raises FormatError, ConfigurationError (no pyarrow), OSError."""
    with path.open("rb") as file:
        is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    return _Parquet(path) if is_parquet else _Csv(path, encoding)


def _stat(path: Path) -> list[object]:
    status = os.stat(path)  # noqa: PTH116  one name for both kinds of call
    return [status.st_ino, status.st_size, status.st_mtime_ns]


class _Csv:
    def __init__(self, path: Path, encoding: str | None) -> None:
        self._stat = _stat(path)
        self._path = path
        self._file = CsvFile.open(path, encoding)
        self.header = self._file.header
        self.begin = self._file.begin
        self.size = path.stat().st_size

    def blocks(self, begin: int, layout: Layout) -> Iterator[tuple[int, Any]]:
        del layout
        return ((block.end, block.data) for block in self._file.blocks(begin))

    def parse(self, block: Any, layout: Layout) -> Batch:
        return CsvRows(layout, self._file.delimiter, self._file.encoding).parse(block)

    def identity(self) -> list[object]:
        return ["csv", *self._stat, self._file.encoding, self._file.delimiter]

    def changed(self) -> bool:
        return _stat(self._path) != self._stat


class _Parquet:
    begin = 0

    def __init__(self, path: Path) -> None:
        self._stat = _stat(path)
        self._path = path
        self._file = ParquetFile.open(path)
        self.header = self._file.header
        self.size = self._file.rows

    def blocks(self, begin: int, layout: Layout) -> Iterator[tuple[int, Any]]:
        for batch in self._file.batches(begin, layout):
            begin += len(batch)
            yield begin, batch

    def parse(self, block: Any, layout: Layout) -> Batch:
        return self._file.parse(block, layout)

    def identity(self) -> list[object]:
        return ["parquet", *self._stat]

    def changed(self) -> bool:
        return _stat(self._path) != self._stat
