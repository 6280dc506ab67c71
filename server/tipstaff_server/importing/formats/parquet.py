"""Rows of a Parquet file, a batch at a time. Needs pyarrow, which the extra `screen` brings.

A column has to be text, dates, or lists and structs of text: what is a number there has lost its
zeros or its X already, so the whole file is refused, with the column's name. A row is numbered as
it stands in the file, the first being 1.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tipstaff_sdk.book.arrow_library import pyarrow
from tipstaff_sdk.errors import ConfigurationError
from tipstaff_server.errors import EntryCode, FileHeaderError, ImportFileError
from tipstaff_server.importing.columns import Columns
from tipstaff_server.importing.formats.csv_rows import BrokenRow, Row
from tipstaff_server.importing.formats.json_lines import row_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

__all__ = ["Parquet"]

BATCH_ROWS = 500
MAX_GROUP_BYTES = 512 << 20


class Parquet:
    """One file. `done` and `size` are rows read and rows in all."""

    def __init__(self, path: Path) -> None:
        """Reads the footer.

        Raises ImportFileError: no pyarrow, or not a Parquet file; FileHeaderError: its columns
        cannot be used.
        """
        self._path = path
        self._arrow = _library()
        self._parquet = _library("parquet")
        with self._damage(0), self._parquet.ParquetFile(path, memory_map=False) as file:
            schema, metadata = file.schema_arrow, file.metadata
            groups = [
                metadata.row_group(index).total_byte_size
                for index in range(metadata.num_row_groups)
            ]
            self.size: int = metadata.num_rows
        self.columns = Columns.read(schema.names)
        if max(groups, default=0) > MAX_GROUP_BYTES:
            raise ImportFileError(
                f"{path.name} has a row group of more than {MAX_GROUP_BYTES >> 20} MiB; write it in"
                " smaller ones"
            )
        used = sorted(self.columns.of.values())
        for index in used:
            kind = schema.field(index).type
            if not self._readable(kind):
                raise FileHeaderError(
                    f"the column {schema.names[index]!r} is of type {kind}; write it as text, so"
                    " that nothing is lost"
                )
        self._used = [schema.names[index] for index in used]
        self._names: list[str] = schema.names
        self.done = 0

    @property
    def ignored(self) -> tuple[str, ...]:
        """As in Columns."""
        return self.columns.ignored

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Every row.

        Raises ImportFileError: the file is damaged; what was read before stays in, and running it
        again is safe.
        """
        with self._damage(1), self._parquet.ParquetFile(self._path, memory_map=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=self._used, use_threads=False):
                columns = {name: self._plain(batch.column(name)) for name in self._used}
                for index in range(len(batch)):
                    self.done += 1
                    yield self._row({name: column[index] for name, column in columns.items()})

    def _row(self, scalars: dict[str, Any]) -> Row | BrokenRow:
        values: list[tuple[str, object]] = []
        for name in self._names:
            try:
                values.append((name, scalars[name].as_py() if name in scalars else None))
            except (
                ValueError,
                OverflowError,
                self._arrow.ArrowException,
            ):  # bytes that are no text, a date beyond the calendar
                return BrokenRow(self.done, EntryCode.CONTROL_CHARACTER, name.strip())
        return row_of(self.done, self.columns, values)

    def _plain(self, column: Any) -> Any:
        """Times as microseconds, and those with a zone as UTC: what comes out of them needs neither
        pandas nor a list of zones.
        """
        types = self._arrow.types
        if types.is_timestamp(column.type):
            return column.cast(
                self._arrow.timestamp("us", "UTC" if column.type.tz else None), safe=False
            )
        return column

    def _readable(self, kind: Any) -> bool:
        types = self._arrow.types
        if types.is_dictionary(kind):
            return self._readable(kind.value_type)
        if types.is_list(kind) or types.is_large_list(kind):
            return types.is_struct(kind.value_type) or self._is_text(kind.value_type)
        return (
            self._is_text(kind)
            or types.is_struct(kind)
            or types.is_date(kind)
            or types.is_timestamp(kind)
        )

    def _is_text(self, kind: Any) -> bool:
        types = self._arrow.types
        return bool(
            types.is_string(kind)
            or types.is_large_string(kind)
            or types.is_string_view(kind)
            or types.is_null(kind)
        )

    @contextmanager
    def _damage(self, begun: int) -> Generator[None]:
        try:
            yield
        except (self._arrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise ImportFileError(f"{self._path} cannot be read: {error.strerror}") from None
            where = f" behind row {self.done}; the rows before it are in" if begun else ""
            raise ImportFileError(
                f"{self._path.name} is not a Parquet file, or is damaged{where}: get it again, and"
                " import it again"
            ) from None


def _library(module: str = "") -> Any:
    try:
        return pyarrow(module)
    except ConfigurationError:
        raise ImportFileError(
            "reading Parquet needs pyarrow, an extra: install it with: pip install"
            " 'tipstaff[screen]'"
        ) from None
