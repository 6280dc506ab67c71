"""Authorities enter and end restrictions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import registry_pb2, registry_pb2_grpc
from tipstaff_server.acts import EndKind
from tipstaff_server.entries import Entry
from tipstaff_server.errors import EntryError, InvalidRequestError, PermissionDeniedError
from tipstaff_server.gate import Context, actor_of, caller_of
from tipstaff_server.submitting import SubmitStatus
from tipstaff_server.tls_identity import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tipstaff_server.actors import Actor
    from tipstaff_server.acts import RestrictionSummary
    from tipstaff_server.registry import Registry
    from tipstaff_server.tls_identity import Caller

__all__ = ["RegistryService"]

_END_KINDS = {
    registry_pb2.END_KIND_RELEASE: EndKind.RELEASE,
    registry_pb2.END_KIND_REPAIR: EndKind.REPAIR,
    registry_pb2.END_KIND_REVOKE: EndKind.REVOKE,
}
MAX_KEY = 64


class RegistryService(registry_pb2_grpc.RegistryServiceServicer):
    """See registry.proto. `lifted` is called after an act that relief has to carry."""

    def __init__(self, registry: Registry, lifted: Callable[[], None]) -> None:
        self._registry = registry
        self._lifted = lifted

    async def SubmitRestrictions(  # noqa: N802  the contract's name
        self, request_iterator: AsyncIterator[registry_pb2.SubmitRestrictionsRequest], context: Context
    ) -> AsyncIterator[registry_pb2.SubmitRestrictionsResponse]:
        """Each entry is answered before the next is read: a stream of any length needs the memory of one entry."""
        caller = caller_of(context)
        authority = _authority(caller)
        async for request in request_iterator:
            yield await asyncio.to_thread(self._submit, request, authority, actor_of(caller))

    async def GetRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.GetRestrictionRequest, context: Context
    ) -> registry_pb2.GetRestrictionResponse:
        """One restriction of the caller's."""
        found = await asyncio.to_thread(self._registry.get, request.restriction_id, actor=actor_of(caller_of(context)))
        return registry_pb2.GetRestrictionResponse(restriction=_summary(found))

    async def EndRestriction(  # noqa: N802  the contract's name
        self, request: registry_pb2.EndRestrictionRequest, context: Context
    ) -> registry_pb2.EndRestrictionResponse:
        """Release, repair or revoke; relief goes out at once."""
        kind = _END_KINDS.get(request.kind)
        if kind is None:
            raise InvalidRequestError("say how it ends: release, repair or revoke")
        actor = actor_of(caller_of(context))
        ended = await asyncio.to_thread(self._registry.end, request.restriction_id, kind, request.reason, actor=actor)
        if ended.relief_sequence:
            self._lifted()
        return registry_pb2.EndRestrictionResponse(restriction=_summary(ended.restriction), relief_sequence=ended.relief_sequence)

    def _submit(
        self, request: registry_pb2.SubmitRestrictionsRequest, authority: str, actor: Actor
    ) -> registry_pb2.SubmitRestrictionsResponse:
        response = registry_pb2.SubmitRestrictionsResponse(idempotency_key=request.idempotency_key[:MAX_KEY])
        try:
            entry = Entry.from_proto(request.entry)
        except EntryError as error:
            response.status, response.detail = registry_pb2.SUBMIT_STATUS_REJECTED, str(error)
            return response
        submission = self._registry.submit(entry, authority=authority, actor=actor, idempotency_key=request.idempotency_key or None)
        response.status = registry_pb2.SubmitStatus.Value(f"SUBMIT_STATUS_{submission.status.value}")
        response.restriction_id = submission.restriction_id
        if submission.status is SubmitStatus.REJECTED:
            response.detail = submission.detail
        return response


def _authority(caller: Caller) -> str:
    """For whom a caller enters: an entry does not name its authority, the certificate does."""
    if caller.role is not Role.AUTHORITY:
        raise PermissionDeniedError(
            "an entry belongs to the authority in the certificate; enter with the authority's own, or import a list"
        )
    return caller.name


def _summary(found: RestrictionSummary) -> registry_pb2.RestrictionSummary:
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
