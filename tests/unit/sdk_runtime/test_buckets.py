"""The lean profile's source of records: what it asks for, what it keeps, what it does not believe."""

from __future__ import annotations

import random

import pytest

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import ParametersError, StaleListingError, UntrustedError
from tipstaff_sdk.packs.bucket_tree import BucketTree, padded, survey
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack
from tipstaff_sdk.sync.buckets import BucketCache, BucketSource


class World:
    """A pack, and a server that counts what it is asked."""

    def __init__(self, seed: int = 1, version: int = 4) -> None:
        chosen = random.Random(seed)
        self.locators = [chosen.randbytes(8) for _ in range(200)]
        with PackBuilder(9, bucket_bits=3) as builder:
            for locator in self.locators:
                builder.add(locator, chosen.randbytes(16), chosen.randbytes(272))
            self.pack = Pack(builder.to_bytes())
        self.parameters = listing_pb2.ListingParameters(
            version=version, epoch=9, buckets=survey(self.pack)
        )
        self.asked: list[tuple[int, int]] = []

    def fetch(self, version: int, number: int) -> tuple[bytes, bytes]:
        self.asked.append((version, number))
        if version != self.parameters.version:
            raise StaleListingError("another listing is published")
        return padded(self.pack.bucket(number), self.parameters.buckets.answer_size), BucketTree(
            self.pack
        ).path(number)


def test_it_finds_what_the_pack_finds_and_asks_once_for_each_bucket() -> None:
    world = World()
    source = BucketSource(world.parameters, world.fetch)
    strangers = [random.Random(5).randbytes(8) for _ in range(50)]
    for locator in [*world.locators, *strangers]:
        assert source.find(locator) == world.pack.find(locator)
    assert sorted(world.asked) == [(4, number) for number in range(8)]
    assert source.epoch == 9
    assert repr(source) == "BucketSource(epoch=9, bits=3, kept=8)"


def test_strangers_are_asked_for_as_the_listed_are() -> None:
    listed, stranger = World(), World()
    locator = listed.locators[0]
    beside = locator[:1] + bytes(7)
    assert not stranger.pack.find(beside)
    BucketSource(listed.parameters, listed.fetch).find(locator)
    BucketSource(stranger.parameters, stranger.fetch).find(beside)
    assert listed.asked == stranger.asked


def test_buckets_of_the_same_pack_are_kept_over_a_new_listing_and_others_are_not() -> None:
    world = World()
    first = BucketSource(world.parameters, world.fetch)
    first.find(world.locators[0])
    world.parameters.version = 5
    again = BucketSource(world.parameters, world.fetch, first)
    assert again.find(world.locators[0]) == world.pack.find(world.locators[0])
    assert len(world.asked) == 1
    other = World(seed=2, version=6)
    assert BucketSource(other.parameters, other.fetch, again).cache is not again.cache


def test_what_fails_is_not_kept() -> None:
    world = World()
    source = BucketSource(
        world.parameters,
        lambda version, number: (bytes(world.parameters.buckets.answer_size), bytes(96)),
    )
    for _ in range(2):
        with pytest.raises(UntrustedError):
            source.find(world.locators[0])
    assert len(source.cache) == 0
    stale = listing_pb2.ListingParameters(version=3, epoch=9, buckets=world.parameters.buckets)
    with pytest.raises(StaleListingError):
        BucketSource(stale, world.fetch).find(world.locators[0])


def test_a_listing_without_buckets_says_so_when_it_is_opened() -> None:
    with pytest.raises(ParametersError, match="profile = full"):
        BucketSource(listing_pb2.ListingParameters(version=3, epoch=9), World().fetch)


def test_the_cache_is_bounded_and_lets_the_longest_unused_go() -> None:
    cache = BucketCache(b"root", limit=100)
    for number in range(4):
        cache.put(number, bytes(25))
    assert cache.get(0) == bytes(25)
    cache.put(4, bytes(25))
    assert [cache.get(number) is not None for number in range(5)] == [True, False, True, True, True]
    cache.put(0, bytes(100))
    assert len(cache) == 1
    cache.put(7, bytes(101))
    assert cache.get(7) is None
    cache.put(8, b"")
    assert cache.get(8) == b""
    cache.after_fork_in_child()
    assert cache.get(0) == bytes(100)
