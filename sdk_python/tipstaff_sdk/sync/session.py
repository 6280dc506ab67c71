"""One process's dealings with the server, without threads of its own: load, refresh, apply what was
pushed, send what waits.

Whatever fails, the last verified state stays in use; errors of the layers below leave here as
`TipstaffError`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from tipstaff.v1 import enforcement_pb2
from tipstaff_sdk import errors
from tipstaff_sdk.enforcement.coverage import Coverage, coverage_events
from tipstaff_sdk.enforcement.outbox import EventKind, Outbox
from tipstaff_sdk.keys.store import open_key_store
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_sdk.sync.loaded import Loaded, listing_epoch, load_state, role_names
from tipstaff_signing import Reader
from tipstaff_signing import errors as signing_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from tipstaff.v1 import dispute_pb2, distribution_pb2
    from tipstaff_sdk.enforcement.outbox import OutboxEvent
    from tipstaff_sdk.keys.store import KeyStore
    from tipstaff_sdk.settings import Settings
    from tipstaff_sdk.sync.transport import GrpcTransport, WatchStream
    from tipstaff_signing import Fetcher, VerifiedState

__all__ = ["Session"]

_log = logging.getLogger("tipstaff")


class Session:
    """State, keys, outbox and connection of one screener.

    `loaded` is the state to answer from, replaced whole; `publish` is called after each
    replacement, in the thread that made it. `wake` is called when `flush` should be called soon.
    `keys` is where epoch keys live; default: what the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        publish: Callable[[], None],
        wake: Callable[[], None] = lambda: None,
        keys: KeyStore | None = None,
    ) -> None:
        self.settings = settings
        self.outbox = Outbox(
            settings.state_dir / "outbox.sqlite3",
            limit=settings.outbox_limit,
            wait=settings.outbox_wait,
        )
        self.coverage = Coverage()
        self.loaded: Loaded | None = None
        self._verified: VerifiedState | None = None
        self._clock = clock
        self._publish = publish
        self._wake = wake
        self._trusted_root = settings.read("trusted_root_file")
        self._keys = open_key_store(settings) if keys is None else keys
        self._reset()

    def _reset(self) -> None:
        # One update at a time in this process; the reader's own lock does the same between
        # processes.
        self._updating = threading.RLock()
        self._connecting = threading.Lock()
        self._transport: GrpcTransport | None = None
        self._keys_due = float("-inf")
        self._behind = False
        self._acknowledged: distribution_pb2.StateVersion | None = None
        self._closed = False
        try:
            self._reader = Reader(
                self.settings.state_dir / "verified",
                view=self.settings.audience,
                trusted_root=self._trusted_root,
                roles=role_names(self.settings.audience),
                assemble=assemble,
                wanted=_is_lean if self.settings.profile == "lean" else None,
                accept=self._opened,
                clock=self._clock,
            )
        except signing_errors.TrustError as error:
            raise errors.ConfigurationError(
                f"trusted_root_file cannot be used ({error}): copy it again from your kit"
            ) from error

    def after_fork_in_child(self) -> None:
        """Keeps state and keys; leaves connection, locks and files to the parent."""
        self.outbox.after_fork_in_child()
        self.coverage.after_fork_in_child()
        if self.loaded is not None and self.loaded.buckets is not None:
            self.loaded.buckets.cache.after_fork_in_child()
        self._reset()

    @property
    def online(self) -> bool:
        """Whether there is a server to talk to."""
        return self.settings.server is not None

    def load(self) -> None:
        """Takes the newest verified state from disk, if there is any. No network."""
        with self._updating, _ours():
            verified = self._reader.load()
            if verified is not None:
                self._replace(verified, self._keys.load())

    def refresh(self) -> None:
        """Brings everything up to date: metadata, artefacts, keys."""
        with self._updating, _ours():
            self.ensure_keys()
            self._accept(self._reader.refresh(self._fetcher()))

    def ensure_keys(self) -> None:
        """Fetches the epoch keys, at first and then every `keys_interval`: the next epoch's are
        given out before a listing uses them.
        """
        if not self.online or time.monotonic() < self._keys_due:
            return
        with self._updating, _ours():
            if time.monotonic() >= self._keys_due:
                keys = self._fetch_keys()
                if self.loaded is not None and not self.loaded.key_present:
                    self._replace(self.loaded.verified, keys)

    def take(self, response: distribution_pb2.WatchResponse) -> None:
        """Applies what a watch pushed, or fetches it when the push does not suffice."""
        with self._updating, _ours():
            if response.HasField("bundle") and (
                response.bundle.metadata or response.bundle.artefacts
            ):
                try:
                    self._accept(
                        self._reader.apply(
                            {file.name: file.content for file in response.bundle.metadata},
                            {file.path: file.content for file in response.bundle.artefacts},
                        )
                    )
                except (signing_errors.IncompleteBundleError, signing_errors.TrustError):
                    # A refresh starts from what is published; when that is not to be believed
                    # either, it says so.
                    self.refresh()
            if (
                self._verified is None
                or response.current.timestamp > self._verified.timestamp_version
            ):
                self.refresh()

    def watch(self) -> WatchStream:
        """Opens the watch, saying what is enforced here now."""
        return self.transport().watch(self.enforced())

    def enforced(self) -> distribution_pb2.StateVersion:
        """The versions in use."""
        from tipstaff.v1 import distribution_pb2  # noqa: PLC0415  keeps the import of the SDK small

        loaded = self.loaded
        enforced = distribution_pb2.StateVersion(
            timestamp=0 if self._verified is None else self._verified.timestamp_version
        )
        if loaded is not None:
            enforced.listing, enforced.relief_sequence = (
                loaded.listing_metadata_version,
                loaded.relief_sequence,
            )
        return enforced

    def _accept(self, verified: VerifiedState) -> None:
        keys = self._keys.load()
        epoch = listing_epoch(verified, self.settings.audience)
        if epoch is not None and epoch not in keys and self.online:
            keys = self._fetch_keys()
        if (
            epoch is not None
            and epoch not in keys
            and self.loaded is not None
            and self.loaded.key_present
        ):
            # The listing that is in use still answers; the new one could not.
            raise errors.NotReadyError(
                f"no key for epoch {epoch} of the new listing: the one in use stays; ask the"
                " operator for the key"
            )
        self._replace(verified, keys)

    def _opened(
        self, verified: VerifiedState, keys: Mapping[int, bytes] = MappingProxyType({})
    ) -> Loaded | None:
        """A verified version opened.

        The reader has that done before it puts one in force: what cannot be used never replaces
        what can.
        """
        fetch = self._fetch_bucket if self.settings.profile == "lean" else None
        return load_state(verified, self.settings.audience, keys, previous=self.loaded, fetch=fetch)

    def _replace(self, verified: VerifiedState, keys: Mapping[int, bytes]) -> None:
        loaded = self._opened(verified, keys)
        self._verified = verified
        if loaded is not None:
            self.loaded = loaded
            self._publish()

    def _fetch_keys(self) -> Mapping[int, bytes]:
        keys = self.transport().epoch_keys()
        self._keys.save(keys)
        self._keys_due = time.monotonic() + self.settings.keys_interval
        return keys

    def _fetch_bucket(self, listing_version: int, number: int) -> tuple[bytes, bytes]:
        """In the thread of a check."""
        try:
            return self.transport().bucket(listing_version, number, self.settings.bucket_timeout)
        except errors.StaleListingError:
            self._behind = True
            self._wake()
            raise

    def _fetcher(self) -> Fetcher:
        settings = self.settings
        if self.online and settings.mirror is None:
            return self.transport().fetcher()
        from tipstaff_sdk.sync.fetchers import (  # noqa: PLC0415  an HTTP library, for mirrors only
            choose,
        )

        server = self.transport().fetcher if self.online else None
        return choose(
            server=server,
            mirror=settings.mirror,
            mirror_dir=settings.mirror_dir,
            ca_file=settings.ca_file,
            timeout=settings.request_timeout,
        )

    def transport(self) -> GrpcTransport:
        """The connection, made at first use."""
        # gRPC is imported only when it is needed
        from tipstaff_sdk.sync.transport import (  # noqa: PLC0415
            connect,
        )

        with self._connecting:
            if self._closed:
                raise errors.ClosedError("the screener is closed: open a new one")
            if self._transport is None:
                self._transport = connect(self.settings)
            return self._transport

    def disconnect(self) -> bool:
        """Closes the connection; calls under way end at once.

        The next use makes a new one. False when there was none.
        """
        with self._connecting:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        return transport is not None

    def keep_coverage(self) -> None:
        """Brings the counts into the outbox.

        They fill at most half of it, so that reports always have room; the rest stays in memory.
        """
        totals = self.coverage.collect()
        try:
            self.outbox.put(coverage_events(totals), leave=self.settings.outbox_limit // 2)
        except errors.TipstaffError:
            self.coverage.restore(totals)
            raise

    def flush(self) -> None:
        """Sends everything that waits.

        Another process that shares the outbox may be doing so already; then this one leaves it to
        it.
        """
        with contextlib.suppress(errors.OutboxFullError):
            # They stay in memory; sending makes room for them.
            self.keep_coverage()
        if not self.online:
            return
        if self._behind:
            self.refresh()
            self._behind = False
        with self.outbox.sole_sender() as mine:
            for kind in EventKind if mine else ():
                while events := self.outbox.batch(kind):
                    self._send(kind, events)
        self.acknowledge()
        self.ensure_keys()

    def acknowledge(self) -> None:
        """Tells the server which versions are enforced here, if it has not heard yet (P1 in
        docs/policy.md).
        """
        enforced = self.enforced()
        if enforced.listing and enforced != self._acknowledged:
            self.transport().acknowledge(enforced)
            self._acknowledged = enforced

    def _send(self, kind: EventKind, events: Sequence[OutboxEvent]) -> None:
        try:
            results = self._submit(kind, events)
        except errors.RequestRefusedError as error:
            if len(events) == 1:
                self._settle([], [(events[0].event_id, str(error))])
                return
            # One event spoils the batch: halve it until it is found.
            middle = len(events) // 2
            self._send(kind, events[:middle])
            self._send(kind, events[middle:])
            return
        sent = {event.event_id for event in events}
        answered = [result for result in results if result.event_id in sent]
        arrived = [
            result.event_id
            for result in answered
            if result.status
            in {
                enforcement_pb2.EVENT_STATUS_ACCEPTED,
                enforcement_pb2.EVENT_STATUS_DUPLICATE,
            }
        ]
        refused = [
            (result.event_id, result.detail)
            for result in answered
            if result.status == enforcement_pb2.EVENT_STATUS_REJECTED
        ]
        if not arrived and not refused:
            raise errors.UnavailableError(
                "the server answered for none of the events that were sent; they are kept and sent"
                " again later"
            )
        self._settle(arrived, refused)

    def _submit(
        self, kind: EventKind, events: Sequence[OutboxEvent]
    ) -> Sequence[enforcement_pb2.EventResult]:
        if kind is EventKind.REPORT:
            return self.transport().submit_reports(
                [enforcement_pb2.Report.FromString(event.payload) for event in events]
            )
        return self.transport().submit_coverage(
            [enforcement_pb2.CoverageCount.FromString(event.payload) for event in events]
        )

    def _settle(self, arrived: Sequence[bytes], refused: Sequence[tuple[bytes, str]]) -> None:
        self.outbox.settle(arrived, refused)
        if refused:
            _log.warning(
                "%d events were refused by the server and set aside; see status", len(refused)
            )

    def open_dispute(self, request: dispute_pb2.OpenDisputeRequest) -> dispute_pb2.Dispute:
        """Sends a dispute and waits for its answer."""
        return self.transport().open_dispute(request)

    def close(self) -> None:
        """Ends the connection and closes the outbox. Idempotent."""
        with self._connecting:
            self._closed = True
        self.disconnect()
        self.outbox.close()
        self.loaded = None


def _is_lean(path: str) -> bool:
    """Whether the lean profile keeps an artefact: all but the sealed records."""
    return not (path.startswith("listing/") and path.endswith("/pack"))


@contextlib.contextmanager
def _ours() -> Generator[None]:
    """The errors of signing as ours."""
    try:
        yield
    except signing_errors.FetchError as error:
        if isinstance(error.__cause__, errors.TransportError):
            raise error.__cause__ from error
        kind = (
            errors.NotFoundError
            if isinstance(error, signing_errors.NotFoundError)
            else errors.UnavailableError
        )
        raise kind(str(error)) from error
    except signing_errors.TrustError as error:
        if isinstance(error, signing_errors.ContentError) and isinstance(
            error.__cause__, errors.TipstaffError
        ):
            raise error.__cause__ from error
        raise errors.UntrustedError(str(error)) from error
    except signing_errors.StateError as error:
        raise errors.StorageError(str(error)) from error
    except OSError as error:
        raise errors.StorageError(
            f"state_dir: {error.strerror or type(error).__name__}; check the disk, the last state"
            " stays in use"
        ) from error
