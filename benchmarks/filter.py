"""Figures of the filter alone, from random tokens:

`python -m benchmarks filter` prints them as JSON.

Making the tokens (one AES block each) is measured with the SDK; nothing of it is in these figures.
Times are the median of repeats, in nanoseconds per token; run it on a quiet machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.support.plan import Figures
from benchmarks.support.timing import median_seconds
from tipstaff_bloom import BloomFilter, diff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.support.plan import Plan

SIZES: Final = (100_000, 1_000_000, 10_000_000)
FPR: Final = 1e-3

_ASKED: Final = 4_000_000
_ASKED_SINGLY: Final = 200_000
_REPEATS: Final = 5


def random_tokens(count: int, seed: int) -> NDArray[np.uint8]:
    """Tokens of shape (count, 16): what a block cipher's output looks like."""
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def measure(count: int, repeats: int = _REPEATS) -> dict[str, float]:
    """All figures for a filter of `count` tokens."""
    tokens = random_tokens(count, seed=1)
    listing = BloomFilter.build(tokens, fpr=FPR)
    others = random_tokens(_ASKED, seed=2)
    return {
        "batch_check_ns": batch_check_ns(listing, others, 1, repeats),
        "batch_check_ns_2core": batch_check_ns(listing, others, 2, repeats),
        "scalar_check_ns": scalar_check_ns(listing, others[:_ASKED_SINGLY], repeats),
        "build_ns_per_key": build_ns_per_key(tokens, 1, repeats),
        "build_ns_per_key_2core": build_ns_per_key(tokens, 2, repeats),
        "bits_per_key": listing.bit_count / count,
        "measured_fpr": float(np.mean(listing.contains_many(others))),
        **delta_figures(listing, tokens, count // 1000),
    }


def measure_all(
    sizes: tuple[int, ...] = SIZES, repeats: int = _REPEATS
) -> dict[str, dict[str, float]]:
    """The figures of each size, keyed by the size in digits."""
    return {str(size): measure(size, repeats) for size in sizes}


def batch_check_ns(
    listing: BloomFilter, tokens: NDArray[np.uint8], threads: int, repeats: int = _REPEATS
) -> float:
    """One contains_many over tokens that are not listed."""
    return (
        median_seconds(lambda: listing.contains_many(tokens, threads=threads), repeats)
        / len(tokens)
        * 1e9
    )


def scalar_check_ns(
    listing: BloomFilter, tokens: NDArray[np.uint8], repeats: int = _REPEATS
) -> float:
    """One contains per token that is not listed, the loop included."""
    singly = [row.tobytes() for row in tokens]

    def ask() -> None:
        contains = listing.contains
        for token in singly:
            contains(token)

    return median_seconds(ask, repeats) / len(singly) * 1e9


def build_ns_per_key(tokens: NDArray[np.uint8], threads: int, repeats: int = _REPEATS) -> float:
    """One build from an array of tokens."""
    return (
        median_seconds(lambda: BloomFilter.build(tokens, fpr=FPR, threads=threads), repeats)
        / len(tokens)
        * 1e9
    )


def delta_figures(
    listing: BloomFilter, tokens: NDArray[np.uint8], changes: int
) -> dict[str, float]:
    """A delta of half additions and half removals: its size per change, and what making and
    applying it take.
    """
    half = changes // 2
    changed = BloomFilter.build(
        [tokens[half:], random_tokens(half, seed=3)], fpr=FPR, capacity=listing.capacity
    )
    _ = listing.digest, changed.digest  # both sides know them anyway
    delta = diff(listing, changed)
    if listing.apply(delta).digest != changed.digest:
        raise RuntimeError("the delta does not lead to the changed filter")
    return {
        "delta_bytes_per_change": len(delta) / (2 * half),
        "delta_make_ms": median_seconds(lambda: diff(listing, changed), 3) * 1e3,
        "delta_apply_ms": median_seconds(lambda: listing.apply(delta), 3) * 1e3,
    }


def run(plan: Plan) -> Figures:
    """The suite."""
    sizes = measure_all(plan.sizes, plan.repeats)
    last = sizes[str(plan.sizes[-1])]
    flat: dict[str, float | None] = {
        key: last[key]
        for key in ("build_ns_per_key", "bits_per_key", "measured_fpr", "delta_bytes_per_change")
    }
    return Figures(flat, {"sizes": sizes})
