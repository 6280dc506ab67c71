"""Elias-Fano coding: an increasing sequence of integers in little more room than its entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tipstaff_bloom.errors import DeltaFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode_increasing", "encode_increasing", "encoded_bytes"]


def encoded_bytes(size: int, universe: int) -> int:
    """Bytes that `size` increasing numbers below `universe` take."""
    if not size:
        return 0
    low, high = _split(size, universe)
    return -(-low * size // 8) + -(-high // 8)


def encode_increasing(values: NDArray[np.intp], universe: int) -> bytes:
    """Elias-Fano code of strictly increasing numbers in 0 .. universe - 1, shape (n,); nothing for
    none of them.
    """
    size = len(values)
    if not size:
        return b""
    low, high = _split(size, universe)
    low_bits = np.empty((size, low), np.uint8)
    for number in range(low):
        low_bits[:, number] = (values >> number) & 1
    unary = np.zeros(high, np.uint8)
    unary[(values >> low) + np.arange(size)] = 1
    return (
        np.packbits(low_bits, bitorder="little").tobytes()
        + np.packbits(unary, bitorder="little").tobytes()
    )


def decode_increasing(code: memoryview, size: int, universe: int) -> NDArray[np.intp]:
    """The numbers of a code of `encoded_bytes(size, universe)` bytes; raises DeltaFormatError
    unless it is canonical.
    """
    if not size:
        return np.empty(0, np.intp)
    low, high = _split(size, universe)
    split = -(-low * size // 8)
    low_bits = np.unpackbits(np.frombuffer(code[:split], np.uint8), bitorder="little")
    unary = np.unpackbits(np.frombuffer(code[split:], np.uint8), bitorder="little")
    if low_bits[low * size :].any() or unary[high:].any():
        raise DeltaFormatError("padding bits of the delta are not zero")
    gaps = np.flatnonzero(unary)
    if len(gaps) != size:
        raise DeltaFormatError(f"the delta codes {len(gaps)} numbers where {size} are due")
    values = (gaps - np.arange(size)) << low
    rows = low_bits[: low * size].reshape(size, low)
    for number in range(low):
        values |= rows[:, number].astype(np.intp) << number
    if values[-1] >= universe:
        raise DeltaFormatError("the delta goes beyond the end of the filter")
    if (values[1:] <= values[:-1]).any():
        raise DeltaFormatError("the numbers of the delta do not increase")
    return values


def _split(size: int, universe: int) -> tuple[int, int]:
    """How many low bits each number has, and how many bits the unary part."""
    low = max(0, (universe // size).bit_length() - 1)
    return low, ((universe - 1) >> low) + size
