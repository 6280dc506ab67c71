"""A pack with some people's records taken out and others put in: the operator's side, for builds
that know what changed.

The result is, byte for byte, what `PackBuilder` writes of the same records. Buckets without a
change are copied, so the time is that of reading and writing the file; where the number of buckets
changes, every record is gone through. Memory is one bucket and its changes.
"""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.listing.sealing import LOCATOR_SIZE
from tipstaff_sdk.packs.pack import (
    HEADER,
    OFFSET_SIZE,
    Pack,
    SealedCopy,
    encode_bucket,
    encode_head,
    encode_record,
    parse_bucket,
)

__all__ = ["merge"]

_LOCATOR_BITS: Final = 8 * LOCATOR_SIZE

_Record = tuple[bytes, SealedCopy]


def merge(old: Pack, gone: NDArray[np.uint64], come: Pack, path: Path | str) -> int:
    """Writes a new pack, durably:

    `old` without any record at the locators `gone`, and with all records of `come`.

    Args:
        old: the pack before.
        gone: locators, shape (n,), ascending, each once; every one of them is in `old`.
        come: what is put in; its bucket bits are those of the result.
        path: a new file.

    Returns:
        The number of records.

    Raises:
        PackFormatError: one of the packs is damaged or of another epoch, lacks what is to go, or
            holds already what comes.
        OSError: the file is there, or cannot be written; what was written of it stays.
    """
    if old.epoch != come.epoch:
        raise PackFormatError(
            "Packs of different epochs have no record in common: build the whole pack."
        )
    bits, offsets = come.bucket_bits, old.offsets()
    copies = old.bucket_bits == bits
    sizes = np.diff(offsets) if copies else np.zeros(1 << bits, np.uint64)
    count, copied = old.record_count, 0
    with Path(path).open("xb") as file:
        file.seek(HEADER.size + OFFSET_SIZE * ((1 << bits) + 1))
        for prefix, bucket, growth in _changed(old, gone, come):
            if copies:
                file.writelines(old.pieces(copied, int(offsets[prefix])))
                copied = int(offsets[prefix + 1])
            file.write(bucket)
            sizes[prefix] = len(bucket)
            count += growth
        if copies:
            file.writelines(old.pieces(copied, int(offsets[-1])))
        file.seek(0)
        file.write(
            encode_head(
                old.epoch,
                bits,
                count,
                np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes, dtype=np.uint64)]),
            )
        )
        file.flush()
        os.fsync(file.fileno())
    return count


def _changed(old: Pack, gone: NDArray[np.uint64], come: Pack) -> Iterator[tuple[int, bytes, int]]:
    """Number, new bytes and growth in records of every bucket that is not copied, ascending."""
    bits = come.bucket_bits
    prefixes = gone >> np.uint64(_LOCATOR_BITS - bits) if bits else np.zeros(len(gone), np.uint64)
    if old.bucket_bits == bits:
        filled = np.flatnonzero(np.diff(come.offsets())).astype(np.uint64)
        numbers = np.union1d(prefixes, filled)
    else:
        numbers = np.arange(1 << bits, dtype=np.uint64)
    starts = np.searchsorted(prefixes, numbers).tolist()
    ends = np.searchsorted(prefixes, numbers, side="right").tolist()
    records_of = _records(old, bits)
    for prefix, start, end in zip(numbers.tolist(), starts, ends, strict=True):
        before = records_of(prefix)
        after = _after(
            before, gone[start:end].tolist(), parse_bucket(come.bucket(prefix), prefix, bits)
        )
        yield (
            prefix,
            encode_bucket(encode_record(locator, *copy) for locator, copy in after),
            len(after) - len(before),
        )


def _records(old: Pack, bits: int) -> Callable[[int], list[_Record]]:
    """What is in a bucket of `bits` bits, in order, however many bits the pack itself has."""

    @lru_cache(1)
    def own(prefix: int) -> list[_Record]:
        return parse_bucket(old.bucket(prefix), prefix, old.bucket_bits)

    def records(prefix: int) -> list[_Record]:
        if bits <= old.bucket_bits:
            joined = old.bucket_bits - bits
            return [
                record
                for part in range(prefix << joined, prefix + 1 << joined)
                for record in own(part)
            ]
        shift = _LOCATOR_BITS - bits
        whole = own(prefix >> bits - old.bucket_bits)
        return [record for record in whole if int.from_bytes(record[0], "big") >> shift == prefix]

    return records


def _after(before: list[_Record], gone: list[int], come: list[_Record]) -> list[_Record]:
    going = {locator.to_bytes(LOCATOR_SIZE, "big") for locator in gone}
    if not going <= {locator for locator, _ in before}:
        raise PackFormatError("A record that is to go is not in the pack: build the whole pack.")
    kept = [record for record in before if record[0] not in going]
    there = {(locator, copy.commitment) for locator, copy in kept}
    if any((locator, copy.commitment) in there for locator, copy in come):
        raise PackFormatError("A record that comes is in the pack already: build the whole pack.")
    return sorted(kept + come)
