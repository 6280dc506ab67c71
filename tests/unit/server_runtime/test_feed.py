"""What watchers of one audience are told, made from a real repository."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.server import COURT, enter, entry, make
from tipstaff.v1 import distribution_pb2
from tipstaff_server.deployment import Deployment
from tipstaff_server.distribution.feed import REMEMBERED, AudienceFeed
from tipstaff_server.registry.restrictions.transitions import EndKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.distribution.broadcast import Message


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(make(tmp_path / "operator")) as opened:
        yield opened


def parsed(message: Message | None) -> distribution_pb2.WatchResponse:
    assert message is not None
    return distribution_pb2.WatchResponse.FromString(message.payload)


def names(response: distribution_pb2.WatchResponse) -> set[str]:
    return {
        file.name.partition(".")[2] if file.name[0].isdigit() else file.name
        for file in response.bundle.metadata
    }


def lift(runtime: Deployment, number: int) -> bytes:
    (restriction,) = enter(runtime.registry, [entry(number)])
    runtime.registry.restrictions.end(restriction, EndKind.REVOKE, "a test", actor=COURT)
    runtime.relief.publish("aviation")
    return restriction


def test_nothing_new_is_no_message(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    assert feed.poll() is None
    assert feed.poll() is None


def test_a_change_is_one_message_with_what_is_new_and_no_more(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    restriction = lift(runtime, 1)
    response = parsed(feed.poll())
    assert names(response) == {"timestamp.json", "snapshot.json", "relief-aviation.json"}
    (segment,) = response.bundle.artefacts
    assert restriction in segment.content
    assert response.current.relief_sequence == runtime.registry.relief.head()
    assert feed.poll() is None


def test_several_changes_between_two_looks_are_one_message(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    restrictions = [lift(runtime, number) for number in range(3)]
    content = b"".join(file.content for file in parsed(feed.poll()).bundle.artefacts)
    assert all(restriction in content for restriction in restrictions)


def test_an_opening_brings_everything_the_difference_or_nothing(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    nothing = parsed(feed.opening(feed.state))
    assert not nothing.HasField("bundle")
    held = feed.state
    lift(runtime, 1)
    feed.poll()
    assert names(parsed(feed.opening(held))) == {
        "timestamp.json",
        "snapshot.json",
        "relief-aviation.json",
    }
    everything = names(parsed(feed.opening(distribution_pb2.StateVersion())))
    assert everything == {
        "timestamp.json",
        "snapshot.json",
        "relief-aviation.json",
        "listing-aviation.json",
        "targets.json",
        "root.json",
    }


def test_a_watcher_from_long_ago_is_not_sent_the_listing_that_it_has(runtime: Deployment):
    held = AudienceFeed(runtime.repository, "aviation").state
    lift(runtime, 1)
    restarted = AudienceFeed(runtime.repository, "aviation")
    assert "listing-aviation.json" not in names(parsed(restarted.opening(held)))


def test_a_claim_from_the_future_brings_everything(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    claimed = distribution_pb2.StateVersion(timestamp=1 << 40, listing=1 << 40)
    assert "listing-aviation.json" in names(parsed(feed.opening(claimed)))


def test_openings_are_made_once_for_all_who_ask_alike(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    empty = distribution_pb2.StateVersion()
    assert feed.opening(empty).payload is feed.opening(empty).payload


def test_what_is_remembered_is_bounded(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    first = feed.state
    for _ in range(REMEMBERED + 2):
        runtime.repository.refresh(
            "aviation", runtime.keys.signer("relief-aviation"), *online(runtime)
        )
        feed.poll()
    assert len(feed._past) == REMEMBERED
    assert first.timestamp not in feed._past


def online(runtime: Deployment) -> tuple:
    return runtime.keys.signer("snapshot"), runtime.keys.signer("timestamp")


def test_heartbeats_are_shared_and_carry_the_versions(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    beat = feed.heartbeat()
    assert feed.heartbeat() is beat
    response = distribution_pb2.WatchResponse.FromString(beat)
    assert response.current == feed.state
    assert not response.HasField("bundle")
    assert response.HasField("sent_at")
    lift(runtime, 1)
    feed.poll()
    assert distribution_pb2.WatchResponse.FromString(feed.heartbeat()).current == feed.state


def test_a_refresh_reaches_watchers_so_that_relief_stays_fresh(runtime: Deployment):
    feed = AudienceFeed(runtime.repository, "aviation")
    assert runtime.relief.refresh("aviation", timedelta(0))
    response = parsed(feed.poll())
    assert names(response) == {"timestamp.json", "snapshot.json", "relief-aviation.json"}
    assert not response.bundle.artefacts
