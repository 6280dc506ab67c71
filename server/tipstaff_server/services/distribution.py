"""Listings, relief and keys to providers.

Every file is a file of the caller's own audience; its certificate says which that is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import distribution_pb2
from tipstaff_server.distribution.acknowledgements import Acknowledgements, Keep
from tipstaff_server.distribution.buckets import PublishedBuckets
from tipstaff_server.errors import InvalidRequestError, NotFoundError
from tipstaff_server.logs import log_debug
from tipstaff_server.rpc.gate import Context, caller_of
from tipstaff_server.rpc.statuses import OffsetError
from tipstaff_server.services.remedies import RemedyCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from tipstaff_server.distribution.feed import AudienceFeed
    from tipstaff_server.registry.restrictions.remedies import Remedies
    from tipstaff_server.rpc.limits import CallerLimits
    from tipstaff_server.vault.epochs import EpochKeys
    from tipstaff_signing.repository.repository import Repository

__all__ = ["DistributionService"]

CHUNK_BYTES = 512 * 1024
PUBLIC_KEY_BYTES = 32
HEARTBEAT_SECONDS = 15.0


class DistributionService(RemedyCalls):
    """See distribution.proto.

    `acknowledge` keeps which versions a caller says it enforces; it refuses a provider that the
    registry does not know.
    """

    def __init__(
        self,
        repository: Repository,
        feeds: Mapping[str, AudienceFeed],
        epochs: EpochKeys,
        acknowledge: Keep,
        remedies: Remedies,
        *,
        limits: CallerLimits,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        super().__init__(remedies)
        self._repository = repository
        self._feeds = feeds
        self._epochs = epochs
        self._acknowledgements = Acknowledgements(acknowledge)
        self._limits = limits
        self._buckets = {audience: PublishedBuckets(repository, audience) for audience in feeds}
        self._heartbeat_seconds = heartbeat_seconds

    async def GetMetadata(  # noqa: N802  the contract's name
        self, request: distribution_pb2.GetMetadataRequest, context: Context
    ) -> distribution_pb2.GetMetadataResponse:
        """One metadata file."""
        audience = self._audience(context)
        path = self._repository.metadata_path(audience, request.name)
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise NotFoundError(
                "there is no such metadata file; start again at timestamp.json"
            ) from None
        return distribution_pb2.GetMetadataResponse(content=content)

    async def GetArtefact(  # noqa: N802  the contract's name
        self, request: distribution_pb2.GetArtefactRequest, context: Context
    ) -> AsyncIterator[distribution_pb2.GetArtefactResponse]:
        """One artefact in chunks; the file is read in threads, a chunk ahead of nothing, so a slow
        reader holds one chunk.
        """
        audience = self._audience(context)
        path = self._repository.artefact_path(audience, request.path)
        try:
            file, left = await asyncio.to_thread(_open_at, path, request.offset)
        except (FileNotFoundError, IsADirectoryError):
            raise NotFoundError(
                "there is no such artefact any more; refresh the metadata and ask for what they"
                " name"
            ) from None
        caller = caller_of(context)
        with file:
            # All of it is counted before it is sent: a crowd of downloads begun at once is seen as
            # what it is.
            self._limits.artefact(caller, left)
            try:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    left -= len(chunk)
                    yield distribution_pb2.GetArtefactResponse(chunk=chunk)
            finally:
                self._limits.not_sent(caller, left)

    async def Watch(  # noqa: N802  the contract's name
        self, request: distribution_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[distribution_pb2.WatchResponse]:
        """First what differs from the versions enforced, then each change; a heartbeat whenever
        nothing else was sent for a while.
        """
        caller = caller_of(context)
        feed = self._feed(caller.audience)
        # Subscribed before the opening is made: whatever happens in between is queued, and skipped
        # if the opening has it.
        with feed.broadcaster.subscribe() as subscription:
            opening = await asyncio.to_thread(feed.opening, request.enforced)
            log_debug(
                "watch_opened",
                audience=caller.audience,
                provider=caller.name,
                watching=len(feed.broadcaster),
            )
            sent = opening.timestamp
            # Serialised once for everybody; the gate lets bytes through
            yield opening.payload  # type: ignore[misc]
            kept = self._acknowledgements.beside(caller, request.enforced)
            try:
                while True:
                    message = await subscription.next(self._heartbeat_seconds)
                    if kept.done() and not kept.cancelled():
                        kept.result()
                    if message is None:
                        yield feed.heartbeat()  # type: ignore[misc]  # as above
                    elif message.timestamp > sent:
                        sent = message.timestamp
                        yield message.payload  # type: ignore[misc]  # as above
            finally:
                kept.cancel()

    async def Acknowledge(  # noqa: N802  the contract's name
        self, request: distribution_pb2.AcknowledgeRequest, context: Context
    ) -> distribution_pb2.AcknowledgeResponse:
        """Keeps what the caller says it enforces."""
        await self._acknowledgements.now(caller_of(context), request.enforced)
        return distribution_pb2.AcknowledgeResponse()

    async def GetEpochKeys(  # noqa: N802  the contract's name
        self, request: distribution_pb2.GetEpochKeysRequest, context: Context
    ) -> distribution_pb2.GetEpochKeysResponse:
        """The keys that listings in use need, sealed to the caller's registered key, or to the one
        that it sent where none is.
        """
        audience = self._audience(context)
        if len(request.recipient_public_key) != PUBLIC_KEY_BYTES:
            raise InvalidRequestError(
                f"recipient_public_key has to be an X25519 public key of {PUBLIC_KEY_BYTES} bytes"
            )
        keys = await asyncio.to_thread(
            self._epochs.sealed,
            audience,
            request.recipient_public_key,
            provider=caller_of(context).name,
        )
        return distribution_pb2.GetEpochKeysResponse(keys=keys)

    async def FetchBucket(  # noqa: N802  the contract's name
        self, request: distribution_pb2.FetchBucketRequest, context: Context
    ) -> distribution_pb2.FetchBucketResponse:
        """One bucket of sealed records. Which one, is forgotten."""
        caller = caller_of(context)
        feed = self._feed(caller.audience)
        answer = await self._buckets[caller.audience].answer(feed.state.listing, request)
        self._limits.artefact(caller, len(answer.padded))
        return answer

    def _audience(self, context: Context) -> str:
        audience = caller_of(context).audience
        self._feed(audience)
        return audience

    def _feed(self, audience: str) -> AudienceFeed:
        try:
            return self._feeds[audience]
        except KeyError:
            raise NotFoundError(
                f"this server has no audience {audience!r}; ask the operator which one your"
                " certificate should name"
            ) from None


def _open_at(path: Path, offset: int) -> tuple[BinaryIO, int]:
    file = path.open("rb")
    size = file.seek(0, 2)
    if offset > size:
        file.close()
        raise OffsetError(
            f"the artefact has {size} bytes; ask from an offset of at most that, or start again"
            " at 0"
        )
    file.seek(offset)
    return file, size - offset
