"""Pack: the sealed records of one listing in one file, found by locator with two reads
(docs/formats/pack.md).

    header, 48 bytes    "tipspack" | version 1 (2) | bucket bits (1) | zero (1) | epoch (4)
                        | record count (8) | length of buckets (8)
                        | zeros (12) | CRC-32 of what stands before and of the table (4)
    table               2^bits + 1 offsets (8 each) into the buckets, ascending, the last their whole length
    buckets             each empty, or CRC-32 of its records (4) and the records, ascending by locator and commitment
    record              locator (8) | commitment (16) | size class i (1) | sealed, 256 * 2^i + 16 bytes

All numbers big-endian. A bucket holds the locators that begin with its number. Locators are
pseudorandom, so buckets are of much the same size; by default as many as leave 16 to 32 records in
each. Signatures say that the file is the operator's; the checksums say that the disk still gives
what was verified, whenever a bucket is read: a flipped bit is an error and never a missing person.
"""

import hashlib
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.errors import ClosedError, PackFormatError
from tipstaff_sdk.listing.sealing import COMMITMENT_SIZE, LOCATOR_SIZE, SIZE_CLASSES, TAG_SIZE

__all__ = ["Pack", "SealedCopy"]

MAGIC: Final = b"tipspack"
VERSION: Final = 1
MAX_BUCKET_BITS: Final = 28
MAX_RECORDS: Final = 1 << 32
CHECKSUM_SIZE: Final = 4
OFFSET_SIZE: Final = 8
HEADER: Final = struct.Struct(">8sHBBIQQ12xI")
CHECKED_HEADER_SIZE: Final = HEADER.size - CHECKSUM_SIZE
RECORD_HEAD: Final = struct.Struct(f">{LOCATOR_SIZE}s{COMMITMENT_SIZE}sB")
KEY_SIZE: Final = LOCATOR_SIZE + COMMITMENT_SIZE
SEALED_SIZES: Final = {size + TAG_SIZE: number for number, size in enumerate(SIZE_CLASSES)}

_LOCATOR_BITS: Final = 8 * LOCATOR_SIZE
_OFFSETS: Final = struct.Struct(">QQ")
_BLANK: Final = slice(32, 44)
_PIECE: Final = 1 << 20
_MISPLACED: Final = "A bucket's records are out of order or of another bucket: tell the operator."


class SealedCopy(NamedTuple):
    """One record as it lies in the pack, without the locator it was found by."""

    commitment: bytes
    sealed: bytes


