"""Properties of the filter that hold for any tokens."""

import math
from itertools import pairwise

import bloom_filter2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tipstaff_bloom import BloomError, BloomFilter, TokenLedger, diff

TOKENS = st.lists(st.binary(min_size=16, max_size=16), max_size=60)
RATES = st.sampled_from([5e-2, 1e-2, 1e-3, 1e-4, 1e-5])


def rows(tokens: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(tokens), np.uint8).reshape(-1, 16)


@settings(deadline=None)
@given(TOKENS, RATES, st.integers(0, 2**32 - 1))
def test_never_a_false_negative(tokens: list[bytes], fpr: float, epoch: int) -> None:
    built = BloomFilter.build(rows(tokens), fpr=fpr, epoch=epoch)
    assert all(built.contains(token) for token in tokens)
    assert built.contains_many(rows(tokens)).all()
    again = BloomFilter.from_buffer(built.to_bytes())
    assert all(token in again for token in tokens)
    assert (again.header, again.digest) == (built.header, built.digest)


@settings(deadline=None)
@given(TOKENS, TOKENS, RATES)
def test_one_and_many_agree(listed: list[bytes], asked: list[bytes], fpr: float) -> None:
    built = BloomFilter.build(rows(listed), fpr=fpr)
    assert [built.contains(token) for token in asked] == built.contains_many(rows(asked)).tolist()


@settings(deadline=None)
@given(TOKENS, st.lists(st.integers(0, 60), max_size=6))
def test_order_and_chunks_do_not_matter(tokens: list[bytes], cuts: list[int]) -> None:
    whole = BloomFilter.build(rows(tokens), capacity=100)
    bounds = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    chunks = [rows(tokens[a:b]) for a, b in pairwise(bounds)]
    assert BloomFilter.build(reversed(chunks), capacity=100).to_bytes() == whole.to_bytes()


@settings(deadline=None)
@given(TOKENS, TOKENS, TOKENS, RATES)
def test_filter_and_delta_are_a_fresh_build_bit_for_bit(
    stay: list[bytes], go: list[bytes], come: list[bytes], fpr: float
) -> None:
    old = BloomFilter.build(rows(stay + go), fpr=fpr, capacity=3_000)
    new = BloomFilter.build(rows(stay + come), fpr=fpr, capacity=3_000)
    assert old.apply(diff(old, new)).to_bytes() == new.to_bytes()


@settings(deadline=None)
@given(
    st.sets(st.binary(min_size=16, max_size=16), max_size=40),
    st.sets(st.binary(min_size=16, max_size=16), max_size=40),
)
def test_an_updated_ledger_builds_what_a_fresh_one_builds(
    before: set[bytes], after: set[bytes]
) -> None:
    old = TokenLedger(rows(list(before)))
    new = old.update(added=rows(list(after - before)), removed=rows(list(before - after)))
    fresh = TokenLedger(rows(list(after)))
    assert (new.tokens == fresh.tokens).all()
    assert new.build(previous=old.build()).contains_many(fresh.tokens).all()


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_a_union_is_a_build_of_both(one: list[bytes], two: list[bytes]) -> None:
    first, second = (BloomFilter.build(rows(tokens), capacity=200) for tokens in (one, two))
    assert (
        first.union(second).to_bytes()
        == BloomFilter.build([rows(one), rows(two)], capacity=200).to_bytes()
    )


@settings(deadline=None)
@given(TOKENS, st.binary(max_size=300), st.integers(0, 200))
def test_damaged_bytes_are_refused_or_say_what_they_are(
    tokens: list[bytes], noise: bytes, at: int
) -> None:
    wire = bytearray(BloomFilter.build(rows(tokens), capacity=100).to_bytes())
    wire[at : at + len(noise)] = noise
    try:
        read = BloomFilter.from_buffer(wire)
    except BloomError:
        return
    assert read.to_bytes() == bytes(wire)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_never_a_delta(noise: bytes) -> None:
    base = BloomFilter.build(rows([bytes(16)]), capacity=100)
    with pytest.raises(BloomError):
        base.apply(noise)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_membership_agrees_with_bloom_filter2(seed: int) -> None:
    """An independent filter as the oracle: where the two differ on a token that was not put in, one
    of them is a false positive.
    """
    rng = np.random.default_rng(seed)
    listed, others = (
        rng.integers(0, 256, (400, 16), dtype=np.uint8),
        rng.integers(0, 256, (400, 16), dtype=np.uint8),
    )
    oracle = bloom_filter2.BloomFilter(max_elements=400, error_rate=1e-3)
    for row in listed:
        oracle.add(row.tobytes())
    ours = BloomFilter.build(listed)
    assert all((row.tobytes() in oracle) and ours.contains(row.tobytes()) for row in listed)
    differ = sum((row.tobytes() in oracle) != ours.contains(row.tobytes()) for row in others)
    assert differ <= 8  # 0.8 expected; more than 8 about once in ten million


@pytest.mark.parametrize("count", [5_000, 50_000, 300_000])
@pytest.mark.parametrize("fpr", [1e-2, 1e-3, 1e-4])
def test_the_measured_rate_is_within_the_statistical_bound(count: int, fpr: float) -> None:
    """At full capacity; six standard deviations of the binomial count, and two percent for the luck
    of how blocks filled.
    """
    rng = np.random.default_rng(count)
    built = BloomFilter.build(
        rng.integers(0, 256, (count, 16), dtype=np.uint8), fpr=fpr, capacity=count
    )
    asked = 1_000_000
    found = int(built.contains_many(rng.integers(0, 256, (asked, 16), dtype=np.uint8)).sum())
    luck = 0.02 + 3 / math.sqrt(built.block_count)
    assert found <= asked * fpr * (1 + luck) + 6 * math.sqrt(asked * fpr)
    expected = asked * built.fpr
    assert abs(found - expected) <= expected * luck + 6 * math.sqrt(expected)
