"""The wire form of a filter: one 64-byte header, then the bit array. docs/formats/filter.md has the
whole story.

A filter of one block, epoch 7, capacity 20, that holds the one token
000102030405060708090a0b0c0d0e0f:

    74697062 6c6f6f6d   magic "tipbloom"
    0100                version 1
    05                  free bits, 2 to 9
    00                  reserved
    07000000            epoch
    01000000            block count, 1 to 2^26
    00000000            reserved
    01000000 00000000   count: tokens put in
    14000000 00000000   capacity, 1 to 2^32
    00 x 24             reserved
    … 64 bytes          bit i of the block is bit i mod 8 of byte i div 8

Numbers are little-endian, as the processors are that map the file. Reserved bytes are zero, the
file ends with the last block, and a filter of count 0 has no bit set: anything else is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tipstaff_bloom.errors import (
    CapacityError,
    EpochMismatchError,
    FormatError,
    GeometryMismatchError,
)
from tipstaff_bloom.geometry import (
    BLOCK_BYTES,
    MAX_BLOCK_COUNT,
    MAX_CAPACITY,
    MAX_FREE_BITS,
    MIN_FREE_BITS,
    Geometry,
)

MAGIC: Final = b"tipbloom"
VERSION: Final = 1
HEADER_BYTES: Final = 64
MAX_EPOCH: Final = (1 << 32) - 1
MAX_COUNT: Final = (1 << 40) - 1

_HEADER: Final = struct.Struct("<8sHBBIIIQQ24s")
_RESERVED: Final = bytes(24)


@dataclass(frozen=True, slots=True)
class Header:
    """Everything about a filter but its bits."""

    geometry: Geometry
    epoch: int
    count: int

    @property
    def total_bytes(self) -> int:
        """Size of the wire form in bytes."""
        return HEADER_BYTES + self.geometry.block_count * BLOCK_BYTES


def encode_header(header: Header) -> bytes:
    """The 64 header bytes; raises CapacityError for an epoch or count that does not fit."""
    geometry = header.geometry
    if not 0 <= header.epoch <= MAX_EPOCH:
        raise CapacityError(f"epoch must be from 0 to {MAX_EPOCH}, not {header.epoch}")
    if not 0 <= header.count <= MAX_COUNT:
        raise CapacityError(f"count must be from 0 to {MAX_COUNT}, not {header.count}")
    return _HEADER.pack(
        MAGIC,
        VERSION,
        geometry.free_bits,
        0,
        header.epoch,
        geometry.block_count,
        0,
        header.count,
        geometry.capacity,
        _RESERVED,
    )


def decode_header(buffer: memoryview) -> Header:
    """Reads and checks the header of a wire form that must be exactly as long as it says; raises
    FormatError.
    """
    if len(buffer) < HEADER_BYTES:
        raise FormatError(
            f"a filter has at least {HEADER_BYTES} bytes, this has {len(buffer)}: fetch it again"
        )
    magic, version, free_bits, reserved, epoch, blocks, reserved2, count, capacity, rest = (
        _HEADER.unpack_from(buffer)
    )
    if magic != MAGIC:
        raise FormatError("not a filter: the magic is wrong")
    if version != VERSION:
        raise FormatError(
            f"filter version {version} is not known here, only {VERSION}: update the software"
        )
    if reserved or reserved2 or rest != _RESERVED:
        raise FormatError("reserved bytes of the filter header are not zero")
    if not MIN_FREE_BITS <= free_bits <= MAX_FREE_BITS:
        raise FormatError(
            f"free bits must be from {MIN_FREE_BITS} to {MAX_FREE_BITS}, not {free_bits}"
        )
    if not 1 <= blocks <= MAX_BLOCK_COUNT:
        raise FormatError(f"block count must be from 1 to {MAX_BLOCK_COUNT}, not {blocks}")
    if not 1 <= capacity <= MAX_CAPACITY:
        raise FormatError(f"capacity must be from 1 to {MAX_CAPACITY}, not {capacity}")
    if count > MAX_COUNT:
        raise FormatError(f"count must be at most {MAX_COUNT}, not {count}")
    header = Header(Geometry(blocks, free_bits, capacity), epoch, count)
    if len(buffer) != header.total_bytes:
        raise FormatError(
            f"the filter header says {header.total_bytes} bytes, there are {len(buffer)}: fetch it"
            " again"
        )
    return header


def require_same_layout(first: Header, second: Header) -> None:
    """Raises EpochMismatchError or GeometryMismatchError unless bits mean the same under both
    headers.
    """
    if first.epoch != second.epoch:
        raise EpochMismatchError(
            f"epochs differ ({first.epoch}, {second.epoch}): use the full file"
        )
    if first.geometry != second.geometry:
        raise GeometryMismatchError(
            "the filters are laid out differently: use the full file, or build both with one"
            " capacity"
        )
