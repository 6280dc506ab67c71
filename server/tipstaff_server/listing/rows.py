"""Which numbers are in a listing, and what each put into it: one row an identifier, in the order of
subject ids.

    row, 44 bytes    subject (16) | token (16) | locator (8, big-endian) | copies (4, big-endian): one for each name

From these rows a filter is built, and the records of one person are found in a pack, without asking
the registry about anybody else. The file is bare rows; its length and SHA-256 are with the state
that names it (last_build.py).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, cast

import numpy as np

from tipstaff_server.errors import BuildStateError
from tipstaff_server.repository.history import IdentifierChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from numpy.typing import NDArray

__all__ = [
    "ROW",
    "Merged",
    "RowWriter",
    "Rows",
    "count_change",
    "file_rows",
    "locators",
    "merge_rows",
    "no_rows",
    "rows_of",
    "token_array",
    "tokens",
]

# "S16" compares bytewise over all 16 bytes; single ones are never taken out, because they would
# lose zeros at their end.
ROW: Final = np.dtype([("subject", "S16"), ("token", "S16"), ("locator", ">u8"), ("copies", ">u4")])
AT_ONCE: Final = 1 << 16
DAMAGED: Final = "the kept rows are damaged"

Rows = np.ndarray[tuple[int], np.dtype[np.void]]


class RowWriter:
    """Writes a new file of rows, mode 0600, synced when the block ends without an exception.

    Rows come in the order of subject ids.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._last = np.zeros(1, "S16")
        self.count = 0
        self.subjects = 0
        self.copies = 0
        self.nameless = 0  # rows without a copy

    def __enter__(self) -> Self:
        self._file = os.fdopen(
            os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file as file:
            if error is None:
                file.flush()
                os.fsync(file.fileno())

    @property
    def sha256(self) -> str:
        """Of what was written so far, hexadecimal."""
        return self._digest.hexdigest()

    def write(self, rows: Rows) -> None:
        """Adds rows. Raises BuildStateError when they are out of order."""
        if not len(rows):
            return
        subjects = np.concatenate([self._last, rows["subject"]])
        if (subjects[1:] < subjects[:-1]).any():
            raise BuildStateError("the kept rows are out of order")
        fresh = subjects[1:] != subjects[:-1]
        # Before the first row there is no subject, not the one whose id is all zeros.
        fresh[0] |= not self.count
        self._last = subjects[-1:]
        self.count += len(rows)
        self.subjects += int(fresh.sum())
        self.copies += int(rows["copies"].sum(dtype=np.uint64))
        self.nameless += int((rows["copies"] == 0).sum())
        # NumPy joins arrays of rows into one with the machine's own byte order.
        content = rows.astype(ROW, copy=False).tobytes()
        self._digest.update(content)
        self._file.write(content)


def rows_of(
    subjects: Sequence[bytes],
    made: NDArray[np.uint8],
    places: Sequence[bytes],
    copies: Sequence[int],
) -> Rows:
    """A row for each identifier: its subject's id, token (a row of (n, 16) uint8), locator (8
    bytes), and number of names.
    """
    rows = np.empty(len(subjects), ROW)
    rows["subject"] = np.frombuffer(b"".join(subjects), "S16")
    rows["token"] = np.ascontiguousarray(made).view("S16").reshape(-1)
    rows["locator"] = np.frombuffer(b"".join(places), ">u8")
    rows["copies"] = copies
    return rows


def no_rows() -> Rows:
    """Of nobody."""
    return np.empty(0, ROW)


def file_rows(path: Path) -> Iterator[Rows]:
    """The rows of a file, some 65,000 at a time.

    Raises BuildStateError when it ends inside a row, OSError.
    """
    with path.open("rb") as file:
        while content := file.read(AT_ONCE * ROW.itemsize):
            if len(content) % ROW.itemsize:
                raise BuildStateError(DAMAGED)
            yield cast("Rows", np.frombuffer(content, ROW))


def tokens(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The tokens of a file, in its order, shape (n, 16) uint8 at a time."""
    for rows in file_rows(path):
        yield np.ascontiguousarray(rows["token"]).view(np.uint8).reshape(-1, 16)


def locators(path: Path) -> NDArray[np.uint64]:
    """All locators of a file, ascending, shape (n,).

    Raises BuildStateError when two numbers share one: 2^-64 for each two.
    """
    pieces = [rows["locator"].astype(np.uint64) for rows in file_rows(path)]
    found = np.sort(np.concatenate(pieces)) if pieces else np.zeros(0, np.uint64)
    if (found[1:] == found[:-1]).any():
        raise BuildStateError("two numbers share a locator")
    return found


def token_array(path: Path, sha256: str) -> NDArray[np.bytes_]:
    """All tokens of a file, in its order, shape (n,) "S16".

    Raises BuildStateError when it has another SHA-256, OSError.
    """
    digest, pieces = hashlib.sha256(), [np.empty(0, "S16")]
    for rows in file_rows(path):
        digest.update(rows.data)
        pieces.append(np.ascontiguousarray(rows["token"]))
    if digest.hexdigest() != sha256:
        raise BuildStateError(DAMAGED)
    return np.concatenate(pieces)


def count_change(before: NDArray[np.bytes_], after: NDArray[np.bytes_]) -> IdentifierChange:
    """Compares two sets of tokens, shape (n,) "S16" each, in any order."""
    both = len(np.intersect1d(before, after, assume_unique=True))
    return IdentifierChange(added=len(after) - both, removed=len(before) - both)


@dataclass(frozen=True, slots=True)
class Merged:
    """What `merge_rows` took out, and how much stays and came."""

    gone: Rows
    come: Rows
    gone_subjects: int
    writer: RowWriter


def merge_rows(
    old: Path, sha256: str, touched: NDArray[np.bytes_], come: Path, path: Path
) -> Merged:
    """Writes a new file:

    `old` without the rows of touched subjects (shape (n,) "S16", ascending), and with those of
    `come`.

    Memory is that of the rows that go and come. Raises BuildStateError when `old` has another
    SHA-256 than it should; OSError.
    """
    added: Rows = np.concatenate([np.empty(0, ROW), *file_rows(come)])
    digest, gone = hashlib.sha256(), [np.empty(0, ROW)]
    with RowWriter(path) as writer:
        done = 0
        for rows in file_rows(old):
            digest.update(rows.data)
            subjects = np.ascontiguousarray(rows["subject"])
            going = _among(subjects, touched)
            gone.append(rows[going])
            upto = int(np.searchsorted(added["subject"], subjects[-1:], side="right")[0])
            writer.write(_inserted(rows[~going], added[done:upto]))
            done = upto
        writer.write(added[done:])
        if digest.hexdigest() != sha256:
            raise BuildStateError(DAMAGED)
    taken: Rows = np.concatenate(gone)
    return Merged(taken, added, len(np.unique(taken["subject"])), writer)


def _among(subjects: NDArray[np.bytes_], touched: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    if not len(touched):
        return np.zeros(len(subjects), np.bool_)
    found = touched[np.minimum(np.searchsorted(touched, subjects), len(touched) - 1)]
    return cast("NDArray[np.bool_]", found == subjects)


def _inserted(rows: Rows, added: Rows) -> Rows:
    places: NDArray[Any] = np.searchsorted(rows["subject"], added["subject"])
    return np.insert(rows, places, added)
