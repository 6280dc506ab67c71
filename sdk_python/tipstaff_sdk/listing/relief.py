"""Relief: which restrictions have been lifted since a listing (docs/formats/relief.md).

    "tipsrelf" | version 1 (2) | zeros (2) | count (4) | first (8) | last (8)
        | count entries of 24 bytes: sequence (8), restriction id (16)

All numbers big-endian. A segment speaks for every sequence from first to last; those without an
entry are of other audiences. Entries ascend strictly by sequence and id. There is nothing else to
say in this format, so whoever holds the relief key can lift and do no more.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final

from tipstaff_sdk.errors import ReliefFormatError

__all__ = ["Relief", "Segment", "encode_segment", "parse_segment"]

MAGIC: Final = b"tipsrelf"
VERSION: Final = 1
RESTRICTION_ID_SIZE: Final = 16
MAX_ENTRIES: Final = 1_000_000

_HEADER: Final = struct.Struct(">8sHHIQQ")
_ENTRY: Final = struct.Struct(">Q16s")
_MAX_SEQUENCE: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """Lifts of one range of sequences, both ends included.

    Entries are (sequence, restriction id of 16 bytes), ascending.
    """

    first: int
    last: int
    entries: tuple[tuple[int, bytes], ...]


def encode_segment(first: int, last: int, entries: Iterable[tuple[int, bytes]]) -> bytes:
    """A segment's bytes.

    The entries may come in any order; the same segment always has the same bytes.

    Raises ReliefFormatError for a range or entries that no parser would take.
    """
    ordered = tuple(sorted(entries))
    _verify(first, last, ordered)
    header = _HEADER.pack(MAGIC, VERSION, 0, len(ordered), first, last)
    return header + b"".join(
        [_ENTRY.pack(sequence, restriction_id) for sequence, restriction_id in ordered]
    )


def parse_segment(data: bytes) -> Segment:
    """Reads a segment.

    Raises ReliefFormatError for anything that `encode_segment` would not have written.
    """
    if len(data) < _HEADER.size:
        raise ReliefFormatError("A relief segment is shorter than its header: fetch it again.")
    magic, version, reserved, count, first, last = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ReliefFormatError(
            "This is not a relief segment: the repository holds another file in its place, tell the"
            " operator."
        )
    if version != VERSION:
        raise ReliefFormatError(
            f"A relief segment has version {version}, and {VERSION} is understood: update this"
            " software."
        )
    if reserved or count > MAX_ENTRIES or len(data) != _HEADER.size + count * _ENTRY.size:
        raise ReliefFormatError("A relief segment's header and length disagree: fetch it again.")
    entries = tuple(_ENTRY.iter_unpack(memoryview(data)[_HEADER.size :]))
    _verify(first, last, entries)
    return Segment(first, last, entries)


def _verify(first: int, last: int, entries: tuple[tuple[int, bytes], ...]) -> None:
    if not 1 <= first <= last <= _MAX_SEQUENCE:
        raise ReliefFormatError(
            "A relief segment's range is empty or out of bounds: sequences begin with 1."
        )
    if len(entries) > MAX_ENTRIES:
        raise ReliefFormatError(
            f"A relief segment holds at most {MAX_ENTRIES} lifts: cut it in two."
        )
    if any(len(restriction_id) != RESTRICTION_ID_SIZE for _, restriction_id in entries):
        raise ReliefFormatError(f"A restriction's id is {RESTRICTION_ID_SIZE} bytes.")
    if entries and not (first <= entries[0][0] and entries[-1][0] <= last):
        raise ReliefFormatError(
            "A relief segment holds a sequence outside its range: tell the operator."
        )
    if any(before >= after for before, after in pairwise(entries)):
        raise ReliefFormatError("A relief segment's entries do not ascend: tell the operator.")


@dataclass(frozen=True, slots=True)
class Relief:
    """All relief that goes with one listing.

    head: the last sequence spoken for without a gap after the listing's own; what comes after a gap
    lifts all the same. complete: False when a gap in the segments hides what may have been lifted.
    signed_at: when the relief role last signed, aware UTC. last_lifts: by id of a restriction, or
    of a post that was left, the last sequence that lifts it.
    """

    head: int
    complete: bool
    signed_at: datetime
    last_lifts: Mapping[bytes, int] = field(repr=False)

    @classmethod
    def from_segments(
        cls, segments: Iterable[Segment], listing_sequence: int, signed_at: datetime
    ) -> "Relief":
        """Joins segments, in any order and overlapping as they may; `listing_sequence` is what the
        listing has worked in already.
        """
        ordered = sorted(segments, key=lambda segment: segment.first)
        head, complete = listing_sequence, True
        last_lifts: dict[bytes, int] = {}
        for segment in ordered:
            complete = complete and segment.first <= head + 1
            if complete:
                head = max(head, segment.last)
            for sequence, restriction_id in segment.entries:
                last_lifts[restriction_id] = max(sequence, last_lifts.get(restriction_id, 0))
        return cls(head, complete, signed_at, last_lifts)

    def lifts(self, restriction_id: bytes, floor: int) -> bool:
        """Whether a restriction is lifted; `floor` is its own, the sequence after which it was last
        put in force.
        """
        return self.last_lifts.get(restriction_id, 0) > floor

    def ends(self, post_ids: frozenset[bytes]) -> bool:
        """Whether all posts of these have been left.

        A post that was left never comes back under its id, so there is no floor.
        """
        return bool(post_ids) and all(post in self.last_lifts for post in post_ids)
