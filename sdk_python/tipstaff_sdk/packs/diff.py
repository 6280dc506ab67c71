"""Makes deltas between packs; delta.py draws the format.

The operator's side, beside the reader so that both change together.
"""

from collections.abc import Iterator
from pathlib import Path

from tipstaff_sdk.errors import PackDeltaError
from tipstaff_sdk.packs.delta import HEADER, MAGIC, VERSION
from tipstaff_sdk.packs.pack import KEY_SIZE, Pack, record_spans

__all__ = ["write_delta"]


def write_delta(old: Pack, new: Pack, path: Path | str, *, max_bytes: int) -> int:
    """Writes the delta from `old` to `new` to a new file, and returns its length in bytes.

    The packs are gone through side by side; memory is 24 bytes for each removed record and 8 for
    each changed bucket.

    Raises:
        PackDeltaError: the packs differ in epoch or bucket bits, or are the same, or the delta
            would be longer than `max_bytes`: publish the whole pack alone. No file is made.
        PackFormatError: one of the packs is damaged.
        OSError: the file is there, or cannot be written.
    """
    if (old.epoch, old.bucket_bits) != (new.epoch, new.bucket_bits):
        raise PackDeltaError(
            "Between packs of different epochs or bucket bits there is no delta: publish the whole"
            " pack."
        )
    removed, changed, upserts, size = bytearray(), list[int](), 0, HEADER.size
    for prefix in _different(old, new):
        gone, come = _changes(old, new, prefix)
        removed += b"".join(gone)
        changed.append(prefix)
        upserts += len(come)
        size += sum(map(len, (*gone, *come)))
        if size > max_bytes:
            raise PackDeltaError(
                f"The delta would be longer than {max_bytes} bytes: publish the whole pack."
            )
    if not changed:
        raise PackDeltaError("The packs are the same: there is nothing to publish.")
    header = HEADER.pack(
        MAGIC,
        VERSION,
        new.bucket_bits,
        0,
        new.epoch,
        old.record_count,
        new.record_count,
        len(removed) // KEY_SIZE,
        upserts,
        old.digest(),
        new.digest(),
    )
    with Path(path).open("xb") as file:
        file.write(header)
        file.write(removed)
        for prefix in changed:
            file.writelines(_changes(old, new, prefix)[1])
    return size


def _different(old: Pack, new: Pack) -> Iterator[int]:
    """Numbers of the buckets whose bytes differ."""
    return (
        prefix for prefix in range(1 << new.bucket_bits) if old.bucket(prefix) != new.bucket(prefix)
    )


def _changes(old: Pack, new: Pack, prefix: int) -> tuple[list[bytes], list[bytes]]:
    """Locators and commitments that go, and whole records that come or change, each in order."""
    before, after = (_records(pack, prefix) for pack in (old, new))
    return [key for key in before if key not in after], [
        record for key, record in after.items() if before.get(key) != record
    ]


def _records(pack: Pack, prefix: int) -> dict[bytes, bytes]:
    bucket = pack.bucket(prefix)
    return {
        key: bucket[start:end] for key, start, end in record_spans(bucket, prefix, pack.bucket_bits)
    }
