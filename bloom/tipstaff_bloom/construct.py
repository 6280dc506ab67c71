"""Setting the bits of many tokens: partition by region of the filter, then one region at a time in
the cache.

NumPy has no fast scatter of bits (`bitwise_or.at` takes 9 ns a bit), but a scatter of bytes into a
region that fits the second-level cache takes under 2 ns and `packbits` makes bits of them. So
tokens are taken in batches, each batch is brought into the order of the regions (a radix sort on
one byte), and each region is expanded to a byte per bit, filled and packed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.geometry import PATTERN_BITS, PATTERNS, Geometry
from tipstaff_bloom.probe import positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

BATCH: Final = (
    1 << 22
)  # tokens brought into order at a time: 64 MiB, and as much again for the ordered copy
_REGIONS: Final = 256  # so that the region is one byte, which argsort sorts in one pass
_SMALLEST_REGION: Final = (
    12  # log2 of its words: a quarter of a MiB when expanded; smaller ones cost more in calls
)
# With fewer tokens than blocks / this, expanding every region costs more than bitwise_or.at
_SPARSE: Final = 256

# Tokens per NumPy call, (sorting, scattering): few enough to stay in the cache; with threads more,
# because each call gives up the interpreter lock and takes it back, which costs as much as the work
# when the calls are short.
_ONE_THREAD: Final = (1 << 15, 1 << 14)
_MORE_THREADS: Final = (1 << 17, 1 << 17)
_WORTH_THREADS: Final = 1 << 20  # tokens in a batch

_U64 = np.uint64
_LOW_32: Final = _U64(0xFFFFFFFF)
_WORD_BITS_LOG: Final = _U64(6)
_BLOCK_START: Final = _U64((1 << 64) - 512)
# Which bits of a word each of the 4096 patterns sets: the first, second and third of them.
_PATTERN_POSITIONS: Final = tuple(
    np.nonzero(np.unpackbits(PATTERNS.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little"))[1]
    .astype(np.uint64)
    .reshape(-1, PATTERN_BITS)
    .T.copy()
)


def set_bits(
    words: NDArray[np.uint64],
    geometry: Geometry,
    chunks: Iterable[NDArray[np.uint64]],
    threads: int,
) -> int:
    """Sets the bits of all tokens, given as (n, 2) arrays, in the bit array; returns how many
    tokens there were.
    """
    count = 0
    piece, _ = _MORE_THREADS if threads > 1 else _ONE_THREAD
    for batch in _batches(chunks, piece):
        size = sum(len(chunk) for chunk in batch)
        count += size
        workers = threads if size >= _WORTH_THREADS else 1
        if size * _SPARSE < geometry.block_count:
            for chunk in batch:
                _set_sparse(words, geometry, chunk)
        else:
            _set_dense(words, geometry, batch, workers)
    return count


def bit_indices(
    geometry: Geometry, tokens: NDArray[np.uint64], first_word: int = 0
) -> Iterator[NDArray[np.intp]]:
    """For each of the bits of a token, its index in the bit array from `first_word` (a block's
    first) on, for all tokens.
    """
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


def _batches(chunks: Iterable[NDArray[np.uint64]], rows: int) -> Iterator[list[NDArray[np.uint64]]]:
    """The same tokens in pieces of at most `rows`, as lists of about BATCH tokens."""
    batch: list[NDArray[np.uint64]] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), rows):
            piece = chunk[start : start + rows]
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


def _set_dense(
    words: NDArray[np.uint64], geometry: Geometry, batch: list[NDArray[np.uint64]], threads: int
) -> None:
    shift = _SMALLEST_REGION
    while geometry.words - 1 >> shift >= _REGIONS:
        shift += 1
    size = 1 << shift
    regions = -(-geometry.words // size)
    _, rows = _MORE_THREADS if threads > 1 else _ONE_THREAD
    ordered: list[tuple[NDArray[np.uint64], list[int]]] = [(piece, []) for piece in batch]

    def order(worker: int) -> None:
        for number in range(worker, len(batch), threads):
            ordered[number] = _order(geometry, batch[number], shift, regions)

    def fill(worker: int) -> None:
        expanded = np.empty(size * 64, np.bool_)
        for region in range(worker, regions, threads):
            tokens = np.concatenate(
                [piece[bounds[region] : bounds[region + 1]] for piece, bounds in ordered]
            )
            target = words[region * size : (region + 1) * size]
            _fill_region(
                target, geometry, tokens, region * size, expanded[: len(target) * 64], rows
            )

    _in_parallel(order, threads)
    _in_parallel(fill, threads)


def _in_parallel(work: Callable[[int], None], threads: int) -> None:
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, worker) for worker in range(threads)]:
            future.result()


def _order(
    geometry: Geometry, piece: NDArray[np.uint64], shift: int, regions: int
) -> tuple[NDArray[np.uint64], list[int]]:
    """The tokens in the order of their regions, and where each region starts."""
    region = (_word(geometry, piece[:, 0]) >> _U64(shift)).astype(np.uint8)
    ordered = np.take(piece, np.argsort(region, kind="stable"), axis=0)
    bounds = np.concatenate(([0], np.cumsum(np.bincount(region, minlength=regions))))
    return ordered, bounds.tolist()


def _fill_region(
    words: NDArray[np.uint64],
    geometry: Geometry,
    tokens: NDArray[np.uint64],
    first_word: int,
    expanded: NDArray[np.bool_],
    rows: int,
) -> None:
    """Sets the bits of tokens that all fall into `words`; `expanded` is room for a byte per bit."""
    expanded.fill(False)  # noqa: FBT003  the value to fill with
    for start in range(0, len(tokens), rows):
        for index in bit_indices(geometry, tokens[start : start + rows], first_word):
            expanded[index] = True
    words |= np.packbits(expanded, bitorder="little").view(np.uint64)