class Pack:
    """A pack, read in place. Safe to share between threads and forked processes; nothing is cached.

    Opening checks the header and the table of buckets (its time grows with the number of buckets,
    not of records); a bucket is checked whenever it is read, and `verify` checks them all. Each
    raises PackFormatError for what `PackBuilder` would not have written.
    """

    def __init__(self, buffer: bytes | mmap.mmap) -> None:
        """From a whole pack in memory. `Pack.open` maps a file instead."""
        self._buffer: bytes | mmap.mmap | None = buffer
        if len(buffer) < HEADER.size:
            raise PackFormatError("The pack is shorter than its header: synchronise again.")
        magic, version, bits, reserved, epoch, records, length, checksum = HEADER.unpack_from(
            buffer
        )
        if magic != MAGIC:
            raise PackFormatError(
                "This is not a pack of sealed records: the listing holds another file in its place,"
                " tell the operator."
            )
        if version != VERSION:
            raise PackFormatError(
                f"The pack has version {version}, and {VERSION} is understood: update this"
                " software."
            )
        if reserved or any(buffer[_BLANK]) or bits > MAX_BUCKET_BITS or records > MAX_RECORDS:
            raise PackFormatError(
                "The pack's header holds values that none has: synchronise again."
            )
        self._start = HEADER.size + OFFSET_SIZE * ((1 << bits) + 1)
        if len(buffer) != self._start + length:
            raise PackFormatError(
                "The pack's header and length disagree, it is truncated or has grown: synchronise"
                " again."
            )
        if _checksum(buffer, self._start) != checksum:
            raise PackFormatError("The pack's header or table is damaged: synchronise again.")
        _verify_table(np.frombuffer(buffer[HEADER.size : self._start], ">u8"), length)
        self.epoch: Final[int] = epoch
        self.record_count: Final[int] = records
        self.bucket_bits: Final[int] = bits

    @classmethod
    def from_buffer(cls, buffer: bytes | mmap.mmap) -> Self:
        """From a whole pack in memory."""
        return cls(buffer)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Maps a file. Raises OSError when it cannot be read."""
        with Path(path).open("rb") as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # mmap's answer to an empty file
                raise PackFormatError("The pack is empty: synchronise again.") from None
        try:
            return cls(mapped)
        except PackFormatError:
            mapped.close()
            raise

    def find(self, locator: bytes) -> list[SealedCopy]:
        """Sealed copies at a locator (8 bytes), one for each known name; empty when there is none."""
        if len(locator) != LOCATOR_SIZE:
            raise PackFormatError(
                f"A locator is {LOCATOR_SIZE} bytes, not {len(locator)}: derive it with"
                " EpochKey.derive."
            )
        records = self._records(
            int.from_bytes(locator, "big") >> (_LOCATOR_BITS - self.bucket_bits)
        )
        return [copy for found, copy in records if found == locator]

    def bucket(self, prefix: int) -> bytes:
        """The bytes of one bucket, checksum included; empty when no locator begins with these bits.
        prefix: 0 to 2^bucket_bits - 1.
        """
        if not 0 <= prefix < 1 << self.bucket_bits:
            raise PackFormatError(
                f"A bucket's number has {self.bucket_bits} bits: take it from the beginning of the"
                " locator."
            )
        buffer = self._open_buffer()
        try:
            start, end = _OFFSETS.unpack_from(buffer, HEADER.size + OFFSET_SIZE * prefix)
            return buffer[self._start + start : self._start + end]
        except ValueError:  # closed by another thread in between
            raise ClosedError("The pack was closed: open it again.") from None

    def offsets(self) -> NDArray[np.uint64]:
        """Where the buckets begin, counted from the first, and where the last one ends; shape
        (2^bucket_bits + 1,).
        """
        return np.frombuffer(self._open_buffer()[HEADER.size : self._start], ">u8").astype(
            np.uint64
        )

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The buckets' bytes from one offset to another, not checked, 1 MiB at a time."""
        for position in range(self._start + start, self._start + end, _PIECE):
            yield self._open_buffer()[position : min(position + _PIECE, self._start + end)]

    def digest(self) -> bytes:
        """SHA-256 of the whole pack, 32 bytes; computed at each call."""
        return hashlib.sha256(self._open_buffer()).digest()

    def _open_buffer(self) -> bytes | mmap.mmap:
        buffer = self._buffer
        if buffer is None:
            raise ClosedError("The pack is closed: open it again.")
        return buffer

    def verify(self) -> None:
        """Reads everything: every bucket is as it has to be, and the count of records is right."""
        counted = sum(len(self._records(prefix)) for prefix in range(1 << self.bucket_bits))
        if counted != self.record_count:
            raise PackFormatError(
                f"The pack says that it holds {self.record_count} records, and holds {counted}: tell"
                " the operator."
            )

    def _records(self, prefix: int) -> list[tuple[bytes, SealedCopy]]:
        return parse_bucket(self.bucket(prefix), prefix, self.bucket_bits)

    def close(self) -> None:
        """Unmaps the file. May be called again."""
        buffer, self._buffer = self._buffer, None
        if isinstance(buffer, mmap.mmap):
            buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Pack(epoch={self.epoch}, record_count={self.record_count},"
            f" bucket_bits={self.bucket_bits})"
        )


