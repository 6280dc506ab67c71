"""The Merkle tree over buckets: every bucket verifies, nothing else does, and answers do not tell
buckets apart by their size.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import PackFormatError, ParametersError, UntrustedError
from tipstaff_sdk.packs.bucket_tree import BucketTree, check_parameters, open_answer, padded, survey
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack, parse_bucket

if TYPE_CHECKING:
    from collections.abc import Callable


def build(
    locators: list[bytes],
    *,
    bits: int | None = None,
    least: int | None = None,
    copies: int = 1,
    size: int = 256,
) -> Pack:
    chosen = random.Random(7)
    with PackBuilder(5, bucket_bits=bits) as builder:
        for locator in locators:
            for _ in range(copies):
                builder.add(locator, chosen.randbytes(16), chosen.randbytes(size + 16))
        if least is not None:
            builder.spread(least=least)
        return Pack(builder.to_bytes())


def locators(count: int, seed: int = 1) -> list[bytes]:
    chosen = random.Random(seed)
    return [chosen.randbytes(8) for _ in range(count)]


PACK = build(locators(100), bits=3)
SAID = survey(PACK)
TREE = BucketTree(PACK)


def answer(number: int) -> tuple[bytes, bytes]:
    return padded(PACK.bucket(number), SAID.answer_size), TREE.path(number)


def test_the_root_is_what_the_format_page_says() -> None:
    def node(level: int, number: int) -> bytes:
        if level == 0:
            return hashlib.sha256(b"\0" + PACK.bucket(number)).digest()
        return hashlib.sha256(
            b"\1" + node(level - 1, 2 * number) + node(level - 1, 2 * number + 1)
        ).digest()

    assert SAID.root == TREE.root == node(3, 0)
    assert TREE.path(5) == node(0, 4) + node(1, 3) + node(2, 0)


@pytest.mark.parametrize("bits", [0, 1, 6, 9])
def test_every_bucket_verifies_also_empty_ones(bits: int) -> None:
    pack = build(locators(60), bits=bits)
    said, tree = survey(pack), BucketTree(pack)
    assert said.bits == bits
    for number in range(1 << bits):
        assert open_answer(
            padded(pack.bucket(number), said.answer_size), tree.path(number), number, said
        ) == pack.bucket(number)


def test_an_empty_pack_has_one_bucket_that_verifies() -> None:
    pack = build([])
    said = survey(pack)
    assert (said.bits, said.least_numbers, said.median_numbers) == (0, 0, 0)
    assert open_answer(padded(b"", said.answer_size), b"", 0, said) == b""


def test_all_answers_have_one_size_whatever_is_in_the_bucket() -> None:
    uneven = [bytes([number]) * 8 for number in range(0, 256, 3)] + [
        b"\xf0" + bytes([number]) * 7 for number in range(60)
    ]
    pack = build(uneven, bits=4)
    said, tree = survey(pack), BucketTree(pack)
    sizes = {len(pack.bucket(number)) for number in range(16)}
    answers = [
        (padded(pack.bucket(number), said.answer_size), tree.path(number)) for number in range(16)
    ]
    assert len(sizes) > 2
    assert {(len(bucket), len(path)) for bucket, path in answers} == {(said.answer_size, 4 * 32)}
    assert said.answer_size & (said.answer_size - 1) == 0
    assert said.answer_size >= max(sizes) + 4


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FORGED: dict[str, Callable[[bytes, bytes], tuple[bytes, bytes]]] = {
    "a flipped bit in a record": lambda bucket, path: (flip(bucket, 100), path),
    "a flipped bit in the path": lambda bucket, path: (bucket, flip(path, 40)),
    "another bucket": lambda bucket, path: answer(4),
    "another bucket's content": lambda bucket, path: (answer(4)[0], path),
    "another bucket's path": lambda bucket, path: (bucket, answer(4)[1]),
    "nothing, as if nobody were listed": lambda bucket, path: (padded(b"", SAID.answer_size), path),
    "a record less": lambda bucket, path: (padded(PACK.bucket(5)[:-297], SAID.answer_size), path),
    "a byte after the end": lambda bucket, path: (bucket[:-1] + b"x", path),
    "another size": lambda bucket, path: (bucket + bytes(SAID.answer_size), path),
    "truncated": lambda bucket, path: (bucket[:-1], path),
    "empty": lambda bucket, path: (b"", b""),
    "a length beyond the end": lambda bucket, path: (b"\xff\xff\xff\xff" + bucket[4:], path),
    "a shorter path": lambda bucket, path: (bucket, path[:-32]),
    "a longer path": lambda bucket, path: (bucket, path + bytes(32)),
    "an inner node as a bucket": lambda bucket, path: (
        padded(b"\1" + path[:64], SAID.answer_size),
        path[32:],
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_was_not_signed_is_not_believed(name: str) -> None:
    bucket, path = FORGED[name](*answer(5))
    with pytest.raises(UntrustedError):
        open_answer(bucket, path, 5, SAID)


def test_a_bucket_of_another_listing_is_not_believed() -> None:
    other = build(locators(100, seed=2), bits=3)
    with pytest.raises(UntrustedError, match="not the one that was signed"):
        open_answer(padded(other.bucket(5), SAID.answer_size), BucketTree(other).path(5), 5, SAID)


def test_numbers_are_counted_and_not_their_names() -> None:
    pack = build(locators(64), bits=2, copies=3)
    counts = sorted(
        len({found for found, _ in parse_bucket(pack.bucket(number), number, 2)})
        for number in range(4)
    )
    said = survey(pack)
    assert (said.least_numbers, said.median_numbers) == (counts[0], counts[1])
    assert sum(counts) == 64


@pytest.mark.parametrize(
    ("count", "copies"), [(0, 1), (10, 1), (16, 1), (40, 4), (500, 1), (3_000, 2)]
)
def test_as_many_buckets_as_leave_enough_numbers_in_every_one(count: int, copies: int) -> None:
    found = locators(count)
    pack = build(found, least=16, copies=copies)
    said = survey(pack)
    assert said.least_numbers >= min(16, count)
    finer = build(found, bits=pack.bucket_bits + 1, copies=copies)
    assert survey(finer).least_numbers < 16 or finer.bucket_bits > max(
        0, (count * copies // 16).bit_length() - 1
    )


def test_bits_stay_while_they_do_so_that_deltas_remain_possible() -> None:
    found = locators(2_000)

    def spread(people: list[bytes], keep: int | None) -> int:
        with PackBuilder(5) as builder:
            for locator in people:
                builder.add(locator, bytes(16), bytes(272))
            return builder.spread(least=16, keep=keep)

    chosen = spread(found, None)
    assert spread(found[:-40], chosen) == chosen
    assert spread(found, chosen - 1) in {chosen - 1, chosen}
    assert spread(found, 0) == chosen  # much too coarse
    assert spread(found[:40], chosen) < chosen  # too fine: not enough in each any more
    assert spread(found, 28) == chosen


@pytest.mark.parametrize(
    "said",
    [
        listing_pb2.BucketParameters(),
        listing_pb2.BucketParameters(bits=3, root=bytes(31), answer_size=1 << 12),
        listing_pb2.BucketParameters(bits=29, root=bytes(32), answer_size=1 << 12),
        listing_pb2.BucketParameters(bits=3, root=bytes(32), answer_size=100),
        listing_pb2.BucketParameters(bits=3, root=bytes(32), answer_size=1 << 30),
    ],
)
def test_parameters_without_usable_buckets_are_refused(said: listing_pb2.BucketParameters) -> None:
    with pytest.raises(ParametersError):
        check_parameters(said)


def test_a_bucket_that_no_answer_can_hold_is_refused_at_the_build() -> None:
    pack = build(locators(129), bits=0, size=65_536)
    with pytest.raises(PackFormatError, match="more bucket bits"):
        survey(pack)
