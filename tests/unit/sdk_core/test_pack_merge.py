"""Packs changed in place of built anew: the same bytes as a fresh build, whatever goes and comes,
and however many buckets there are.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.packs import Entry, build, entries
from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.packs.bucket_tree import describe, survey
from tipstaff_sdk.packs.builder import numbers_in_buckets
from tipstaff_sdk.packs.merge import merge
from tipstaff_sdk.packs.pack import Pack

if TYPE_CHECKING:
    from pathlib import Path


def locators(records: list[Entry]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.unique(
        np.frombuffer(b"".join(record[0] for record in records), ">u8").astype(np.uint64)
    )


def merged(folder: Path, old: bytes, gone: list[Entry], come: bytes) -> bytes:
    path = folder / "merged"
    path.unlink(missing_ok=True)
    count = merge(Pack.from_buffer(old), locators(gone), Pack.from_buffer(come), path)
    with Pack.open(path) as made:
        assert made.record_count == count
        made.verify()
    return path.read_bytes()


@pytest.mark.parametrize(("before", "after"), [(4, 4), (0, 0), (4, 2), (4, 0), (2, 5), (0, 3)])
@pytest.mark.parametrize(
    ("drop", "alter", "add"),
    [
        (0, 0, 0),
        (7, 0, 0),
        (0, 9, 0),
        (0, 0, 5),
        (11, 8, 13),
        (200, 0, 0),
        (200, 0, 3),
        (199, 1, 0),
    ],
)
def test_it_is_what_a_fresh_build_writes(
    tmp_path: Path, before: int, after: int, drop: int, alter: int, add: int
) -> None:
    records = entries(200)
    rng = Random(3)
    altered = [
        (locator, commitment, rng.randbytes(len(sealed)))
        for locator, commitment, sealed in records[drop : drop + alter]
    ]
    come = altered + entries(add, seed=9)
    made = merged(
        tmp_path,
        build(records, bucket_bits=before),
        records[: drop + alter],
        build(come, bucket_bits=after),
    )
    assert made == build(records[drop + alter :] + come, bucket_bits=after)


def test_all_names_of_a_number_go_with_it(tmp_path: Path) -> None:
    records = entries(40)
    names = [(records[0][0], bytes([number]) * 16, records[0][2]) for number in range(5)]
    made = merged(
        tmp_path, build(records + names, bucket_bits=2), records[:1], build([], bucket_bits=2)
    )
    assert made == build(records[1:], bucket_bits=2)


def test_into_an_empty_pack_and_out_of_it(tmp_path: Path) -> None:
    records = entries(30)
    full = build(records, bucket_bits=1)
    assert merged(tmp_path, build([], bucket_bits=0), [], full) == full
    assert merged(tmp_path, full, records, build([], bucket_bits=0)) == build([], bucket_bits=0)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    records = entries(30)
    old = build(records, bucket_bits=1)
    table = {
        "not in the pack": (entries(1, seed=5), build([], bucket_bits=1)),
        "in the pack already": ([], build(records[:1], bucket_bits=1)),
        "different epochs": ([], build([], epoch=6, bucket_bits=1)),
    }
    for message, (gone, come) in table.items():
        with pytest.raises(PackFormatError, match=message):
            merged(tmp_path, old, gone, come)
    damaged = bytearray(old)
    damaged[-1] ^= 1
    with pytest.raises(PackFormatError, match="damaged"):
        merged(tmp_path, bytes(damaged), records, build([], bucket_bits=1))


def test_who_counted_the_numbers_gets_the_same_description() -> None:
    records = entries(500)
    records += [(locator, bytes(16), sealed) for locator, _, sealed in records[:100]]
    for bits in (0, 3):
        pack = Pack.from_buffer(build(records, bucket_bits=bits))
        assert describe(pack, numbers_in_buckets(locators(records), bits)) == survey(pack)
