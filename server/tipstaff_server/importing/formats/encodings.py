"""Which of the two encodings a list is in: UTF-8 (with or without a byte order mark) or GB18030.

UTF-8 is tried first, strictly and over the whole file, because almost no GB18030 text is valid
UTF-8 while the reverse happens. The file is read in pieces, so its size does not matter.
"""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.errors import FileEncodingError, ImportFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EncodedSource", "inspect"]

PIECE = 1 << 20
_OTHER_MARKS = {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"PK\x03\x04": "a spreadsheet (.xlsx)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
}


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """A file whose encoding is known:

    `encoding` as codecs call it, `size` in bytes, `digest` its SHA-256.
    """

    path: Path
    encoding: str
    size: int
    digest: bytes


def inspect(path: Path) -> EncodedSource:
    """Finds the encoding.

    Raises FileEncodingError with the place of the first wrong byte; ImportFileError: cannot be
    read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None
    for mark, what in _OTHER_MARKS.items():
        if start.startswith(mark):
            raise FileEncodingError(f"{path.name} is {what}; save it as CSV in UTF-8 or GB18030")
    utf8 = "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"
    wrong: list[int] = []
    for encoding in (utf8, "gb18030"):
        source = _read(path, encoding)
        if isinstance(source, EncodedSource):
            return source
        wrong.append(source)
    raise FileEncodingError(
        f"{path.name} is neither UTF-8 (wrong at byte {wrong[0]}) nor GB18030 (wrong at byte"
        f" {wrong[1]}); save it again in one of the two"
    )


def _read(path: Path, encoding: str) -> EncodedSource | int:
    """The source, if all of it decodes; otherwise about where the first wrong byte is."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    digest = hashlib.sha256()
    done = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                decoder.decode(piece)
                done += len(piece)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return done + error.start
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None
    return EncodedSource(path, encoding, done, digest.digest())
