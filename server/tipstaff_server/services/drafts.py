"""Drafts and their approval by a second person: a part of RegistryService."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import registry_pb2, registry_pb2_grpc
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.drafts import Approval
from tipstaff_server.rpc.gate import Context, actor_of, caller_of

if TYPE_CHECKING:
    from tipstaff_server.registry.restrictions.drafts import Approved, Drafts
    from tipstaff_server.registry.restrictions.summary import RestrictionSummary

__all__ = ["DraftCalls", "summary_message"]


class DraftCalls(registry_pb2_grpc.RegistryServiceServicer):
    """The calls about drafts. See registry.proto."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts

    async def GetDraft(  # noqa: N802  the contract's name
        self, request: registry_pb2.GetDraftRequest, context: Context
    ) -> registry_pb2.GetDraftResponse:
        """What a draft holds, for the second person to check."""
        draft = await asyncio.to_thread(
            self._drafts.read_draft, request.restriction_id, actor_of(caller_of(context))
        )
        response = registry_pb2.GetDraftResponse(
            restriction=summary_message(draft.restriction),
            entry=draft.entry,
            entered_by=draft.entered_by,
        )
        response.entered_at.FromDatetime(draft.entered_at)
        return response

    async def ApproveRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.ApproveRestrictionRequest, context: Context
    ) -> registry_pb2.ApproveRestrictionResponse:
        """Puts one in force, after its list's notice."""
        done = await asyncio.to_thread(
            self._drafts.approve, _approval(request), actor_of(caller_of(context))
        )
        return registry_pb2.ApproveRestrictionResponse(restriction=summary_message(done))

    async def ApproveRestrictions(  # noqa: N802  the contract's name
        self, request: registry_pb2.ApproveRestrictionsRequest, context: Context
    ) -> registry_pb2.ApproveRestrictionsResponse:
        """Each for itself."""
        approvals = [_approval(item) for item in request.approvals]
        done = await asyncio.to_thread(
            self._drafts.approve_many, approvals, actor_of(caller_of(context))
        )
        return registry_pb2.ApproveRestrictionsResponse(results=[_result(item) for item in done])


def _approval(request: registry_pb2.ApproveRestrictionRequest) -> Approval:
    return Approval(
        request.restriction_id,
        request.reason,
        Precondition(request.expected_version, request.idempotency_key),
    )


def _result(item: Approved) -> registry_pb2.ApproveResult:
    if item.restriction is None:
        return registry_pb2.ApproveResult(
            restriction_id=item.restriction_id,
            status=registry_pb2.APPROVE_STATUS_REFUSED,
            detail=item.detail,
        )
    return registry_pb2.ApproveResult(
        restriction_id=item.restriction_id,
        status=registry_pb2.APPROVE_STATUS_APPROVED,
        restriction=summary_message(item.restriction),
    )


def summary_message(found: RestrictionSummary) -> registry_pb2.RestrictionSummary:
    """A restriction as in the contract."""
    summary = registry_pb2.RestrictionSummary(
        restriction_id=found.restriction_id,
        state=registry_pb2.RestrictionState.Value(f"RESTRICTION_STATE_{found.state.value}"),
        authority_id=found.authority_id,
        list_id=found.list_id,
        measures=found.measures,
        case_number=found.case_number,
        version=found.version,
    )
    summary.effective_at.FromDatetime(found.effective_at)
    summary.expires_at.FromDatetime(found.expires_at)
    return summary
