"""Counts for supervision (应查必查, 督查考核), per provider and measure, without anybody's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from tipstaff.v1 import statistics_pb2
from tipstaff_server.storage.models import (
    CoverageRow,
    ProviderRow,
    ReportRow,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from tipstaff_server.vault.store import Store


__all__ = ["statistics"]

COUNTS = ("checked", "clear", "filter_hits", "restricted", "review", "unknown")


def statistics(
    store: Store, *, since: datetime | None = None, until: datetime | None = None
) -> statistics_pb2.GetStatisticsResponse:
    """Checks by their hour, outcomes by the moment of acting, in [since, until); sorted by
    provider, then measure.
    """
    checks = (
        select(
            CoverageRow.provider_id,
            CoverageRow.measure,
            *(func.sum(getattr(CoverageRow, name)).label(name) for name in COUNTS),
        )
        .where(*_between(CoverageRow.hour, since, until))
        .group_by(CoverageRow.provider_id, CoverageRow.measure)
    )
    outcomes = (
        select(
            ReportRow.provider_id, ReportRow.measure, ReportRow.outcome, func.count().label("times")
        )
        .where(*_between(ReportRow.acted_at, since, until))
        .group_by(ReportRow.provider_id, ReportRow.measure, ReportRow.outcome)
        .order_by(ReportRow.outcome)
    )
    by_measure: dict[tuple[str, str], statistics_pb2.MeasureStatistics] = {}
    with store.read() as session:
        providers = session.scalars(select(ProviderRow).order_by(ProviderRow.id)).all()
        audiences = {row.id: row.audience_id for row in providers}

        def of(provider: str, measure: str) -> statistics_pb2.MeasureStatistics:
            new = statistics_pb2.MeasureStatistics(
                provider_id=provider, audience=audiences[provider], measure=measure
            )
            return by_measure.setdefault((provider, measure), new)

        for row in session.execute(checks).mappings():
            item = of(row["provider_id"], row["measure"])
            for name in COUNTS:
                setattr(item, name, int(row[name]))
        for row in session.execute(outcomes).mappings():
            of(row["provider_id"], row["measure"]).outcomes.add(
                outcome=row["outcome"], count=row["times"]
            )
    return statistics_pb2.GetStatisticsResponse(
        measures=[by_measure[key] for key in sorted(by_measure)],
        providers=[_provider(row) for row in providers],
    )


def _between(
    column: InstrumentedAttribute[Any], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(column >= since)
    if until is not None:
        conditions.append(column < until)
    return conditions


def _provider(row: ProviderRow) -> statistics_pb2.ProviderStatistics:
    message = statistics_pb2.ProviderStatistics(
        provider_id=row.id,
        audience=row.audience_id,
        enforced_listing=row.enforced_listing,
        enforced_relief_sequence=row.enforced_relief_sequence,
    )
    if row.acknowledged_at is not None:
        message.acknowledged_at.FromDatetime(row.acknowledged_at)
    return message
