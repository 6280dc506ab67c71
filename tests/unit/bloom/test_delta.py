"""Deltas, and attacks on them as a table of named cases."""

import struct
from itertools import pairwise

import numpy as np
import pytest

from tests.vectors.bloom import tokens
from tipstaff_bloom import (
    BloomFilter,
    DeltaBaseError,
    DeltaDigestError,
    DeltaError,
    DeltaFormatError,
    DeltaSizeError,
    EpochMismatchError,
    GeometryMismatchError,
    diff,
)
from tipstaff_bloom.delta import DELTA_HEADER_BYTES
from tipstaff_bloom.elias_fano import decode_increasing, encode_increasing, encoded_bytes

OLD = BloomFilter.build(tokens(0, 1_000), epoch=3, capacity=6_000)
NEW = BloomFilter.build(tokens(20, 1_030), epoch=3, capacity=6_000)
DELTA = diff(OLD, NEW)
BLOCKS, BITS = struct.unpack_from("<II", DELTA, 20)
SPLIT = DELTA_HEADER_BYTES + encoded_bytes(BLOCKS, OLD.block_count)


def put(offset: int, form: str, value: int) -> bytes:
    changed = bytearray(DELTA)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


def with_payload(blocks: list[int], bits: list[int]) -> bytes:
    """A delta with the same header and digests, but other changes."""
    header = bytearray(DELTA[:DELTA_HEADER_BYTES])
    struct.pack_into("<II", header, 20, len(blocks), len(bits))
    codes = (
        encode_increasing(np.array(blocks, np.intp), OLD.block_count),
        encode_increasing(np.array(bits, np.intp), len(blocks) * 512),
    )
    return bytes(header) + b"".join(codes)


def test_a_delta_leads_to_the_new_filter_byte_for_byte_and_leaves_the_old_one() -> None:
    before = OLD.to_bytes()
    assert OLD.apply(DELTA).to_bytes() == NEW.to_bytes()
    assert OLD.to_bytes() == before


def test_there_and_back_again() -> None:
    assert NEW.apply(diff(NEW, OLD)).to_bytes() == OLD.to_bytes()


def test_no_change_is_a_header() -> None:
    nothing = diff(OLD, OLD)
    assert len(nothing) == DELTA_HEADER_BYTES
    assert OLD.apply(nothing).to_bytes() == OLD.to_bytes()


def test_a_delta_from_empty_and_to_empty() -> None:
    empty = BloomFilter.build(tokens(0, 0), epoch=3, capacity=6_000)
    assert empty.apply(diff(empty, NEW)).to_bytes() == NEW.to_bytes()
    assert NEW.apply(diff(NEW, empty)).to_bytes() == empty.to_bytes()


def test_a_chain_of_deltas_leads_to_the_last_filter() -> None:
    chain = [BloomFilter.build(tokens(i, i + 500), capacity=600) for i in range(6)]
    reached = chain[0]
    for old, new in pairwise(chain):
        reached = reached.apply(diff(old, new))
    assert reached.to_bytes() == chain[-1].to_bytes()


def test_deltas_out_of_order_are_refused() -> None:
    chain = [BloomFilter.build(tokens(i, i + 500), capacity=600) for i in range(3)]
    second = diff(chain[1], chain[2])
    with pytest.raises(DeltaBaseError, match="missing deltas or the full file"):
        chain[0].apply(second)


def test_a_small_delta_takes_under_seven_bytes_a_change() -> None:
    rng = np.random.default_rng(1)
    listed = rng.integers(0, 256, (200_000, 16), dtype=np.uint8)
    old = BloomFilter.build(listed[:-200], capacity=200_000)
    new = BloomFilter.build(listed[100:-100], capacity=200_000)
    assert len(diff(old, new)) <= DELTA_HEADER_BYTES + 7 * 200


def test_other_layouts_and_epochs_have_no_delta() -> None:
    with pytest.raises(EpochMismatchError):
        diff(OLD, BloomFilter.build(tokens(0, 10), epoch=4, capacity=6_000))
    with pytest.raises(GeometryMismatchError):
        diff(OLD, BloomFilter.build(tokens(0, 10), epoch=3, capacity=6_001))


def test_a_change_of_more_than_an_eighth_of_the_bits_has_no_delta() -> None:
    empty, full = (BloomFilter.build(tokens(0, count), capacity=1_000) for count in (0, 1_000))
    with pytest.raises(DeltaSizeError, match="full file"):
        diff(empty, full)
    with pytest.raises(DeltaSizeError, match="full file"):
        diff(full, empty)


