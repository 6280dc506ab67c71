"""The lean profile's source of records: whole buckets, asked for one by one and kept in memory for
as long as their listing is in use.

The server learns which bucket was asked for and never which number in it; requests are of one
length and so are answers. Whatever the filter lets through is asked for, false positives too,
because nobody here knows better before the answer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from tipstaff_sdk.listing.sealing import LOCATOR_SIZE
from tipstaff_sdk.packs.bucket_tree import check_parameters, open_answer
from tipstaff_sdk.packs.pack import parse_bucket

if TYPE_CHECKING:
    from tipstaff.v1 import listing_pb2
    from tipstaff_sdk.packs.pack import SealedCopy

__all__ = ["BucketCache", "BucketSource", "FetchBucket"]

CACHE_BYTES: Final = 16 << 20


class FetchBucket(Protocol):
    """Asks the server for a bucket of a listing."""

    def __call__(self, listing_version: int, bucket: int, /) -> tuple[bytes, bytes]:
        """The padded bucket and its path.

        Raises StaleListingError: another listing is published by now; TransportError.
        """
        ...


class BucketCache:
    """Buckets that were verified, for one root; the least recently used go first.

    Thread-safe, bounded, in memory only.
    """

    def __init__(self, root: bytes, limit: int = CACHE_BYTES) -> None:
        self.root = root
        self._limit = limit
        self._held = 0
        self._buckets: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> bytes | None:
        """A bucket, None when it is not here."""
        with self._lock:
            bucket = self._buckets.get(number)
            if bucket is not None:
                self._buckets.move_to_end(number)
            return bucket

    def put(self, number: int, bucket: bytes) -> None:
        """Keeps a bucket, and lets others go as far as needed.

        One that is larger than the whole cache is not kept.
        """
        if len(bucket) > self._limit:
            return
        with self._lock:
            self._held += len(bucket) - len(self._buckets.pop(number, b""))
            self._buckets[number] = bucket
            while self._held > self._limit:
                self._held -= len(self._buckets.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._buckets)

    def after_fork_in_child(self) -> None:
        """A lock of its own."""
        self._lock = threading.Lock()


class BucketSource:
    """Sealed records of one listing, as `Pack.find` gives them. Safe to share between threads.

    Takes over the buckets that `before` holds when they are of the same pack. Raises
    ParametersError for a listing without buckets.
    """

    def __init__(
        self,
        parameters: listing_pb2.ListingParameters,
        fetch: FetchBucket,
        before: BucketSource | None = None,
    ) -> None:
        check_parameters(parameters.buckets)
        self.epoch: Final[int] = parameters.epoch
        self._version = parameters.version
        self._buckets = parameters.buckets
        self._fetch = fetch
        same = before is not None and before.cache.root == self._buckets.root
        self.cache: Final[BucketCache] = (
            before.cache if before is not None and same else BucketCache(self._buckets.root)
        )

    def find(self, locator: bytes) -> list[SealedCopy]:
        """Sealed copies at a locator (8 bytes), perhaps after a round trip.

        Raises TransportError: the bucket cannot be had; UntrustedError: what came is not what was
        signed; PackFormatError.
        """
        bits = self._buckets.bits
        number = int.from_bytes(locator, "big") >> (8 * LOCATOR_SIZE - bits)
        bucket = self.cache.get(number)
        if bucket is None:
            answer, path = self._fetch(self._version, number)
            bucket = open_answer(answer, path, number, self._buckets)
            self.cache.put(number, bucket)
        return [copy for found, copy in parse_bucket(bucket, number, bits) if found == locator]

    def __repr__(self) -> str:
        return (
            f"BucketSource(epoch={self.epoch}, bits={self._buckets.bits}, kept={len(self.cache)})"
        )
