"""Who lags behind what is published, and since when; with the statistics of disputes beside it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    RAILWAY,
    World,
    entry,
    person,
    submit,
)
from tipstaff.v1 import statistics_pb2
from tipstaff_server.enforcement.lag import Allowed, ProviderLag, standings, supervise
from tipstaff_server.enforcement.statistics import statistics
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import BuildState, ListingBuildRow

if TYPE_CHECKING:
    from datetime import datetime

ALLOWED = Allowed(listing=timedelta(days=1), relief=timedelta(minutes=30))


def publish(
    world: World,
    audience: str,
    version: int,
    at: datetime,
    state: BuildState = BuildState.PUBLISHED,
) -> None:
    with world.database.write() as session:
        session.add(
            ListingBuildRow(
                audience_id=audience,
                version=version,
                epoch=1,
                relief_sequence=0,
                subject_count=0,
                record_count=0,
                state=state,
                built_at=at,
                published_at=at if state is BuildState.PUBLISHED else None,
                detail="{}",
            )
        )


def standing(world: World, provider: str = AIRLINE.id) -> ProviderLag:
    return standings(world.store, ALLOWED)[provider]


def lift(world: World, index: int, *measures: str) -> int:
    restriction = submit(world, entry(person(index), measures=measures))
    return world.registry.restrictions.end(
        restriction, EndKind.RELEASE, "x", actor=COURT
    ).relief_sequence


def test_where_nothing_is_published_nobody_lags(world: World) -> None:
    world.clock.turn(days=30)
    assert standing(world) == ProviderLag(0, 0, None, lagging=False)


def test_a_listing_may_be_missing_for_as_long_as_the_deployment_allows(world: World) -> None:
    publish(world, "aviation", 1, NOW + timedelta(hours=1))
    publish(world, "aviation", 2, NOW + timedelta(hours=2), BuildState.REFUSED)
    world.clock.turn(hours=25)
    assert standing(world) == ProviderLag(1, 0, NOW + timedelta(hours=1), lagging=False)
    world.clock.turn(seconds=1)
    assert standing(world).lagging
    assert not standing(world, RAILWAY.id).lagging
    world.registry.providers.acknowledge(AIRLINE.id, listing_version=1, relief_sequence=0)
    assert standing(world) == ProviderLag(1, 0, None, lagging=False)
    publish(world, "aviation", 3, NOW + timedelta(hours=26))
    world.clock.turn(days=2)
    # From the first listing that it lacks, however many have come since.
    publish(world, "aviation", 4, world.clock())
    assert standing(world) == ProviderLag(4, 0, NOW + timedelta(hours=26), lagging=True)


def test_only_relief_that_concerns_an_audience_counts_and_only_for_half_an_hour(
    world: World,
) -> None:
    lift(world, 0, "LOAN_PRICING")
    world.clock.turn(hours=2)
    assert standing(world) == ProviderLag(0, 0, None, lagging=False)
    sequence, at = lift(world, 1, "AIR_TRAVEL"), world.clock()
    assert standing(world) == ProviderLag(0, sequence, at, lagging=False)
    world.clock.turn(minutes=31)
    assert standing(world) == ProviderLag(0, sequence, at, lagging=True)
    world.registry.providers.acknowledge(AIRLINE.id, listing_version=0, relief_sequence=sequence)
    assert standing(world) == ProviderLag(0, sequence, None, lagging=False)


def test_what_was_published_before_a_provider_was_known_counts_from_then(world: World) -> None:
    publish(world, "aviation", 1, NOW - timedelta(days=30))
    assert standing(world) == ProviderLag(1, 0, NOW, lagging=False)


def test_the_statistics_say_it_and_count_disputes_and_leave_removed_providers_alone(
    world: World,
) -> None:
    publish(world, "aviation", 1, NOW)
    publish(world, "rail", 1, NOW)
    restriction = submit(world, entry())
    world.registry.disputes.open(restriction, "x", request_id=bytes(16), actor=AIRLINE)
    world.clock.turn(days=20)
    world.registry.providers.remove(RAILWAY.id, "x", actor=OPERATOR)
    response = statistics(world.store)
    supervise(response, world.store, ALLOWED)
    airline, railway = response.providers
    assert (airline.lagging, airline.published_listing, airline.relief_sequence) == (True, 1, 1)
    assert airline.behind_since.ToDatetime(NOW.tzinfo) == NOW
    assert not railway.lagging
    assert not railway.HasField("behind_since")
    assert list(response.disputes) == [
        statistics_pb2.DisputeStatistics(authority_id="court", open=1, overdue=1)
    ]
