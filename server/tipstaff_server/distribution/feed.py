"""What one audience's watchers are told, made from the repository on disk.

The repository's timestamp file is the only signal: whoever publishes (this process, a command,
another replica), it changes last, and then this feed makes one bundle of what is new and hands it
to everybody who watches.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tipstaff.v1 import distribution_pb2
from tipstaff_server.clock import utc_now
from tipstaff_server.distribution.broadcast import QUEUE_LENGTH, Broadcaster, Message
from tipstaff_server.repository.published import Published
from tipstaff_signing.model import Versions

if TYPE_CHECKING:
    from tipstaff_server.clock import Clock
    from tipstaff_signing.repository.repository import Repository

__all__ = ["AudienceFeed"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

# Larger artefacts are fetched by those who need them.
MAX_PUSHED_ARTEFACT = 128 * 1024
REMEMBERED = 64
HEARTBEAT_SHARED_SECONDS = 1.0


class AudienceFeed:
    """One audience's changes.

    `poll` and `opening` read files: call them in threads; both are safe to call at once.
    """

    def __init__(
        self,
        repository: Repository,
        audience: str,
        *,
        queue_length: int = QUEUE_LENGTH,
        clock: Clock = utc_now,
    ) -> None:
        self._repository = repository
        self._audience = audience
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        # Past versions, so that a returning watcher gets the difference; and openings, so that a
        # thousand of them cost one.
        self._past: OrderedDict[int, Versions] = OrderedDict()
        self._openings: OrderedDict[tuple[int, Versions | None], Message] = OrderedDict()
        self._heartbeat: tuple[float, bytes] = (float("-inf"), b"")
        self.broadcaster = Broadcaster(queue_length=queue_length)
        self._current = repository.versions(audience)
        self._state = self._remember()

    @property
    def state(self) -> distribution_pb2.StateVersion:
        """The versions last seen."""
        return self._state

    def poll(self) -> Message | None:
        """Looks at the repository; the message to publish when it has changed, else None.

        Costs one stat when nothing changed.
        """
        with self._lock:
            status = self._repository.metadata_path(self._audience, "timestamp.json").stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp:
                return None
            before, self._current = self._current, self._repository.versions(self._audience)
            self._stamp = stamp
            if self._current.timestamp == before.timestamp:
                return None
            self._state = self._remember()
            return self._message(before)

    def opening(self, enforced: distribution_pb2.StateVersion) -> Message:
        """The first message to a watcher: current versions, and what differs from those it enforces
        (nothing when nothing does).
        """
        with self._lock:
            if enforced.timestamp == self._current.timestamp:
                return Message(self._current.timestamp, self._response(None))
            since = self._past.get(enforced.timestamp)
            if since is None and 0 < enforced.listing <= self._current.listing:
                # Older than what is remembered, but the listing's number says what need not be sent
                # again.
                since = Versions(timestamp=0, snapshot=0, listing=enforced.listing, relief=0)
            key = (self._current.timestamp, since)
            if key not in self._openings:
                self._openings[key] = self._message(since)
                _trim(self._openings, 8)
            return self._openings[key]

    def heartbeat(self) -> bytes:
        """Current versions and time, serialised at most once a second."""
        made, payload = self._heartbeat
        if time.monotonic() - made > HEARTBEAT_SHARED_SECONDS:
            payload = self._response(None)
            self._heartbeat = (time.monotonic(), payload)
        return payload

    def _remember(self) -> distribution_pb2.StateVersion:
        current = self._current
        self._past[current.timestamp] = current
        _trim(self._past, REMEMBERED)
        self._heartbeat = (float("-inf"), b"")
        return distribution_pb2.StateVersion(
            timestamp=current.timestamp,
            listing=current.listing,
            relief_sequence=Published(self._repository, self._audience, current).relief_head(),
        )

    def _message(self, since: Versions | None) -> Message:
        metadata, artefacts = self._repository.bundle_files(
            self._audience, since, MAX_PUSHED_ARTEFACT
        )
        bundle = distribution_pb2.Bundle(
            metadata=[
                distribution_pb2.MetadataFile(name=name, content=content)
                for name, content in metadata.items()
            ],
            artefacts=[
                distribution_pb2.ArtefactFile(path=path, content=content)
                for path, content in artefacts.items()
            ],
        )
        return Message(self._state.timestamp, self._response(bundle))

    def _response(self, bundle: distribution_pb2.Bundle | None) -> bytes:
        sent_at = Timestamp()
        sent_at.FromDatetime(self._clock())
        return distribution_pb2.WatchResponse(
            current=self._state, bundle=bundle, sent_at=sent_at
        ).SerializeToString()


def _trim(kept: OrderedDict[_Key, _Value], limit: int) -> None:
    while len(kept) > limit:
        kept.popitem(last=False)
