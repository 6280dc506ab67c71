"""Answers to the lean profile: whole buckets of the published packs (docs/formats/buckets.md).

A pack's hashes are made when its listing is first asked about: one reading of the pack, 64 bytes a
bucket. The listing asked about before stays answerable, so that terminals a moment behind a
publication are not turned away.

Nothing here is logged, counted or kept by bucket or caller: which bucket was asked for is all that
the server learns, and it forgets it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tipstaff.v1 import distribution_pb2
from tipstaff_sdk.packs.bucket_tree import BucketTree, padded
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.errors import InvalidRequestError, StaleListingError
from tipstaff_server.repository.published import Published
from tipstaff_signing.model import Versions

if TYPE_CHECKING:
    from tipstaff_signing.repository.repository import Repository

__all__ = ["PublishedBuckets"]

KEPT = 2


class _Opened:
    """One listing's pack."""

    def __init__(self, pack: Pack, answer_size: int) -> None:
        self._pack = pack
        self._tree = BucketTree(pack)
        self._answer_size = answer_size

    def answer(self, number: int) -> distribution_pb2.FetchBucketResponse:
        if number >= 1 << self._pack.bucket_bits:
            raise InvalidRequestError(
                "the listing has no bucket of that number; take it from the beginning of the"
                " locator"
            )
        return distribution_pb2.FetchBucketResponse(
            padded=padded(self._pack.bucket(number), self._answer_size),
            path=self._tree.path(number),
        )


class PublishedBuckets:
    """One audience's buckets. Belongs to one event loop."""

    def __init__(self, repository: Repository, audience: str) -> None:
        self._repository = repository
        self._audience = audience
        self._pack = f"listing/{audience}/pack"
        self._opened: dict[int, asyncio.Task[_Opened]] = {}

    async def answer(
        self, current: int, request: distribution_pb2.FetchBucketRequest
    ) -> distribution_pb2.FetchBucketResponse:
        """A bucket of the listing that the request names; `current` is the published one.

        Raises StaleListingError: it is neither that nor the one before; InvalidRequestError: no
        such bucket.
        """
        if not request.HasField("bucket"):
            raise InvalidRequestError("bucket is missing; say which one")
        version = request.listing_version
        if version == current and version and version not in self._opened:
            # One task, however many ask; who gives up waiting does not end it for the others.
            self._opened[version] = asyncio.create_task(asyncio.to_thread(self._open, version))
            for old in sorted(self._opened)[:-KEPT]:
                del self._opened[old]
        opening = self._opened.get(version)
        if opening is None:
            raise StaleListingError("another listing is published; refresh, then ask again")
        try:
            opened = await asyncio.shield(opening)
        except Exception:
            if opening.done():  # it may go better next time
                self._opened.pop(version, None)
            raise
        return await asyncio.to_thread(opened.answer, request.bucket)

    def _open(self, version: int) -> _Opened:
        versions = Versions(timestamp=0, snapshot=0, listing=version, relief=0)
        listing = Published(self._repository, self._audience, versions)
        parameters, pack = listing.parameters(), listing.find(self._pack)
        if parameters is None or pack is None or not parameters.buckets.root:
            raise StaleListingError("the published listing has no buckets; publish another one")
        # Mapped until the last answer from it is on its way, even when its file is gone by then.
        return _Opened(Pack.open(pack.file), parameters.buckets.answer_size)
