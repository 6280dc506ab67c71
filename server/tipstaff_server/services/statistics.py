"""Counts for the operator."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tipstaff.v1 import statistics_pb2, statistics_pb2_grpc
from tipstaff_server.enforcement.lag import supervise
from tipstaff_server.enforcement.statistics import statistics
from tipstaff_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from tipstaff_server.enforcement.lag import Allowed
    from tipstaff_server.registry.registry import Registry
    from tipstaff_server.rpc.gate import Context

__all__ = ["StatisticsService"]


class StatisticsService(statistics_pb2_grpc.StatisticsServiceServicer):
    """See statistics.proto."""

    def __init__(self, registry: Registry, allowed: Allowed) -> None:
        self._registry = registry
        self._allowed = allowed

    async def GetStatistics(  # noqa: N802  the contract's name
        self, request: statistics_pb2.GetStatisticsRequest, context: Context
    ) -> statistics_pb2.GetStatisticsResponse:
        """Counts of the hours asked for, and how things stand now."""
        del context  # the gate let only the operator through
        return await asyncio.to_thread(
            self._statistics, _hour(request, "from"), _hour(request, "until")
        )

    def _statistics(
        self, since: datetime | None, until: datetime | None
    ) -> statistics_pb2.GetStatisticsResponse:
        response = statistics(self._registry.store, since=since, until=until)
        supervise(response, self._registry.store, self._allowed)
        return response


def _hour(request: statistics_pb2.GetStatisticsRequest, name: str) -> datetime | None:
    if not request.HasField(name):  # type: ignore[arg-type]  # the stub wants a literal
        return None
    try:
        moment: datetime = getattr(request, name).ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f"{name} is not a moment between the years 1 and 9999; leave it out for no bound"
        ) from None
    return moment
