"""Columns of resident IDs, from what callers have to packed blocks.

Every source is cut into chunks that stay in cache, each seen as (m, 18) bytes. Rows that the
vectorised kernel (resident_kernel.py) does not take (old numbers, full-width digits, lower-case x,
29 February, and those that are wrong) go through `Identifier.resident_id` one by one. A row that
cannot be seen as 18 bytes is shown to the kernel as zeros, which it never takes.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.columns.arrow import ArrowTexts, arrow_pieces, is_arrow
from tipstaff_sdk.columns.resident_kernel import CHUNK_ROWS, WIDTH, ResidentKernel
from tipstaff_sdk.errors import InvalidColumnError, InvalidIdentifierError
from tipstaff_sdk.identity.identifier import Identifier

_NO_ROW: Final = "\0" * WIDTH
_NEWLINE: Final = 10
_NOT_ASCII: Final = 255


class _Chunk(NamedTuple):
    rows: NDArray[np.uint8]  # (m, 18), possibly strided
    text: Callable[
        [int], str | None
    ]  # the row as its owner wrote it; None when it is missing or not text


_Converter: TypeAlias = Callable[[NDArray[Any]], _Chunk]


class _Kernels(threading.local):
    def __init__(self) -> None:
        self.kernel = ResidentKernel()


_kernels = _Kernels()


def length(column: Any) -> int:
    """Number of rows. Raises InvalidColumnError when this is no column."""
    if isinstance(column, (str, bytes)):
        raise InvalidColumnError(
            "This is one text, not a column: pass a list of texts, or Identifier.resident_id for"
            " one."
        )
    try:
        return len(column)
    except TypeError:
        raise InvalidColumnError(
            "A column has a length: pass a list or an array, not an iterator."
        ) from None


def _parts(piece: ArrowTexts) -> Iterator[ArrowTexts]:
    return (piece.part(i, i + CHUNK_ROWS) for i in range(0, len(piece.start), CHUNK_ROWS))


def packed_chunks(column: Any) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Packed blocks, (m, 16) uint8 each, valid until the next one is taken; and the indices of bad
    rows in it.
    """
    for chunk in _chunks(column):
        blocks, taken = _kernels.kernel.pack(chunk.rows)
        bad: list[int] = []
        for row in np.flatnonzero(~taken).tolist():
            block = _careful(chunk.text(row))
            if block is None:
                bad.append(row)
            else:
                blocks[row] = np.frombuffer(block, np.uint8)
        yield blocks, np.array(bad, np.int64)


def texts(column: Any, rows: Sequence[int]) -> list[str | None]:
    """The texts of some rows, ascending, as their owner wrote them; None where a row is missing or
    not text.
    """
    reasons: list[str | None] = []
    if not rows:
        return reasons
    begin = 0
    for chunk in _chunks(column):
        end = begin + len(chunk.rows)
        while len(reasons) < len(rows) and rows[len(reasons)] < end:
            reasons.append(chunk.text(rows[len(reasons)] - begin))
        if len(reasons) == len(rows):
            break
        begin = end
    return reasons


