"""Columns of names: which rows hold a name that `canonical_name` takes, without asking it for each
of them.

A row is certainly a name when it is at most 200 bytes of UTF-8, begins with an ASCII letter or a
character from U+4000 to U+9FFF, and holds nothing else but those and printable ASCII: none of it is
refused, unfolds into more characters, or vanishes. That is nearly every name there is. All other
rows are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np

from tipstaff_sdk.columns.arrow import ArrowTexts, arrow_pieces, is_arrow
from tipstaff_sdk.errors import InvalidColumnError, InvalidNameError
from tipstaff_sdk.identity.names import MAX_CHARACTERS, canonical_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Names"]

_HAN_LEADS: Final = slice(0xE4, 0xEA)


def _table(*parts: slice) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    for part in parts:
        table[part] = True
    return table


_PLAIN: Final = _table(slice(0x20, 0x7F), slice(0x80, 0xC0), _HAN_LEADS)
_FIRST: Final = _table(slice(ord("A"), ord("Z") + 1), slice(ord("a"), ord("z") + 1), _HAN_LEADS)


class Names(NamedTuple):
    """A column of names, looked through: bad rows and why, and a way to the others."""

    bad: dict[int, InvalidNameError]
    canonical: Callable[[int], str]

    @classmethod
    def of(cls, column: Any, count: int) -> Names:
        """From a list of str, a NumPy array of texts or an Arrow column of `count` rows.

        An Arrow column has to outlive the result. Raises InvalidColumnError when it is no such
        column or of another length.
        """
        return _of_arrow(column, count) if is_arrow(column) else _of_texts(_listed(column), count)


def _listed(column: Any) -> Sequence[object]:
    if isinstance(column, np.ndarray):
        array = cast("NDArray[Any]", column)
        if array.ndim != 1 or array.dtype.kind not in "UTO":
            raise InvalidColumnError(
                "A column of names has one dimension and dtype 'U', StringDType or object: convert"
                " it first."
            )
        return cast("list[object]", array.tolist())
    if isinstance(column, Sequence) and not isinstance(column, (str, bytes)):
        return cast("Sequence[object]", column)
    if hasattr(column, "__array__"):
        return _listed(np.asarray(column))
    raise InvalidColumnError(
        f"A column of type {type(column).__name__} holds no names: pass a list of str, an array or"
        " an Arrow column."
    )


def _of_texts(texts: Sequence[object], count: int) -> Names:
    _require(len(texts), count)
    bad: dict[int, InvalidNameError] = {}

    def canonical(row: int) -> str:
        return _canonical(texts[row])

    for row, text in enumerate(texts):
        try:
            _canonical(text)
        except InvalidNameError as error:
            bad[row] = error
    return Names(bad, canonical)


def _canonical(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidNameError(
            "The name is missing or not text: pass it as it stands in the document."
        )
    return canonical_name(text)


def _of_arrow(column: Any, count: int) -> Names:
    bad: dict[int, InvalidNameError] = {}
    first = 0
    for piece in arrow_pieces(column):
        for row in np.flatnonzero(_unsure(piece)).tolist():
            try:
                _canonical(_text(piece, row))
            except InvalidNameError as error:
                bad[first + row] = error
        first += len(piece.start)
    _require(first, count)

    def canonical(row: int) -> str:
        return _canonical(_found(column, row))

    return Names(bad, canonical)


def _found(column: Any, row: int) -> str | None:
    """The text of one row, read anew: what was seen of a piece goes with it."""
    for piece in arrow_pieces(column):
        if row < len(piece.start):
            return _text(piece, row)
        row -= len(piece.start)
    raise InvalidColumnError(
        "The column of names became shorter while it was read: leave it alone meanwhile."
    )


def _require(length: int, count: int) -> None:
    if length != count:
        raise InvalidColumnError(
            f"There are {length} names for {count} numbers: pass columns of one length."
        )


def _text(piece: ArrowTexts, row: int) -> str | None:
    raw = piece.raw(row)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _unsure(piece: ArrowTexts) -> NDArray[np.bool_]:
    """Rows that have to be asked for; all of them where they do not lie in a row or may be no text."""
    if not (piece.packed and piece.utf8) or not len(piece.start):
        return np.ones(len(piece.start), np.bool_)
    begin, end = int(piece.start[0]), int(piece.start[-1] + piece.length[-1])
    data, start = piece.buffers[0][begin:end], piece.start - begin
    unsure: NDArray[np.bool_] = (piece.length == 0) | (piece.length > MAX_CHARACTERS)
    if piece.valid is not None:
        unsure |= ~piece.valid
    if len(data):
        unsure |= ~_FIRST[data[np.minimum(start, len(data) - 1)]]
        odd = np.flatnonzero(~_PLAIN[data])
        unsure[np.searchsorted(start, odd, side="right") - 1] = True
    return unsure
