"""Somebody says that a restriction is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import dispute_pb2, dispute_pb2_grpc
from tipstaff_server.gate import Context, actor_of, caller_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tipstaff_server.disputes import Dispute
    from tipstaff_server.registry import Registry

__all__ = ["DisputeService"]


class DisputeService(dispute_pb2_grpc.DisputeServiceServicer):
    """See dispute.proto. `lifted` is called when a dispute suspends, so that relief goes out at once."""

    def __init__(self, registry: Registry, lifted: Callable[[], None]) -> None:
        self._registry = registry
        self._lifted = lifted

    async def OpenDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.OpenDisputeRequest, context: Context
    ) -> dispute_pb2.OpenDisputeResponse:
        """Opens one; a provider knows of its audience's restrictions only."""
        opened = await asyncio.to_thread(
            self._registry.open_dispute,
            request.restriction_id,
            request.statement,
            request_id=request.request_id,
            actor=actor_of(caller_of(context)),
            decision_id=request.decision_id,
        )
        if opened.relief_sequence:
            self._lifted()
        return dispute_pb2.OpenDisputeResponse(dispute=_dispute(opened.dispute), relief_sequence=opened.relief_sequence)

    async def GetDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.GetDisputeRequest, context: Context
    ) -> dispute_pb2.GetDisputeResponse:
        """Where one stands."""
        found = await asyncio.to_thread(self._registry.get_dispute, request.case_number, actor=actor_of(caller_of(context)))
        return dispute_pb2.GetDisputeResponse(dispute=_dispute(found))


def _dispute(found: Dispute) -> dispute_pb2.Dispute:
    message = dispute_pb2.Dispute(
        case_number=found.case_number,
        state=dispute_pb2.DisputeState.Value(f"DISPUTE_STATE_{found.state.value}"),
        suspended=found.suspended,
    )
    message.opened_at.FromDatetime(found.opened_at)
    message.answer_due_at.FromDatetime(found.answer_due_at)
    return message
