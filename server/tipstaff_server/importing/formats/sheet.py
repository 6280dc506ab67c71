"""A file as rows, whichever of the three formats it is in.

Parquet by its first bytes, JSON Lines by its suffix or by a brace at its beginning, CSV otherwise.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.errors import ImportFileError
from tipstaff_server.importing.columns import Columns
from tipstaff_server.importing.formats.csv_rows import open_csv
from tipstaff_server.importing.formats.encodings import EncodedSource, inspect
from tipstaff_server.importing.formats.json_lines import JsonLines
from tipstaff_server.importing.formats.parquet import Parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tipstaff_server.importing.formats.csv_rows import BrokenRow, Row

__all__ = ["Sheet", "inspect_sheet", "open_sheet"]

MAGIC = b"PAR1"
JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
PARQUET = "parquet"
LOOK = 4_096


@dataclass(frozen=True, slots=True)
class Sheet:
    """An open file: its columns, its rows, what was not understood (once the rows are read), and
    how many bytes are behind us.

    Rows of JSON Lines have columns of their own, and the file has none.
    """

    columns: Columns
    rows: Iterator[Row | BrokenRow]
    ignored: Callable[[], tuple[str, ...]]
    position: Callable[[], int]


def inspect_sheet(path: Path) -> EncodedSource:
    """What the file is, its encoding ("parquet" for that), size and digest.

    Raises ImportFileError, FileEncodingError.
    """
    if _start(path).startswith(MAGIC):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return EncodedSource(path, PARQUET, path.stat().st_size, digest.digest())
    if path.suffix.lower() == ".parquet":
        raise ImportFileError(
            f"{path.name} is not a Parquet file: it begins otherwise; get it again"
        )
    return inspect(path)


@contextmanager
def open_sheet(source: EncodedSource) -> Generator[Sheet]:
    """The rows of an inspected file. Raises FileHeaderError, ImportFileError."""
    if source.encoding == PARQUET:
        parquet = Parquet(source.path)
        yield Sheet(
            parquet.columns,
            parquet.rows(),
            lambda: parquet.ignored,
            lambda: source.size * parquet.done // max(parquet.size, 1),
        )
        return
    with source.path.open("rb") as raw, io.TextIOWrapper(raw, source.encoding, newline="") as file:
        if _is_json(source.path):
            lines = JsonLines(file)
            yield Sheet(Columns((), {}, ()), lines.rows(), lambda: lines.ignored, raw.tell)
        else:
            columns, rows = open_csv(file)
            yield Sheet(columns, rows, lambda: columns.ignored, raw.tell)


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in JSON_SUFFIXES or _start(path).lstrip(
        b"\xef\xbb\xbf \t\r\n"
    ).startswith((b"{", b"["))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LOOK)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None
