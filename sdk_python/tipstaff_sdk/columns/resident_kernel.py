"""Canonical resident IDs by the thousand: verified and packed in one vectorised pass.

Each row is read as two little-endian words of eight characters and a tail of two, and all rows go
through the same arithmetic on whole words (SWAR, "SIMD within a register"; H. S. Warren, Hacker's
Delight, 2nd ed., ch. 2), some 40 passes over arrays that stay in cache.

1. Characters minus '0', byte by byte at most 9.
2. Pairs of digits: first and second of each pair in lanes of 16 bits.
3. Packed: 16 * first + second, then the lanes are closed up by a narrowing copy: 8 digits in 4
   bytes.
4. Check (GB 11643): the weight of digit i, from 0, is 2^(17-i) mod 11, twice that of its neighbour,
   so 2 * first + second has one weight a pair; one multiplication by the weights in reverse order
   leaves the sum of four products in the top lane, at most 27 * 10 * 8 and so without carry. With
   the tail the sum must be 1 mod 11; n is a multiple of 11 when n * 11^-1 mod 2^16 is at most 2^16
   / 11 (Hacker's Delight, ch. 10).
5. Birth date: month and day, still packed, by table, 29 February by the year; century 18 to 20;
   first digit 1 to 8.

Rows that fail any of this are not wrong yet: `Identifier.resident_id` has the last word.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.identity.block import BLOCK_SIZE

WIDTH: Final = 18
CHUNK_ROWS: Final = 1 << 14

_Words: TypeAlias = NDArray[np.uint64]
_Packed: TypeAlias = NDArray[np.uint32]
_Bools: TypeAlias = NDArray[np.bool_]

# Operands are arrays without dimensions: NumPy takes one in half a microsecond less than a scalar,
# and a chunk meets some forty.
_ZEROS: Final = np.array(0x3030303030303030, np.uint64)
_LANES_16: Final = np.array(0x00FF00FF00FF00FF, np.uint64)
_ALL_TRUE: Final = np.array(0x0101010101010101, np.uint64)
_1, _4, _8, _48 = (np.array(n, np.uint64) for n in (1, 4, 8, 48))

_1_32, _8_32, _24_32, _LOW_16 = (np.array(n, np.uint32) for n in (1, 8, 24, 0xFFFF))

_TAIL_ZEROS: Final = np.array(0x3030, np.uint16)
_LOW_8: Final = np.array(0xFF, np.uint16)
_X: Final = np.array(ord("X") ^ 0x30, np.uint16)
_X_TO_TEN: Final = np.array((ord("X") ^ 0x30) - 10, np.uint16)
_INVERSE_OF_11: Final = np.array(pow(11, -1, 1 << 16), np.uint16)
_QUOTIENTS: Final = np.array((1 << 16) // 11, np.uint16)
_1_16, _4_16, _8_16, _9_16, _10_16 = (np.array(n, np.uint16) for n in (1, 4, 8, 9, 10))

_9_8: Final = np.array(9, np.uint8)
_BYTE_RANGES: Final = tuple(
    (column, np.array(lowest, np.uint8), np.array(highest - lowest, np.uint8))
    for column, lowest, highest in (
        (3, 0x18, 0x20),  # century
        (0, 0x10, 0x8F),  # first two digits
    )
)


def _weights(first_pair: int) -> NDArray[np.uint64]:
    """Weights of four pairs of digits in reverse order, a lane each."""
    return np.array(
        sum(pow(2, 16 - 2 * (first_pair + i), 11) << (16 * (3 - i)) for i in range(4)), np.uint64
    )


_WEIGHTS: Final = (_weights(0), _weights(4))


def _days() -> _Bools:
    """By packed month and, eight bits up, packed day: whether every year has that day."""
    table = np.zeros(1 << 16, np.bool_)
    lengths = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    for month, length in enumerate(lengths, 1):
        for day in range(1, length + 1):
            table[int(f"{day:02d}{month:02d}", 16)] = True
    return table


_DAYS: Final = _days()
_LEAP_DAY: Final = np.array(0x2902, np.uint32)


def _is_leap(century: _Packed, year: _Packed) -> _Bools:
    """From packed digits: the year of the century is a multiple of four (ten is 2 modulo 4); 2000,
    but neither 1800 nor 1900.
    """
    units, tens = year & np.uint32(0x0F), year >> np.uint32(4)
    leap: _Bools = ((units + np.uint32(2) * tens) % np.uint32(4) == 0) & (
        (year != 0) | (century == np.uint32(0x20))
    )
    return leap


class ResidentKernel:
    """Working memory for chunks of up to CHUNK_ROWS rows. Not to be shared between threads."""

    def __init__(self) -> None:
        self._words = np.empty((3, 2 * CHUNK_ROWS), np.uint64)
        self._packed = np.empty(2 * CHUNK_ROWS, np.uint32)
        self._quarter = np.empty(CHUNK_ROWS, np.uint32)
        self._index = np.empty(CHUNK_ROWS, np.int64)
        self._halves = np.empty((3, CHUNK_ROWS), np.uint16)
        self._bytes = np.empty(CHUNK_ROWS, np.uint8)
        self._bools = np.empty((3, CHUNK_ROWS), np.bool_)
        self._digit_tests = np.empty(16 * CHUNK_ROWS, np.bool_)
        self._blocks = np.zeros(
            (CHUNK_ROWS, BLOCK_SIZE), np.uint8
        )  # its last four columns stay zero

    def pack(self, rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], _Bools]:
        """Blocks of canonical resident IDs.

        rows: (m, 18) uint8, m at most CHUNK_ROWS, the characters of a row adjacent. Returns the
        blocks, (m, 16) uint8, and which rows were taken, (m,) bool; both are overwritten by the
        next call. The blocks of rows that were not taken mean nothing.
        """
        count = len(rows)
        digits, pairs, spare = (words[: 2 * count] for words in self._words)
        first, second = self._packed[:count], self._packed[count : 2 * count]
        tail, last, half = (halves[:count] for halves in self._halves)
        taken, test = (bools[:count] for bools in self._bools[:2])
        blocks = self._blocks[:count]
        np.bitwise_xor(rows[:, 0:8].view("<u8")[:, 0], _ZEROS, out=digits[:count])
        np.bitwise_xor(rows[:, 8:16].view("<u8")[:, 0], _ZEROS, out=digits[count:])
        np.bitwise_xor(rows[:, 16:18].view("<u2")[:, 0], _TAIL_ZEROS, out=tail)
        self._only_digits(digits, spare[:count], taken)
        _pack_pairs(digits, self._packed[: 2 * count], pairs, spare)
        _split_tail(tail, last, half, taken, test)
        _check_sum(pairs, tail, last, half, test)
        taken &= test
        self._birth_date(first, second, taken, test)
        _write(first, second, tail, last, self._quarter[:count], blocks.view("<u4"))
        return blocks, taken

    def _only_digits(self, digits: _Words, spare: _Words, taken: _Bools) -> None:
        """Step 1 for the first 16 characters."""
        count = len(taken)
        tests = self._digit_tests[: 16 * count]
        np.less_equal(digits.view(np.uint8), _9_8, out=tests)
        by_word = tests.view(np.uint64)
        np.bitwise_and(by_word[:count], by_word[count:], out=spare)
        np.equal(spare, _ALL_TRUE, out=taken)

    def _birth_date(self, first: _Packed, second: _Packed, taken: _Bools, test: _Bools) -> None:
        """Step 5."""
        count = len(taken)
        month_and_day, index, shifted = (
            self._quarter[:count],
            self._index[:count],
            self._bytes[:count],
        )
        np.right_shift(second, _8_32, out=month_and_day)
        np.bitwise_and(month_and_day, _LOW_16, out=month_and_day)
        np.copyto(index, month_and_day)
        _DAYS.take(index, out=test, mode="clip")
        leap_days = np.flatnonzero(np.equal(month_and_day, _LEAP_DAY, out=self._bools[2, :count]))
        if len(leap_days):
            test[leap_days] = _is_leap(
                first[leap_days] >> _24_32, second[leap_days] & np.uint32(0xFF)
            )
        taken &= test
        octets = first.view(np.uint8).reshape(count, 4)
        for column, lowest, span in _BYTE_RANGES:
            np.subtract(octets[:, column], lowest, out=shifted)
            np.less_equal(shifted, span, out=test)
            taken &= test


def _pack_pairs(digits: _Words, packed: _Packed, pairs: _Words, spare: _Words) -> None:
    """Steps 2 and 3:

    `packed` gets 8 digits in 4 bytes, `pairs` 2 * first + second in each lane of 16 bits; uses
    `digits` up.
    """
    np.right_shift(digits, _8, out=spare)
    np.bitwise_and(spare, _LANES_16, out=spare)
    np.bitwise_and(digits, _LANES_16, out=digits)
    np.left_shift(digits, _1, out=pairs)
    np.add(pairs, spare, out=pairs)
    np.left_shift(digits, _4, out=digits)
    np.bitwise_or(digits, spare, out=digits)
    np.copyto(packed.view(np.uint8), digits.view(np.uint16), casting="unsafe")


def _split_tail(
    tail: NDArray[np.uint16],
    last: NDArray[np.uint16],
    half: NDArray[np.uint16],
    taken: _Bools,
    test: _Bools,
) -> None:
    """Step 1 for the last two: `tail` becomes digit 16, `last` the check character, X as ten."""
    np.right_shift(tail, _8_16, out=last)
    np.bitwise_and(tail, _LOW_8, out=tail)
    np.not_equal(last, _10_16, out=test)  # ':' would pass for X
    taken &= test
    np.equal(last, _X, out=test)
    np.multiply(test, _X_TO_TEN, out=half)
    np.subtract(last, half, out=last)
    np.less_equal(last, _10_16, out=test)
    taken &= test
    np.less_equal(tail, _9_16, out=test)
    taken &= test


def _check_sum(
    pairs: _Words,
    tail: NDArray[np.uint16],
    last: NDArray[np.uint16],
    total: NDArray[np.uint16],
    test: _Bools,
) -> None:
    """Step 4; uses `pairs` and `total` up."""
    count = len(tail)
    np.multiply(pairs[:count], _WEIGHTS[0], out=pairs[:count])
    np.multiply(pairs[count:], _WEIGHTS[1], out=pairs[count:])
    np.add(pairs[:count], pairs[count:], out=pairs[:count])
    np.right_shift(pairs[:count], _48, out=pairs[:count])
    np.copyto(total, pairs[:count], casting="unsafe")
    np.add(total, tail, out=total)
    np.add(total, tail, out=total)
    np.add(total, last, out=total)
    np.subtract(total, _1_16, out=total)
    np.multiply(total, _INVERSE_OF_11, out=total)
    np.less_equal(total, _QUOTIENTS, out=test)


def _write(
    first: _Packed,
    second: _Packed,
    tail: NDArray[np.uint16],
    last: NDArray[np.uint16],
    spare: _Packed,
    blocks: _Packed,
) -> None:
    """Blocks as identity/block.py lays them out, four bytes at a time: 01, nine bytes of digits,
    zeros; uses everything up.
    """
    np.left_shift(first, _8_32, out=spare)
    np.bitwise_or(spare, _1_32, out=blocks[:, 0])
    np.right_shift(first, _24_32, out=first)
    np.left_shift(second, _8_32, out=spare)
    np.bitwise_or(first, spare, out=blocks[:, 1])
    np.right_shift(second, _24_32, out=second)
    np.left_shift(tail, _4_16, out=tail)
    np.bitwise_or(tail, last, out=tail)
    np.left_shift(tail, _8_16, out=tail)
    np.bitwise_or(second, tail, out=blocks[:, 2])
