"""Deltas between packs: which records go and which come or change, so that an update costs what
changed (docs/formats/pack.md).

    header, 112 bytes   "tipspdel" | version 1 (2) | bucket bits (1) | zero (1) | epoch (4)
                        | records before (8) | records after (8) | removals (8) | upserts (8)
                        | SHA-256 of the pack before (32) | SHA-256 of the pack after (32)
    removals            locator (8) | commitment (16), ascending
    upserts             records as they lie in a pack, ascending by locator and commitment

All numbers big-endian. No record is both removed and upserted, what is removed is there, and an
upsert changes something: there is one delta between two packs. Both have the same epoch and bucket
bits. The result is, byte for byte, what `PackBuilder` writes.

Several deltas are applied in one pass over the pack, bucket by bucket: buckets without a change are
copied, and memory holds one bucket and its changes, whatever the pack's size. `diff.py` makes
deltas.
"""

import hashlib
import heapq
import mmap
import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, Self

import numpy as np

from tipstaff_sdk.errors import PackDeltaError, PackFormatError
from tipstaff_sdk.listing.sealing import LOCATOR_SIZE, SIZE_CLASSES, TAG_SIZE
from tipstaff_sdk.packs.pack import (
    CHECKSUM_SIZE,
    KEY_SIZE,
    MAX_BUCKET_BITS,
    MAX_RECORDS,
    RECORD_HEAD,
    Pack,
    encode_bucket,
    encode_head,
    record_end,
    record_spans,
)

__all__ = ["PackDelta", "apply_deltas"]

MAGIC: Final = b"tipspdel"
VERSION: Final = 1
HEADER: Final = struct.Struct(">8sHBBIQQQQ32s32s")

_LOCATOR_BITS: Final = 8 * LOCATOR_SIZE
_IDLE: Final = "A delta removes what is not there, or changes nothing: use the whole pack."

Change = tuple[bytes, bytes | None]
"""Locator and commitment, and the whole record that is there afterwards; None: it is removed."""


