"""What a pack holds is found in any order, and what only looks like a record is not."""

from __future__ import annotations

from random import Random

import pytest

from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack, encode_record
from tipstaff_server.signoff.pack_lookup import PackLookup

Entry = tuple[bytes, bytes, bytes]
SEALED = 256 + 16


def entries(count: int) -> list[Entry]:
    random = Random(3)
    return [
        (
            random.randbytes(8),
            random.randbytes(16),
            random.randbytes((256 << random.choice([0, 0, 1])) + 16),
        )
        for _ in range(count)
    ]


def build(records: list[Entry], bucket_bits: int) -> bytes:
    with PackBuilder(5, bucket_bits=bucket_bits) as builder:
        for record in records:
            builder.add(*record)
        return builder.to_bytes()


@pytest.mark.parametrize("bits", [0, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 200])
def test_every_record_is_found_and_nothing_else(count: int, bits: int) -> None:
    records = entries(count)
    with Pack.from_buffer(build(records, bits)) as pack:
        lookup = PackLookup(pack)
        for locator, commitment, sealed in records:
            assert lookup.sealed(locator, commitment) == sealed
            assert lookup.sealed(locator, bytes(16)) is None
            assert lookup.sealed(bytes(reversed(locator)), commitment) is None


def test_several_records_at_one_locator() -> None:
    records = [(bytes(8), bytes([number]) * 16, bytes([number]) * SEALED) for number in range(1, 6)]
    with Pack.from_buffer(build(records, 0)) as pack:
        lookup = PackLookup(pack)
        assert [lookup.sealed(*record[:2]) for record in records] == [
            record[2] for record in records
        ]


@pytest.mark.parametrize("listed", [True, False])
def test_a_record_inside_another_is_none(listed: bool) -> None:
    wanted = (b"\x02" + bytes(7), bytes(range(16)), b"\xaa" * SEALED)
    inside = encode_record(wanted[0], wanted[1], b"\xbb" * SEALED)
    around = (b"\x01" + bytes(7), bytes(16), inside.ljust((256 << 1) + 16, b"\x00"))
    with Pack.from_buffer(build([around, wanted] if listed else [around], 0)) as pack:
        assert inside in build([around], 0)
        assert PackLookup(pack).sealed(*wanted[:2]) == (wanted[2] if listed else None)


def test_a_damaged_bucket_is_said_at_once() -> None:
    content = bytearray(build(entries(50), 2))
    content[-1] ^= 1
    with Pack.from_buffer(bytes(content)) as pack, pytest.raises(PackFormatError):
        PackLookup(pack)
