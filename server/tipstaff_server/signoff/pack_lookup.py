"""Sealed records of a pack in random order, as the sign-off asks for them: the registry's subjects
come in no order that a pack knows.

A bucket has some sixty records, and to take one apart for each subject was most of a sign-off. So
every bucket is taken apart once, and kept are the places where records begin, 8 bytes each. Records
lie in the order of locator and commitment, so one is found by binary search.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from tipstaff_sdk.listing.sealing import LOCATOR_SIZE
from tipstaff_sdk.packs.pack import KEY_SIZE, RECORD_HEAD, record_end, record_spans

if TYPE_CHECKING:
    from tipstaff_sdk.packs.pack import Pack

__all__ = ["PackLookup"]


class PackLookup:
    """Of an open pack.

    Reads all of it, and raises PackFormatError when a bucket is damaged or another's.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._starts = array("Q")  # of each record in its bucket, bucket after bucket
        self._bounds = array("Q", [0])  # of each bucket in that
        for prefix in range(1 << pack.bucket_bits):
            self._starts.extend(
                start for _, start, _ in record_spans(pack.bucket(prefix), prefix, pack.bucket_bits)
            )
            self._bounds.append(len(self._starts))

    def sealed(self, locator: bytes, commitment: bytes) -> bytes | None:
        """The sealed record of a locator (8 bytes) and a commitment (16 bytes); None: there is
        none.
        """
        prefix = int.from_bytes(locator, "big") >> (8 * LOCATOR_SIZE - self._pack.bucket_bits)
        bucket, key = self._pack.bucket(prefix), locator + commitment
        first, last = self._bounds[prefix], self._bounds[prefix + 1]
        place = bisect_left(
            self._starts, key, first, last, key=lambda start: bucket[start : start + KEY_SIZE]
        )
        if place == last:
            return None
        start = self._starts[place]
        return (
            bucket[start + RECORD_HEAD.size : record_end(bucket, start)]
            if bucket.startswith(key, start)
            else None
        )