def encode_head(
    epoch: int, bucket_bits: int, record_count: int, offsets: NDArray[np.uint64]
) -> bytes:
    """Header and table of a pack, for what `Pack.offsets` gives."""
    table = offsets.astype(">u8").tobytes()
    blank = HEADER.pack(MAGIC, VERSION, bucket_bits, 0, epoch, record_count, int(offsets[-1]), 0)
    checksum = zlib.crc32(table, zlib.crc32(blank[:CHECKED_HEADER_SIZE]))
    return blank[:CHECKED_HEADER_SIZE] + checksum.to_bytes(CHECKSUM_SIZE, "big") + table


def encode_bucket(records: Iterable[bytes]) -> bytes:
    """A bucket of records that `encode_record` gave, in order; empty when there are none."""
    joined = b"".join(records)
    return zlib.crc32(joined).to_bytes(CHECKSUM_SIZE, "big") + joined if joined else b""


def encode_record(locator: bytes, commitment: bytes, sealed: bytes) -> bytes:
    """One record as it lies in a bucket."""
    return RECORD_HEAD.pack(locator, commitment, SEALED_SIZES[len(sealed)]) + sealed


def parse_bucket(bucket: bytes, prefix: int, bucket_bits: int) -> list[tuple[bytes, SealedCopy]]:
    """Locators and sealed copies of one bucket, in order.

    Raises PackFormatError when it is damaged or another bucket's.
    """
    return [
        (key[:LOCATOR_SIZE], SealedCopy(key[LOCATOR_SIZE:], bucket[start + RECORD_HEAD.size : end]))
        for key, start, end in record_spans(bucket, prefix, bucket_bits)
    ]


def record_spans(bucket: bytes, prefix: int, bucket_bits: int) -> list[tuple[bytes, int, int]]:
    """Of each record of a bucket its key (locator and commitment), its start and its end there, in
    order. Raises as parse_bucket.
    """
    if not bucket:
        return []
    if zlib.crc32(memoryview(bucket)[CHECKSUM_SIZE:]) != int.from_bytes(
        bucket[:CHECKSUM_SIZE], "big"
    ):
        raise PackFormatError("A bucket of the pack is damaged: synchronise again.")
    spans: list[tuple[bytes, int, int]] = []
    before, position, total = b"", CHECKSUM_SIZE, len(bucket)
    while position < total:
        key, end = bucket[position : position + KEY_SIZE], record_end(bucket, position)
        if end > total:
            raise PackFormatError("A bucket ends inside a record: tell the operator.")
        if key <= before:
            raise PackFormatError(_MISPLACED)
        spans.append((key, position, end))
        before, position = key, end
    if not spans:
        raise PackFormatError("A bucket holds a checksum and no record: tell the operator.")
    # They ascend, so what holds for the first and the last holds for all.
    if any(
        int.from_bytes(key[:LOCATOR_SIZE], "big") >> (_LOCATOR_BITS - bucket_bits) != prefix
        for key in (spans[0][0], before)
    ):
        raise PackFormatError(_MISPLACED)
    return spans


def record_end(bucket: bytes, position: int) -> int:
    """Where the record that begins at `position` ends, which may be beyond the bucket.

    Raises PackFormatError when none begins there.
    """
    head = position + RECORD_HEAD.size
    if head > len(bucket):
        raise PackFormatError("A bucket ends inside a record: tell the operator.")
    size_class = bucket[head - 1]
    if size_class >= len(SIZE_CLASSES):
        raise PackFormatError("A record has a size class that none has: tell the operator.")
    return head + SIZE_CLASSES[size_class] + TAG_SIZE


def _checksum(buffer: bytes | mmap.mmap, end: int) -> int:
    with memoryview(buffer) as view:
        return zlib.crc32(view[HEADER.size : end], zlib.crc32(view[:CHECKED_HEADER_SIZE]))


def _verify_table(offsets: NDArray[np.uint64], length: int) -> None:
    if offsets[0] != 0 or offsets[-1] != length or (offsets[1:] < offsets[:-1]).any():
        raise PackFormatError(
            "The pack's table does not ascend over its buckets: tell the operator."
        )
