"""Reports and coverage count once; bad ones are refused one by one; statistics add up."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support.registry import NOW, World, entry, person, submit
from tipstaff.v1 import enforcement_pb2 as pb
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.enforcement.statistics import statistics
from tipstaff_server.errors import InvalidRequestError, NotFoundError
from tipstaff_server.storage.models import CoverageRow, ReportRestrictionRow, ReportRow


@pytest.fixture
def feedback(world: World) -> Feedback:
    return Feedback(world.store)


def report(*restrictions: bytes, **changes: Any) -> pb.Report:
    made = pb.Report(
        report_id=secrets.token_bytes(16),
        decision_id=secrets.token_bytes(16),
        restriction_ids=restrictions,
        measure="AIR_TRAVEL",
        verdict=pb.VERDICT_RESTRICTED,
        reason=pb.REASON_IN_FORCE,
        outcome=pb.OUTCOME_DENIED,
        listing_version=3,
        relief_sequence=7,
    )
    made.decided_at.FromDatetime(NOW)
    made.acted_at.FromDatetime(NOW)
    for name, value in changes.items():
        if value is None:
            made.ClearField(name)  # type: ignore[arg-type]
        elif isinstance(value, int | bytes | str):
            setattr(made, name, value)
        else:
            getattr(made, name).FromDatetime(value)
    return made


def coverage(**changes: Any) -> pb.CoverageCount:
    made = pb.CoverageCount(
        count_id=secrets.token_bytes(16),
        measure="AIR_TRAVEL",
        checked=10,
        clear=7,
        filter_hits=3,
        restricted=2,
        review=1,
    )
    made.hour.FromDatetime(NOW)
    for name, value in changes.items():
        if isinstance(value, int | bytes | str):
            setattr(made, name, value)
        else:
            getattr(made, name).FromDatetime(value)
    return made


def count(world: World, table: type) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_report_counts_once_however_often_it_comes(world: World, feedback: Feedback) -> None:
    one = report(submit(world, entry()))
    results = feedback.submit_reports("air-1", [one, one]) + feedback.submit_reports("air-1", [one])
    assert [result.status for result in results] == [
        pb.EVENT_STATUS_ACCEPTED,
        pb.EVENT_STATUS_DUPLICATE,
        pb.EVENT_STATUS_DUPLICATE,
    ]
    assert {result.event_id for result in results} == {one.report_id}
    assert (count(world, ReportRow), count(world, ReportRestrictionRow)) == (1, 1)


def test_another_provider_s_id_does_not_get_in_the_way(world: World, feedback: Feedback) -> None:
    submit(world, entry())
    both = submit(world, entry(person(1), measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS")))
    one = report(both)
    assert feedback.submit_reports("air-1", [one])[0].status == pb.EVENT_STATUS_ACCEPTED
    one.measure = "RAIL_HIGH_CLASS"
    assert feedback.submit_reports("rail-1", [one])[0].status == pb.EVENT_STATUS_ACCEPTED


REPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "a short id": ({"report_id": b"1"}, "16 bytes"),
    "no decision": ({"decision_id": None}, "16 bytes"),
    "another audience's measure": ({"measure": "RAIL_HIGH_CLASS"}, "does not enforce"),
    "an unknown measure": ({"measure": "NO_SUCH"}, "does not enforce"),
    "no verdict": ({"verdict": 0}, "verdict"),
    "an unknown outcome": ({"outcome": 99}, "outcome"),
    "no reason": ({"reason": 0}, "reason"),
    "restricted without a restriction": ({"restriction_ids": None}, "rests on at least one"),
    "no moment": ({"decided_at": None}, "decided_at"),
    "from the future": ({"acted_at": NOW + timedelta(days=2)}, "set the clock"),
    "an endless version": ({"listing_version": 2**60}, "out of range"),
}


@pytest.mark.parametrize("case", REPORTS)
def test_a_bad_report_is_refused_and_the_others_go_in(
    world: World, feedback: Feedback, case: str
) -> None:
    changes, hint = REPORTS[case]
    restriction = submit(world, entry())
    results = feedback.submit_reports(
        "air-1", [report(restriction), report(restriction, **changes), report(restriction)]
    )
    assert [result.status for result in results] == [
        pb.EVENT_STATUS_ACCEPTED,
        pb.EVENT_STATUS_REJECTED,
        pb.EVENT_STATUS_ACCEPTED,
    ]
    assert hint in results[1].detail
    assert count(world, ReportRow) == 2


def test_a_restriction_has_to_be_the_audience_s(world: World, feedback: Feedback) -> None:
    others = submit(world, entry(measures=("EXIT",)))
    for identity in (others, secrets.token_bytes(16)):
        result = feedback.submit_reports("air-1", [report(identity)])[0]
        assert result.status == pb.EVENT_STATUS_REJECTED
        assert "unknown, or not one" in result.detail


def test_a_review_needs_no_restriction(feedback: Feedback) -> None:
    review = report(
        verdict=pb.VERDICT_REVIEW,
        reason=pb.REASON_NAME_MISMATCH,
        outcome=pb.OUTCOME_REVIEWED_AND_CLEARED,
    )
    assert feedback.submit_reports("air-1", [review])[0].status == pb.EVENT_STATUS_ACCEPTED


COUNTS: dict[str, dict[str, Any]] = {
    "a short id": {"count_id": b"1"},
    "another audience's measure": {"measure": "RAIL_HIGH_CLASS"},
    "not an hour": {"hour": NOW + timedelta(minutes=1)},
    "from the future": {"hour": NOW + timedelta(days=2)},
    "does not add up": {"checked": 11},
    "more hits than checks": {"filter_hits": 11},
    "endless": {"checked": 2**60, "clear": 2**60 - 3},
}


@pytest.mark.parametrize("case", COUNTS)
def test_a_bad_count_is_refused_and_the_others_go_in(
    world: World, feedback: Feedback, case: str
) -> None:
    results = feedback.submit_coverage("air-1", [coverage(), coverage(**COUNTS[case])])
    assert [result.status for result in results] == [
        pb.EVENT_STATUS_ACCEPTED,
        pb.EVENT_STATUS_REJECTED,
    ]
    assert results[1].detail
    assert count(world, CoverageRow) == 1


def test_strangers_and_floods_are_refused(feedback: Feedback) -> None:
    for submit_some in (feedback.submit_reports, feedback.submit_coverage):
        with pytest.raises(NotFoundError):
            submit_some("nobody", [])
        with pytest.raises(InvalidRequestError, match="1000"):
            submit_some("air-1", [pb.Report()] * 1001)  # type: ignore[operator]


def test_the_same_events_over_several_connections_count_once(
    world: World, feedback: Feedback
) -> None:
    restriction = submit(world, entry())
    reports, counts = [report(restriction) for _ in range(20)], [coverage() for _ in range(20)]

    def send() -> None:
        feedback.submit_reports("air-1", reports)
        feedback.submit_coverage("air-1", counts)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (count(world, ReportRow), count(world, CoverageRow)) == (20, 20)


def test_statistics_add_up_per_provider_and_measure(world: World, feedback: Feedback) -> None:
    restriction = submit(world, entry(measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS")))
    feedback.submit_coverage("air-1", [coverage(), coverage(hour=NOW - timedelta(hours=1))])
    feedback.submit_reports(
        "air-1",
        [
            report(restriction),
            report(restriction),
            report(restriction, outcome=pb.OUTCOME_EXEMPTED),
        ],
    )
    feedback.submit_reports(
        "rail-1", [report(restriction, measure="RAIL_HIGH_CLASS", outcome=pb.OUTCOME_DOWNGRADED)]
    )
    world.registry.providers.acknowledge("air-1", listing_version=4, relief_sequence=2)
    found = statistics(world.store)
    air, rail = found.measures
    assert (air.provider_id, air.audience, air.measure) == ("air-1", "aviation", "AIR_TRAVEL")
    assert (air.checked, air.clear, air.filter_hits, air.restricted, air.review, air.unknown) == (
        20,
        14,
        6,
        4,
        2,
        0,
    )
    assert [(item.outcome, item.count) for item in air.outcomes] == [
        (pb.OUTCOME_DENIED, 2),
        (pb.OUTCOME_EXEMPTED, 1),
    ]
    assert (rail.provider_id, rail.checked, len(rail.outcomes)) == ("rail-1", 0, 1)
    assert [(item.provider_id, item.enforced_listing) for item in found.providers] == [
        ("air-1", 4),
        ("rail-1", 0),
    ]
    assert found.providers[0].acknowledged_at.ToDatetime(UTC) == NOW
    assert not found.providers[1].HasField("acknowledged_at")


def test_statistics_of_a_stretch_of_time(world: World, feedback: Feedback) -> None:
    feedback.submit_coverage(
        "air-1",
        [
            coverage(),
            coverage(hour=NOW - timedelta(hours=1)),
            coverage(hour=NOW - timedelta(hours=2)),
        ],
    )
    found = statistics(world.store, since=NOW - timedelta(hours=1), until=NOW)
    assert [item.checked for item in found.measures] == [10]
    assert not statistics(world.store, since=NOW + timedelta(hours=1)).measures
