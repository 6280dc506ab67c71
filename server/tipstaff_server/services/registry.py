"""Authorities enter and end restrictions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import registry_pb2
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.certificates.caller import Role
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import EntryError, InvalidRequestError, PermissionDeniedError
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.restrictions.search import DEFAULT_PAGE, MAX_PAGE, Wanted
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.rpc.gate import Context, actor_of, caller_of
from tipstaff_server.services.drafts import DraftCalls, summary_message
from tipstaff_server.services.moments import moment_of
from tipstaff_server.services.subjects import SubjectCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tipstaff_server.certificates.caller import Caller
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.registry import Registry

__all__ = ["RegistryService", "moment_of"]

_END_KINDS = {
    registry_pb2.END_KIND_RELEASE: EndKind.RELEASE,
    registry_pb2.END_KIND_REPAIR: EndKind.REPAIR,
    registry_pb2.END_KIND_REVOKE: EndKind.REVOKE,
}
MAX_KEY = 64


class RegistryService(SubjectCalls, DraftCalls):
    """See registry.proto. `lifted` is called after an act that relief has to carry."""

    def __init__(self, registry: Registry, lifted: Callable[[], None]) -> None:
        super().__init__(registry.restrictions)
        self._registry = registry
        self._lifted = lifted

    async def SubmitRestrictions(  # noqa: N802  the contract's name
        self,
        request_iterator: AsyncIterator[registry_pb2.SubmitRestrictionsRequest],
        context: Context,
    ) -> AsyncIterator[registry_pb2.SubmitRestrictionsResponse]:
        """Each entry is answered before the next is read: a stream of any length needs the memory
        of one entry.
        """
        caller = caller_of(context)
        authority = _authority(caller)
        async for request in request_iterator:
            yield await asyncio.to_thread(self._submit, request, authority, actor_of(caller))

    async def GetRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.GetRestrictionRequest, context: Context
    ) -> registry_pb2.GetRestrictionResponse:
        """One restriction of the caller's."""
        summary = await asyncio.to_thread(
            self._registry.restrictions.get,
            request.restriction_id,
            actor=actor_of(caller_of(context)),
        )
        return registry_pb2.GetRestrictionResponse(restriction=summary_message(summary))

    async def EndRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.EndRestrictionRequest, context: Context
    ) -> registry_pb2.EndRestrictionResponse:
        """Release, repair or revoke; relief goes out at once."""
        kind = _END_KINDS.get(request.kind)
        if kind is None:
            raise InvalidRequestError("say how it ends: release, repair or revoke")
        actor = actor_of(caller_of(context))
        given = Precondition(request.expected_version, request.idempotency_key)
        ended = await asyncio.to_thread(
            self._registry.restrictions.end,
            request.restriction_id,
            kind,
            request.reason,
            actor=actor,
            given=given,
        )
        if ended.relief_sequence:
            self._lifted()
        return registry_pb2.EndRestrictionResponse(
            restriction=summary_message(ended.restriction), relief_sequence=ended.relief_sequence
        )

    async def AmendRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.AmendRestrictionRequest, context: Context
    ) -> registry_pb2.AmendRestrictionResponse:
        """Corrects one; what becomes less is relief at once."""
        expires_at = (
            moment_of(request.expires_at, "expires_at") if request.HasField("expires_at") else None
        )
        amendment = Amendment(tuple(request.measures), request.legal_basis, expires_at)
        given = Precondition(request.expected_version, request.idempotency_key)
        actor = actor_of(caller_of(context))
        done = await asyncio.to_thread(
            self._registry.restrictions.amend,
            request.restriction_id,
            amendment,
            request.reason,
            actor,
            given,
        )
        if done.relief_sequence:
            self._lifted()
        return registry_pb2.AmendRestrictionResponse(
            restriction=summary_message(done.restriction), relief_sequence=done.relief_sequence
        )

    async def ExemptRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.ExemptRestrictionRequest, context: Context
    ) -> registry_pb2.ExemptRestrictionResponse:
        """Permits something inside one."""
        exemption = await asyncio.to_thread(
            self._registry.restrictions.exempt,
            request.restriction_id,
            measures=list(request.measures),
            valid=(
                moment_of(request.valid_from, "valid_from"),
                moment_of(request.valid_until, "valid_until"),
            ),
            why=(request.reason.zh, request.reason.en),
            actor=actor_of(caller_of(context)),
            given=Precondition(request.expected_version, request.idempotency_key),
            person=Identifier.from_proto(request.person) if request.HasField("person") else None,
        )
        return registry_pb2.ExemptRestrictionResponse(exemption_id=exemption)

    async def SearchRestrictions(  # noqa: N802  the contract's name
        self, request: registry_pb2.SearchRestrictionsRequest, context: Context
    ) -> registry_pb2.SearchRestrictionsResponse:
        """A page of the caller's restrictions."""
        wanted = Wanted(
            identifier=(
                Identifier.from_proto(request.identifier)
                if request.HasField("identifier")
                else None
            ),
            case_number=request.case_number,
            state=_state(request.state),
            after=request.page_token,
            limit=min(request.page_size or DEFAULT_PAGE, MAX_PAGE),
        )
        page = await asyncio.to_thread(
            self._registry.restrictions.search, wanted, actor_of(caller_of(context))
        )
        token = page[-1].restriction_id if len(page) == wanted.limit else b""
        return registry_pb2.SearchRestrictionsResponse(
            restrictions=[summary_message(item) for item in page], next_page_token=token
        )

    async def GetHistory(  # noqa: N802  the contract's name
        self, request: registry_pb2.GetHistoryRequest, context: Context
    ) -> registry_pb2.GetHistoryResponse:
        """What was done with one."""
        entries = await asyncio.to_thread(
            self._registry.restrictions.history,
            request.restriction_id,
            actor_of(caller_of(context)),
        )
        response = registry_pb2.GetHistoryResponse()
        for item in entries:
            entry = response.entries.add(
                sequence=item.sequence,
                actor=item.actor,
                act=item.act,
                detail=item.detail,
                reason=item.reason,
            )
            entry.at.FromDatetime(item.at)
        return response

    def _submit(
        self, request: registry_pb2.SubmitRestrictionsRequest, authority: str, actor: Actor
    ) -> registry_pb2.SubmitRestrictionsResponse:
        response = registry_pb2.SubmitRestrictionsResponse(
            idempotency_key=request.idempotency_key[:MAX_KEY]
        )
        try:
            entry = Entry.from_proto(request.entry)
        except EntryError as error:
            response.status, response.detail = registry_pb2.SUBMIT_STATUS_REJECTED, str(error)
            return response
        submission = self._registry.restrictions.submit(
            entry, authority=authority, actor=actor, idempotency_key=request.idempotency_key or None
        )
        response.status = registry_pb2.SubmitStatus.Value(
            f"SUBMIT_STATUS_{submission.status.value}"
        )
        response.restriction_id = submission.restriction_id
        if submission.status is SubmitStatus.REJECTED:
            response.detail = submission.detail
        return response


def _authority(caller: Caller) -> str:
    """For whom a caller enters: an entry does not name its authority, the certificate does."""
    if caller.role is not Role.AUTHORITY:
        raise PermissionDeniedError(
            "an entry belongs to the authority in the certificate; enter with the authority's own,"
            " or import a list"
        )
    return caller.name


def _state(value: registry_pb2.RestrictionState.ValueType) -> State | None:
    if not value:
        return None
    if value not in registry_pb2.RestrictionState.values():
        raise InvalidRequestError(
            "there is no such state; leave it out, or give one of the contract's"
        )
    return State(registry_pb2.RestrictionState.Name(value).removeprefix("RESTRICTION_STATE_"))