class PackDelta:
    """A delta, read in place.

    Opening checks the header; the changes are checked as they are gone through. Each raises
    PackDeltaError.
    """

    def __init__(self, buffer: bytes | mmap.mmap) -> None:
        """From a whole delta in memory. `PackDelta.open` maps a file instead."""
        self._buffer = buffer
        if len(buffer) < HEADER.size:
            raise PackDeltaError("The delta is shorter than its header: use the whole pack.")
        magic, version, bits, reserved, epoch, before, after, removals, upserts, base, result = (
            HEADER.unpack_from(buffer)
        )
        if magic != MAGIC:
            raise PackDeltaError(
                "This is not a delta between packs: use the whole pack, and tell the operator."
            )
        if version != VERSION:
            raise PackDeltaError(
                f"The delta has version {version}, and {VERSION} is understood: use the whole pack,"
                " update this software."
            )
        if reserved or bits > MAX_BUCKET_BITS or max(before, after) > MAX_RECORDS:
            raise PackDeltaError(
                "The delta's header holds values that none has: use the whole pack."
            )
        if (
            removals > before
            or not before - removals <= after <= before - removals + upserts
            or not removals + upserts
        ):
            raise PackDeltaError(
                "The delta's header counts records that do not add up: use the whole pack."
            )
        self._upserts_at = HEADER.size + KEY_SIZE * removals
        if len(buffer) < self._upserts_at + upserts * (
            RECORD_HEAD.size + SIZE_CLASSES[0] + TAG_SIZE
        ):
            raise PackDeltaError("The delta is shorter than its header says: use the whole pack.")
        self.bucket_bits: Final[int] = bits
        self.epoch: Final[int] = epoch
        self.before: Final[int] = before
        self.after: Final[int] = after
        self.base: Final[bytes] = base
        self.result: Final[bytes] = result
        self._upserts: Final[int] = upserts

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Maps a file. Raises OSError when it cannot be read."""
        with Path(path).open("rb") as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # mmap's answer to an empty file
                raise PackDeltaError("The delta is empty: use the whole pack.") from None
        try:
            return cls(mapped)
        except PackDeltaError:
            mapped.close()
            raise

    def changes(self) -> Iterator[Change]:
        """Every change, ascending.

        Raises PackDeltaError at the first byte that is not as it has to be.
        """
        last = b""
        for key, record in heapq.merge(self._removed(), self._upserted(), key=itemgetter(0)):
            if key <= last:
                raise PackDeltaError(
                    "The delta's changes are out of order, or one is there twice: use the whole"
                    " pack."
                )
            last = key
            yield key, record

    def _removed(self) -> Iterator[Change]:
        for position in range(HEADER.size, self._upserts_at, KEY_SIZE):
            yield self._buffer[position : position + KEY_SIZE], None

    def _upserted(self) -> Iterator[Change]:
        position = self._upserts_at
        for _ in range(self._upserts):
            end = self._record_end(position)
            record = self._buffer[position:end]
            yield record[:KEY_SIZE], record
            position = end
        if position != len(self._buffer):
            raise PackDeltaError("The delta is longer than its header says: use the whole pack.")

    def _record_end(self, position: int) -> int:
        """The end of the record that begins here."""
        if position + RECORD_HEAD.size > len(self._buffer):
            raise PackDeltaError("The delta ends inside a record: use the whole pack.")
        size_class = self._buffer[position + RECORD_HEAD.size - 1]
        if size_class >= len(SIZE_CLASSES):
            raise PackDeltaError(
                "A record of the delta has a size class that none has: use the whole pack."
            )
        end = position + RECORD_HEAD.size + SIZE_CLASSES[size_class] + TAG_SIZE
        if end > len(self._buffer):
            raise PackDeltaError("The delta ends inside a record: use the whole pack.")
        return end

    def close(self) -> None:
        """Unmaps the file. May be called again."""
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"PackDelta(epoch={self.epoch}, before={self.before}, after={self.after},"
            f" bucket_bits={self.bucket_bits})"
        )


def apply_deltas(
    base: Pack, deltas: Sequence[PackDelta], *, verify: bool = True
) -> Iterator[bytes]:
    """The pack that a chain of deltas leads to, in pieces of about a megabyte at most.

    verify: False for callers that hold what comes out against a signed hash: neither `base` nor the
    result is hashed here then, which for a pack of gigabytes is most of the time.

    Raises PackDeltaError: the deltas do not follow one another from `base` on, or do not lead to
    what they promise (which is known only after the last piece); PackFormatError: `base` is
    damaged.
    """
    _check_chain(deltas[0].base if not verify else base.digest(), base, deltas)
    if not verify:
        yield from _merged(base, deltas)
        return
    digest = hashlib.sha256()
    for piece in _merged(base, deltas):
        digest.update(piece)
        yield piece
    if digest.digest() != deltas[-1].result:
        raise PackDeltaError(
            "The deltas do not lead to the pack that they promise: use the whole pack."
        )


def _check_chain(digest: bytes, base: Pack, deltas: Sequence[PackDelta]) -> None:
    count = base.record_count
    for delta in deltas:
        if (delta.base, delta.before, delta.epoch, delta.bucket_bits) != (
            digest,
            count,
            base.epoch,
            base.bucket_bits,
        ):
            raise PackDeltaError(
                "A delta starts from another pack than the one at hand: use the whole pack."
            )
        digest, count = delta.result, delta.after


def _merged(base: Pack, deltas: Sequence[PackDelta]) -> Iterator[bytes]:
    """Goes through the changes twice: to know how large each bucket becomes, and to write."""
    offsets = base.offsets()
    sizes, count = np.diff(offsets), base.record_count
    for prefix, changes in _by_bucket(deltas):
        sizes[prefix], more = _measure(base.bucket(prefix), changes)
        count += more
    if count != deltas[-1].after:
        raise PackDeltaError(
            "The deltas do not lead to the number of records that they promise: use the whole pack."
        )
    yield encode_head(
        base.epoch,
        base.bucket_bits,
        count,
        np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes, dtype=np.uint64)]),
    )
    copied = 0
    for prefix, changes in _by_bucket(deltas):
        yield from base.pieces(copied, int(offsets[prefix]))
        bucket = _change(base.bucket(prefix), prefix, base.bucket_bits, changes)
        if len(bucket) != sizes[prefix]:
            raise PackFormatError("A bucket of the pack is damaged: synchronise again.")
        yield bucket
        copied = int(offsets[prefix + 1])
    yield from base.pieces(copied, int(offsets[-1]))


def _by_bucket(deltas: Sequence[PackDelta]) -> Iterator[tuple[int, list[Change]]]:
    """Numbers of the buckets in which something changes, ascending, each with its changes in the
    order of the deltas.
    """
    chained = heapq.merge(
        *(_of_one(delta, place) for place, delta in enumerate(deltas)), key=itemgetter(0, 1)
    )
    for prefix, groups in groupby(chained, key=itemgetter(0)):
        yield prefix, [change for _, _, changes in groups for change in changes]


def _of_one(delta: PackDelta, place: int) -> Iterator[tuple[int, int, list[Change]]]:
    shift = _LOCATOR_BITS - delta.bucket_bits
    for prefix, changes in groupby(
        delta.changes(), key=lambda change: int.from_bytes(change[0][:LOCATOR_SIZE], "big") >> shift
    ):
        yield prefix, place, list(changes)


def _measure(bucket: bytes, changes: list[Change]) -> tuple[int, int]:
    """The length of a bucket after its changes, and how many records more it has.

    A record is looked for by its key rather than parsed; whether it was one, shows when the bucket
    is written.
    """
    before: dict[bytes, int] = {}
    after: dict[bytes, int] = {}
    for key, record in changes:
        if key not in after:
            at = bucket.find(key, CHECKSUM_SIZE)
            before[key] = after[key] = 0 if at < 0 else record_end(bucket, at) - at
        if record is None and not after[key]:
            raise PackDeltaError(_IDLE)
        after[key] = 0 if record is None else len(record)
    records = max(0, len(bucket) - CHECKSUM_SIZE) + sum(after.values()) - sum(before.values())
    return records + CHECKSUM_SIZE if records else 0, sum(map(bool, after.values())) - sum(
        map(bool, before.values())
    )


def _change(bucket: bytes, prefix: int, bucket_bits: int, changes: list[Change]) -> bytes:
    """A bucket after its changes."""
    records = {
        key: bucket[start:end] for key, start, end in record_spans(bucket, prefix, bucket_bits)
    }
    for key, record in changes:
        if records.get(key) == record:  # also when both are None
            raise PackDeltaError(_IDLE)
        if record is None:
            del records[key]
        else:
            records[key] = record
    return encode_bucket(records[key] for key in sorted(records))
