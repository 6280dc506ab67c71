"""Deltas: from one filter to the next of the same layout, in about 6 bytes per token added or
removed.

The bits that differ cluster: a token touches one block only. So a delta names the blocks with
changes first, then the changed bits in the row of just those blocks. Both are strictly increasing
numbers in Elias-Fano coding: the low bits of each number as they are, the high bits as gaps in
unary. That costs about half a bit a number more than the entropy, and NumPy codes all of them at
once.

The delta that sets bit 9 of block 2, in a filter of 4 blocks, epoch 7:

    74697064 656c7461    magic "tipdelta"
    0100 05 00           version 1, free bits, reserved
    07000000 04000000    epoch, block count
    01000000 01000000    changed blocks, changed bits
    40000000 00000000    capacity
    03000000 00000000    count before
    04000000 00000000    count after
    32 bytes             SHA-256 of the wire form of the filter it starts from
    32 bytes             SHA-256 of the wire form of the filter it leads to
    02 01                block 2 of 4: two low bits 10, high part 0 as gap 0 (a one)
    0900 01              bit 9 of 512: nine low bits, high part 0

Numbers are little-endian, bits fill bytes from the lowest. Padding and reserved bits are zero and
the file ends with the last code.

Sources: Elias, "Efficient Storage and Retrieval by Content and Address of Static Files" (1974);
Fano, "On the Number of Bits Required to Implement an Associative Memory" (1971).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from tipstaff_bloom.elias_fano import decode_increasing, encoded_bytes
from tipstaff_bloom.errors import DeltaBaseError, DeltaFormatError
from tipstaff_bloom.geometry import BLOCK_BITS, Geometry
from tipstaff_bloom.wire import MAX_COUNT, Header

if TYPE_CHECKING:
    from numpy.typing import NDArray

DELTA_MAGIC: Final = b"tipdelta"
DELTA_VERSION: Final = 1

HEADER: Final = struct.Struct("<8sHBBIIIIQQQ32s32s")
DELTA_HEADER_BYTES: Final = HEADER.size  # 116


@dataclass(frozen=True, slots=True)
class FilterDelta:
    """What a delta says: the header and digest of its result, and which bits to flip (strictly
    increasing).
    """

    header: Header
    digest: bytes
    flips: NDArray[np.intp]


class DeltaBase(Protocol):
    """What a delta starts from: a filter."""

    @property
    def header(self) -> Header:
        """Its layout, epoch and count."""
        ...

    @property
    def digest(self) -> bytes:
        """SHA-256 of its wire form, 32 bytes."""
        ...


def parse_delta(delta: bytes, base: DeltaBase) -> FilterDelta:
    """Reads a delta for `base`; raises DeltaFormatError for non-canonical bytes, DeltaBaseError
    when it is for another filter.
    """
    try:
        view = memoryview(delta).toreadonly().cast("B")
    except TypeError as error:
        raise DeltaFormatError("a delta is a contiguous buffer of bytes") from error
    if len(view) < DELTA_HEADER_BYTES:
        raise DeltaFormatError(
            f"a delta has at least {DELTA_HEADER_BYTES} bytes, this has {len(view)}: fetch the full"
            " file"
        )
    fields = HEADER.unpack_from(view)
    (
        magic,
        version,
        free_bits,
        reserved,
        epoch,
        block_count,
        blocks,
        bits,
        capacity,
        old_count,
        new_count,
        old_digest,
        new_digest,
    ) = fields
    if magic != DELTA_MAGIC:
        raise DeltaFormatError("not a delta: the magic is wrong")
    if version != DELTA_VERSION:
        raise DeltaFormatError(
            f"delta version {version} is not known here, only {DELTA_VERSION}: update the software"
        )
    if reserved:
        raise DeltaFormatError("reserved byte of the delta header is not zero")
    if new_count > MAX_COUNT:
        raise DeltaFormatError(f"count must be at most {MAX_COUNT}, not {new_count}")
    expected = Header(Geometry(block_count, free_bits, capacity), epoch, old_count)
    if expected != base.header or old_digest != base.digest:
        raise DeltaBaseError(
            "the delta starts from another filter than this one: fetch the missing deltas or the"
            " full file"
        )
    if (
        not blocks <= bits <= blocks * BLOCK_BITS
        or blocks > block_count
        or bits > most_bits(block_count)
    ):
        raise DeltaFormatError(
            f"a delta cannot change {bits} bits in {blocks} of {block_count} blocks"
        )
    flips = _decode_flips(view, block_count, blocks, bits)
    return FilterDelta(Header(base.header.geometry, epoch, new_count), new_digest, flips)


def _decode_flips(view: memoryview, block_count: int, blocks: int, bits: int) -> NDArray[np.intp]:
    split = DELTA_HEADER_BYTES + encoded_bytes(blocks, block_count)
    end = split + encoded_bytes(bits, blocks * BLOCK_BITS)
    if len(view) != end:
        raise DeltaFormatError(
            f"the delta header says {end} bytes, there are {len(view)}: fetch it again"
        )
    block = decode_increasing(view[DELTA_HEADER_BYTES:split], blocks, block_count)
    row, bit = np.divmod(decode_increasing(view[split:end], bits, blocks * BLOCK_BITS), BLOCK_BITS)
    if np.count_nonzero(np.diff(row, prepend=-1)) != blocks:  # row never decreases
        raise DeltaFormatError("the delta names a block without a change in it")
    return block[row] * BLOCK_BITS + bit


def most_bits(block_count: int) -> int:
    """How many bits a delta may change: it bounds the memory of whoever applies it, at eight times
    the filter's.
    """
    return block_count * BLOCK_BITS // 8
