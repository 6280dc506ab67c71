"""Making a delta from two filters of the same geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tipstaff_bloom.delta import DELTA_MAGIC, DELTA_VERSION, HEADER, most_bits
from tipstaff_bloom.elias_fano import encode_increasing
from tipstaff_bloom.errors import DeltaSizeError
from tipstaff_bloom.geometry import BLOCK_BITS, BLOCK_WORDS
from tipstaff_bloom.wire import require_same_layout

if TYPE_CHECKING:
    from tipstaff_bloom.filter import BloomFilter

__all__ = ["diff"]


def diff(old: BloomFilter, new: BloomFilter) -> bytes:
    """The delta from `old` to `new`: `old.apply(diff(old, new))` is `new`, byte for byte.

    Raises EpochMismatchError or GeometryMismatchError when they are laid out differently,
    DeltaSizeError when more than an eighth of the bits change: ship the full file then. It can pay
    to ship the file from half of that on; compare the lengths.
    """
    require_same_layout(old.header, new.header)
    geometry = new.header.geometry
    changed = old.words ^ new.words
    if int(np.bitwise_count(changed).sum(dtype=np.int64)) > most_bits(geometry.block_count):
        raise DeltaSizeError("more than an eighth of the bits change: ship the full file")
    blocks = np.flatnonzero(changed.reshape(-1, BLOCK_WORDS).any(axis=1))
    rows = changed.reshape(-1, BLOCK_WORDS)[blocks]
    bits = np.flatnonzero(np.unpackbits(rows.view(np.uint8).reshape(-1), bitorder="little"))
    header = HEADER.pack(
        DELTA_MAGIC,
        DELTA_VERSION,
        geometry.free_bits,
        0,
        new.epoch,
        geometry.block_count,
        len(blocks),
        len(bits),
        geometry.capacity,
        old.count,
        new.count,
        old.digest,
        new.digest,
    )
    return (
        header
        + encode_increasing(blocks, geometry.block_count)
        + encode_increasing(bits, len(blocks) * BLOCK_BITS)
    )
