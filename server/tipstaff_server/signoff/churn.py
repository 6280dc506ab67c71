"""How much of a listing is new: two packs gone through side by side, without memory of either."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tipstaff_sdk.packs.pack import parse_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tipstaff_sdk.packs.pack import Pack

__all__ = ["additions"]


def additions(old: Pack, new: Pack) -> int:
    """Records of `new` whose locator and commitment are not in `old`; both of one epoch.

    Raises PackFormatError.
    """
    count = 0
    before = chain(_keys(old), [b"\xff" * 25])
    passing = next(before)
    for key in _keys(new):
        while passing < key:
            passing = next(before)
        count += passing != key
    return count


def _keys(pack: Pack) -> Iterator[bytes]:
    """Locator and commitment of every record, ascending: buckets ascend, and records in them."""
    for prefix in range(1 << pack.bucket_bits):
        for locator, copy in parse_bucket(pack.bucket(prefix), prefix, pack.bucket_bits):
            yield locator + copy.commitment