def _careful(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return Identifier.resident_id(text).block
    except InvalidIdentifierError:
        return None


def _chunks(column: Any) -> Iterator[_Chunk]:
    if isinstance(column, np.ndarray):
        return _array_chunks(cast("NDArray[Any]", column))
    if is_arrow(column):
        return (_from_arrow(part) for piece in arrow_pieces(column) for part in _parts(piece))
    if isinstance(column, Sequence):
        texts = cast("Sequence[object]", column)
        return (_from_texts(texts[i : i + CHUNK_ROWS]) for i in range(0, len(texts), CHUNK_ROWS))
    if hasattr(column, "__array__"):  # a pandas column without Arrow
        return _array_chunks(np.asarray(column))
    raise InvalidColumnError(
        f"A column of type {type(column).__name__} cannot be read: pass a list of str, a NumPy"
        " array or an Arrow column."
    )


def _from_arrow(part: ArrowTexts) -> _Chunk:
    def text(row: int) -> str | None:
        raw = part.raw(row)
        try:
            return None if raw is None else raw.decode()
        except UnicodeDecodeError:
            return None

    rows, _ = part.table(WIDTH)
    return _Chunk(rows, text)


def _from_texts(texts: Sequence[object]) -> _Chunk:
    def text(row: int) -> str | None:
        value = texts[row]
        return value if isinstance(value, str) else None

    rows = _aligned(texts)
    if rows is None:
        rows = _aligned(
            [
                t if isinstance(t, str) and len(t) == WIDTH and "\n" not in t else _NO_ROW
                for t in texts
            ]
        )
    return _Chunk(cast("NDArray[np.uint8]", rows), text)


def _aligned(texts: Sequence[object]) -> NDArray[np.uint8] | None:
    """Texts of 18 characters each as (m, 18) bytes with '?' for what is not ASCII; None when any is
    not a text of that length.
    """
    try:
        joined = "\n".join([*cast("Sequence[str]", texts), ""]).encode("ascii", "replace")
    except TypeError:
        return None
    if len(joined) != (WIDTH + 1) * len(texts):
        return None
    lines = np.frombuffer(joined, np.uint8).reshape(len(texts), WIDTH + 1)
    # Each line ends where it should, and there is no other line end: so every row is one text, at
    # its own index.
    if joined.count(b"\n") != len(texts) or not (lines[:, WIDTH] == _NEWLINE).all():
        return None
    return lines[:, :WIDTH]


def _array_chunks(column: NDArray[Any]) -> Iterator[_Chunk]:
    kind = column.dtype.kind
    if kind == "u" and column.dtype.itemsize == 1 and column.shape[1:] == (WIDTH,):
        convert: _Converter = _from_bytes
    elif column.ndim == 1 and kind in _CONVERTERS:
        convert = _CONVERTERS[kind]
    else:
        raise InvalidColumnError(
            f"An array of dtype {column.dtype} and {column.ndim} dimensions is no column of"
            " resident IDs: pass one dimension of 'S18', 'U18', StringDType or object, or uint8 of"
            " shape (n, 18)."
        )
    return (convert(column[i : i + CHUNK_ROWS]) for i in range(0, len(column), CHUNK_ROWS))


def _from_bytes(part: NDArray[Any]) -> _Chunk:
    rows = np.ascontiguousarray(part)

    def text(row: int) -> str | None:
        return str(rows[row].tobytes(), "ascii", "replace")

    return _Chunk(rows, text)


def _from_byte_strings(part: NDArray[Any]) -> _Chunk:
    def text(row: int) -> str | None:
        try:
            return bytes(part[row]).decode()
        except UnicodeDecodeError:
            return None

    width = part.dtype.itemsize
    cells = np.ascontiguousarray(part).view(np.uint8).reshape(len(part), width)
    return _Chunk(_fitted(cells), text)


def _from_unicode(part: NDArray[Any]) -> _Chunk:
    def text(row: int) -> str | None:
        return str(part[row])

    native = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
    cells = native.view(np.uint32).reshape(len(part), -1)
    return _Chunk(_fitted(np.minimum(cells, _NOT_ASCII).astype(np.uint8)), text)


def _fitted(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cells of any width, padded with NUL, as 18 bytes; zeros where the text is longer."""
    width = cells.shape[1]
    if width == WIDTH:
        return cells
    rows = np.zeros((len(cells), WIDTH), np.uint8)
    if width > WIDTH:
        fits = ~cells[:, WIDTH:].any(axis=1)
        rows[fits] = cells[fits, :WIDTH]
    return rows


def _from_objects(part: NDArray[Any]) -> _Chunk:
    return _from_texts(part.tolist())


_CONVERTERS: Final[dict[str, _Converter]] = {
    "S": _from_byte_strings,
    "U": _from_unicode,
    "O": _from_objects,
    "T": _from_objects,
}
