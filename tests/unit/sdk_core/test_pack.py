"""Packs: what went in is found, nothing else is, and damage anywhere is an error and never a
missing person.
"""

from __future__ import annotations

import struct
import zlib
from random import Random
from typing import TYPE_CHECKING

import pytest

from tipstaff_sdk.errors import ClosedError, PackFormatError
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack, SealedCopy, parse_bucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = 48
Entry = tuple[bytes, bytes, bytes]


def entries(count: int, seed: int = 1) -> list[Entry]:
    random = Random(seed)
    return [
        (
            random.randbytes(8),
            random.randbytes(16),
            random.randbytes((256 << random.choice([0, 0, 0, 1, 2])) + 16),
        )
        for _ in range(count)
    ]


def build(records: list[Entry], *, epoch: int = 5, bucket_bits: int | None = None) -> bytes:
    with PackBuilder(epoch, bucket_bits=bucket_bits) as builder:
        for record in records:
            builder.add(*record)
        assert builder.record_count == len(records)
        return builder.to_bytes()


@pytest.mark.parametrize(
    ("count", "bits"),
    [(0, 0), (1, 0), (15, 0), (31, 0), (32, 1), (63, 1), (64, 2), (1000, 5), (1024, 6)],
)
def test_everything_is_found_where_it_was_put(count: int, bits: int) -> None:
    records = entries(count)
    with Pack.from_buffer(build(records)) as pack:
        pack.verify()
        assert (pack.record_count, pack.bucket_bits, pack.epoch) == (count, bits, 5)
        for locator, commitment, sealed in records:
            assert pack.find(locator) == [SealedCopy(commitment, sealed)]
        random = Random(2)
        assert not any(pack.find(random.randbytes(8)) for _ in range(100))


def test_a_file_is_read_in_place_and_written_whole(tmp_path: Path) -> None:
    path, records = tmp_path / "pack", entries(200)
    with PackBuilder(5) as builder:
        for record in records:
            builder.add(*record)
        builder.write(path)
        builder.write(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["pack"]
    assert path.read_bytes() == build(records)
    with Pack.open(path) as pack:
        assert pack.find(records[7][0]) == [SealedCopy(*records[7][1:])]
    with Pack.open(str(path)) as pack:
        pack.verify()


def test_the_order_in_which_records_come_does_not_matter() -> None:
    records = entries(300)
    shuffled = records.copy()
    Random(3).shuffle(shuffled)
    assert build(records) == build(shuffled)


def test_names_of_one_subject_and_subjects_at_one_locator_are_kept_apart() -> None:
    locator = b"\x80" + bytes(7)
    copies = sorted((bytes([n]) * 16, bytes(272)) for n in range(5))
    pack = Pack.from_buffer(build([(locator, *copy) for copy in copies] + entries(100)))
    assert pack.find(locator) == [SealedCopy(*copy) for copy in copies]


def test_locators_at_both_ends() -> None:
    records = [
        (bytes(8), b"a" * 16, bytes(272)),
        (b"\xff" * 8, b"b" * 16, bytes(272)),
        (b"\x7f" + b"\xff" * 7, b"c" * 16, bytes(272)),
    ]
    for bits in (0, 1, 8, 16):
        pack = Pack.from_buffer(build(records, bucket_bits=bits))
        pack.verify()
        assert all(
            pack.find(locator) == [SealedCopy(commitment, sealed)]
            for locator, commitment, sealed in records
        )


def test_commitments_with_zeros_at_the_end_stay_whole() -> None:
    records = [
        (b"l" * 8, b"c" + bytes(15), bytes(272)),
        (b"l" * 8, bytes(16), bytes(272)),
        (b"l" * 8, b"c" * 15 + b"\0", bytes(272)),
    ]
    assert {copy.commitment for copy in Pack.from_buffer(build(records)).find(b"l" * 8)} == {
        record[1] for record in records
    }


def test_a_bucket_holds_what_begins_with_its_number() -> None:
    records = entries(500)
    pack = Pack.from_buffer(build(records))
    seen = 0
    for prefix in range(1 << pack.bucket_bits):
        found = parse_bucket(pack.bucket(prefix), prefix, pack.bucket_bits)
        assert {locator for locator, _ in found} == {
            r[0] for r in records if r[0][0] >> (8 - pack.bucket_bits) == prefix
        }
        seen += len(found)
    assert seen == 500
    for prefix in (-1, 1 << pack.bucket_bits):
        with pytest.raises(PackFormatError, match="bucket's number"):
            pack.bucket(prefix)


def test_the_same_number_and_name_twice_is_refused() -> None:
    record = entries(1)[0]
    with PackBuilder(1) as builder:
        builder.add(*record)
        builder.add(record[0], record[1], bytes(272))
        with pytest.raises(PackFormatError, match="merge"):
            builder.to_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"old")
    record = entries(1)[0]
    with PackBuilder(1) as builder:
        builder.add(*record)
        builder.add(*record)
        with pytest.raises(PackFormatError):
            builder.write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["pack"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("locator", "commitment", "sealed"),
    [(7, 16, 272), (9, 16, 272), (8, 15, 272), (8, 16, 271), (8, 16, 0), (8, 16, 256)],
)
def test_what_cannot_be_a_record_is_not_added(locator: int, commitment: int, sealed: int) -> None:
    with PackBuilder(1) as builder, pytest.raises(PackFormatError, match="seal it"):
        builder.add(bytes(locator), bytes(commitment), bytes(sealed))


