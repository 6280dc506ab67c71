"""Remedies to providers and their answers back: a part of DistributionService."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc, enforcement_pb2
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.rpc.gate import Context, actor_of, caller_of
from tipstaff_server.storage.models import RemedyOutcome

if TYPE_CHECKING:
    from tipstaff_server.registry.restrictions.remedies import Remedies, RemedyView

__all__ = ["RemedyCalls", "remedy_message"]

_OUTCOMES = {
    distribution_pb2.RemedyOutcome.Value(f"REMEDY_OUTCOME_{outcome.value}"): outcome
    for outcome in RemedyOutcome
}
MAX_PAGE = 100


class RemedyCalls(distribution_pb2_grpc.DistributionServiceServicer):
    """The calls about remedies. See distribution.proto."""

    def __init__(self, remedies: Remedies) -> None:
        self._remedies = remedies

    async def ListRemedies(  # noqa: N802  the contract's name
        self, request: distribution_pb2.ListRemediesRequest, context: Context
    ) -> distribution_pb2.ListRemediesResponse:
        """What the caller has to make good. From here on it counts as delivered."""
        size = min(request.page_size or MAX_PAGE, MAX_PAGE)
        remedies = await asyncio.to_thread(
            self._remedies.mine,
            actor_of(caller_of(context)),
            answered=request.include_answered,
            after=request.page_token,
            limit=size,
        )
        token = remedies[-1].remedy_id if len(remedies) == size else b""
        return distribution_pb2.ListRemediesResponse(
            remedies=[remedy_message(item) for item in remedies], next_page_token=token
        )

    async def AnswerRemedy(  # noqa: N802  the contract's name
        self, request: distribution_pb2.AnswerRemedyRequest, context: Context
    ) -> distribution_pb2.AnswerRemedyResponse:
        """The caller says what it did."""
        outcome = _OUTCOMES.get(request.outcome)
        if outcome is None:
            raise InvalidRequestError(
                "say what was done: restored, compensated, declined, not found, or nothing done"
            )
        actor = actor_of(caller_of(context))
        remedy = await asyncio.to_thread(
            self._remedies.answer, request.remedy_id, outcome, request.note, actor
        )
        return distribution_pb2.AnswerRemedyResponse(remedy=remedy_message(remedy))


def remedy_message(found: RemedyView) -> distribution_pb2.Remedy:
    """As in the contract, without the note."""
    message = distribution_pb2.Remedy(
        remedy_id=found.remedy_id,
        restriction_id=found.restriction_id,
        state=distribution_pb2.RemedyState.Value(f"REMEDY_STATE_{found.state.value}"),
        affected_count=found.affected_count,
    )
    message.opened_at.FromDatetime(found.opened_at)
    message.due_at.FromDatetime(found.due_at)
    if found.outcome is not None:
        message.outcome = distribution_pb2.RemedyOutcome.Value(
            f"REMEDY_OUTCOME_{found.outcome.value}"
        )
    for item in found.affected:
        report = message.affected.add(
            report_id=item.report_id,
            decision_id=item.decision_id,
            measure=item.measure,
            outcome=enforcement_pb2.Outcome.ValueType(item.outcome),
        )
        report.acted_at.FromDatetime(item.acted_at)
    return message
