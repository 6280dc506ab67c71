"""Filters of others, each as its own documentation uses it, for the same work: from an 18-character
resident ID under a secret key.

A filter that travels must not tell who is in it, so the number is keyed before it is looked up. For
the peers that is keyed BLAKE2b of the standard library (RFC 7693), the cheapest sound keyed
function that takes 18 bytes in Python; where a peer wants a number, its first eight bytes. Our own
path is one AES block. Peers are given the number as bytes already and need not look whether it is
one; ours verifies the check character and the date of birth.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["PEERS", "Peer", "keyed"]

FPR: Final = 1e-3
_KEY: Final = bytes(range(32))
_CHUNK: Final = 100_000


def keyed(number: bytes) -> bytes:
    """16 bytes for a number."""
    return hashlib.blake2b(number, digest_size=16, key=_KEY).digest()


@dataclass(frozen=True)
class Peer:
    """build: a filter of `count` items (16 bytes each) from an iterable of chunks. one: one keyed
    check. many: a whole list of them.

    limit: the most items that are worth waiting for; a smaller filter is faster to ask, so that
    favours the peer.
    """

    name: str
    module: str
    build: Callable[[int, Iterable[Sequence[bytes]]], Any]
    one: Callable[[Any], Callable[[bytes], object]]
    many: Callable[[Any], Callable[[Sequence[bytes]], object]]
    limit: int = 10_000_000


def _by_in(members: Any) -> Callable[[bytes], object]:
    return lambda number: keyed(number) in members


def _each_in(members: Any) -> Callable[[Sequence[bytes]], object]:
    blake2b, key = hashlib.blake2b, _KEY
    return lambda numbers: [
        blake2b(number, digest_size=16, key=key).digest() in members for number in numbers
    ]


def _adding(
    make: Callable[[int], Any], add: str = "add"
) -> Callable[[int, Iterable[Sequence[bytes]]], Any]:
    def build(count: int, chunks: Iterable[Sequence[bytes]]) -> Any:
        members = make(count)
        for chunk in chunks:
            if add == "add":
                for item in chunk:
                    members.add(item)
            else:
                getattr(members, add)(chunk)
        return members

    return build


def _rbloom(count: int) -> Any:
    return import_module("rbloom").Bloom(count, FPR)


def _abloom(count: int) -> Any:
    return import_module("abloom").BloomFilter(count, FPR)


def _bloom_filter2(count: int) -> Any:
    return import_module("bloom_filter2").BloomFilter(max_elements=count, error_rate=FPR)


def _pybloomfilter(count: int) -> Any:
    return import_module("pybloomfilter").BloomFilter(count, FPR)


def _fastbloom(count: int) -> Any:
    return import_module("fastbloom_rs").BloomFilter(count, FPR)


def _fastbloom_one(members: Any) -> Callable[[bytes], object]:
    contains = members.contains_bytes
    return lambda number: contains(keyed(number))


def _fastbloom_many(members: Any) -> Callable[[Sequence[bytes]], object]:
    blake2b, key, contains = hashlib.blake2b, _KEY, members.contains_bytes_batch
    return lambda numbers: contains(
        [blake2b(number, digest_size=16, key=key).digest() for number in numbers]
    )


def _fuse(count: int, chunks: Iterable[Sequence[bytes]]) -> Any:
    """Its own hash of `str(item)` fails with xxhash 4 (a type error), and is not needed for numbers
    that are random already: left out.
    """
    del count
    import_module("pyfusefilter.pyfusefilter").__dict__["hash"] = _itself
    return import_module("pyfusefilter").Fuse16(
        [int.from_bytes(item[:8], "big") for chunk in chunks for item in chunk]
    )


def _itself(item: int) -> int:
    return item


def _fuse_one(members: Any) -> Callable[[bytes], object]:
    contains = members.contains
    return lambda number: contains(int.from_bytes(keyed(number)[:8], "big"))


def _fuse_many(members: Any) -> Callable[[Sequence[bytes]], object]:
    one = _fuse_one(members)
    return lambda numbers: [one(number) for number in numbers]


PEERS: Final = (
    Peer("rbloom", "rbloom", _adding(_rbloom, "update"), _by_in, _each_in),
    Peer("abloom", "abloom", _adding(_abloom, "update"), _by_in, _each_in),
    Peer(
        "pybloomfiltermmap3", "pybloomfilter", _adding(_pybloomfilter, "update"), _by_in, _each_in
    ),
    Peer(
        "fastbloom-rs",
        "fastbloom_rs",
        _adding(_fastbloom, "add_bytes_batch"),
        _fastbloom_one,
        _fastbloom_many,
    ),
    Peer("pyfusefilter", "pyfusefilter", _fuse, _fuse_one, _fuse_many, limit=1_000_000),
    Peer(
        "bloom-filter2", "bloom_filter2", _adding(_bloom_filter2), _by_in, _each_in, limit=100_000
    ),
)
