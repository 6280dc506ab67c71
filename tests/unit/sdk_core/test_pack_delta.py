"""Deltas of packs: the result is a fresh build byte for byte, and whatever is not a canonical delta
for this pack is refused.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.packs import Entry, build, entries
from tipstaff_bloom import BloomFilter, DeltaError, diff
from tipstaff_sdk.errors import FormatError, PackDeltaError, PackFormatError
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_sdk.packs.delta import HEADER, PackDelta, apply_deltas
from tipstaff_sdk.packs.diff import write_delta
from tipstaff_sdk.packs.pack import Pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERYTHING = 1 << 30


def delta(
    old: bytes, new: bytes, folder: Path, name: str = "delta", *, max_bytes: int = EVERYTHING
) -> bytes:
    path = folder / name
    length = write_delta(Pack.from_buffer(old), Pack.from_buffer(new), path, max_bytes=max_bytes)
    data = path.read_bytes()
    path.unlink()
    assert len(data) == length
    return data


def applied(base: bytes, *deltas: bytes) -> bytes:
    return b"".join(apply_deltas(Pack.from_buffer(base), [PackDelta(data) for data in deltas]))


def changed(
    records: list[Entry], *, drop: int = 0, alter: int = 0, add: int = 0, seed: int = 7
) -> list[Entry]:
    random = Random(seed)
    kept = records[drop:]
    altered = [
        (locator, commitment, random.randbytes(len(sealed)))
        for locator, commitment, sealed in kept[:alter]
    ]
    return altered + kept[alter:] + entries(add, seed=seed)


@pytest.mark.parametrize(
    ("count", "change"),
    [
        (200, {"add": 1}),
        (200, {"drop": 1}),
        (200, {"alter": 1}),
        (200, {"add": 20, "drop": 15, "alter": 10}),
        (40, {"drop": 40}),
        (0, {"add": 20}),
        (1000, {"drop": 3, "add": 3}),
    ],
)
def test_the_result_is_a_fresh_build(tmp_path: Path, count: int, change: dict[str, int]) -> None:
    before = entries(count)
    after = changed(before, **change)
    old, new = build(before, bucket_bits=4), build(after, bucket_bits=4)
    assert applied(old, delta(old, new, tmp_path)) == new


def test_a_chain_is_applied_in_one_pass(tmp_path: Path) -> None:
    versions = [entries(300)]
    for number in range(5):
        versions.append(changed(versions[-1], drop=4, alter=3, add=4, seed=number))
    versions.append(versions[0])  # back to the beginning: what went comes again
    packs = [build(records) for records in versions]
    deltas = [delta(old, new, tmp_path) for old, new in pairwise(packs)]
    for start in range(6):
        for end in range(start + 1, 7):
            assert applied(packs[start], *deltas[start:end]) == packs[end]


def test_it_costs_what_changes(tmp_path: Path) -> None:
    records = [(*entry[:2], entry[2][:272]) for entry in entries(400)]
    old = build(records)
    assert len(delta(old, build(records[5:]), tmp_path)) == HEADER.size + 5 * 24
    assert (
        len(delta(build(records[5:], bucket_bits=4), build(records, bucket_bits=4), tmp_path))
        == HEADER.size + 5 * 297
    )


def test_one_pack_has_one_delta_to_another(tmp_path: Path) -> None:
    old, new = (
        build(entries(50), bucket_bits=3),
        build(changed(entries(50), drop=1, add=2), bucket_bits=3),
    )
    assert delta(old, new, tmp_path) == delta(old, new, tmp_path)


@pytest.mark.parametrize(
    ("new", "match"),
    [
        (build(entries(100), epoch=6, bucket_bits=2), "different epochs"),
        (build(entries(100), bucket_bits=3), "bucket bits"),
        (build(entries(100), bucket_bits=2), "are the same"),
        (build(entries(100, seed=9), bucket_bits=2), "longer than 1000 bytes"),
    ],
)
def test_where_there_is_no_delta_the_maker_says_so(tmp_path: Path, new: bytes, match: str) -> None:
    with pytest.raises(PackDeltaError, match=match):
        delta(build(entries(100), bucket_bits=2), new, tmp_path, max_bytes=1000)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "delta").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        delta(build([]), build(entries(1)), tmp_path)
    assert (tmp_path / "delta").read_bytes() == b"other"


RECORDS = sorted(entries(40))
BEFORE, AFTER = build(RECORDS[:36], bucket_bits=2), build(RECORDS[4:], bucket_bits=2)
REMOVED = [locator + commitment for locator, commitment, _ in RECORDS[:4]]
UPSERTED = [
    locator + commitment + bytes([(len(sealed) - 16).bit_length() - 9]) + sealed
    for locator, commitment, sealed in RECORDS[36:]
]
FIELDS = [
    "magic",
    "version",
    "bits",
    "zero",
    "epoch",
    "before",
    "after",
    "removals",
    "upserts",
    "base",
    "result",
]
HONEST = {
    "magic": b"tipspdel",
    "version": 1,
    "bits": 2,
    "zero": 0,
    "epoch": 5,
    "before": 36,
    "after": 36,
    "removals": 4,
    "upserts": 4,
    "base": hashlib.sha256(BEFORE).digest(),
    "result": hashlib.sha256(AFTER).digest(),
}


def made(
    removed: list[bytes] = REMOVED, upserted: list[bytes] = UPSERTED, **fields: object
) -> bytes:
    """A delta by hand, counts included unless they are given."""
    counts = {"removals": len(removed), "upserts": len(upserted)}
    values = {**HONEST, **counts, **fields}
    return HEADER.pack(*(values[name] for name in FIELDS)) + b"".join(removed + upserted)


def test_the_honest_delta_is_the_makers(tmp_path: Path) -> None:
    """Otherwise the tables below would prove nothing."""
    assert made() == delta(BEFORE, AFTER, tmp_path)
    assert applied(BEFORE, made()) == AFTER


SAME = BEFORE[BEFORE.index(RECORDS[10][0]) :][: 25 + len(RECORDS[10][2])]
ATTACKS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "shorter than its header"),
    "half a header": (made()[:60], "shorter than its header"),
    "another format": (made(magic=b"tipspack"), "not a delta"),
    "version 2": (made(version=2), "version 2"),
    "reserved byte": (made(zero=1), "values that none has"),
    "29 bucket bits": (made(bits=29), "values that none has"),
    "records without number": (made(before=1 << 40, after=1 << 40), "values that none has"),
    "another epoch": (made(epoch=6), "another pack"),
    "other bucket bits": (made(bits=3), "another pack"),
    "another base": (made(base=bytes(32)), "another pack"),
    "another count before": (made(before=37), "another pack"),
    "another result": (made(result=bytes(32)), "do not lead to the pack"),
    "another count after": (made(after=35), "do not lead to the number"),
    "more after than can be": (made(after=37), "do not add up"),
    "fewer after than can be": (made(after=31), "do not add up"),
    "more removals than records": (made(removals=37, after=3), "do not add up"),
    "no change at all": (made([], []), "do not add up"),
    "removals counted wrong": (
        made(removals=3),
        "out of order|size class|ends inside|longer than|not there",
    ),
    "upserts counted low": (made(upserts=3, after=35), "longer than its header"),
    "upserts counted high": (made(upserts=5), "ends inside|shorter than its header"),
    "upserts without number": (made(upserts=1 << 60, after=36), "shorter than its header"),
    "removals without number": (made(removals=36, upserts=36, after=36), "shorter than its header"),
    "truncated by a byte": (made()[:-1], "ends inside"),
    "truncated by a record": (made()[: -len(UPSERTED[-1])], "ends inside|shorter than its header"),
    "goes on beyond its end": (made() + b"\0", "longer than its header"),
    "a size class that none has": (
        made(REMOVED, [UPSERTED[0][:24] + b"\x09" + UPSERTED[0][25:], *UPSERTED[1:]]),
        "size class",
    ),
    "removals out of order": (made(REMOVED[::-1]), "out of order"),
    "upserts out of order": (made(REMOVED, UPSERTED[::-1]), "out of order"),
    "removed twice": (made([REMOVED[0], *REMOVED], after=35), "out of order"),
    "upserted twice": (made(REMOVED, [UPSERTED[0], *UPSERTED]), "out of order"),
    "removed and upserted": (made(sorted([*REMOVED, UPSERTED[0][:24]]), after=35), "out of order"),
    "removes what is not there": (made(sorted([*REMOVED[1:], b"\1" * 24])), "not there"),
    "an upsert that changes nothing": (made(REMOVED, sorted([SAME, *UPSERTED])), "changes nothing"),
    "one record less": (made(REMOVED[1:]), "number of records"),
    "one record more": (made(REMOVED, UPSERTED[1:], after=35), "do not lead to the pack"),
    "another sealed record": (
        made(REMOVED, [*UPSERTED[:-1], UPSERTED[-1][:-1] + b"?"]),
        "do not lead to the pack",
    ),
}


# What only hashing the packs can show: `assemble` leaves that to the reader, which holds the
# outcome against the signed hash. Whether the outcome is the right one nevertheless: where only the
# delta's own words about base and result are wrong.
LEFT_TO_THE_CALLER = {
    "another base": True,
    "another result": True,
    "one record more": False,
    "another sealed record": False,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_delta_that_is_malformed_or_leads_elsewhere_is_refused(
    tmp_path: Path, attack: str
) -> None:
    data, match = ATTACKS[attack]
    with pytest.raises(PackDeltaError, match=match):
        applied(BEFORE, data)
    (tmp_path / "base").write_bytes(BEFORE)
    (tmp_path / "delta").write_bytes(data)
    if attack in LEFT_TO_THE_CALLER:
        outcome = b"".join(
            assemble("listing/aviation/pack", tmp_path / "base", [tmp_path / "delta"])
        )
        assert (outcome == AFTER) is LEFT_TO_THE_CALLER[attack]
        return
    with pytest.raises(PackDeltaError, match=match if data else "empty"):
        list(assemble("listing/aviation/pack", tmp_path / "base", [tmp_path / "delta"]))


def test_every_flipped_byte_is_refused() -> None:
    honest = made()
    for position in range(0, len(honest), 53):
        data = bytearray(honest)
        data[position] ^= 0x10
        with pytest.raises(PackDeltaError):
            applied(BEFORE, bytes(data))


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (1,), (0, 1, 0)])
def test_a_chain_out_of_order_is_refused(tmp_path: Path, order: tuple[int, ...]) -> None:
    third = build(RECORDS[6:], bucket_bits=2)
    chain = [made(), delta(AFTER, third, tmp_path)]
    assert applied(BEFORE, *chain) == third
    with pytest.raises(PackDeltaError, match="another pack"):
        applied(BEFORE, *(chain[number] for number in order))


def test_a_damaged_base_is_said_to_be_damaged() -> None:
    damaged = bytearray(BEFORE)
    damaged[BEFORE.index(RECORDS[0][0]) + 30] ^= 1
    lying = made(base=hashlib.sha256(damaged).digest())
    with pytest.raises(PackFormatError, match="damaged"):
        applied(bytes(damaged), lying)


def test_only_filters_and_packs_have_deltas(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no deltas for parameters"):
        list(assemble("listing/aviation/parameters", tmp_path / "base", [tmp_path / "delta"]))


def filter_of(numbers: range) -> BloomFilter:
    import numpy as np  # noqa: PLC0415  only here

    tokens = np.stack(
        [
            np.frombuffer(hashlib.sha256(struct.pack("<I", number)).digest()[:16], np.uint8)
            for number in numbers
        ]
    )
    return BloomFilter.build(tokens, epoch=3, capacity=300)


def test_filters_are_assembled_over_a_chain(tmp_path: Path) -> None:
    filters = [filter_of(range(start, start + 250)) for start in (0, 3, 7)]
    (tmp_path / "base").write_bytes(filters[0].to_bytes())
    paths = [tmp_path / "first", tmp_path / "second"]
    for path, old, new in zip(paths, filters, filters[1:], strict=False):
        path.write_bytes(diff(old, new))
    assert (
        b"".join(assemble("listing/aviation/filter", tmp_path / "base", paths))
        == filters[2].to_bytes()
    )
    with pytest.raises(DeltaError):
        list(assemble("listing/aviation/filter", tmp_path / "base", paths[::-1]))


BAD_FILTER_DELTAS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "another digest": lambda data: data[:84] + bytes(32) + data[116:],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("case", BAD_FILTER_DELTAS)
def test_a_bad_filter_delta_is_refused(tmp_path: Path, case: str) -> None:
    old, new = filter_of(range(200)), filter_of(range(5, 205))
    (tmp_path / "base").write_bytes(old.to_bytes())
    (tmp_path / "delta").write_bytes(BAD_FILTER_DELTAS[case](diff(old, new)))
    with pytest.raises(DeltaError):
        list(assemble("listing/aviation/filter", tmp_path / "base", [tmp_path / "delta"]))


def test_nothing_stays_open(tmp_path: Path) -> None:
    """A generator that is abandoned in the middle closes its files."""
    (tmp_path / "base").write_bytes(BEFORE)
    (tmp_path / "delta").write_bytes(made())
    pieces = assemble("listing/aviation/pack", tmp_path / "base", [tmp_path / "delta"])
    assert next(pieces)[:8] == b"tipspack"
    pieces.close()
    assert list(pieces) == []


def test_it_shows_no_record() -> None:
    assert repr(PackDelta(made())) == "PackDelta(epoch=5, before=36, after=36, bucket_bits=2)"
