"""Somebody says that a restriction is wrong, follows that, and is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import dispute_pb2, dispute_pb2_grpc
from tipstaff.v1.identity_pb2 import BilingualText
from tipstaff_server.domain.actors import ActorKind
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.registry.disputes.cases import DEFAULT_PAGE, MAX_PAGE, WantedDisputes
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.rpc.gate import Context, actor_of, caller_of
from tipstaff_server.services.drafts import summary_message
from tipstaff_server.services.moments import moment_of
from tipstaff_server.storage.models import DisputeGround, DisputeState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tipstaff_server.registry.disputes.answer import DisputeOutcome
    from tipstaff_server.registry.disputes.cases import CaseProgress, DisputeCase
    from tipstaff_server.registry.disputes.open import DisputeView
    from tipstaff_server.registry.registry import Registry
    from tipstaff_server.rpc.limits import CallerLimits

__all__ = ["DisputeService"]

_GROUNDS = {
    dispute_pb2.DISPUTE_GROUND_UNSPECIFIED: DisputeGround.OTHER,
    **{
        dispute_pb2.DisputeGround.Value(f"DISPUTE_GROUND_{ground.value}"): ground
        for ground in DisputeGround
    },
}
_OUTCOMES: dict[int, DisputeOutcome] = {
    dispute_pb2.DISPUTE_OUTCOME_UPHELD: DisputeState.REJECTED,
    dispute_pb2.DISPUTE_OUTCOME_CORRECTED: DisputeState.CORRECTED,
    dispute_pb2.DISPUTE_OUTCOME_REVOKED: DisputeState.REVOKED,
}


class DisputeService(dispute_pb2_grpc.DisputeServiceServicer):
    """See dispute.proto.

    `lifted` is called after an act that relief has to carry, so that it goes out at once.
    """

    def __init__(
        self, registry: Registry, lifted: Callable[[], None], limits: CallerLimits
    ) -> None:
        self._registry = registry
        self._lifted = lifted
        self._limits = limits

    async def OpenDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.OpenDisputeRequest, context: Context
    ) -> dispute_pb2.OpenDisputeResponse:
        """Opens one; a provider knows of its audience's restrictions only."""
        ground = _GROUNDS.get(request.ground)
        if ground is None:
            raise InvalidRequestError(
                "there is no such ground; leave it out, or give one of the contract's"
            )
        opened = await asyncio.to_thread(
            self._registry.disputes.open,
            request.restriction_id,
            request.statement,
            request_id=request.request_id,
            actor=actor_of(caller_of(context)),
            decision_id=request.decision_id,
            ground=ground,
        )
        if opened.relief_sequence:
            self._lifted()
        return dispute_pb2.OpenDisputeResponse(
            dispute=_dispute(opened.dispute), relief_sequence=opened.relief_sequence
        )

    async def GetDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.GetDisputeRequest, context: Context
    ) -> dispute_pb2.GetDisputeResponse:
        """Where one stands, and for whoever answers it the whole case."""
        actor = actor_of(caller_of(context))
        dispute = await asyncio.to_thread(
            self._registry.disputes.get, request.case_number, actor=actor
        )
        response = dispute_pb2.GetDisputeResponse(dispute=_dispute(dispute))
        if actor.kind in {ActorKind.AUTHORITY, ActorKind.OPERATOR}:
            response.case.CopyFrom(
                _case(
                    await asyncio.to_thread(
                        self._registry.disputes.case, request.case_number, actor
                    )
                )
            )
        return response

    async def FollowDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.FollowDisputeRequest, context: Context
    ) -> dispute_pb2.FollowDisputeResponse:
        """For whoever holds the number.

        Numbers that do not exist are counted, so that nobody guesses them.
        """
        caller = caller_of(context)
        self._limits.case_number(caller)
        progress = await asyncio.to_thread(self._registry.disputes.follow, request.case_number)
        self._limits.case_number_known(caller)
        return _progress(progress)

    async def ListDisputes(  # noqa: N802  the contract's name
        self, request: dispute_pb2.ListDisputesRequest, context: Context
    ) -> dispute_pb2.ListDisputesResponse:
        """A page for whoever answers them."""
        wanted = WantedDisputes(
            state=_state(request.state),
            overdue=request.overdue,
            after=request.page_token,
            limit=min(request.page_size or DEFAULT_PAGE, MAX_PAGE),
        )
        found, token = await asyncio.to_thread(
            self._registry.disputes.page, wanted, actor_of(caller_of(context))
        )
        return dispute_pb2.ListDisputesResponse(
            disputes=[_case(item) for item in found], next_page_token=token
        )

    async def AnswerDispute(  # noqa: N802  the contract's name
        self, request: dispute_pb2.AnswerDisputeRequest, context: Context
    ) -> dispute_pb2.AnswerDisputeResponse:
        """Upheld, corrected or revoked; what became less goes out at once."""
        outcome = _OUTCOMES.get(request.outcome)
        if outcome is None:
            raise InvalidRequestError("say how it is answered: upheld, corrected or revoked")
        done = await asyncio.to_thread(
            self._registry.disputes.answer,
            request.case_number,
            outcome,
            request.reason,
            actor_of(caller_of(context)),
            correction=_correction(request.correction),
            given=Precondition(request.expected_version, request.idempotency_key),
        )
        if done.relief_sequence:
            self._lifted()
        return dispute_pb2.AnswerDisputeResponse(
            dispute=_dispute(done.dispute),
            restriction=summary_message(done.restriction),
            relief_sequence=done.relief_sequence,
        )


