"""Subjects and posts: the part of RegistryService that is about people and organisations
themselves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import identity_pb2, registry_pb2
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.domain.parties import PERSON, Party, Responsible
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction, Parts
from tipstaff_server.rpc.gate import Context, actor_of, caller_of
from tipstaff_server.services.moments import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tipstaff_server.registry.registry import Registry
    from tipstaff_server.registry.subjects.posts import Post
    from tipstaff_server.registry.subjects.view import SubjectView

__all__ = ["SubjectCalls"]


class SubjectCalls:
    """See registry.proto. `_lifted` is called after an act that relief has to carry."""

    _registry: Registry
    _lifted: Callable[[], None]

    async def GetSubject(  # noqa: N802  the contract's name
        self, request: registry_pb2.GetSubjectRequest, context: Context
    ) -> registry_pb2.GetSubjectResponse:
        """A subject in figures, or with numbers and names."""
        actor, reference = actor_of(caller_of(context)), _reference(request.subject)
        if not request.reveal:
            view = await asyncio.to_thread(self._registry.subjects.show, reference, actor)
            return registry_pb2.GetSubjectResponse(subject=_summary(view))
        told = await asyncio.to_thread(
            self._registry.subjects.reveal, reference, request.reason, actor
        )
        numbers = [identifier.to_proto() for identifier in told.identifiers]
        return registry_pb2.GetSubjectResponse(
            subject=_summary(told.view), identifiers=numbers, names=told.names
        )

    async def AddPost(  # noqa: N802  the contract's name
        self, request: registry_pb2.AddPostRequest, context: Context
    ) -> registry_pb2.AddPostResponse:
        """Somebody takes a post."""
        party = Party(PERSON, _identifiers(request.person.identifiers), tuple(request.person.names))
        post = await asyncio.to_thread(
            self._registry.posts.add,
            _reference(request.organisation),
            Responsible(int(request.person.capacity), party),
            _dates(request),
            request.reason,
            actor_of(caller_of(context)),
            Precondition(key=request.idempotency_key),
        )
        return registry_pb2.AddPostResponse(post=_post(post))

    async def EndPost(  # noqa: N802  the contract's name
        self, request: registry_pb2.EndPostRequest, context: Context
    ) -> registry_pb2.EndPostResponse:
        """Somebody leaves a post; relief goes out at once."""
        until = (
            moment_of(request.valid_until, "valid_until")
            if request.HasField("valid_until")
            else None
        )
        actor, given = actor_of(caller_of(context)), Precondition(key=request.idempotency_key)
        post, sequence = await asyncio.to_thread(
            self._registry.posts.end, request.post_id, until, request.reason, actor, given
        )
        self._push(sequence)
        return registry_pb2.EndPostResponse(post=_post(post), relief_sequence=sequence)

    async def AmendPost(  # noqa: N802  the contract's name
        self, request: registry_pb2.AmendPostRequest, context: Context
    ) -> registry_pb2.AmendPostResponse:
        """Corrects the dates of a post."""
        actor, given = actor_of(caller_of(context)), Precondition(key=request.idempotency_key)
        dates = _dates(request, without_end=request.without_end)
        post, sequence = await asyncio.to_thread(
            self._registry.posts.amend, request.post_id, dates, request.reason, actor, given
        )
        self._push(sequence)
        return registry_pb2.AmendPostResponse(post=_post(post), relief_sequence=sequence)

    async def MergeSubjects(  # noqa: N802  the contract's name
        self, request: registry_pb2.MergeSubjectsRequest, context: Context
    ) -> registry_pb2.MergeSubjectsResponse:
        """Two subjects are one."""
        actor, given = actor_of(caller_of(context)), Precondition(key=request.idempotency_key)
        both = _reference(request.surviving), _reference(request.absorbed)
        view, sequence = await asyncio.to_thread(
            self._registry.subjects.merge, *both, request.reason, actor, given
        )
        self._push(sequence)
        return registry_pb2.MergeSubjectsResponse(subject=_summary(view))

    async def SplitSubject(  # noqa: N802  the contract's name
        self, request: registry_pb2.SplitSubjectRequest, context: Context
    ) -> registry_pb2.SplitSubjectResponse:
        """One subject is two; relief goes out at once."""
        parts = Parts(
            identifiers=_identifiers(request.identifiers),
            names=tuple(request.names),
            shared_names=tuple(request.shared_names),
            restriction_ids=tuple(request.restriction_ids),
            post_ids=tuple(request.post_ids),
        )
        actor, given = actor_of(caller_of(context)), Precondition(key=request.idempotency_key)
        done = await asyncio.to_thread(
            self._registry.subjects.split,
            _reference(request.subject),
            parts,
            request.reason,
            actor,
            given,
        )
        self._push(done.relief_sequence)
        return registry_pb2.SplitSubjectResponse(
            subject=_summary(done.subject),
            split_off=_summary(done.split_off),
            relief_sequence=done.relief_sequence,
        )

    async def CorrectSubject(  # noqa: N802  the contract's name
        self, request: registry_pb2.CorrectSubjectRequest, context: Context
    ) -> registry_pb2.CorrectSubjectResponse:
        """Corrects numbers and names; relief goes out at once."""
        correction = Correction(
            remove_identifiers=_identifiers(request.remove_identifiers),
            remove_names=tuple(request.remove_names),
            add_identifiers=_identifiers(request.add_identifiers),
            add_names=tuple(request.add_names),
        )
        actor, given = actor_of(caller_of(context)), Precondition(key=request.idempotency_key)
        reference = _reference(request.subject)
        view, sequence = await asyncio.to_thread(
            self._registry.subjects.correct, reference, correction, request.reason, actor, given
        )
        self._push(sequence)
        return registry_pb2.CorrectSubjectResponse(subject=_summary(view), relief_sequence=sequence)

    def _push(self, sequence: int) -> None:
        if sequence:
            self._lifted()


def _reference(message: registry_pb2.SubjectReference) -> Reference:
    identifier = (
        Identifier.from_proto(message.identifier) if message.HasField("identifier") else None
    )
    return Reference(message.subject_id, identifier, message.restriction_id)


def _identifiers(messages: Iterable[identity_pb2.Identifier]) -> tuple[Identifier, ...]:
    """Raises InvalidIdentifierError."""
    return tuple(Identifier.from_proto(message) for message in messages)


def _dates(
    request: registry_pb2.AddPostRequest | registry_pb2.AmendPostRequest,
    *,
    without_end: bool = False,
) -> Dates:
    return Dates(
        valid_from=moment_of(request.valid_from, "valid_from")
        if request.HasField("valid_from")
        else None,
        valid_until=moment_of(request.valid_until, "valid_until")
        if request.HasField("valid_until")
        else None,
        without_end=without_end,
    )


def _post(post: Post) -> registry_pb2.Post:
    message = registry_pb2.Post(
        post_id=post.post_id,
        organisation_id=post.organisation_id,
        person_id=post.person_id,
        capacity=identity_pb2.Capacity.ValueType(post.capacity),
        state=registry_pb2.PostState.Value(f"POST_STATE_{post.state.value}"),
    )
    message.valid_from.FromDatetime(post.valid_from)
    if post.valid_until is not None:
        message.valid_until.FromDatetime(post.valid_until)
    return message


def _summary(view: SubjectView) -> registry_pb2.SubjectSummary:
    counts = [
        registry_pb2.IdentifierCount(kind=identity_pb2.IdentifierKind.ValueType(kind), count=count)
        for kind, count in view.identifiers.items()
    ]
    return registry_pb2.SubjectSummary(
        subject_id=view.subject_id,
        type=identity_pb2.SubjectType.ValueType(view.type),
        identifiers=counts,
        names=view.names,
        restriction_ids=view.restriction_ids,
        posts=[_post(post) for post in view.posts],
    )
