"""A Parquet file in batches, row group by row group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tipstaff_sdk.book.arrow_library import pyarrow
from tipstaff_sdk.book.batches import Batch
from tipstaff_sdk.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_sdk.book.layout import Layout

__all__ = ["ParquetFile"]

BATCH_ROWS: Final = 1 << 16


@dataclass(frozen=True)
class ParquetFile:
    """What the footer says."""

    path: Path
    header: tuple[str, ...]
    rows: int

    @classmethod
    def open(cls, path: Path) -> ParquetFile:
        """Reads the footer.

        Raises FormatError when it is no Parquet file, OSError when it cannot be read.
        """
        arrow = pyarrow()
        try:
            with pyarrow("parquet").ParquetFile(path) as file:
                return cls(path, tuple(file.schema_arrow.names), file.metadata.num_rows)
        except arrow.ArrowInvalid:
            raise FormatError(
                f"{path.name} is not a Parquet file, or damaged: write it again"
            ) from None

    def batches(self, begin: int, layout: Layout) -> Iterator[Any]:
        """Record batches of the used columns from row `begin` on.

        Raises FormatError when the file is damaged.
        """
        arrow = pyarrow()
        try:
            with pyarrow("parquet").ParquetFile(self.path, memory_map=False) as file:
                first = 0
                groups: list[int] = []
                for group in range(file.metadata.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    if first + size > begin:
                        groups.append(group)
                    else:
                        first += size
                skip = begin - first
                names = [self.header[column] for column in layout.used]
                for batch in file.iter_batches(
                    BATCH_ROWS, row_groups=groups, columns=names, use_threads=False
                ):
                    if skip >= len(batch):
                        skip -= len(batch)
                        continue
                    yield batch.slice(skip)
                    skip = 0
        except (arrow.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FormatError(f"{self.path.name} is damaged: write it again") from None

    def parse(self, batch: Any, layout: Layout) -> Batch:
        """A record batch in the columns that are asked for."""

        def text(column: int | None) -> Any:
            return (
                None
                if column is None
                else _text(batch.column(self.header[column]), self.header[column])
            )

        return Batch(
            numbers=text(layout.identifier),
            names=text(layout.name),
            kinds=text(layout.kind),
            services={attribute: text(column) for attribute, column in layout.services.items()},
            key=text(layout.key),
            rows=len(batch),
            places=None,
            rejects=(),
        )


def _text(column: Any, name: str) -> Any:
    """As UTF-8; numbers (a key, stars) as they are written."""
    arrow = pyarrow()
    if column.type == arrow.string():
        return column
    try:
        return column.cast(arrow.string())
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        raise FormatError(
            f"the column {name!r} is of type {column.type}, which is no text: write it as text"
        ) from None
