"""The way to the operator's server: gRPC over mutual TLS.

The only module that imports grpc, and itself imported when first needed.

Everything that grpc raises becomes one of our errors here, once, by one table; a stream's whole
iteration is wrapped, not only its call. Whatever is fetched is verified elsewhere, so this module
decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

# grpc reads this once, when it is imported. Without it a forked child's first call hangs; a program
# that imports grpc before it syncs, and forks, has to set it itself.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
)
from tipstaff_sdk import errors
from tipstaff_sdk.keys.document import KEY_BYTES
from tipstaff_sdk.sync.fork import register_after_grpc
from tipstaff_signing import errors as signing_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from tipstaff_sdk.settings import Settings

Request = TypeVar("Request")
Response = TypeVar("Response")

__all__ = ["GrpcFetcher", "GrpcTransport", "SealedKeyError", "WatchStream", "connect"]

_MEBIBYTE: Final = 1 << 20
_MAX_MESSAGE: Final = 16 * _MEBIBYTE
_MAX_KEYS: Final = 64
_MAX_BREAKS: Final = 5
_RETRY_KEY: Final = "grpc-retry-pushback-ms"
_HPKE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", 4 * _MEBIBYTE),
    # A silent peer is noticed by the connection, not only by the watch's heartbeat.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # Our own backoff decides when to try again; without this a dead server would be refused unseen
    # for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A closed screener leaves no connection behind for another one to share.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_ERRORS: Final[dict[grpc.StatusCode, tuple[type[errors.TransportError], str]]] = {
    grpc.StatusCode.UNAUTHENTICATED: (
        errors.UnauthenticatedError,
        "the server does not accept this certificate; ask the operator for a new one",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        errors.PermissionDeniedError,
        "this certificate may not do that; ask the operator",
    ),
    grpc.StatusCode.NOT_FOUND: (
        errors.NotFoundError,
        "the server has no such thing for this provider",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        errors.RequestRefusedError,
        "the server refused the request; update tipstaff if it goes on",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        errors.RequestRefusedError,
        "the server cannot do that in its present state",
    ),
    grpc.StatusCode.ALREADY_EXISTS: (
        errors.RequestRefusedError,
        "the server has that already, with other content",
    ),
    grpc.StatusCode.OUT_OF_RANGE: (errors.RequestRefusedError, "the server has no such part"),
    grpc.StatusCode.UNIMPLEMENTED: (
        errors.UnavailableError,
        "the server does not know this call; ask the operator which version it runs",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.UnavailableError,
        "the server or a message limit is exhausted; it is tried again later",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors.UnavailableError,
        "the server did not answer in time; it is tried again later",
    ),
    grpc.StatusCode.CANCELLED: (errors.UnavailableError, "the call was cancelled"),
}
_DEFAULT: Final = (
    errors.UnavailableError,
    "the server cannot be reached; check server, network and certificates; it is tried again later",
)


class SealedKeyError(errors.TransportError):
    """An epoch key does not open: it was sealed to somebody else, or for another audience."""


def connect(settings: Settings) -> GrpcTransport:
    """A transport for `settings.server`. Connects at the first call.

    Raises:
        ConfigurationError: no server, or a file is missing or unreadable.
    """
    if settings.server is None:
        raise errors.ConfigurationError(
            "server is not set: give host:port in tipstaff.toml or TIPSTAFF_SERVER"
        )
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=settings.read("ca_file"),
            private_key=settings.read("private_key_file"),
            certificate_chain=settings.read("certificate_file"),
        )
    except (ValueError, TypeError) as error:
        raise errors.ConfigurationError(
            "ca_file, certificate_file and private_key_file must be PEM files that belong together"
        ) from error
    wrapping_key = (
        None
        if settings.wrapping_key_file is None
        else load_wrapping_key(settings.read("wrapping_key_file"))
    )
    # Despite its name this is how long one attempt to connect may take.
    options: list[tuple[str, str | int]] = [
        *_CHANNEL_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", int(settings.connect_timeout * 1_000)),
    ]
    if settings.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    channel = grpc.secure_channel(settings.server, credentials, options=options)
    register_after_grpc()
    return GrpcTransport(
        channel,
        audience=settings.audience,
        timeout=settings.request_timeout,
        wrapping_key=wrapping_key,
    )


def load_wrapping_key(pem: bytes) -> X25519PrivateKey:
    """The provider's own key for epoch keys, from PEM (PKCS#8, not encrypted).

    Raises ConfigurationError.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise errors.ConfigurationError(
            "wrapping_key_file is no private key in PEM without a passphrase: copy it from your kit"
        ) from error
    if not isinstance(key, X25519PrivateKey):
        raise errors.ConfigurationError(
            "wrapping_key_file holds another kind of key than X25519: copy it from your kit"
        )
    return key


