"""Setting the bits of many tokens: partition by region of the filter, then one region at a time in the cache.

NumPy has no fast scatter of bits (`bitwise_or.at` takes 9 ns a bit), but a scatter of bytes into a region that fits the
second-level cache takes under 2 ns and `packbits` makes bits of them. So tokens are taken in batches, each batch is brought into
the order of the regions (a radix sort on one byte), and each region is expanded to a byte per bit, filled and packed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.geometry import BLOCK_WORDS, PATTERN_INTS, Geometry
from tipstaff_bloom.probe import positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

BATCH: Final = 1 << 22  # tokens brought into order at a time: 64 MiB, and as much again for the ordered copy
_PIECE: Final = 1 << 15  # tokens sorted at a time, 512 KiB
_SLICE: Final = 1 << 13  # tokens scattered at a time: their index arrays stay in the cache
_REGIONS: Final = 256  # so that the region is one byte, which argsort sorts in one pass
_SPARSE: Final = 256  # with fewer tokens than blocks / this, expanding every region costs more than bitwise_or.at

_U64 = np.uint64
_LOW_32: Final = _U64(0xFFFFFFFF)
_WORD_BITS_LOG: Final = _U64(6)
_BLOCK_START: Final = _U64((1 << 64) - 512)
_PATTERN_POSITIONS: Final = tuple(
    np.array([[bit for bit in range(64) if pattern >> bit & 1][index] for pattern in PATTERN_INTS], dtype=np.uint64) for index in range(3)
)


def set_bits(words: NDArray[np.uint64], geometry: Geometry, chunks: Iterable[NDArray[np.uint64]], threads: int) -> int:
    """Sets the bits of all tokens, given as (n, 2) arrays, in the bit array; returns how many tokens there were."""
    count = 0
    for batch in _batches(chunks):
        size = sum(len(chunk) for chunk in batch)
        count += size
        if size * _SPARSE < geometry.block_count:
            for chunk in batch:
                _set_sparse(words, geometry, chunk)
        else:
            _set_dense(words, geometry, batch, threads)
    return count


def bit_indices(geometry: Geometry, tokens: NDArray[np.uint64], first_word: int = 0) -> Iterator[NDArray[np.intp]]:
    """For each of the bits of a token, its index in the bit array from `first_word` (a block's first) on, for all tokens."""
    x, y = np.ascontiguousarray(tokens[:, 0]), np.ascontiguousarray(tokens[:, 1])
    word = _word(geometry, x)
    word -= _U64(first_word)
    word <<= _WORD_BITS_LOG
    pattern = (x >> _U64(52)).view(np.intp)
    for table in _PATTERN_POSITIONS:
        index = np.take(table, pattern, mode="clip")
        index += word
        yield index.view(np.intp)
    word &= _BLOCK_START
    for number in range(geometry.free_bits):
        index = positions(x, y, number)
        index |= word
        yield index.view(np.intp)


def _word(geometry: Geometry, x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = x & _LOW_32
    word *= _U64(geometry.words)
    word >>= _U64(32)
    return word


def _batches(chunks: Iterable[NDArray[np.uint64]]) -> Iterator[list[NDArray[np.uint64]]]:
    """The same tokens in pieces of at most _PIECE rows, as lists of about BATCH tokens."""
    batch: list[NDArray[np.uint64]] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            piece = chunk[start : start + _PIECE]
            batch.append(piece)
            size += len(piece)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _set_sparse(words: NDArray[np.uint64], geometry: Geometry, tokens: NDArray[np.uint64]) -> None:
    for index in bit_indices(geometry, tokens):
        bit = _U64(1) << (index & 63).view(np.uint64)
        np.bitwise_or.at(words, index >> 6, bit)


def _set_dense(words: NDArray[np.uint64], geometry: Geometry, batch: list[NDArray[np.uint64]], threads: int) -> None:
    shift = 3
    while geometry.words - 1 >> shift >= _REGIONS:
        shift += 1
    size = 1 << shift
    regions = range(-(-geometry.words // size))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        futures = [pool.submit(_order, geometry, piece, shift, len(regions)) for piece in batch]
        ordered = [future.result() for future in futures]

        def fill(region: int) -> None:
            parts = [tokens[bounds[region] : bounds[region + 1]] for tokens, bounds in ordered]
            _fill_region(words[region * size : (region + 1) * size], geometry, parts, region * size)

        list(pool.map(fill, regions))


def _order(geometry: Geometry, piece: NDArray[np.uint64], shift: int, regions: int) -> tuple[NDArray[np.uint64], list[int]]:
    """The tokens in the order of their regions, and where each region starts."""
    region = (_word(geometry, piece[:, 0]) >> _U64(shift)).astype(np.uint8)
    ordered = np.take(piece, np.argsort(region, kind="stable"), axis=0)
    bounds = np.concatenate(([0], np.cumsum(np.bincount(region, minlength=regions))))
    return ordered, bounds.tolist()


def _fill_region(words: NDArray[np.uint64], geometry: Geometry, parts: list[NDArray[np.uint64]], first_word: int) -> None:
    tokens = np.concatenate(parts)
    if not len(tokens):
        return
    expanded = np.zeros(len(words) * 8 * BLOCK_WORDS, np.bool_)
    for start in range(0, len(tokens), _SLICE):
        for index in bit_indices(geometry, tokens[start : start + _SLICE], first_word):
            expanded[index] = True
    words |= np.packbits(expanded, bitorder="little").view("<u8")
