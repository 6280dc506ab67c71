"""Test vectors of the filter, the delta and the ledger:

`python -m tests.vectors.bloom` writes bloom.json, with --check compares it.

Token i of a vector is the first 16 bytes of SHA-256(b"tipstaff filter vector" || i as 4 bytes,
big-endian), so that an implementation in any language can make them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tipstaff_bloom import BloomFilter, TokenLedger, diff
from tipstaff_bloom.geometry import PATTERNS, plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).with_suffix(".json")

FILTERS = (
    ("one token", 1, 20, 1e-3, 7),
    ("empty", 0, 1, 1e-3, 0),
    ("a hundred", 100, 100, 1e-3, 1),
    ("half full", 5_000, 10_000, 1e-3, 2),
    ("two free bits", 1_000, 1_000, 5e-2, 3),
    ("eight free bits, one of them from x", 1_000, 1_000, 1e-5, 4),
    ("largest epoch", 300, 300, 1e-2, 2**32 - 1),
    ("many regions", 20_000, 20_000, 1e-3, 5),
)
DELTAS = (
    ("nothing changes", (0, 50), (0, 50), 100),
    ("one more", (0, 50), (0, 51), 100),
    ("one gone", (0, 51), (0, 50), 100),
    ("all else", (0, 100), (100, 200), 2_000),
    ("a few in many", (0, 9_900), (50, 9_950), 10_000),
)
GEOMETRIES = tuple(
    (capacity, fpr)
    for capacity in (1, 1_000, 1_000_000, 10_000_000)
    for fpr in (5e-2, 1e-2, 1e-3, 1e-4, 1e-5)
)


def tokens(first: int, last: int) -> NDArray[np.uint8]:
    """Tokens first .. last - 1 as an (n, 16) array."""
    raw = b"".join(
        hashlib.sha256(b"tipstaff filter vector" + i.to_bytes(4, "big")).digest()[:16]
        for i in range(first, last)
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)


def vectors() -> dict[str, object]:
    """Everything in bloom.json."""
    return {
        "tokens": [row.tobytes().hex() for row in tokens(0, 3)],
        "patterns_sha256": hashlib.sha256(PATTERNS.astype("<u8").tobytes()).hexdigest(),
        "geometries": [_geometry(*case) for case in GEOMETRIES],
        "filters": [_filter(*case) for case in FILTERS],
        "deltas": [_delta(*case) for case in DELTAS],
        "ledger_sha256": _ledger(),
    }


def _geometry(capacity: int, fpr: float) -> dict[str, object]:
    geometry = plan(capacity, fpr)
    return {
        "capacity": capacity,
        "fpr": fpr,
        "block_count": geometry.block_count,
        "free_bits": geometry.free_bits,
    }


def _filter(name: str, count: int, capacity: int, fpr: float, epoch: int) -> dict[str, object]:
    built = BloomFilter.build(tokens(0, count), fpr=fpr, epoch=epoch, capacity=capacity)
    wire = built.to_bytes()
    false_positives = np.flatnonzero(built.contains_many(tokens(100_000, 102_000))) + 100_000
    return {
        "name": name,
        "count": count,
        "capacity": capacity,
        "fpr": fpr,
        "epoch": epoch,
        "header": wire[:64].hex(),
        "bytes": len(wire),
        "sha256": hashlib.sha256(wire).hexdigest(),
        "bits_set": int(np.bitwise_count(built.words).sum()),
        "false_positives_in_100000_to_101999": false_positives.tolist(),
    }


def _delta(
    name: str, before: tuple[int, int], after: tuple[int, int], capacity: int
) -> dict[str, object]:
    old, new = (
        BloomFilter.build(tokens(*span), epoch=9, capacity=capacity) for span in (before, after)
    )
    delta = diff(old, new)
    return {
        "name": name,
        "before": list(before),
        "after": list(after),
        "capacity": capacity,
        "epoch": 9,
        "bytes": len(delta),
        "payload": delta[116:].hex() if len(delta) < 200 else None,
        "sha256": hashlib.sha256(delta).hexdigest(),
    }


def _ledger() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        TokenLedger(tokens(0, 500), epoch=11).write(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str]) -> int:
    """Writes the file, or compares it when asked to check; returns the exit status."""
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" not in arguments:
        FILE.write_text(text, encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(
        f"{FILE.name} is not what the code makes: the format is final, so find out why\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
