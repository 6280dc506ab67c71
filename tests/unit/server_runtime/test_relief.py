"""Relief segments: no gap, no lost lift, few segments; the publisher against a real repository and
the SDK's own reading.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.listing.relief import Relief, parse_segment
from tipstaff_server.registry.relief_log import Lift
from tipstaff_server.repository.published import Published, segment_path
from tipstaff_server.repository.relief import Covered, ReliefPublisher, extend, split
from tipstaff_signing.errors import StorageError
from tipstaff_signing.keys.files import KeyFolder, builder_key, create_key_files, signoff_key
from tipstaff_signing.repository.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def lifts(*sequences: int) -> tuple[tuple[int, bytes], ...]:
    return tuple((sequence, sequence.to_bytes(16, "big")) for sequence in sequences)


@given(st.integers(1, 50), st.sets(st.integers(0, 200)), st.integers(0, 50), st.integers(1, 20))
def test_a_split_covers_its_range_without_a_gap_and_keeps_every_lift(
    first: int, offsets: set[int], rest: int, limit: int
):
    entries = lifts(*sorted(first + offset for offset in offsets))
    last = max([first, *(sequence for sequence, _ in entries)]) + rest
    pieces = split(first, last, entries, limit)
    assert (pieces[0].first, pieces[-1].last) == (first, last)
    assert all(before.last + 1 == after.first for before, after in pairwise(pieces))
    assert sum((piece.entries for piece in pieces), ()) == entries
    assert all(len(piece.entries) <= limit for piece in pieces)
    assert all(
        piece.first <= sequence <= piece.last for piece in pieces for sequence, _ in piece.entries
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 64))
def test_segments_stay_few_and_together_say_the_same(sizes: list[int], limit: int):
    segments: list[Covered] = []
    entries: tuple[tuple[int, bytes], ...] = ()
    for size in sizes:
        first = len(entries) + 1
        new = lifts(*range(first, first + size))
        entries += new
        for piece in split(first, first + size - 1, new, limit):
            segments = extend(segments, piece, limit=limit)
    assert sum((segment.entries for segment in segments), ()) == entries
    assert all(before.last + 1 == after.first for before, after in pairwise(segments))
    assert max(len(segment.entries) for segment in segments) <= limit


def test_one_lift_at_a_time_leaves_a_logarithmic_number_of_segments():
    segments: list[Covered] = []
    for sequence in range(1, 1_001):
        segments = extend(segments, Covered(sequence, sequence, lifts(sequence)), limit=1_000)
    assert len(segments) <= 10


@dataclass
class Log:
    """A relief log; `others` are lifts that do not concern the audience."""

    entries: list[Lift] = field(default_factory=list[Lift])
    others: set[int] = field(default_factory=set[int])
    last: int = 0

    def head(self) -> int:
        return self.last

    def since(self, audience: str, sequence: int) -> list[Lift]:
        return [
            lift
            for lift in self.entries
            if lift.sequence > sequence and lift.sequence not in self.others
        ]

    def lift(self, *, concerns: bool = True) -> Lift:
        self.last += 1
        lift = Lift(self.last, secrets.token_bytes(16), START)
        self.entries.append(lift)
        if not concerns:
            self.others.add(self.last)
        return lift


class World:
    """A repository with one audience, its keys, a relief log and a clock."""

    def __init__(self, folder: Path, segment_size: int = 4) -> None:
        self.now = START
        self.keys: KeyFolder = create_key_files(folder / "keys", audiences=["aviation"])
        self.repository = Repository.create(
            folder / "repository",
            self.keys,
            audiences=["aviation"],
            catalogue=b"c",
            clock=lambda: self.now,
        )
        self.folder = folder
        self.log = Log()
        self.size = segment_size
        self.listed = 0

    def publisher(self) -> ReliefPublisher:
        return ReliefPublisher(
            self.log, self.repository, self.keys, segment_size=self.size, clock=lambda: self.now
        )

    def publish_listing(self) -> None:
        self.listed = self.log.last
        parameters = listing_pb2.ListingParameters(audience="aviation", relief_sequence=self.listed)
        (self.folder / "parameters").write_bytes(parameters.SerializeToString())
        proposal = self.repository.propose_listing(
            "aviation",
            {"listing/aviation/parameters": self.folder / "parameters"},
            self.keys.signer(builder_key("aviation")),
        )
        proposal = self.repository.sign_off(proposal, self.keys.signer(signoff_key("aviation")))
        self.repository.publish_listing(
            proposal, self.keys.signer("snapshot"), self.keys.signer("timestamp")
        )

    def published(self) -> Published:
        return Published.now(self.repository, "aviation")

    def relief(self) -> Relief:
        """As the SDK joins it."""
        segments = [
            parse_segment(self.published().read(segment.stored))
            for segment in self.published().segments()
        ]
        return Relief.from_segments(segments, self.listed, self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_lifts_are_published_once_with_the_range_that_was_looked_through(world: World):
    publisher = world.publisher()
    world.log.lift(concerns=False)
    mine = world.log.lift()
    world.log.lift(concerns=False)
    assert publisher.publish("aviation") == 1
    assert publisher.publish("aviation") == 0
    relief = world.relief()
    assert (relief.complete, relief.head) == (True, 3)
    assert relief.lifts(mine.restriction_id, 0)


def test_what_does_not_concern_the_audience_is_not_published(world: World):
    before = world.repository.versions("aviation")
    world.log.lift(concerns=False)
    assert world.publisher().publish("aviation") == 0
    assert world.repository.versions("aviation") == before


def test_a_lift_that_is_committed_while_the_log_is_read_waits_for_the_next_turn(world: World):
    first = world.log.lift()
    publisher = world.publisher()
    real = world.log.since

    def overtaken(audience: str, sequence: int) -> list[Lift]:
        world.log.since = real  # type: ignore[method-assign]
        world.log.lift()
        return real(audience, sequence)

    world.log.since = overtaken  # type: ignore[method-assign]
    assert publisher.publish("aviation") == 1
    assert world.relief().head == first.sequence
    assert publisher.publish("aviation") == 1
    assert world.relief().head == 2


def test_two_publishers_do_not_lose_each_others_lifts(world: World):
    one, other = world.publisher(), world.publisher()
    lifted = []
    for number in range(6):
        lifted.append(world.log.lift())
        (one, other)[number % 2].publish("aviation")
    relief = world.relief()
    assert relief.complete
    assert all(relief.lifts(lift.restriction_id, 0) for lift in lifted)


def test_a_refresh_signs_again_only_when_it_is_time(world: World):
    publisher = world.publisher()
    before = world.repository.versions("aviation")
    assert not publisher.refresh("aviation", timedelta(minutes=5))
    assert world.repository.versions("aviation") == before
    world.now += timedelta(minutes=6)
    assert publisher.refresh("aviation", timedelta(minutes=5))
    versions = world.repository.versions("aviation")
    assert world.published().relief_signed_at() == world.now
    assert versions.relief == before.relief + 1


def test_a_refresh_drops_what_the_listing_has_worked_in(world: World):
    publisher = world.publisher()
    for _ in range(9):
        world.log.lift()
        publisher.publish("aviation")
    world.publish_listing()
    last = world.log.lift()
    publisher.publish("aviation")
    world.now += timedelta(minutes=6)
    publisher.refresh("aviation", timedelta(minutes=5))
    (segment,) = world.published().segments()
    assert (segment.first, segment.last) == (10, 10)
    assert world.relief().lifts(last.restriction_id, 0)


def test_a_disk_that_refuses_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    publisher = world.publisher()
    lift = world.log.lift()
    with monkeypatch.context() as patch:
        patch.setattr(
            world.repository,
            "publish_relief",
            lambda *_: (_ for _ in ()).throw(StorageError("the disk is full")),
        )
        with pytest.raises(StorageError):
            publisher.publish("aviation")
    assert publisher.publish("aviation") == 1
    assert world.relief().lifts(lift.restriction_id, 0)


STEPS = st.lists(
    st.sampled_from(["lift", "other", "publish", "listing", "refresh", "restart"]), max_size=30
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, size=st.integers(1, 5))
def test_whatever_happens_a_client_sees_no_gap_and_every_published_lift(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], size: int
):
    world = World(tmp_path_factory.mktemp("world"), size)
    publisher = world.publisher()
    for step in [*steps, "publish"]:
        match step:
            case "lift":
                world.log.lift()
            case "other":
                world.log.lift(concerns=False)
            case "publish":
                publisher.publish("aviation")
                open_lifts = [
                    lift
                    for lift in world.log.entries
                    if lift.sequence > world.listed and lift.sequence not in world.log.others
                ]
                relief = world.relief()
                assert all(relief.lifts(lift.restriction_id, 0) for lift in open_lifts)
            case "listing":
                world.publish_listing()
            case "refresh":
                world.now += timedelta(minutes=10)
                publisher.refresh("aviation", timedelta(minutes=5))
            case _:
                publisher = world.publisher()
        relief = world.relief()
        assert relief.complete
        assert not any(
            relief.lifts(lift.restriction_id, 0)
            for lift in world.log.entries
            if lift.sequence in world.log.others
        )


def test_a_segments_path_says_what_it_covers():
    assert segment_path("aviation", 3, 41) == "relief/aviation/3-41"
