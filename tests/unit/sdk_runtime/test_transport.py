"""The transport says everything in our words, whole streams included, and seals keys to each
request.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc_testing
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tipstaff.v1 import dispute_pb2, distribution_pb2, enforcement_pb2
from tipstaff_sdk import errors
from tipstaff_sdk.enforcement import remedies as remedying
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.transport import GrpcTransport, SealedKeyError, connect
from tipstaff_signing import errors as signing_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICES = {
    file.DESCRIPTOR.services_by_name[name]: file.DESCRIPTOR.services_by_name[name]
    for file, name in [
        (distribution_pb2, "DistributionService"),
        (enforcement_pb2, "EnforcementService"),
        (dispute_pb2, "DisputeService"),
    ]
}
METHODS = {method.name: method for service in SERVICES for method in service.methods}
HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


class Server:
    """Plays the server's side of a testing channel."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel(SERVICES.values(), grpc_testing.strict_real_time())
        self.transport = GrpcTransport(self.channel, audience="aviation", timeout=5)
        self._pool = ThreadPoolExecutor(2)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        return self._pool.submit(function)

    def answer(
        self,
        method: str,
        response: Any,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        details: str = "",
    ) -> Any:
        _, request, rpc = self.channel.take_unary_unary(METHODS[method])
        rpc.send_initial_metadata(())
        rpc.terminate(response, (), code, details)
        return request

    def stream(
        self,
        method: str,
        *responses: Any,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        received: list[bytes] | None = None,
    ) -> Any:
        """One streamed answer.

        The testing channel forgets what was not read when a stream fails, so then `received` is
        waited for.
        """
        _, request, rpc = self.channel.take_unary_stream(METHODS[method])
        rpc.send_initial_metadata(())
        for response in responses:
            rpc.send_response(response)
        while received is not None and len(received) < len(responses):
            time.sleep(0.001)
        rpc.terminate((), code, "")
        return request


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server._pool.shutdown()


def test_metadata_comes_back_as_it_was_sent(server: Server) -> None:
    got = server.call(lambda: server.transport.fetcher().metadata("timestamp.json", 100))
    request = server.answer("GetMetadata", distribution_pb2.GetMetadataResponse(content=b"{}"))
    assert got.result(5) == b"{}"
    assert request.name == "timestamp.json"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, errors.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDeniedError),
        (grpc.StatusCode.NOT_FOUND, errors.NotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.RequestRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.RequestRefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, errors.UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, errors.UnavailableError),
        (grpc.StatusCode.UNKNOWN, errors.UnavailableError),
    ],
)
def test_every_status_becomes_one_of_our_errors_with_the_servers_words(
    server: Server, code: grpc.StatusCode, kind: type[errors.TransportError]
) -> None:
    got = server.call(lambda: server.transport.submit_reports([]))
    server.answer("SubmitReports", None, code, "do this instead")
    with pytest.raises(kind, match=f"{code.name}: do this instead") as caught:
        got.result(5)
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_missing_and_oversized_files_are_the_readers_errors(server: Server) -> None:
    got = server.call(lambda: server.transport.fetcher().metadata("9.root.json", 100))
    server.answer("GetMetadata", None, grpc.StatusCode.NOT_FOUND)
    with pytest.raises(signing_errors.NotFoundError):
        got.result(5)
    got = server.call(lambda: server.transport.fetcher().metadata("1.root.json", 3))
    server.answer("GetMetadata", distribution_pb2.GetMetadataResponse(content=b"1234"))
    with pytest.raises(signing_errors.TooLargeError):
        got.result(5)


def test_artefact_is_asked_for_from_its_offset(server: Server) -> None:
    got = server.call(lambda: list(server.transport.fetcher().artefact("listing/aviation/x", 7)))
    chunks = [distribution_pb2.GetArtefactResponse(chunk=chunk) for chunk in (b"ab", b"cd")]
    request = server.stream("GetArtefact", *chunks)
    assert got.result(5) == [b"ab", b"cd"]
    assert (request.path, request.offset) == ("listing/aviation/x", 7)