@pytest.mark.parametrize("bits", [-1, 29])
def test_bucket_bits_out_of_bounds_are_refused(bits: int) -> None:
    with pytest.raises(PackFormatError, match="bucket bits"):
        PackBuilder(1, bucket_bits=bits)


def test_records_beyond_memory_wait_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    records = entries(200)
    whole = build(records)
    monkeypatch.setattr("tipstaff_sdk.packs.builder._SPOOL_IN_MEMORY", 4096)
    assert build(records) == whole


@pytest.mark.parametrize("length", [0, 7, 9, 100])
def test_a_locator_of_another_size_is_refused(length: int) -> None:
    with pytest.raises(PackFormatError, match=f"not {length}"):
        Pack.from_buffer(build([])).find(bytes(length))


def test_a_closed_pack_says_so(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(build(entries(3)))
    pack = Pack.open(path)
    pack.close()
    pack.close()
    with pytest.raises(ClosedError):
        pack.find(bytes(8))
    raced = Pack.open(path)
    raced._buffer.close()  # as when another thread closes in the middle of a look-up
    with pytest.raises(ClosedError):
        raced.find(bytes(8))


def resealed(data: bytes) -> bytes:
    """With the checksum of header and table made right, so that the check behind it is reached."""
    bits = data[10] if data[10] <= 28 else 0
    end = HEADER + 8 * ((1 << bits) + 1)
    checksum = zlib.crc32(data[HEADER:end], zlib.crc32(data[: HEADER - 4]))
    return data[: HEADER - 4] + checksum.to_bytes(4, "big") + data[HEADER:]


def patch(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: resealed(data[:offset] + new + data[offset + len(new) :])


WHOLE = build(entries(100), bucket_bits=2)
TABLE_END = HEADER + 8 * 5

DAMAGED = {
    "empty": (lambda data: b"", "shorter"),
    "half a header": (lambda data: data[:40], "shorter"),
    "another format": (lambda data: b"tipbloom" + data[8:], "not a pack"),
    "version 2": (patch(8, b"\0\2"), "version 2"),
    "version 0": (patch(8, b"\0\0"), "version 0"),
    "reserved byte": (patch(11, b"\1"), "header holds values"),
    "reserved bytes": (patch(33, b"\1"), "header holds values"),
    "29 bucket bits": (patch(10, b"\x1d"), "header holds values"),
    "255 bucket bits": (patch(10, b"\xff"), "header holds values"),
    "too many records": (patch(16, b"\xff"), "header holds values"),
    "one bucket bit more": (patch(10, b"\3"), "length disagree"),
    "truncated by a byte": (lambda data: data[:-1], "length disagree"),
    "truncated to its header": (lambda data: data[:HEADER], "length disagree"),
    "a byte too long": (lambda data: data + b"\0", "length disagree"),
    "length of eight exabytes": (patch(24, b"\x7f" + b"\xff" * 7), "length disagree"),
    "checksum of the header": (
        lambda data: data[:44] + b"\0\0\0\0" + data[48:],
        "header or table is damaged",
    ),
    "epoch flipped": (
        lambda data: data[:15] + bytes([data[15] ^ 1]) + data[16:],
        "header or table is damaged",
    ),
    "table flipped": (
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        "header or table is damaged",
    ),
    "table begins late": (patch(HEADER + 7, b"\1"), "does not ascend"),
    "table goes back": (patch(HEADER + 8, b"\0\0\0\0\x7f\0\0\0"), "does not ascend"),
    "table ends early": (patch(TABLE_END - 1, b"\0"), "does not ascend"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_does_not_open(case: str, tmp_path: Path) -> None:
    damage, message = DAMAGED[case]
    data = damage(WHOLE)
    with pytest.raises(PackFormatError, match=message):
        Pack.from_buffer(data)
    (tmp_path / "pack").write_bytes(data)
    with pytest.raises(PackFormatError, match="empty" if not data else message):
        Pack.open(tmp_path / "pack")


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Pack.open(tmp_path / "none")


def test_every_flipped_byte_is_noticed_at_the_latest_when_its_bucket_is_read() -> None:
    for position in range(0, len(WHOLE), 61):
        data = bytearray(WHOLE)
        data[position] ^= 0x10
        with pytest.raises(PackFormatError):
            Pack.from_buffer(bytes(data)).verify()


def rebuilt(bucket: bytes) -> bytes:
    return zlib.crc32(bucket).to_bytes(4, "big") + bucket


def raw_record(
    locator: bytes, commitment: bytes = b"c" * 16, size_class: int = 0, length: int = 272
) -> bytes:
    return locator + commitment + bytes([size_class]) + bytes(length)


LOW, HIGH = b"\x10" + bytes(7), b"\x20" + bytes(7)
BAD_BUCKETS = {
    "checksum alone": (rebuilt(b""), "no record"),
    "three bytes": (b"abc", "damaged"),
    "wrong checksum": (b"\0\0\0\0" + raw_record(LOW), "damaged"),
    "half a record's head": (rebuilt(raw_record(LOW)[:20]), "ends inside"),
    "half a record": (rebuilt(raw_record(LOW)[:-1]), "ends inside"),
    "something behind": (rebuilt(raw_record(LOW) + b"\0"), "ends inside"),
    "size class 9": (rebuilt(raw_record(LOW, size_class=9, length=(256 << 9) + 16)), "size class"),
    "size class of another length": (rebuilt(raw_record(LOW, size_class=1)), "ends inside"),
    "locators descend": (rebuilt(raw_record(HIGH) + raw_record(LOW)), "out of order"),
    "commitments descend": (rebuilt(raw_record(LOW, b"d" * 16) + raw_record(LOW)), "out of order"),
    "a record twice": (rebuilt(raw_record(LOW) * 2), "out of order"),
    "another bucket's": (rebuilt(raw_record(b"\x80" + bytes(7))), "of another bucket"),
}


@pytest.mark.parametrize("case", BAD_BUCKETS)
def test_a_bucket_that_no_builder_writes_is_refused(case: str) -> None:
    bucket, message = BAD_BUCKETS[case]
    with pytest.raises(PackFormatError, match=message):
        parse_bucket(bucket, 0, 1)


def test_a_bucket_as_it_has_to_be() -> None:
    found = parse_bucket(rebuilt(raw_record(LOW) + raw_record(HIGH)), 0, 1)
    assert found == [
        (LOW, SealedCopy(b"c" * 16, bytes(272))),
        (HIGH, SealedCopy(b"c" * 16, bytes(272))),
    ]
    assert parse_bucket(b"", 0, 1) == []


def test_a_wrong_count_is_found_by_verify() -> None:
    data = resealed(WHOLE[:16] + struct.pack(">Q", 99) + WHOLE[24:])
    with pytest.raises(PackFormatError, match="99 records, and holds 100"):
        Pack.from_buffer(data).verify()


def test_it_shows_no_record() -> None:
    assert repr(Pack.from_buffer(WHOLE)) == "Pack(epoch=5, record_count=100, bucket_bits=2)"
