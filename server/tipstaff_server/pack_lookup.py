"""Sealed records of a pack in random order, as the sign-off asks for them: the registry's subjects come in no order that a pack knows.

A bucket has some sixty records, and to take one apart for each subject was most of a sign-off. So every bucket is taken apart once, and
kept are the places where records begin, 8 bytes each. A record is then found by searching its bucket for locator and commitment, which are
24 bytes, and counts only where one begins: the inside of another record, which a builder could choose, is not looked into.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from tipstaff_sdk.pack import RECORD_HEAD, record_end, record_spans
from tipstaff_sdk.sealing import LOCATOR_SIZE

if TYPE_CHECKING:
    from tipstaff_sdk.pack import Pack

__all__ = ["PackLookup"]


class PackLookup:
    """Of an open pack. Reads all of it, and raises PackFormatError when a bucket is damaged or another's."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._bits = pack.bucket_bits
        self._offsets = array("Q", pack.offsets().tolist())
        self._starts = array("Q")
        for prefix, offset in enumerate(self._offsets[:-1]):
            self._starts.extend([offset + start for _, start, _ in record_spans(pack.bucket(prefix), prefix, self._bits)])

    def bucket(self, locator: bytes) -> tuple[int, bytes]:
        """Where the locator's bucket begins, and its bytes: for `sealed`."""
        prefix = int.from_bytes(locator, "big") >> (8 * LOCATOR_SIZE - self._bits)
        return self._offsets[prefix], self._pack.bucket(prefix)

    def sealed(self, bucket: tuple[int, bytes], locator: bytes, commitment: bytes) -> bytes | None:
        """The sealed record of a locator (8 bytes) and a commitment, from the locator's bucket; None: there is none."""
        offset, content = bucket
        key = locator + commitment
        position = content.find(key)
        while position >= 0:
            index = bisect_left(self._starts, offset + position)
            if index < len(self._starts) and self._starts[index] == offset + position:
                return content[position + RECORD_HEAD.size : record_end(content, position)]
            position = content.find(key, position + 1)
        return None
