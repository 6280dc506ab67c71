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
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.errors import DeltaBaseError, DeltaFormatError, DeltaSizeError
from tipstaff_bloom.geometry import BLOCK_BITS, BLOCK_WORDS, Geometry
from tipstaff_bloom.wire import MAX_COUNT, Header, require_same_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tipstaff_bloom.filter import BloomFilter

DELTA_MAGIC: Final = b"tipdelta"
DELTA_VERSION: Final = 1

_HEADER: Final = struct.Struct("<8sHBBIIIIQQQ32s32s")
DELTA_HEADER_BYTES: Final = _HEADER.size  # 116


@dataclass(frozen=True, slots=True)
class Delta:
    """What a delta says: the header and digest of its result, and which bits to flip (strictly
    increasing).
    """

    header: Header
    digest: bytes
    flips: NDArray[np.intp]


def diff(old: BloomFilter, new: BloomFilter) -> bytes:
    """The delta from `old` to `new`: `old.apply(diff(old, new))` is `new`, byte for byte.

    Raises EpochMismatchError or GeometryMismatchError when they are laid out differently,
    DeltaSizeError when more than an eighth of the bits change: ship the full file then. It can pay
    to ship the file from half of that on; compare the lengths.
    """
    require_same_layout(old.header, new.header)
    geometry = new.header.geometry
    changed = old.words ^ new.words
    if int(np.bitwise_count(changed).sum(dtype=np.int64)) > _most_bits(geometry.block_count):
        raise DeltaSizeError("more than an eighth of the bits change: ship the full file")
    blocks = np.flatnonzero(changed.reshape(-1, BLOCK_WORDS).any(axis=1))
    rows = changed.reshape(-1, BLOCK_WORDS)[blocks]
    bits = np.flatnonzero(np.unpackbits(rows.view(np.uint8).reshape(-1), bitorder="little"))
    header = _HEADER.pack(
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


def parse_delta(delta: bytes, base: BloomFilter) -> Delta:
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
    fields = _HEADER.unpack_from(view)
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
        or bits > _most_bits(block_count)
    ):
        raise DeltaFormatError(
            f"a delta cannot change {bits} bits in {blocks} of {block_count} blocks"
        )
    flips = _decode_flips(view, block_count, blocks, bits)
    return Delta(Header(base.header.geometry, epoch, new_count), new_digest, flips)


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


def _most_bits(block_count: int) -> int:
    """How many bits a delta may change: it bounds the memory of whoever applies it, at eight times
    the filter's.
    """
    return block_count * BLOCK_BITS // 8


def encoded_bytes(size: int, universe: int) -> int:
    """Bytes that `size` increasing numbers below `universe` take."""
    if not size:
        return 0
    low, high = _split(size, universe)
    return -(-low * size // 8) + -(-high // 8)


def encode_increasing(values: NDArray[np.intp], universe: int) -> bytes:
    """Elias-Fano code of strictly increasing numbers in 0 .. universe - 1, shape (n,); nothing for
    none of them.
    """
    size = len(values)
    if not size:
        return b""
    low, high = _split(size, universe)
    low_bits = np.empty((size, low), np.uint8)
    for number in range(low):
        low_bits[:, number] = (values >> number) & 1
    unary = np.zeros(high, np.uint8)
    unary[(values >> low) + np.arange(size)] = 1
    return (
        np.packbits(low_bits, bitorder="little").tobytes()
        + np.packbits(unary, bitorder="little").tobytes()
    )


def decode_increasing(code: memoryview, size: int, universe: int) -> NDArray[np.intp]:
    """The numbers of a code of `encoded_bytes(size, universe)` bytes; raises DeltaFormatError
    unless it is canonical.
    """
    if not size:
        return np.empty(0, np.intp)
    low, high = _split(size, universe)
    split = -(-low * size // 8)
    low_bits = np.unpackbits(np.frombuffer(code[:split], np.uint8), bitorder="little")
    unary = np.unpackbits(np.frombuffer(code[split:], np.uint8), bitorder="little")
    if low_bits[low * size :].any() or unary[high:].any():
        raise DeltaFormatError("padding bits of the delta are not zero")
    gaps = np.flatnonzero(unary)
    if len(gaps) != size:
        raise DeltaFormatError(f"the delta codes {len(gaps)} numbers where {size} are due")
    values = (gaps - np.arange(size)) << low
    rows = low_bits[: low * size].reshape(size, low)
    for number in range(low):
        values |= rows[:, number].astype(np.intp) << number
    if values[-1] >= universe:
        raise DeltaFormatError("the delta goes beyond the end of the filter")
    if (values[1:] <= values[:-1]).any():
        raise DeltaFormatError("the numbers of the delta do not increase")
    return values


def _split(size: int, universe: int) -> tuple[int, int]:
    """How many low bits each number has, and how many bits the unary part."""
    low = max(0, (universe // size).bit_length() - 1)
    return low, ((universe - 1) >> low) + size