def _correction(message: dispute_pb2.DisputeCorrection) -> Amendment:
    expires_at = (
        moment_of(message.expires_at, "expires_at") if message.HasField("expires_at") else None
    )
    return Amendment(tuple(message.measures), message.legal_basis, expires_at)


def _state(value: dispute_pb2.DisputeState.ValueType) -> DisputeState | None:
    if not value:
        return None
    if value not in dispute_pb2.DisputeState.values():
        raise InvalidRequestError(
            "there is no such state; leave it out, or give one of the contract's"
        )
    return DisputeState(dispute_pb2.DisputeState.Name(value).removeprefix("DISPUTE_STATE_"))


def _dispute(found: DisputeView) -> dispute_pb2.Dispute:
    message = dispute_pb2.Dispute(
        case_number=found.case_number,
        state=dispute_pb2.DisputeState.Value(f"DISPUTE_STATE_{found.state.value}"),
        suspended=found.suspended,
    )
    message.opened_at.FromDatetime(found.opened_at)
    message.answer_due_at.FromDatetime(found.answer_due_at)
    return message


def _case(found: DisputeCase) -> dispute_pb2.DisputeCase:
    message = dispute_pb2.DisputeCase(
        dispute=_dispute(found.dispute),
        restriction_id=found.restriction_id,
        authority_id=found.authority_id,
        ground=dispute_pb2.DisputeGround.Value(f"DISPUTE_GROUND_{found.ground.value}"),
        statement=found.statement,
        overdue=found.overdue,
    )
    if found.answered_at is not None:
        message.answered_at.FromDatetime(found.answered_at)
    return message


def _progress(found: CaseProgress) -> dispute_pb2.FollowDisputeResponse:
    message = dispute_pb2.FollowDisputeResponse(
        state=dispute_pb2.DisputeState.Value(f"DISPUTE_STATE_{found.state.value}"),
        overdue=found.overdue,
        text=BilingualText(zh=found.text("zh"), en=found.text("en")),
    )
    message.opened_at.FromDatetime(found.opened_at)
    message.answer_due_at.FromDatetime(found.answer_due_at)
    if found.answered_at is not None:
        message.answered_at.FromDatetime(found.answered_at)
    return message
