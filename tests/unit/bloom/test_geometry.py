"""Sizing: the formula, its bounds, and the patterns."""

import math

import numpy as np
import pytest

from tipstaff_bloom import CapacityError
from tipstaff_bloom.geometry import (
    BLOCK_BITS,
    MAX_BLOCK_COUNT,
    PATTERNS,
    default_capacity,
    expected_fpr,
    plan,
)


def test_patterns_are_distinct_and_have_three_bits() -> None:
    assert len(set(PATTERNS.tolist())) == 4096
    assert set(np.bitwise_count(PATTERNS).tolist()) == {3}


def test_no_bit_is_favoured_by_the_patterns() -> None:
    bits = np.unpackbits(PATTERNS.view(np.uint8).reshape(-1, 8), axis=1)
    assert set(bits.sum(axis=0).tolist()) == {4096 * 3 // 64}


@pytest.mark.parametrize("fpr", [5e-2, 1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("capacity", [100, 12_345, 10_000_000])
def test_plan_keeps_the_rate_at_capacity(capacity: int, fpr: float) -> None:
    geometry = plan(capacity, fpr)
    assert expected_fpr(capacity / geometry.block_count, geometry.free_bits) <= fpr


@pytest.mark.parametrize("fpr", [1e-2, 1e-3, 1e-4])
def test_default_size_is_within_a_fifth_of_the_classic_filter(fpr: float) -> None:
    count = 1_000_000
    classic = math.log2(1 / fpr) / math.log(2)
    bits = plan(default_capacity(count), fpr).bit_count / count
    assert bits <= classic * (1.15 if fpr >= 1e-3 else 1.25)


def test_size_at_one_in_a_thousand_is_within_the_goal() -> None:
    for count in (100_000, 1_000_000, 10_000_000):
        assert plan(default_capacity(count), 1e-3).bit_count / count <= 1.15 * 14.4


def test_default_capacity_leaves_room_and_keeps_still_while_a_listing_grows() -> None:
    for count in (0, 1, 1_000, 999_999, 10_000_000):
        capacity = default_capacity(count)
        assert count * 1.03 <= capacity <= count * 1.045 + 32
    capacities = {default_capacity(count) for count in range(1_000_000, 1_004_000, 100)}
    assert len(capacities) <= 2


@pytest.mark.parametrize(
    ("capacity", "fpr"),
    [
        (0, 1e-3),
        (-1, 1e-3),
        (2**32 + 1, 1e-3),
        (10, 0.0),
        (10, 0.06),
        (10, 1e-6),
        (10, math.nan),
        (10, math.inf),
        (2**32, 1e-5),
    ],
)
def test_sizes_out_of_range_are_refused(capacity: int, fpr: float) -> None:
    with pytest.raises(CapacityError):
        plan(capacity, fpr)


def test_a_capacity_must_be_a_whole_number() -> None:
    with pytest.raises(TypeError):
        plan(10.5, 1e-3)  # type: ignore[arg-type]  # the point of the test


def test_no_plan_passes_the_largest_block_count() -> None:
    assert plan(2**31, 1e-3).block_count <= MAX_BLOCK_COUNT
    assert plan(2**31, 1e-3).bit_count == plan(2**31, 1e-3).block_count * BLOCK_BITS
