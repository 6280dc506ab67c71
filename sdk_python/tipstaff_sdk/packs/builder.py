"""Writes packs; pack.py draws the format.

The operator's side, beside the reader so that both change together.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.listing.sealing import COMMITMENT_SIZE, LOCATOR_SIZE
from tipstaff_sdk.packs.pack import (
    CHECKSUM_SIZE,
    MAX_BUCKET_BITS,
    RECORD_HEAD,
    SEALED_SIZES,
    encode_bucket,
    encode_head,
    encode_record,
)

__all__ = ["PackBuilder"]

# Buckets get at least this many records on average, and less than twice as many.
RECORDS_A_BUCKET: Final = 16

_SPOOL_IN_MEMORY: Final = 64 << 20
# What `add` writes for each record: the key it is sorted by in three numbers, then where its sealed
# bytes wait.
_ENTRY: Final = np.dtype(
    [("locator", ">u8"), ("high", ">u8"), ("low", ">u8"), ("offset", "<u8"), ("size", "<u4")]
)


class PackBuilder:
    """Collects sealed records in any order and writes them as a pack; the same records always give
    the same bytes.

    Records wait in a temporary file beyond 64 MiB, so memory is about 50 bytes a record. Use it as
    a context manager, or call `close`. bucket_bits: None chooses buckets of 16 to 32 records.
    """

    def __init__(self, epoch: int, *, bucket_bits: int | None = None) -> None:
        if bucket_bits is not None and not 0 <= bucket_bits <= MAX_BUCKET_BITS:
            raise PackFormatError(
                f"A pack has 0 to {MAX_BUCKET_BITS} bucket bits, not {bucket_bits}."
            )
        self._epoch = epoch
        self._bucket_bits = bucket_bits
        self._entries = bytearray()
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY)  # noqa: SIM115  closed by close()
        self._spooled = 0

    @property
    def record_count(self) -> int:
        """How many records have been added."""
        return len(self._entries) // _ENTRY.itemsize

    def add(self, locator: bytes, commitment: bytes, sealed: bytes) -> None:
        """Adds one record: locator (8 bytes), commitment (16 bytes), sealed as `sealing.seal` gives
        it.
        """
        if (
            len(locator) != LOCATOR_SIZE
            or len(commitment) != COMMITMENT_SIZE
            or len(sealed) not in SEALED_SIZES
        ):
            raise PackFormatError(
                "A locator is 8 bytes, a commitment 16, and a sealed record has a size class: seal"
                " it with sealing.seal."
            )
        self._entries += (
            locator
            + commitment
            + self._spooled.to_bytes(8, "little")
            + len(sealed).to_bytes(4, "little")
        )
        self._spool.write(sealed)
        self._spooled += len(sealed)

    def spread(self, *, least: int, keep: int | None = None) -> int:
        """Settles the bucket bits by what has been added: as many buckets as leave `least` numbers
        in every one of them.

        keep: the bits of the pack before, which stay as long as every bucket has enough, and twice
        as many buckets would not leave half as much again in each; so that deltas, which need the
        same bits, remain possible.

        Returns:
            The bits. Numbers are counted, not records: what shares a bucket are people, and one may
                have several names.
        """
        locators = np.unique(np.frombuffer(self._entries, _ENTRY)["locator"])
        bits = choose_bits(locators, self._bits(self.record_count), least=least, keep=keep)
        self.settle(bits)
        return bits

    def settle(self, bucket_bits: int) -> None:
        """Settles the bucket bits, for whoever chose them."""
        self._bucket_bits = bucket_bits

    def write(self, path: Path | str) -> None:
        """Writes the pack beside `path` and puts it there at once and durably.

        Raises PackFormatError when two records are one's copy.
        """
        path = Path(path)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, not a path
                file.writelines(self._pieces())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _fsync_folder(path.parent)

    def to_bytes(self) -> bytes:
        """The pack in memory."""
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        """Header and table, then bucket by bucket.

        The records are gone through once to measure, and once to write.
        """
        entries = self._sorted()
        bits = self._bits(len(entries))
        shift = np.uint64(8 * LOCATOR_SIZE - bits)
        prefixes = entries["locator"] >> shift if bits else np.zeros(len(entries), np.uint64)
        bounds = np.searchsorted(prefixes, np.arange((1 << bits) + 1, dtype=np.uint64))
        sizes = np.concatenate(
            [[0], np.cumsum(entries["size"] + np.uint64(RECORD_HEAD.size), dtype=np.uint64)]
        )
        filled = np.concatenate([[0], np.cumsum(np.diff(bounds) > 0)]).astype(np.uint64)
        yield encode_head(
            self._epoch, bits, len(entries), sizes[bounds] + filled * np.uint64(CHECKSUM_SIZE)
        )
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if start < end:
                yield encode_bucket(self._record(entry) for entry in entries[start:end])

    def _sorted(self) -> NDArray[np.void]:
        entries: NDArray[np.void] = np.frombuffer(self._entries, _ENTRY)
        entries = entries[np.lexsort((entries["low"], entries["high"], entries["locator"]))]
        keys = entries[["locator", "high", "low"]]
        if (keys[1:] == keys[:-1]).any():
            raise PackFormatError(
                "Two records have the same number and name: merge their restrictions into one"
                " record."
            )
        return entries

    def _bits(self, count: int) -> int:
        return most_bits(count) if self._bucket_bits is None else self._bucket_bits

    def _record(self, entry: np.void) -> bytes:
        self._spool.seek(int(entry["offset"]))
        commitment = int(entry["high"]) << 64 | int(entry["low"])
        locator = int(entry["locator"]).to_bytes(LOCATOR_SIZE, "big")
        return encode_record(
            locator,
            commitment.to_bytes(COMMITMENT_SIZE, "big"),
            self._spool.read(int(entry["size"])),
        )

    def close(self) -> None:
        """Forgets the records. May be called again."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def most_bits(records: int) -> int:
    """The bucket bits that leave 16 to 32 records in each bucket."""
    return min(max(0, (records // RECORDS_A_BUCKET).bit_length() - 1), MAX_BUCKET_BITS)


def choose_bits(locators: NDArray[np.uint64], most: int, *, least: int, keep: int | None) -> int:
    """Bucket bits up to `most`, as `PackBuilder.spread` describes them. locators: shape (n,), each
    once, in any order.
    """

    def emptiest(bits: int) -> int:
        return int(numbers_in_buckets(locators, bits).min())

    if (
        keep is not None
        and keep <= most
        and emptiest(keep) >= least
        and (keep == most or emptiest(keep + 1) < least + least // 2)
    ):
        return keep
    return next((bits for bits in range(most, 0, -1) if emptiest(bits) >= least), 0)


def numbers_in_buckets(locators: NDArray[np.uint64], bits: int) -> NDArray[np.intp]:
    """How many of these locators are in each bucket; shape (2^bits,)."""
    if not bits:
        return np.array([len(locators)])
    return np.bincount(
        (locators >> np.uint64(8 * LOCATOR_SIZE - bits)).astype(np.int64), minlength=1 << bits
    )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
