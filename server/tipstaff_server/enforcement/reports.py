"""What providers send back: reports and coverage counts, each event once by its id, each answered
for itself.

An event that can never be taken as it is (unknown measure, another audience's restriction) is
REJECTED with what is wrong, so that the provider sets it aside; the others of its batch go in. A
provider's batches queue up behind its own row, so two connections that send the same event at once
make one of it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from tipstaff.v1 import enforcement_pb2
from tipstaff_server.administration.policies import PolicyCache, visible_sets
from tipstaff_server.domain.checks import ID_BYTES
from tipstaff_server.errors import InvalidRequestError, NotFoundError
from tipstaff_server.storage.models import (
    CoverageRow,
    ProviderRow,
    ReliefRow,
    ReportRestrictionRow,
    ReportRow,
    RestrictionRow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.timestamp_pb2 import Timestamp
    from sqlalchemy.orm import Session

    from tipstaff_server.vault.store import Store


__all__ = ["Feedback"]

MAX_EVENTS = 1_000
MAX_RESTRICTIONS = 64
MAX_COUNT = 1 << 53
# How far ahead of ours a provider's clock may be before its events are taken for mistakes.
AHEAD = timedelta(days=1)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

ACCEPTED = enforcement_pb2.EVENT_STATUS_ACCEPTED
DUPLICATE = enforcement_pb2.EVENT_STATUS_DUPLICATE
REJECTED = enforcement_pb2.EVENT_STATUS_REJECTED


class _EventError(Exception):
    """One event is refused; the text says why."""


class Feedback:
    """Takes reports and coverage counts. Thread-safe; one for a process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._policies = PolicyCache()

    def submit_reports(
        self, provider_id: str, reports: Sequence[enforcement_pb2.Report]
    ) -> list[enforcement_pb2.EventResult]:
        """One result for each report, in order.

        Raises NotFoundError: unknown provider; InvalidRequestError: over 1,000.
        """
        _check_size(len(reports))
        now = self._store.clock()
        with self._store.write() as session:
            measures = self._measures(session, provider_id)
            known = self._known(
                session, provider_id, ReportRow.report_id, [report.report_id for report in reports]
            )
            visible = _visible(
                session, measures, {item for report in reports for item in report.restriction_ids}
            )
            results: list[enforcement_pb2.EventResult] = []
            rows: list[dict[str, Any]] = []
            links: list[dict[str, Any]] = []
            for report in reports:
                try:
                    row = _report(report, measures, visible, now)
                except _EventError as error:
                    results.append(_result(report.report_id, REJECTED, str(error)))
                    continue
                if report.report_id in known:
                    results.append(_result(report.report_id, DUPLICATE))
                    continue
                known.add(report.report_id)
                rows.append(row | {"provider_id": provider_id, "received_at": now})
                links += [
                    {
                        "restriction_id": item,
                        "provider_id": provider_id,
                        "report_id": report.report_id,
                    }
                    for item in sorted(set(report.restriction_ids))
                ]
                results.append(_result(report.report_id, ACCEPTED))
            _insert(session, ReportRow, rows)
            _insert(session, ReportRestrictionRow, links)
        return results

    def submit_coverage(
        self, provider_id: str, counts: Sequence[enforcement_pb2.CoverageCount]
    ) -> list[enforcement_pb2.EventResult]:
        """One result for each count, in order.

        Raises NotFoundError: unknown provider; InvalidRequestError: over 1,000.
        """
        _check_size(len(counts))
        now = self._store.clock()
        with self._store.write() as session:
            measures = self._measures(session, provider_id)
            known = self._known(
                session, provider_id, CoverageRow.count_id, [count.count_id for count in counts]
            )
            results: list[enforcement_pb2.EventResult] = []
            rows: list[dict[str, Any]] = []
            for count in counts:
                try:
                    row = _count(count, measures, now)
                except _EventError as error:
                    results.append(_result(count.count_id, REJECTED, str(error)))
                    continue
                if count.count_id in known:
                    results.append(_result(count.count_id, DUPLICATE))
                    continue
                known.add(count.count_id)
                rows.append(row | {"provider_id": provider_id, "received_at": now})
                results.append(_result(count.count_id, ACCEPTED))
            _insert(session, CoverageRow, rows)
        return results

    def _measures(self, session: Session, provider_id: str) -> frozenset[str]:
        audience = session.scalar(
            select(ProviderRow.audience_id).where(ProviderRow.id == provider_id).with_for_update()
        )
        if audience is None:
            raise NotFoundError(f"there is no provider {provider_id!r}; the operator adds it first")
        return self._policies.get(session).audience(audience)

    @staticmethod
    def _known(session: Session, provider_id: str, column: Any, ids: Sequence[bytes]) -> set[bytes]:
        return set(
            session.scalars(
                select(column).where(
                    column.class_.provider_id == provider_id, column.in_(sorted(set(ids)))
                )
            )
        )


