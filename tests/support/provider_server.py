"""A small real server for tests of the SDK: gRPC over mutual TLS, over an operator's repository;
remembers what it was sent.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tests.support.provider_world import AUDIENCE, Operator
from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
)
from tipstaff_signing import NotFoundError, Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
MAX_PUSHED = 64 * 1024


class Distribution(distribution_pb2_grpc.DistributionServiceServicer):
    def __init__(self, server: ProviderServer) -> None:
        self._server = server
        self._repository = server.operator.repository

    def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        self._server.calls["GetMetadata"] += 1
        try:
            content = self._repository.metadata_path(AUDIENCE, request.name).read_bytes()
        except (NotFoundError, FileNotFoundError):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        return distribution_pb2.GetMetadataResponse(content=content)

    def GetArtefact(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  the contract's name
        self._server.calls["GetArtefact"] += 1
        self._server.offsets.append(request.offset)
        try:
            content = self._repository.artefact_path(AUDIENCE, request.path).read_bytes()
        except (NotFoundError, FileNotFoundError):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such artefact")
        for begin in range(request.offset, len(content), self._server.chunk):
            yield distribution_pb2.GetArtefactResponse(
                chunk=content[begin : begin + self._server.chunk]
            )
            if self._server.break_artefacts > 0:
                self._server.break_artefacts -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    def Acknowledge(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        self._server.calls["Acknowledge"] += 1
        self._server.enforced.append(request.enforced)
        return distribution_pb2.AcknowledgeResponse()

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  the contract's name
        self._server.calls["Watch"] += 1
        self._server.enforced.append(request.enforced)
        since: Versions | None = None
        told = request.enforced.timestamp
        quiet = time.monotonic()
        first = True
        while context.is_active() and not self._server.stopping.is_set():
            if self._server.silent.is_set():
                time.sleep(0.01)
                continue
            versions = self._repository.versions(AUDIENCE)
            if versions.timestamp != told:
                yield self._response(versions, since, bundle=self._server.push)
                since, told, quiet = versions, versions.timestamp, time.monotonic()
            elif first or time.monotonic() - quiet > self._server.heartbeat:
                yield self._response(versions, since, bundle=False)
                quiet = time.monotonic()
            first = False
            time.sleep(0.005)

    def _response(self, versions: Versions, since: Versions | None, *, bundle: bool) -> Any:
        response = distribution_pb2.WatchResponse(
            current=distribution_pb2.StateVersion(
                timestamp=versions.timestamp, listing=versions.listing
            )
        )
        if bundle:
            metadata, artefacts = self._repository.bundle_files(AUDIENCE, since, MAX_PUSHED)
            response.bundle.metadata.extend(
                distribution_pb2.MetadataFile(name=n, content=c) for n, c in metadata.items()
            )
            response.bundle.artefacts.extend(
                distribution_pb2.ArtefactFile(path=p, content=c) for p, c in artefacts.items()
            )
        return response

    def GetEpochKeys(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        self._server.calls["GetEpochKeys"] += 1
        public = X25519PublicKey.from_public_bytes(request.recipient_public_key)
        response = distribution_pb2.GetEpochKeysResponse()
        for epoch, key in sorted(self._server.operator.epochs.items()):
            if epoch not in self._server.withheld_epochs:
                info = f"tipstaff/v1/epoch-key\0{AUDIENCE}\0{epoch}".encode()
                response.keys.add(epoch=epoch, sealed=HPKE.encrypt(key, public, info=info))
        return response


class Enforcement(enforcement_pb2_grpc.EnforcementServiceServicer):
    def __init__(self, server: ProviderServer) -> None:
        self._server = server

    def SubmitReports(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        self._server.batches.append(len(request.reports))
        if any(report.measure == self._server.poison for report in request.reports):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one report spoils it all")
        results = [
            self._take(report, report.report_id, self._server.reports) for report in request.reports
        ]
        return enforcement_pb2.SubmitReportsResponse(results=results)

    def SubmitCoverage(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        results = [
            self._take(count, count.count_id, self._server.counts) for count in request.counts
        ]
        return enforcement_pb2.SubmitCoverageResponse(results=results)

    def _take(self, event: Any, event_id: bytes, kept: dict[bytes, Any]) -> Any:
        result = enforcement_pb2.EventResult(event_id=event_id)
        with self._server.lock:
            if self._server.refuse(event):
                result.status, result.detail = enforcement_pb2.EVENT_STATUS_REJECTED, "not this one"
            elif event_id in kept:
                result.status = enforcement_pb2.EVENT_STATUS_DUPLICATE
                self._server.duplicates += 1
            else:
                kept[event_id] = event
                result.status = enforcement_pb2.EVENT_STATUS_ACCEPTED
        return result


class Disputes(dispute_pb2_grpc.DisputeServiceServicer):
    def __init__(self, server: ProviderServer) -> None:
        self._server = server

    def OpenDispute(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        with self._server.lock:
            self._server.grounds.append(
                dispute_pb2.DisputeGround.Name(request.ground).removeprefix("DISPUTE_GROUND_")
            )
            known = self._server.disputes.get(request.request_id)
            if known is None:
                now = self._server.operator.clock()
                known = dispute_pb2.Dispute(
                    case_number=f"D-{len(self._server.disputes) + 1}",
                    state=dispute_pb2.DISPUTE_STATE_OPEN,
                    suspended=True,
                )
                known.opened_at.FromDatetime(now)
                known.answer_due_at.FromDatetime(now + timedelta(days=15))
                self._server.disputes[request.request_id] = known
                self._server.operator.lift(request.restriction_id)
        return dispute_pb2.OpenDisputeResponse(
            dispute=known, relief_sequence=len(self._server.operator.relief)
        )

    def FollowDispute(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        for known in self._server.disputes.values():
            if known.case_number == request.case_number:
                response = dispute_pb2.FollowDisputeResponse(
                    state=known.state, opened_at=known.opened_at, answer_due_at=known.answer_due_at
                )
                response.text.zh, response.text.en = (
                    "异议已受理。",
                    "The dispute is being examined.",
                )
                return response
        return context.abort(
            grpc.StatusCode.NOT_FOUND, "there is no such dispute here; check the case number"
        )


class ProviderServer:
    """Serves an operator's repository on `port` of the loopback; `stop` and `start` again as often
    as a test likes.
    """

    def __init__(self, operator: Operator, *, heartbeat: float = 0.5) -> None:
        self.operator = operator
        self.heartbeat = heartbeat
        self.chunk = 1 << 20
        self.push = True
        self.poison = ""
        self.break_artefacts = 0
        self.withheld_epochs: set[int] = set()
        self.refuse: Callable[[Any], bool] = lambda event: False
        self.lock = threading.RLock()
        self.silent = threading.Event()
        self.stopping = threading.Event()
        self.calls: Counter[str] = Counter()
        self.offsets: list[int] = []
        self.enforced: list[Any] = []
        self.batches: list[int] = []
        self.reports: dict[bytes, Any] = {}
        self.counts: dict[bytes, Any] = {}
        self.disputes: dict[bytes, Any] = {}
        self.grounds: list[str] = []
        self.duplicates = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.stopping.clear()
        self._pool = ThreadPoolExecutor(64)
        server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        distribution_pb2_grpc.add_DistributionServiceServicer_to_server(Distribution(self), server)
        enforcement_pb2_grpc.add_EnforcementServiceServicer_to_server(Enforcement(self), server)
        dispute_pb2_grpc.add_DisputeServiceServicer_to_server(Disputes(self), server)
        issued = self.operator.server_certificate
        credentials = grpc.ssl_server_credentials(
            [(issued.private_key, issued.certificate)],
            root_certificates=self.operator.authority.certificate,
            require_client_auth=True,
        )
        assert server.add_secure_port(self.address, credentials) == self.port
        server.start()
        self._server = server

    def stop(self) -> None:
        self.stopping.set()
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None
            self._pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def checked(self) -> int:
        """Returns the number of checks counted so far."""
        with self.lock:
            return sum(count.checked for count in self.counts.values())


def wait_for(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Waits until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