def test_stream_that_breaks_for_good_is_mapped_after_its_bytes_were_delivered(
    server: Server,
) -> None:
    received: list[bytes] = []

    def read() -> None:
        received.extend(server.transport.fetcher().artefact("x", 0))

    got = server.call(read)
    server.stream(
        "GetArtefact",
        distribution_pb2.GetArtefactResponse(chunk=b"ab"),
        code=grpc.StatusCode.UNAVAILABLE,
        received=received,
    )
    assert server.stream("GetArtefact", code=grpc.StatusCode.UNAVAILABLE).offset == 2
    with pytest.raises(signing_errors.UnavailableError):
        got.result(5)
    assert received == [b"ab"]


def test_download_at_its_deadline_goes_on_where_it_stopped_while_bytes_come(server: Server) -> None:
    received: list[bytes] = []
    got = server.call(lambda: received.extend(server.transport.artefact("x", 10)))
    chunk = distribution_pb2.GetArtefactResponse(chunk=b"abc")
    server.stream("GetArtefact", chunk, code=grpc.StatusCode.DEADLINE_EXCEEDED, received=received)
    request = server.stream("GetArtefact", distribution_pb2.GetArtefactResponse(chunk=b"d"))
    assert request.offset == 13
    got.result(5)
    assert received == [b"abc", b"d"]
    got = server.call(lambda: list(server.transport.artefact("x", 10)))
    server.stream("GetArtefact", code=grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(errors.UnavailableError, match="in time"):
        got.result(5)


def test_watch_says_what_is_enforced_and_gives_what_comes(server: Server) -> None:
    enforced = distribution_pb2.StateVersion(timestamp=3, listing=2, relief_sequence=9)
    got = server.call(lambda: next(iter(server.transport.watch(enforced))).current.timestamp)
    _, request, rpc = server.channel.take_unary_stream(METHODS["Watch"])
    rpc.send_response(
        distribution_pb2.WatchResponse(current=distribution_pb2.StateVersion(timestamp=4))
    )
    assert got.result(5) == 4
    assert request.enforced == enforced


def test_cancelled_watch_ends_with_our_error(server: Server) -> None:
    stream = server.transport.watch(distribution_pb2.StateVersion())
    got = server.call(lambda: list(stream))
    _, _, rpc = server.channel.take_unary_stream(METHODS["Watch"])
    stream.cancel()
    rpc.cancelled()
    with pytest.raises(errors.UnavailableError):
        got.result(5)


def seal(
    request: Any, epoch: int, *, audience: str = "aviation", key: bytes = bytes(32)
) -> distribution_pb2.SealedEpochKey:
    info = f"tipstaff/v1/epoch-key\0{audience}\0{epoch}".encode()
    public = X25519PublicKey.from_public_bytes(request.recipient_public_key)
    return distribution_pb2.SealedEpochKey(epoch=epoch, sealed=HPKE.encrypt(key, public, info=info))


def fetch_keys(server: Server, make: Callable[[Any], list[distribution_pb2.SealedEpochKey]]) -> Any:
    got = server.call(server.transport.epoch_keys)
    _, request, rpc = server.channel.take_unary_unary(METHODS["GetEpochKeys"])
    rpc.send_initial_metadata(())
    rpc.terminate(
        distribution_pb2.GetEpochKeysResponse(keys=make(request)), (), grpc.StatusCode.OK, ""
    )
    return got.result(5), bytes(request.recipient_public_key)


def test_epoch_keys_open_and_every_request_has_a_key_of_its_own(server: Server) -> None:
    keys, first = fetch_keys(
        server, lambda request: [seal(request, 1), seal(request, 2, key=b"k" * 32)]
    )
    assert keys == {1: bytes(32), 2: b"k" * 32}
    _, second = fetch_keys(server, lambda request: [])
    assert first != second


@pytest.mark.parametrize(
    "make",
    [
        lambda request: [seal(request, 1, audience="rail")],
        lambda request: [replace_epoch(seal(request, 1), 2)],
        lambda request: [seal(request, 1, key=bytes(31))],
        lambda request: [distribution_pb2.SealedEpochKey(epoch=1, sealed=b"short")],
        lambda request: [seal(request, epoch) for epoch in range(65)],
    ],
    ids=["audience", "epoch", "length", "truncated", "too-many"],
)
def test_key_that_is_not_ours_is_refused(
    server: Server, make: Callable[[Any], list[distribution_pb2.SealedEpochKey]]
) -> None:
    with pytest.raises(SealedKeyError):
        fetch_keys(server, make)


def replace_epoch(
    sealed: distribution_pb2.SealedEpochKey, epoch: int
) -> distribution_pb2.SealedEpochKey:
    return distribution_pb2.SealedEpochKey(epoch=epoch, sealed=sealed.sealed)


def test_remedies_of_several_pages_are_fetched_and_answered(server: Server) -> None:
    pages = [
        distribution_pb2.ListRemediesResponse(
            remedies=[distribution_pb2.Remedy(remedy_id=b"1" * 16)], next_page_token=b"1"
        ),
        distribution_pb2.ListRemediesResponse(
            remedies=[
                distribution_pb2.Remedy(remedy_id=b"2" * 16, outcome="REMEDY_OUTCOME_RESTORED")
            ]
        ),
    ]
    pages[0].remedies[0].affected.add(report_id=bytes(16), outcome=enforcement_pb2.OUTCOME_DENIED)
    got = server.call(lambda: remedying.fetch(server.transport, include_answered=True))
    asked = [server.answer("ListRemedies", page) for page in pages]
    first, second = got.result(10)
    assert [(request.include_answered, request.page_token) for request in asked] == [
        (True, b""),
        (True, b"1"),
    ]
    assert (first.outcome, second.outcome) == (None, remedying.RemedyOutcome.RESTORED)
    assert str(first.affected[0].outcome) == "DENIED"
    told = server.call(
        lambda: remedying.answer(server.transport, first, remedying.RemedyOutcome.DECLINED, "told")
    )
    request = server.answer(
        "AnswerRemedy", distribution_pb2.AnswerRemedyResponse(remedy=pages[1].remedies[0])
    )
    assert (request.remedy_id, request.outcome, request.note) == (
        b"1" * 16,
        distribution_pb2.REMEDY_OUTCOME_DECLINED,
        "told",
    )
    assert told.result(10) == second
    with pytest.raises(errors.RequestRefusedError, match="500"):
        remedying.answer(server.transport, first, remedying.RemedyOutcome.DECLINED, "x" * 501)


def test_dispute_and_coverage_reach_their_calls(server: Server) -> None:
    got = server.call(
        lambda: server.transport.open_dispute(dispute_pb2.OpenDisputeRequest(statement="no"))
    )
    request = server.answer(
        "OpenDispute", dispute_pb2.OpenDisputeResponse(dispute=dispute_pb2.Dispute(case_number="C"))
    )
    assert (request.statement, got.result(5).case_number) == ("no", "C")
    got = server.call(
        lambda: server.transport.submit_coverage([enforcement_pb2.CoverageCount(checked=3)])
    )
    request = server.answer(
        "SubmitCoverage",
        enforcement_pb2.SubmitCoverageResponse(
            results=[enforcement_pb2.EventResult(event_id=b"1")]
        ),
    )
    assert (request.counts[0].checked, got.result(5)[0].event_id) == (3, b"1")


def settings(tmp_path: Path) -> Settings:
    for name in ("root", "ca", "cert", "key"):
        (tmp_path / name).write_bytes(b"not PEM")
    return Settings(
        audience="aviation",
        state_dir=tmp_path,
        trusted_root_file=tmp_path / "root",
        server="127.0.0.1:1",
        ca_file=tmp_path / "ca",
        certificate_file=tmp_path / "cert",
        private_key_file=tmp_path / "key",
        connect_timeout=1,
        request_timeout=2,
    )


def test_connecting_needs_a_server_and_files(tmp_path: Path) -> None:
    good = settings(tmp_path)
    with pytest.raises(errors.ConfigurationError, match="server is not set"):
        connect(replace(good, server=None))
    with pytest.raises(errors.ConfigurationError, match="ca_file is not set"):
        connect(replace(good, ca_file=None))
    (tmp_path / "cert").unlink()
    with pytest.raises(errors.ConfigurationError, match="certificate_file: cannot read"):
        connect(good)


def test_nobody_there_and_closed_are_unavailable() -> None:
    channel = grpc.insecure_channel("127.0.0.1:1")
    transport = GrpcTransport(channel, audience="aviation", timeout=5)
    with pytest.raises(errors.UnavailableError, match="cannot be reached"):
        transport.submit_reports([])
    transport.close()
    transport.close()
    with pytest.raises(errors.UnavailableError, match="closed"):
        transport.submit_reports([])