class GrpcTransport:
    """One connection to the server. Thread-safe. Every method raises `TransportError` only.

    `timeout` is the deadline of a request in seconds; a download may pause for that long between
    two pieces. `wrapping_key` is the one whose public half is registered with the operator, if any
    is.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        audience: str,
        timeout: float,
        wrapping_key: X25519PrivateKey | None = None,
    ) -> None:
        self._channel = channel
        self._wrapping_key = wrapping_key
        self._audience = audience
        self._timeout = timeout
        self._distribution = distribution_pb2_grpc.DistributionServiceStub(channel)
        self._enforcement = enforcement_pb2_grpc.EnforcementServiceStub(channel)
        self._disputes = dispute_pb2_grpc.DisputeServiceStub(channel)
        self._lock = threading.Lock()
        self._running: set[_Cancellable] = set()
        self._closed = False

    def metadata(self, name: str) -> bytes:
        """One metadata file of this audience's repository."""
        return self._unary(
            self._distribution.GetMetadata, distribution_pb2.GetMetadataRequest(name=name)
        ).content

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """An artefact's bytes from `offset` on.

        A stream that ends early after some bytes is opened again where it stopped: always at its
        deadline, otherwise a few times.
        """
        breaks = 0
        while True:
            begin = offset
            request = distribution_pb2.GetArtefactRequest(path=path, offset=offset)
            try:
                for response in self._stream(
                    self._distribution.GetArtefact, request, self._timeout
                ):
                    offset += len(response.chunk)
                    yield response.chunk
            except errors.UnavailableError as error:
                breaks += not isinstance(error, _DeadlineError)
                if offset == begin or breaks > _MAX_BREAKS or self._closed:
                    raise
            else:
                return

    def fetcher(self) -> GrpcFetcher:
        """This transport as the signing reader's way to files."""
        return GrpcFetcher(self)

    def watch(self, enforced: distribution_pb2.StateVersion) -> WatchStream:
        """Changes as they happen, for as long as the connection lives."""
        with _mapped():
            call = self._distribution.Watch(distribution_pb2.WatchRequest(enforced=enforced))
        return WatchStream(call, self._tracked(call))

    def acknowledge(self, enforced: distribution_pb2.StateVersion) -> None:
        """Says what is enforced here."""
        self._unary(
            self._distribution.Acknowledge, distribution_pb2.AcknowledgeRequest(enforced=enforced)
        )

    def epoch_keys(self) -> dict[int, bytes]:
        """The audience's epoch master keys, sealed to the registered key, or to one made for this
        request (HPKE base mode, RFC 9180).
        """
        private = self._wrapping_key or X25519PrivateKey.generate()
        request = distribution_pb2.GetEpochKeysRequest(
            recipient_public_key=private.public_key().public_bytes_raw()
        )
        response = self._unary(self._distribution.GetEpochKeys, request)
        if len(response.keys) > _MAX_KEYS:
            raise SealedKeyError(
                f"the server sent {len(response.keys)} epoch keys, over the limit of {_MAX_KEYS};"
                " ask the operator"
            )
        return {sealed.epoch: self._unseal(sealed, private) for sealed in response.keys}

    def _unseal(self, sealed: distribution_pb2.SealedEpochKey, private: X25519PrivateKey) -> bytes:
        info = (
            b"tipstaff/v1/epoch-key\0"
            + self._audience.encode("ascii")
            + b"\0"
            + str(sealed.epoch).encode("ascii")
        )
        try:
            key = _HPKE.decrypt(sealed.sealed, private, info=info)
        except (InvalidTag, ValueError) as error:
            raise SealedKeyError(
                f"the key of epoch {sealed.epoch} does not open: check that audience is the one in"
                " your certificate, else ask the operator"
            ) from error
        if len(key) != KEY_BYTES:
            raise SealedKeyError(
                f"the key of epoch {sealed.epoch} has {len(key)} bytes instead of {KEY_BYTES}; ask"
                " the operator"
            )
        return key

    def bucket(self, listing_version: int, number: int, timeout: float) -> tuple[bytes, bytes]:
        """One padded bucket of a listing's records and its path, neither verified yet.

        `timeout` in seconds.
        """
        request = distribution_pb2.FetchBucketRequest(
            listing_version=listing_version, bucket=number
        )
        try:
            response = self._unary(self._distribution.FetchBucket, request, timeout)
        except errors.RequestRefusedError as error:
            if _code_of(error) is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            raise errors.StaleListingError(str(error)) from error
        return response.padded, response.path

    def submit_reports(
        self, reports: Sequence[enforcement_pb2.Report]
    ) -> Sequence[enforcement_pb2.EventResult]:
        """Sends at most 1,000 reports; one result each."""
        return self._unary(
            self._enforcement.SubmitReports, enforcement_pb2.SubmitReportsRequest(reports=reports)
        ).results

    def submit_coverage(
        self, counts: Sequence[enforcement_pb2.CoverageCount]
    ) -> Sequence[enforcement_pb2.EventResult]:
        """Sends at most 1,000 counts; one result each."""
        return self._unary(
            self._enforcement.SubmitCoverage, enforcement_pb2.SubmitCoverageRequest(counts=counts)
        ).results

    def open_dispute(self, request: dispute_pb2.OpenDisputeRequest) -> dispute_pb2.Dispute:
        """Opens a dispute; the same request id again gives the same answer."""
        return self._unary(self._disputes.OpenDispute, request).dispute

    def follow_dispute(self, case_number: str) -> dispute_pb2.FollowDisputeResponse:
        """Where a dispute stands."""
        return self._unary(
            self._disputes.FollowDispute, dispute_pb2.FollowDisputeRequest(case_number=case_number)
        )

    def remedies(
        self, request: distribution_pb2.ListRemediesRequest
    ) -> distribution_pb2.ListRemediesResponse:
        """A page of what this provider has to make good."""
        return self._unary(self._distribution.ListRemedies, request)

    def answer_remedy(
        self, request: distribution_pb2.AnswerRemedyRequest
    ) -> distribution_pb2.Remedy:
        """Answers one; the same answer again changes nothing."""
        return self._unary(self._distribution.AnswerRemedy, request).remedy

    def interrupt(self) -> None:
        """Cancels every call that is under way; each ends with `UnavailableError`.

        New calls may be made.
        """
        with self._lock:
            running = list(self._running)
        for call in running:
            call.cancel()

    def close(self) -> None:
        """Cancels every call and closes the connection. Idempotent."""
        with self._lock:
            self._closed = True
        self.interrupt()
        self._channel.close()

    def _unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Response:
        # As a future, so that close() can end it from another thread.
        with _mapped():
            call = method.future(request, timeout=timeout or self._timeout)
            with self._tracked(call):
                return call.result()

    def _stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Iterator[Response]:
        with _mapped():
            call = method(request, timeout=timeout)
            with self._tracked(call):
                try:
                    yield from call
                finally:
                    # Also when the caller stops early: an abandoned stream would go on filling its
                    # window.
                    call.cancel()

    @contextlib.contextmanager
    def _tracked(self, call: _Cancellable) -> Generator[None]:
        with self._lock:
            closed = self._closed
            self._running.add(call)
        try:
            if closed:
                call.cancel()
            yield
        finally:
            with self._lock:
                self._running.discard(call)


