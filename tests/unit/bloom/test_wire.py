"""Attacks on the wire form, as a table of named cases."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vectors.bloom import tokens
from tipstaff_bloom import BloomFilter, FormatError

WIRE = BloomFilter.build(tokens(0, 200), epoch=3, capacity=220).to_bytes()
EMPTY = BloomFilter.build(tokens(0, 0), capacity=1).to_bytes()


def put(offset: int, form: str, value: int, wire: bytes = WIRE) -> bytes:
    """The wire form with one field changed."""
    changed = bytearray(wire)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


ATTACKS: dict[str, bytes] = {
    "nothing": b"",
    "half a header": WIRE[:32],
    "header alone": WIRE[:64],
    "one byte short": WIRE[:-1],
    "one block short": WIRE[:-64],
    "one byte more": WIRE + b"\0",
    "one block more": WIRE + bytes(64),
    "two filters": WIRE + WIRE,
    "other magic": b"tipdelta" + WIRE[8:],
    "magic in capitals": b"TIPBLOOM" + WIRE[8:],
    "version 0": put(8, "<H", 0),
    "version 2": put(8, "<H", 2),
    "version in big-endian": put(8, ">H", 1),
    "one free bit": put(10, "<B", 1),
    "no free bits": put(10, "<B", 0),
    "ten free bits": put(10, "<B", 10),
    "255 free bits": put(10, "<B", 255),
    "reserved byte set": put(11, "<B", 1),
    "no blocks": put(16, "<I", 0),
    "no blocks and no body": put(16, "<I", 0)[:64],
    "one block fewer than there are": put(16, "<I", len(WIRE) // 64 - 2),
    "one block more than there are": put(16, "<I", len(WIRE) // 64),
    "most blocks a header can say": put(16, "<I", 2**32 - 1),
    "a block over the cap": put(16, "<I", 2**26 + 1),
    "reserved number set": put(20, "<I", 1),
    "count over the cap": put(24, "<Q", 2**40),
    "largest count": put(24, "<Q", 2**64 - 1),
    "no capacity": put(32, "<Q", 0),
    "capacity over the cap": put(32, "<Q", 2**32 + 1),
    "first reserved tail byte set": put(40, "<B", 1),
    "last reserved tail byte set": put(63, "<B", 128),
    "count 0 but bits": put(24, "<Q", 0),
    "count 0 but the last bit": put(127, "<B", 128, EMPTY),
    "zeros": bytes(128),
    "text": b"<!DOCTYPE html>" + b" " * 200,
}


@pytest.mark.parametrize("wire", ATTACKS.values(), ids=ATTACKS.keys())
def test_bytes_that_are_not_one_canonical_filter_are_refused(wire: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        BloomFilter.from_buffer(wire)
    path = tmp_path / "filter"
    path.write_bytes(wire)
    with pytest.raises(FormatError):
        BloomFilter.open(path)


def test_the_untouched_bytes_are_accepted() -> None:
    assert BloomFilter.from_buffer(WIRE).to_bytes() == WIRE
    assert BloomFilter.from_buffer(EMPTY).to_bytes() == EMPTY


def test_every_header_byte_matters() -> None:
    """Flipping any header bit is refused or shows in a field; nothing is silently ignored."""
    honest = BloomFilter.from_buffer(WIRE)
    for bit in range(64 * 8):
        changed = bytearray(WIRE)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            told = BloomFilter.from_buffer(changed)
        except FormatError:
            continue
        assert told.header != honest.header


BUFFERS: dict[str, Callable[[], object]] = {
    "text": lambda: "tipbloom",
    "none": lambda: None,
    "number": lambda: 5,
    "every second byte": lambda: memoryview(WIRE)[::2],
}


@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS.keys())
def test_things_that_are_not_a_contiguous_buffer_are_refused(buffer: Callable[[], object]) -> None:
    with pytest.raises(FormatError, match="contiguous"):
        BloomFilter.from_buffer(buffer())  # type: ignore[arg-type]  # the point of the test


def test_all_epochs_and_the_largest_count_survive() -> None:
    for epoch in (0, 1, 2**32 - 1):
        assert BloomFilter.from_buffer(put(12, "<I", epoch)).epoch == epoch
    assert BloomFilter.from_buffer(put(24, "<Q", 2**40 - 1)).count == 2**40 - 1
