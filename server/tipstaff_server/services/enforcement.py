"""Providers report what they did, and count what they checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import enforcement_pb2, enforcement_pb2_grpc
from tipstaff_server.rpc.gate import Context, caller_of

if TYPE_CHECKING:
    from tipstaff_server.enforcement.reports import Feedback

__all__ = ["EnforcementService"]


class EnforcementService(enforcement_pb2_grpc.EnforcementServiceServicer):
    """See enforcement.proto."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback

    async def SubmitReports(  # noqa: N802  the contract's name
        self, request: enforcement_pb2.SubmitReportsRequest, context: Context
    ) -> enforcement_pb2.SubmitReportsResponse:
        """Answered once they are stored: an answer means that nothing will be lost."""
        results = await asyncio.to_thread(
            self._feedback.submit_reports, caller_of(context).name, request.reports
        )
        return enforcement_pb2.SubmitReportsResponse(results=results)

    async def SubmitCoverage(  # noqa: N802  the contract's name
        self, request: enforcement_pb2.SubmitCoverageRequest, context: Context
    ) -> enforcement_pb2.SubmitCoverageResponse:
        """As reports."""
        results = await asyncio.to_thread(
            self._feedback.submit_coverage, caller_of(context).name, request.counts
        )
        return enforcement_pb2.SubmitCoverageResponse(results=results)
