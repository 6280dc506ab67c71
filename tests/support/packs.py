"""Packs of made-up records."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tipstaff_sdk.packs.builder import PackBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable

Entry = tuple[bytes, bytes, bytes]
"""Locator, commitment, sealed."""


def entries(count: int, seed: int = 1) -> list[Entry]:
    """Random records of three sizes, the same for the same seed."""
    random = Random(seed)
    return [
        (
            random.randbytes(8),
            random.randbytes(16),
            random.randbytes((256 << random.choice([0, 0, 0, 1, 2])) + 16),
        )
        for _ in range(count)
    ]


def build(records: Iterable[Entry], *, epoch: int = 5, bucket_bits: int | None = None) -> bytes:
    """Returns a pack of these entries."""
    with PackBuilder(epoch, bucket_bits=bucket_bits) as builder:
        for record in records:
            builder.add(*record)
        return builder.to_bytes()
