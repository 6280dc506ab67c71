"""Resident IDs of nobody, by the million: random regions, birth dates and sequence numbers, right
check characters (GB 11643).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["resident_ids"]


def resident_ids(count: int, seed: int) -> NDArray[np.bytes_]:
    """Shape (count,), dtype S18."""
    random = np.random.default_rng(seed)
    days = np.datetime64("1940-01-01") + random.integers(0, 25_000, count)
    months = days.astype("datetime64[M]")
    date = (days.astype("datetime64[Y]").astype(int) + 1970) * 10_000
    date += (months.astype(int) % 12 + 1) * 100 + (days - months).astype(int) + 1
    digits = np.empty((count, 18), np.uint8)
    for column, width, number in (
        (0, 6, random.integers(110_000, 659_999, count)),
        (6, 8, date),
        (14, 3, random.integers(0, 1000, count)),
    ):
        for place in range(width):
            digits[:, column + place] = number // 10 ** (width - 1 - place) % 10
    weights = np.array([2 ** (17 - place) % 11 for place in range(17)], np.int32)
    checks = np.frombuffer(b"10X98765432", np.uint8)[digits[:, :17].astype(np.int32) @ weights % 11]
    digits[:, :17] += ord("0")
    digits[:, 17] = checks
    found: NDArray[np.bytes_] = digits.view("S18")[:, 0]
    return found
