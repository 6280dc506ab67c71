"""Relief to providers: notices lifts in the registry, signs them with the one online key,
publishes.

For each audience, under a lock of its own:

1. read the head of the relief log, and only then the lifts up to it: one committed in between is
   behind the head, and its turn comes;
2. the lifts that concern the audience become a segment that covers everything since the last
   published sequence;
3. small segments at the end are merged with it, as a binary counter carries: segments stay few, and
   what is sent again stays small;
4. segments that are wholly worked into the published listing go;
5. publish the whole set.

An audience that no lift concerns publishes nothing, so it does not learn that there was one. What
was published before is read back from the repository each time: restarted, or beside another
publisher, the next segment always follows the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tipstaff_sdk.listing.relief import encode_segment, parse_segment
from tipstaff_server.clock import utc_now
from tipstaff_server.repository.published import Published, segment_path
from tipstaff_signing.files import FileLock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from tipstaff_server.clock import Clock
    from tipstaff_server.registry.relief_log import Lift
    from tipstaff_signing.keys.files import KeyFolder
    from tipstaff_signing.repository.repository import Repository
    from tipstaff_signing.tuf_names import Signer

__all__ = ["Covered", "ReliefPublisher", "ReliefSource", "extend", "split"]

LOCK_SECONDS = 60.0


class ReliefSource(Protocol):
    """Where lifts come from: the registry's relief log."""

    def head(self) -> int:
        """The last sequence that was given out; 0 when none was."""
        ...

    def since(self, audience: str, sequence: int) -> Sequence[Lift]:
        """Lifts after `sequence` that concern an audience, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Covered:
    """A segment: the sequences that it covers, and the lifts in it, ascending."""

    first: int
    last: int
    entries: tuple[tuple[int, bytes], ...]


def split(first: int, last: int, entries: Sequence[tuple[int, bytes]], limit: int) -> list[Covered]:
    """Segments of at most `limit` lifts that together cover first..last without a gap."""
    pieces = [tuple(entries[start : start + limit]) for start in range(0, len(entries), limit)] or [
        ()
    ]
    covered: list[Covered] = []
    for number, piece in enumerate(pieces):
        end = last if number == len(pieces) - 1 else piece[-1][0]
        covered.append(Covered(first, end, piece))
        first = end + 1
    return covered


def extend(segments: Sequence[Covered], new: Covered, *, limit: int) -> list[Covered]:
    """Appends a segment that follows the last one, merging backwards while the one before is no
    larger and at most `limit` lifts result.
    """
    kept = list(segments)
    while kept and len(kept[-1].entries) <= len(new.entries) <= limit - len(kept[-1].entries):
        before = kept.pop()
        new = Covered(before.first, new.last, before.entries + new.entries)
    return [*kept, new]


class ReliefPublisher:
    """Publishes relief for all audiences.

    Blocking; safe beside other publishers in other threads and processes.
    """

    def __init__(
        self,
        source: ReliefSource,
        repository: Repository,
        keys: KeyFolder,
        *,
        segment_size: int = 1_000,
        clock: Clock = utc_now,
    ) -> None:
        self._source = source
        self._repository = repository
        self._keys = keys
        self._segment_size = segment_size
        self._clock = clock
        self._online: tuple[Signer, Signer] = (keys.signer("snapshot"), keys.signer("timestamp"))
        # How far each audience's log was looked through; only spares work.
        self._looked: dict[str, int] = {}

    def publish(self, audience: str) -> int:
        """Publishes what is new for an audience; how many lifts that were (0: nothing was
        published).
        """
        head = self._source.head()
        if head <= self._looked.get(audience, -1):
            return 0
        with self._lock(audience):
            published = Published.now(self._repository, audience)
            published_head = published.relief_head()
            lifts = self._source.since(audience, published_head)
            entries = [
                (lift.sequence, lift.restriction_id) for lift in lifts if lift.sequence <= head
            ]
            if entries:
                segments = self._current(published)
                for piece in split(published_head + 1, head, entries, self._segment_size):
                    segments = extend(segments, piece, limit=self._segment_size)
                self._write(audience, segments)
        self._looked[audience] = head
        return len(entries)

    def refresh(self, audience: str, older_than: timedelta) -> bool:
        """Signs an audience's relief again when its last signature is older, and drops what the
        listing has worked in meanwhile.
        """
        with self._lock(audience):
            published = Published.now(self._repository, audience)
            if self._clock() - published.relief_signed_at() < older_than:
                return False
            segments = self._current(published)
            if len(segments) < len(published.segments()):
                self._write(audience, segments)
            else:
                self._repository.refresh(audience, self._signer(audience), *self._online)
            return True

    def signed_at(self, audience: str) -> datetime:
        """When an audience's relief was signed last."""
        return Published.now(self._repository, audience).relief_signed_at()

    def _current(self, published: Published) -> list[Covered]:
        """The published segments that the published listing still needs."""
        parameters = published.parameters()
        worked_in = parameters.relief_sequence if parameters else 0
        return [
            _covered(published.read(segment.stored))
            for segment in published.segments()
            if segment.last > worked_in
        ]

    def _write(self, audience: str, segments: Sequence[Covered]) -> None:
        encoded: Mapping[str, bytes] = {
            segment_path(audience, segment.first, segment.last): encode_segment(
                segment.first, segment.last, segment.entries
            )
            for segment in segments
        }
        self._repository.publish_relief(audience, encoded, self._signer(audience), *self._online)

    def _signer(self, audience: str) -> Signer:
        return self._keys.signer(f"relief-{audience}")

    def _lock(self, audience: str) -> FileLock:
        return FileLock(self._repository.path / f".relief-{audience}.lock", timeout=LOCK_SECONDS)


def _covered(data: bytes) -> Covered:
    segment = parse_segment(data)
    return Covered(segment.first, segment.last, tuple(segment.entries))