def _report(
    report: enforcement_pb2.Report, measures: frozenset[str], visible: set[bytes], now: datetime
) -> dict[str, Any]:
    _check_ids(report.report_id, report.decision_id, *report.restriction_ids)
    _check_measure(report.measure, measures)
    for kind, value, what in (
        (enforcement_pb2.Verdict, report.verdict, "verdict"),
        (enforcement_pb2.Reason, report.reason, "reason"),
        (enforcement_pb2.Outcome, report.outcome, "outcome"),
    ):
        if not value or value not in kind.values():
            raise _EventError(f"the {what} is missing or unknown; send a value of the contract")
    if len(report.restriction_ids) > MAX_RESTRICTIONS:
        raise _EventError(f"more than {MAX_RESTRICTIONS} restrictions")
    if report.verdict == enforcement_pb2.VERDICT_RESTRICTED and not report.restriction_ids:
        raise _EventError("a restricted decision rests on at least one restriction; send its id")
    if any(item not in visible for item in report.restriction_ids):
        raise _EventError("a restriction is unknown, or not one that this audience enforces")
    if max(report.listing_version, report.relief_sequence) > MAX_COUNT:
        raise _EventError("a version is out of range")
    return {
        "report_id": report.report_id,
        "decision_id": report.decision_id,
        "measure": report.measure,
        "verdict": report.verdict,
        "reason": report.reason,
        "outcome": report.outcome,
        "decided_at": _moment(report, "decided_at", now),
        "acted_at": _moment(report, "acted_at", now),
        "listing_version": report.listing_version,
        "relief_sequence": report.relief_sequence,
    }


def _count(
    count: enforcement_pb2.CoverageCount, measures: frozenset[str], now: datetime
) -> dict[str, Any]:
    _check_ids(count.count_id)
    _check_measure(count.measure, measures)
    hour = _moment(count, "hour", now)
    if hour != hour.replace(minute=0, second=0, microsecond=0):
        raise _EventError("hour is not the start of an hour")
    if count.checked > MAX_COUNT or count.filter_hits > count.checked:
        raise _EventError("the counts are out of range")
    if count.checked != count.clear + count.restricted + count.review + count.unknown:
        raise _EventError("checked is not the sum of clear, restricted, review and unknown")
    return {
        "count_id": count.count_id,
        "measure": count.measure,
        "hour": hour,
        "checked": count.checked,
        "clear": count.clear,
        "filter_hits": count.filter_hits,
        "restricted": count.restricted,
        "review": count.review,
        "unknown": count.unknown,
    }


def _visible(session: Session, measures: frozenset[str], wanted: set[bytes]) -> set[bytes]:
    """Those of `wanted` that exist and hold, or held, a measure of the audience."""
    sets = list(visible_sets(session, measures))
    known_ids: set[bytes] = set()
    ids = sorted(wanted)
    for start in range(0, len(ids), 5_000):
        some = ids[start : start + 5_000]
        known_ids.update(
            session.scalars(
                select(RestrictionRow.id).where(
                    RestrictionRow.id.in_(some), RestrictionRow.measure_set_id.in_(sets)
                )
            )
        )
        # A measure that was taken away may still be reported on: the provider acted before it knew.
        had = select(ReliefRow.restriction_id).where(
            ReliefRow.restriction_id.in_(some), ReliefRow.measure_set_id.in_(sets)
        )
        known_ids.update(session.scalars(had))
    return known_ids


def _moment(
    event: enforcement_pb2.Report | enforcement_pb2.CoverageCount, name: str, now: datetime
) -> datetime:
    value: Timestamp = getattr(event, name)
    try:
        moment = value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise _EventError(f"{name} is not a moment") from None
    if moment < EARLIEST:
        raise _EventError(f"{name} is missing, or before the year 2000")
    if moment > now + AHEAD:
        raise _EventError(f"{name} lies more than a day ahead; set the clock")
    return moment


def _check_ids(*ids: bytes) -> None:
    if any(len(item) != ID_BYTES for item in ids):
        raise _EventError(f"an id has {ID_BYTES} bytes")


def _check_measure(measure: str, measures: frozenset[str]) -> None:
    if measure not in measures:
        raise _EventError("this audience does not enforce that measure")


def _check_size(count: int) -> None:
    if count > MAX_EVENTS:
        raise InvalidRequestError(
            f"at most {MAX_EVENTS} events in one call; send the rest in the next"
        )


def _result(
    event_id: bytes, status: enforcement_pb2.EventStatus.ValueType, detail: str = ""
) -> enforcement_pb2.EventResult:
    return enforcement_pb2.EventResult(event_id=event_id, status=status, detail=detail)


def _insert(session: Session, table: type, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table), rows)
