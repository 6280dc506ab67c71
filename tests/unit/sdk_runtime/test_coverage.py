"""Counts add up, whatever threads do, and fall into the right hours."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from tipstaff.v1 import enforcement_pb2
from tipstaff_sdk.decision.decide import Reason
from tipstaff_sdk.enforcement.coverage import Coverage, coverage_events
from tipstaff_sdk.enforcement.outbox import EventKind

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def counts(coverage: Coverage) -> list[enforcement_pb2.CoverageCount]:
    events = coverage_events(coverage.collect())
    assert all(event.kind is EventKind.COVERAGE for event in events)
    parsed = [enforcement_pb2.CoverageCount.FromString(event.payload) for event in events]
    assert [count.count_id for count in parsed] == [event.event_id for event in events]
    return parsed


def test_every_reason_is_counted_under_its_verdict() -> None:
    coverage = Coverage()
    for reason in Reason:
        coverage.count(NOON, ("AIR_TRAVEL", reason))
    (count,) = counts(coverage)
    assert (count.measure, count.hour.ToDatetime(UTC)) == ("AIR_TRAVEL", NOON)
    assert (count.checked, count.clear, count.restricted, count.review, count.unknown) == (
        13,
        7,
        1,
        3,
        2,
    )
    # In the filter: all but NO_DATA, EXPIRED and NOT_LISTED.
    assert count.filter_hits == 10


def test_collecting_takes_only_what_is_new() -> None:
    coverage = Coverage()
    assert counts(coverage) == []
    coverage.count(NOON, ("A", Reason.NOT_LISTED), 5)
    first = counts(coverage)
    coverage.count(NOON, ("A", Reason.NOT_LISTED))
    second = counts(coverage)
    assert ([count.checked for count in first], [count.checked for count in second]) == ([5], [1])
    assert first[0].count_id != second[0].count_id
    assert counts(coverage) == []


def test_measures_and_hours_are_kept_apart_and_clocks_may_go_back() -> None:
    coverage = Coverage()
    for minutes, measure in [(0, "A"), (59, "A"), (60, "A"), (60, "B"), (-1, "A"), (0, "A")]:
        coverage.count(NOON + timedelta(minutes=minutes), (measure, Reason.NOT_LISTED))
    got = [
        (count.hour.ToDatetime(UTC).hour, count.measure, count.checked)
        for count in counts(coverage)
    ]
    assert got == [(11, "A", 1), (12, "A", 3), (13, "A", 1), (13, "B", 1)]


def test_hours_long_gone_are_forgotten_and_counted_again_if_the_clock_returns() -> None:
    coverage = Coverage()
    for hours in (0, 1, 2, 3, 4):
        coverage.count(NOON + timedelta(hours=hours), ("A", Reason.NOT_LISTED))
        assert [count.checked for count in counts(coverage)] == [1]
    assert len(coverage._tables[0].hours) <= 3
    coverage.count(NOON, ("A", Reason.NOT_LISTED), 7)
    assert [count.checked for count in counts(coverage)] == [7]


def test_what_could_not_be_kept_comes_again() -> None:
    coverage = Coverage()
    coverage.count(NOON, ("A", Reason.NOT_LISTED), 3)
    coverage.restore(coverage.collect())
    coverage.count(NOON, ("A", Reason.NOT_LISTED), 2)
    assert [count.checked for count in counts(coverage)] == [5]


def test_threads_count_without_loss_while_being_collected_and_after_they_end() -> None:
    coverage = Coverage()
    collected: list[int] = []

    def count() -> None:
        for _ in range(5_000):
            coverage.count(NOON, ("A", Reason.NOT_LISTED))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collected += [found.checked for found in counts(coverage)]
    collected += [found.checked for found in counts(coverage)]
    assert sum(collected) == 20_000
    assert coverage._tables == []


def test_forked_child_starts_from_nothing() -> None:
    coverage = Coverage()
    coverage.count(NOON, ("A", Reason.NOT_LISTED))
    coverage.after_fork_in_child()
    assert counts(coverage) == []
