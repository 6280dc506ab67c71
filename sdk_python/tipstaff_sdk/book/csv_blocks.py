"""A CSV file in blocks that end with a row, read once from front to back.

A line end ends a row when the number of quotes before it in the block is even (RFC 4180). Only
where it is odd somebody has to look closer. A quoted value may hold line ends, but one of over 64
KiB is a quote that was never closed: there the next line end ends the row, which is then one wrong
row and not the rest of the file. GB18030 needs no other treatment: the second and further bytes of
a character are never a quote, a comma, a semicolon, a tab or a line end.
"""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["ENCODINGS", "Block", "CsvFile"]

BLOCK_BYTES: Final = 4 << 20
MAX_LINE: Final = 16 << 20
_MAX_QUOTED: Final = 64 << 10
_LOOK: Final = 1 << 20
ENCODINGS: Final = ("utf-8", "gb18030")


@cache
def _row_end(delimiter: str) -> re.Pattern[bytes]:
    """One row, to its line end. A quote counts where a value begins."""
    mark = re.escape(delimiter.encode())
    value = b'(?:"(?:[^"]|"")*+"[^%b\n]*+|[^%b\n"][^%b\n]*+)?+' % (mark, mark, mark)
    return re.compile(b"%b(?:%b%b)*+\n" % (value, mark, value))


@dataclass(frozen=True)
class Block:
    """Whole rows. end: where the file goes on."""

    data: bytes
    end: int


@dataclass(frozen=True)
class CsvFile:
    """What the first lines say: encoding, separator, header, where the rows begin."""

    path: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    begin: int

    @classmethod
    def open(cls, path: Path, encoding: str | None = None) -> CsvFile:
        """Looks at a file. encoding: one of ENCODINGS; None:

        UTF-8 if its first characters beyond ASCII are, else GB18030.

        Raises FormatError when there is no header or it is neither encoding, OSError when it cannot
        be read.
        """
        with path.open("rb") as file:
            head = file.read(_LOOK)
            bom = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
            encoding = encoding or ("utf-8" if bom else _encoding(head, file))
        end = head.find(b"\n") + 1 or len(head)
        if end == _LOOK:
            raise FormatError(
                f"{path.name}: the first line is longer than {_LOOK >> 20} MiB: is it CSV?"
            )
        try:
            line = head[bom:end].decode(encoding).strip("\r\n")
            delimiter = max(",;\t", key=line.count)
            header: list[str] = next(
                csv.reader([line], delimiter=delimiter, strict=True), list[str]()
            )
        except (UnicodeDecodeError, csv.Error):
            # Without the cause: it quotes the text.
            raise FormatError(
                f"{path.name} is not CSV in UTF-8 or GB18030: save it as one of these"
            ) from None
        if not any(column.strip() for column in header):
            raise FormatError(
                f"{path.name}: the first line has to be a header that names the columns"
            )
        return cls(path, encoding, delimiter, tuple(header), end)

    def blocks(self, begin: int) -> Iterator[Block]:
        """The rows from `begin` on, which is `self.begin` or the end of a block.

        Raises FormatError for a line without an end.
        """
        with self.path.open("rb") as file:
            file.seek(begin)
            rest = b""
            # Blocks end before the same places of the file wherever a run begins, so that an
            # interrupted one comes to the same result.
            size = -begin % BLOCK_BYTES + BLOCK_BYTES
            while True:
                more, size = file.read(size), BLOCK_BYTES
                data = rest + more if rest else more
                if not data:
                    return
                end = _last_row(data, self.delimiter) if more else len(data)
                if end:
                    begin += end
                    yield Block(data[:end], begin)
                rest = data[end:]
                if len(rest) > MAX_LINE:
                    raise FormatError(
                        f"{self.path.name}: a line is longer than {MAX_LINE >> 20} MiB: is it CSV,"
                        " with line ends as usual?"
                    )
                if not more:
                    return


def _encoding(head: bytes, file: BinaryIO) -> str:
    while head and head.isascii():
        head = file.read(_LOOK)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


def _last_row(data: bytes, delimiter: str) -> int:
    """Where the last whole row ends; 0 when there is none."""
    last = data.rfind(b"\n") + 1
    if last == 0 or data.count(b'"', 0, last) % 2 == 0:
        return last
    match = _row_end(delimiter).match
    position = 0
    while position < last:
        found = match(data, position)
        if found is None or found.end() - position > _MAX_QUOTED:
            # A value that goes on beyond the block, or a quote that is never closed.
            if len(data) - position <= _MAX_QUOTED:
                break
            position = data.index(b"\n", position) + 1
        else:
            position = found.end()
    return position