class WatchStream:
    """An open watch, iterated once.

    It ends with `UnavailableError`, also after `cancel`, which any thread may call.
    """

    def __init__(self, call: _CallStream, tracked: contextlib.AbstractContextManager[None]) -> None:
        self._call = call
        self._tracked = tracked

    def __iter__(self) -> Iterator[distribution_pb2.WatchResponse]:
        with _mapped(), self._tracked:
            try:
                yield from self._call
            finally:
                self._call.cancel()

    def cancel(self) -> None:
        """Ends it."""
        self._call.cancel()


class GrpcFetcher:
    """`tipstaff_signing.Fetcher` over a transport, in the words of the reader's errors."""

    def __init__(self, transport: GrpcTransport) -> None:
        self._transport = transport

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """One metadata file of at most `max_bytes`."""
        with _as_fetch_error(name):
            content = self._transport.metadata(name)
        if len(content) > max_bytes:
            raise signing_errors.TooLargeError(
                f"{name} has {len(content)} bytes, over the limit of {max_bytes}"
            )
        return content

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """An artefact's bytes from `offset` on."""
        with _as_fetch_error(path):
            yield from self._transport.artefact(path, offset)


class _Cancellable(Protocol):
    def cancel(self) -> bool: ...


class _CallStream(_Cancellable, Protocol):
    def __iter__(self) -> Iterator[distribution_pb2.WatchResponse]: ...


class _DeadlineError(errors.UnavailableError):
    """A call reached its deadline."""


@contextlib.contextmanager
def _as_fetch_error(name: str) -> Generator[None]:
    try:
        yield
    except errors.NotFoundError as error:
        raise signing_errors.NotFoundError(f"the server has no {name}") from error
    except errors.TransportError as error:
        raise signing_errors.UnavailableError(f"{name}: {error}") from error


@contextlib.contextmanager
def _mapped() -> Generator[None]:
    """grpc's errors as ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise _translate(error) from error
    except grpc.FutureCancelledError as error:
        raise errors.UnavailableError(_ERRORS[grpc.StatusCode.CANCELLED][1]) from error
    except ValueError as error:
        # grpc's way of saying that the channel was closed under the call.
        if "closed" not in str(error).lower():
            raise
        raise errors.UnavailableError("the connection was closed") from error


def _code_of(error: errors.TransportError) -> grpc.StatusCode | None:
    cause = error.__cause__
    return cause.code() if isinstance(cause, grpc.RpcError) else None


def _translate(error: grpc.RpcError) -> errors.TransportError:
    code = error.code()
    kind, advice = _ERRORS.get(code, _DEFAULT)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        kind = _DeadlineError
    detail = (error.details() or "").strip()
    # Our server's messages say what to do and name nobody; they are worth more than the table's.
    translated = kind(f"{advice} ({code.name}: {detail})" if detail else f"{advice} ({code.name})")
    if isinstance(translated, errors.UnavailableError):
        translated.retry_after = _advised_seconds(error)
    return translated


def _advised_seconds(error: grpc.RpcError) -> float:
    """How long the server asked to be left alone (gRPC proposal A6); 0 when it said nothing that
    makes sense.
    """
    # The stubs take it for something that cannot be iterated.
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key == _RETRY_KEY and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value[:9]) / 1_000
    return 0.0
