"""Relief: it lifts, it says how far it speaks, and it can do nothing else."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from random import Random

import pytest

from tipstaff_sdk.errors import ReliefFormatError
from tipstaff_sdk.listing.relief import Relief, Segment, encode_segment, parse_segment

SIGNED = datetime(2026, 6, 1, tzinfo=UTC)
A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
WHOLE = encode_segment(5, 9, [(5, A), (7, B)])


def entry(sequence: int, restriction_id: bytes) -> bytes:
    return struct.pack(">Q", sequence) + restriction_id


def segment_of(*parts: bytes, first: int = 5, last: int = 9, count: int | None = None) -> bytes:
    return struct.pack(
        ">8sHHIQQ", b"tipsrelf", 1, 0, len(parts) if count is None else count, first, last
    ) + b"".join(parts)


def test_the_bytes_are_as_the_format_says() -> None:
    assert WHOLE.hex() == (
        "7469707372656c66000100000000000200000000000000050000000000000009"
        "0000000000000005" + "01" * 16 + "0000000000000007" + "02" * 16
    )  # fmt: skip
    assert segment_of(entry(5, A), entry(7, B)) == WHOLE


def test_a_segment_goes_there_and_back_in_any_order() -> None:
    assert parse_segment(WHOLE) == Segment(5, 9, ((5, A), (7, B)))
    assert encode_segment(5, 9, iter([(7, B), (5, A)])) == WHOLE
    assert parse_segment(encode_segment(1, 1, [])) == Segment(1, 1, ())
    together = [(4, A), (4, B), (4, C)]
    assert parse_segment(encode_segment(4, 4, together)).entries == tuple(together)


BAD = {
    "empty": (b"", "shorter"),
    "half a header": (WHOLE[:31], "shorter"),
    "another format": (b"tipspack" + WHOLE[8:], "not a relief segment"),
    "version 2": (WHOLE[:9] + b"\2" + WHOLE[10:], "version 2"),
    "reserved": (WHOLE[:11] + b"\1" + WHOLE[12:], "disagree"),
    "truncated": (WHOLE[:-1], "disagree"),
    "a byte too long": (WHOLE + b"\0", "disagree"),
    "one entry more than said": (segment_of(entry(5, A), entry(7, B), count=1), "disagree"),
    "one entry fewer than said": (segment_of(entry(5, A), count=2), "disagree"),
    "four billion entries": (segment_of(count=0xFFFFFFFF), "disagree"),
    "range backwards": (segment_of(first=9, last=5), "empty or out of bounds"),
    "range from 0": (segment_of(first=0), "empty or out of bounds"),
    "range beyond 63 bits": (segment_of(last=1 << 63), "empty or out of bounds"),
    "sequence before the range": (segment_of(entry(4, A)), "outside its range"),
    "sequence behind the range": (segment_of(entry(10, A)), "outside its range"),
    "descending": (segment_of(entry(7, B), entry(5, A)), "do not ascend"),
    "the same twice": (segment_of(entry(5, A), entry(5, A)), "do not ascend"),
    "ids of one sequence descending": (segment_of(entry(5, B), entry(5, A)), "do not ascend"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_segment_that_no_writer_writes_is_refused(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(ReliefFormatError, match=message):
        parse_segment(data)


@pytest.mark.parametrize(
    ("first", "last", "entries", "message"),
    [
        (2, 1, [], "empty or out of bounds"),
        (0, 1, [], "empty or out of bounds"),
        (1, 5, [(6, A)], "outside its range"),
        (1, 5, [(1, A), (1, A)], "do not ascend"),
        (1, 5, [(1, b"short")], "16 bytes"),
    ],
)
def test_a_segment_that_no_reader_takes_is_not_written(
    first: int, last: int, entries: list[tuple[int, bytes]], message: str
) -> None:
    with pytest.raises(ReliefFormatError, match=message):
        encode_segment(first, last, entries)


def test_every_flipped_byte_is_refused_or_another_valid_segment() -> None:
    # No checksum of its own: the signed metadata has its hash. What must not happen is a crash or a
    # nonsense value.
    for position in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[position] ^= 0x41
        try:
            parsed = parse_segment(bytes(data))
        except ReliefFormatError:
            continue
        assert encode_segment(parsed.first, parsed.last, parsed.entries) == data


def test_a_lift_counts_from_the_restrictions_floor_on() -> None:
    relief = Relief.from_segments([Segment(11, 20, ((12, A), (15, B)))], 10, SIGNED)
    assert relief.lifts(A, 0)
    assert relief.lifts(A, 11)
    assert not relief.lifts(A, 12), "put in force again since"
    assert not relief.lifts(C, 0)


def test_posts_end_once_all_of_them_were_left() -> None:
    relief = Relief.from_segments([Segment(11, 20, ((12, A), (15, B)))], 10, SIGNED)
    assert relief.ends(frozenset({A}))
    assert relief.ends(frozenset({A, B}))
    assert not relief.ends(frozenset({A, C})), "the other one still reaches"
    assert not relief.ends(frozenset()), "nothing reaches through posts"


def test_the_last_lift_of_a_restriction_counts() -> None:
    relief = Relief.from_segments(
        [Segment(11, 20, ((12, A), (18, A))), Segment(21, 30, ((21, B),))], 10, SIGNED
    )
    assert relief.lifts(A, 17)
    assert not relief.lifts(A, 18)


COMPLETE = {
    "nothing since the listing": ([], True, 10),
    "right behind": ([(11, 15)], True, 15),
    "two that meet": ([(11, 15), (16, 20)], True, 20),
    "in any order": ([(16, 20), (11, 15)], True, 20),
    "overlapping": ([(11, 15), (13, 20)], True, 20),
    "one inside the other": ([(11, 20), (12, 15)], True, 20),
    "older than the listing": ([(1, 10)], True, 10),
    "older and reaching over": ([(1, 12), (13, 14)], True, 14),
    "only long before": ([(1, 5)], True, 10),
    "late": ([(12, 15)], False, 10),
    "a gap of one": ([(11, 15), (17, 20)], False, 15),
    "a gap, then more": ([(11, 15), (17, 20), (21, 30)], False, 15),
    "a gap before the listing": ([(1, 5), (8, 12)], True, 12),
}


@pytest.mark.parametrize("case", COMPLETE)
def test_gaps_are_seen(case: str) -> None:
    ranges, complete, head = COMPLETE[case]
    relief = Relief.from_segments([Segment(first, last, ()) for first, last in ranges], 10, SIGNED)
    assert (relief.complete, relief.head, relief.signed_at) == (complete, head, SIGNED)


def test_what_stands_behind_a_gap_lifts_all_the_same() -> None:
    relief = Relief.from_segments([Segment(11, 12, ()), Segment(20, 20, ((20, A),))], 10, SIGNED)
    assert not relief.complete
    assert relief.lifts(A, 0)


def test_the_order_of_segments_does_not_matter() -> None:
    segments = [Segment(n, n, ((n, bytes([n % 3]) * 16),)) for n in range(11, 40)]
    shuffled = segments.copy()
    Random(1).shuffle(shuffled)
    assert Relief.from_segments(shuffled, 10, SIGNED) == Relief.from_segments(segments, 10, SIGNED)


def test_it_shows_no_lifts() -> None:
    assert A.hex() not in repr(Relief.from_segments([Segment(11, 11, ((11, A),))], 10, SIGNED))
    assert repr(A) not in repr(Relief.from_segments([Segment(11, 11, ((11, A),))], 10, SIGNED))
