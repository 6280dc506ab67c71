"""How many blocks and bits a filter has, and which bits a token sets.

A token is 16 pseudorandom bytes, read as two little-endian 64-bit numbers x and y. It sets
`PATTERN_BITS` = 3 bits in one 64-bit word and `free_bits` more anywhere in the 512-bit block around
that word:

    word     = (x mod 2^32) * words >> 32          words = 8 * block_count, so block = word >> 3
    pattern  = PATTERNS[x >> 52]                   3 bits of that word, tested with one load
    position = (z >> 9 i) mod 512, 0 <= i < free_bits      z = (y mod 2^63) + ((x >> 32 mod 2^18) << 63)

The pattern makes the first probe worth three: 94% of the tokens that are not in a full filter end
there, at the price of one memory access, in NumPy and in plain Python alike. Blocks are cache
lines, so the other probes cost none.

Sources: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007) for
blocks and bit patterns; Lemire, "Fast Random Integer Generation in an Interval" (2019) for the
multiply-shift.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.errors import CapacityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BITS: Final = 512
BLOCK_BYTES: Final = 64
BLOCK_WORDS: Final = 8
PATTERN_BITS: Final = 3
POSITION_BITS: Final = 9
Y_POSITIONS: Final = 7  # positions cut from y; the next ones come from the middle of x
MIN_FREE_BITS: Final = 2
MAX_FREE_BITS: Final = 9
MAX_BLOCK_COUNT: Final = 1 << 26  # 4 GiB of bits, about two thousand million tokens
MAX_CAPACITY: Final = 1 << 32
MIN_FPR: Final = 1e-5
MAX_FPR: Final = 0.05

_SAFETY: Final = (
    0.97  # plan for 97% of the wanted rate, so that a filter filled to capacity measures below it
)
# Loads are rounded to 1/64 token per block, far above any difference between maths libraries
_LOAD_STEP: Final = 64


def _pattern(index: int) -> int:
    start, step = index % 64, index // 64
    second = start + 1 + step % 21
    third = second + 1 + step % 31
    return 1 << start | 1 << second % 64 | 1 << third % 64


PATTERN_INTS: Final = tuple(_pattern(index) for index in range(4096))
PATTERNS: Final = np.array(PATTERN_INTS, dtype=np.uint64)
PATTERNS.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Geometry:
    """The layout of a filter: equal geometries lay out equal token sets bit for bit alike."""

    block_count: int
    free_bits: int
    capacity: int

    @property
    def words(self) -> int:
        """64-bit words of the bit array."""
        return self.block_count * BLOCK_WORDS

    @property
    def bit_count(self) -> int:
        """Bits of the bit array."""
        return self.block_count * BLOCK_BITS


def plan(capacity: int, fpr: float) -> Geometry:
    """The smallest geometry that holds `capacity` tokens at a false-positive rate of at most `fpr`.

    Raises CapacityError when capacity is outside 1 .. 2^32, fpr outside 1e-5 .. 0.05, or the filter
    would pass 4 GiB.
    """
    capacity = operator.index(capacity)
    if not 1 <= capacity <= MAX_CAPACITY:
        raise CapacityError(f"capacity must be from 1 to {MAX_CAPACITY}, not {capacity}")
    if not MIN_FPR <= fpr <= MAX_FPR:
        raise CapacityError(f"fpr must be from {MIN_FPR} to {MAX_FPR}, not {fpr}")
    free_bits, load = _best_load(float(fpr))
    block_count = -(-capacity * _LOAD_STEP // load)
    if block_count > MAX_BLOCK_COUNT:
        raise CapacityError(
            f"{capacity} tokens at a rate of {fpr} need more than {MAX_BLOCK_COUNT} blocks; split"
            " the listing"
        )
    return Geometry(block_count, free_bits, capacity)


def default_capacity(count: int) -> int:
    """Room for `count` tokens and 3 to 4% growth, in steps, so that a growing listing keeps its
    geometry for a while.
    """
    wanted = count + count // 32 + 16
    step = 1 << max(0, wanted.bit_length() - 8)  # at most 1/128 of the size
    return -(-wanted // step) * step


def expected_fpr(load: float, free_bits: int) -> float:
    """False-positive rate at `load` tokens per block on average, with Poisson-distributed blocks
    and words.

    Of a block's tokens a share of 1/8 has its pattern in the probed word; given both numbers, bits
    are taken as independent.
    """
    own_p, own_n = _poisson(load / BLOCK_WORDS)
    other_p, other_n = _poisson(load - load / BLOCK_WORDS)
    total = own_n[:, None] + other_n[None, :]
    free_clear = (1 - 1 / BLOCK_BITS) ** (free_bits * total)
    word_clear = (1 - PATTERN_BITS / 64) ** own_n[:, None]
    pattern_clear = (1 - PATTERN_BITS / BLOCK_BITS) ** total
    hit = (1 - word_clear * free_clear) ** PATTERN_BITS * (
        1 - pattern_clear * free_clear
    ) ** free_bits
    return float(own_p @ hit @ other_p)


def _poisson(mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities and values of a Poisson distribution, as far as they matter."""
    values = np.arange(int(mean + 10 * math.sqrt(mean) + 10)).astype(np.float64)
    steps = mean / np.maximum(values, 1.0)
    steps[0] = math.exp(-mean)
    return steps.cumprod(), values


@lru_cache(maxsize=64)
def _best_load(fpr: float) -> tuple[int, int]:
    """(free_bits, load in 1/64 tokens per block) of the densest layout that keeps the rate; fewer
    bits win a near tie.
    """
    best = (0, 0)
    for free_bits in range(MIN_FREE_BITS, MAX_FREE_BITS + 1):
        low, high = 1, BLOCK_BITS * _LOAD_STEP
        while high - low > 1:
            middle = (low + high) // 2
            if expected_fpr(middle / _LOAD_STEP, free_bits) <= fpr * _SAFETY:
                low = middle
            else:
                high = middle
        if low * 100 > best[1] * 102:  # one bit more per token must save more than 2% of the size
            best = (free_bits, low)
    return best
