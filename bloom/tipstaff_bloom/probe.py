"""Asking a filter: many tokens in NumPy, and what one token in plain Python needs
(BloomFilter.contains has the first probe).

Both follow the formula at the top of geometry.py.
"""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.geometry import (
    BLOCK_BITS,
    BLOCK_WORDS,
    PATTERNS,
    POSITION_BITS,
    Y_POSITIONS,
    Geometry,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK: Final = (
    1 << 16
)  # rows at a time: long enough to spread the cost of a call, short enough for the second-level cache
THREAD_CHUNK: Final = (
    1 << 18
)  # with threads longer: each call gives up the interpreter lock and has to get it back

# For one token in plain Python: struct gives the low half and the two top bytes of x and checks the
# length on the way.
unpack_first: Final = struct.Struct("<I2xH8x").unpack
unpack_all: Final = struct.Struct("<QQ").unpack

_U64 = np.uint64
_LOW_32: Final = _U64(0xFFFFFFFF)
_32: Final = _U64(32)
_52: Final = _U64(52)
_POSITION: Final = _U64(BLOCK_BITS - 1)
_BLOCK_START_WORD: Final = _U64((1 << 64) - BLOCK_WORDS)
_WORD_BITS_LOG: Final = _U64(6)
_BIT: Final = _U64(63)
_1: Final = _U64(1)


def other_bits(token: bytes, word: int, bits: memoryview, free_bits: int) -> bool:
    """Whether a token whose pattern is set in `word` has its free bits set, too; `bits` is the bit
    array as bytes.
    """
    x, y = unpack_all(token)
    z = (y & 0x7FFFFFFFFFFFFFFF) | (x >> 32 & 0x3FFFF) << 63
    block = word >> 3 << 6
    for _ in range(free_bits):
        if not bits[block + (z >> 3 & 63)] >> (z & 7) & 1:
            return False
        z >>= POSITION_BITS
    return True


def positions(x: NDArray[np.uint64], y: NDArray[np.uint64], index: int) -> NDArray[np.uint64]:
    """Position number `index` in its block (0 .. 511) for each token."""
    if index < Y_POSITIONS:
        return (y >> _U64(POSITION_BITS * index)) & _POSITION
    return (x >> _U64(32 + POSITION_BITS * (index - Y_POSITIONS))) & _POSITION


class _Scratch(threading.local):
    """Buffers of one thread, so that a call allocates nothing but its result; they grow to one
    chunk at most.
    """

    def __init__(self) -> None:
        self.numbers = np.empty((4, 0), np.uint64)
        self.flags = np.empty(0, np.bool_)

    def rows(self, size: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Four arrays of numbers and one of flags, of `size` rows."""
        if size > len(self.flags):
            self.numbers = np.empty((4, size), np.uint64)
            self.flags = np.empty(size, np.bool_)
        return self.numbers[:, :size], self.flags[:size]


_scratch: Final = _Scratch()


def probe_many(
    words: NDArray[np.uint64], geometry: Geometry, tokens: NDArray[np.uint64], threads: int
) -> NDArray[np.bool_]:
    """Whether each token of an (n, 2) array may be in the filter."""
    result = np.zeros(len(tokens), np.bool_)
    threads = min(threads, len(tokens) // CHUNK)
    if threads <= 1:
        _probe_range(words, geometry, tokens, result, CHUNK)
        return result
    share = -(-len(tokens) // threads)
    parts = [slice(start, start + share) for start in range(0, len(tokens), share)]
    with ThreadPoolExecutor(threads) as pool:
        for future in [
            pool.submit(_probe_range, words, geometry, tokens[part], result[part], THREAD_CHUNK)
            for part in parts
        ]:
            future.result()
    return result


def _probe_range(
    words: NDArray[np.uint64],
    geometry: Geometry,
    tokens: NDArray[np.uint64],
    result: NDArray[np.bool_],
    rows: int,
) -> None:
    for start in range(0, len(tokens), rows):
        chunk = tokens[start : start + rows]
        hits, word = _first_probe(words, geometry, chunk)
        hits = _other_probes(words, geometry, chunk, hits, word)
        result[start : start + rows][hits] = True


def _first_probe(
    words: NDArray[np.uint64], geometry: Geometry, chunk: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """Rows of the chunk whose pattern is set, and the word index of every row."""
    (x, word, pattern, loaded), equal = _scratch.rows(len(chunk))
    np.copyto(x, chunk[:, 0])
    np.bitwise_and(x, _LOW_32, out=word)
    np.multiply(word, _U64(geometry.words), out=word)
    np.right_shift(word, _32, out=word)
    np.right_shift(x, _52, out=x)
    # Indices are in range by construction; "clip" is the mode in which take writes straight into
    # its output.
    np.take(words, word.view(np.intp), out=loaded, mode="clip")
    np.take(PATTERNS, x.view(np.intp), out=pattern, mode="clip")
    np.bitwise_and(loaded, pattern, out=loaded)
    np.equal(loaded, pattern, out=equal)
    return np.flatnonzero(equal), word


def _other_probes(
    words: NDArray[np.uint64],
    geometry: Geometry,
    chunk: NDArray[np.uint64],
    rows: NDArray[np.intp],
    word: NDArray[np.uint64],
) -> NDArray[np.intp]:
    """The rows that also pass the free bits; each probe is made for the survivors of the one
    before.
    """
    x, y = chunk[rows, 0], chunk[rows, 1]
    start = word[rows] & _BLOCK_START_WORD
    for index in range(geometry.free_bits):
        if not len(rows):
            break
        position = positions(x, y, index)
        at = (position >> _WORD_BITS_LOG) | start
        loaded = np.take(words, at.view(np.intp), mode="clip")
        kept = np.flatnonzero((loaded >> (position & _BIT)) & _1)
        rows, x, y, start = rows[kept], x[kept], y[kept], start[kept]
    return rows
