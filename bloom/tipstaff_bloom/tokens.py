"""Arrays of tokens as they come from outside: checked, and streams of them gathered into pieces of
an even size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, cast

import numpy as np

from tipstaff_bloom.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

Tokens: TypeAlias = "NDArray[np.uint8] | Iterable[NDArray[np.uint8]]"

TOKEN_BYTES: Final = 16

_WRONG_ARRAY: Final = "tokens must be a NumPy array of dtype uint8 and shape (n, 16)"
_PIECE: Final = 1 << 17  # rows of a gathered piece, 2 MiB


def check_tokens(tokens: object) -> NDArray[np.uint64]:
    """The tokens as an (n, 2) array of x and y; a view where the rows are contiguous, else a copy.
    Raises TokenError.
    """
    if not isinstance(tokens, np.ndarray):
        raise TokenError(_WRONG_ARRAY)
    array = cast("NDArray[np.uint8]", tokens)
    if array.dtype != np.uint8 or array.shape[1:] != (TOKEN_BYTES,):
        raise TokenError(_WRONG_ARRAY)
    return np.ascontiguousarray(array).view(np.uint64)


def token_chunks(tokens: Tokens) -> Iterator[NDArray[np.uint64]]:
    """One array as it is, or the arrays of an iterable gathered into new ones of a good size; as
    (n, 2) arrays of x and y.

    Gathering makes a stream of tiny arrays as fast as one of large ones, and lets its maker use one
    array again and again. Raises TokenError.
    """
    if isinstance(tokens, np.ndarray):
        yield check_tokens(cast("object", tokens))
        return
    piece, used = np.empty((_PIECE, 2), np.uint64), 0
    for chunk in _iterate(tokens):
        rows, taken = check_tokens(chunk), 0
        while taken < len(rows):
            size = min(len(rows) - taken, _PIECE - used)
            piece[used : used + size] = rows[taken : taken + size]
            taken, used = taken + size, used + size
            if used == _PIECE:
                yield piece
                piece, used = np.empty((_PIECE, 2), np.uint64), 0
    yield piece[:used].copy()


def _iterate(tokens: Iterable[object]) -> Iterator[object]:
    try:
        return iter(tokens)
    except TypeError:
        raise TokenError(_WRONG_ARRAY + ", or an iterable of such arrays") from None