FORMAT_ATTACKS: dict[str, bytes] = {
    "nothing": b"",
    "half a header": DELTA[:50],
    "header alone": DELTA[:DELTA_HEADER_BYTES],
    "one byte short": DELTA[:-1],
    "one byte more": DELTA + b"\0",
    "a filter": OLD.to_bytes(),
    "version 0": put(8, "<H", 0),
    "version 2": put(8, "<H", 2),
    "reserved byte set": put(11, "<B", 1),
    "no blocks but bits": put(20, "<I", 0),
    "more blocks than bits": put(20, "<I", BITS + 1),
    "more blocks than the filter has": put(20, "<I", OLD.block_count + 1),
    "one block more": put(20, "<I", BLOCKS + 1),
    "one bit more": put(24, "<I", BITS + 1),
    "one bit fewer": put(24, "<I", BITS - 1),
    "more bits than fit the blocks": put(24, "<I", BLOCKS * 512 + 1),
    "more than an eighth of the bits": put(24, "<I", OLD.block_count * 64 + 1),
    "most bits a header can say": put(24, "<I", 2**32 - 1),
    "result count over the cap": put(44, "<Q", 2**40),
    "payload of zeros": DELTA[:DELTA_HEADER_BYTES] + bytes(len(DELTA) - DELTA_HEADER_BYTES),
    "payload of ones": DELTA[:DELTA_HEADER_BYTES] + b"\xff" * (len(DELTA) - DELTA_HEADER_BYTES),
    "padding of the blocks set": DELTA[: SPLIT - 1]
    + bytes([DELTA[SPLIT - 1] | 0x80])
    + DELTA[SPLIT:],
    "padding of the bits set": DELTA[:-1] + bytes([DELTA[-1] | 0x80]),
    "a block without a change": with_payload([1, 2], [3, 5]),
    "a block beyond the end": with_payload([OLD.block_count], [3]),
    "a block twice": with_payload([2, 2], [3, 515]),
    "a bit twice": with_payload([2], [3, 3]),
}


@pytest.mark.parametrize("delta", FORMAT_ATTACKS.values(), ids=FORMAT_ATTACKS.keys())
def test_bytes_that_are_not_one_canonical_delta_are_refused(delta: bytes) -> None:
    before = OLD.to_bytes()
    with pytest.raises(DeltaFormatError):
        OLD.apply(delta)
    assert OLD.to_bytes() == before


BASE_ATTACKS: dict[str, bytes] = {
    "other free bits": put(10, "<B", 6),
    "other epoch": put(12, "<I", 4),
    "other block count": put(16, "<I", OLD.block_count + 1),
    "other capacity": put(28, "<Q", 6_001),
    "other count before": put(36, "<Q", 999),
    "other base digest": put(52, "<B", DELTA[52] ^ 1),
    "the delta from the new one": diff(NEW, OLD),
}


@pytest.mark.parametrize("delta", BASE_ATTACKS.values(), ids=BASE_ATTACKS.keys())
def test_a_delta_for_another_filter_is_refused(delta: bytes) -> None:
    with pytest.raises(DeltaBaseError):
        OLD.apply(delta)


DIGEST_ATTACKS: dict[str, bytes] = {
    "other count after": put(44, "<Q", NEW.count + 1),
    "other result digest": put(84, "<B", DELTA[84] ^ 1),
    "other bits": with_payload([1, 2], [3, 515]),
    "nothing changes": with_payload([], []),
}


@pytest.mark.parametrize("delta", DIGEST_ATTACKS.values(), ids=DIGEST_ATTACKS.keys())
def test_a_delta_that_leads_elsewhere_is_thrown_away(delta: bytes) -> None:
    before = OLD.to_bytes()
    with pytest.raises(DeltaDigestError, match="full file"):
        OLD.apply(delta)
    assert OLD.to_bytes() == before


def test_no_flipped_bit_gets_through() -> None:
    for bit in range(0, len(DELTA) * 8, 3):
        changed = bytearray(DELTA)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DeltaError):
            OLD.apply(bytes(changed))


@pytest.mark.parametrize(
    "delta",
    [None, "tipdelta", 5, memoryview(DELTA)[::2]],
    ids=["none", "text", "number", "strided"],
)
def test_things_that_are_not_bytes_are_refused(delta: object) -> None:
    with pytest.raises(DeltaFormatError, match="bytes"):
        OLD.apply(delta)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("values", "universe"),
    [
        ([], 10),
        ([0], 1),
        ([9], 10),
        ([0, 1, 2, 3], 4),
        ([0, 2**33], 2**33 + 1),
        (list(range(0, 5_000, 7)), 5_000),
        ([511], 512),
    ],
)
def test_increasing_numbers_survive_their_code(values: list[int], universe: int) -> None:
    code = encode_increasing(np.array(values, np.intp), universe)
    assert len(code) == encoded_bytes(len(values), universe)
    assert decode_increasing(memoryview(code), len(values), universe).tolist() == values
