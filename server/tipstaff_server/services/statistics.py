"""Counts for the operator."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tipstaff.v1 import statistics_pb2, statistics_pb2_grpc
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.statistics import statistics

if TYPE_CHECKING:
    from tipstaff_server.database import Database
    from tipstaff_server.gate import Context

__all__ = ["StatisticsService"]


class StatisticsService(statistics_pb2_grpc.StatisticsServiceServicer):
    """See statistics.proto."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetStatistics(  # noqa: N802  the contract's name
        self, request: statistics_pb2.GetStatisticsRequest, context: Context
    ) -> statistics_pb2.GetStatisticsResponse:
        """Counts of the hours asked for."""
        del context  # the gate let only the operator through
        since, until = _hour(request, "from"), _hour(request, "until")
        return await asyncio.to_thread(statistics, self._database, since=since, until=until)


def _hour(request: statistics_pb2.GetStatisticsRequest, name: str) -> datetime | None:
    if not request.HasField(name):  # type: ignore[arg-type]  # the stub wants a literal
        return None
    try:
        moment: datetime = getattr(request, name).ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{name} is not a moment between the years 1 and 9999; leave it out for no bound") from None
    return moment
