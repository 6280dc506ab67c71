"""The gate in front of every call, over real mutual TLS: who gets in, and what an error becomes."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.server_tls import Tls, calling
from tipstaff.v1 import (
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
)
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_server import errors
from tipstaff_server.logs import JsonLogFormatter
from tipstaff_server.rpc.gate import Gate
from tipstaff_server.rpc.statuses import OffsetError, status_of
from tipstaff_signing.errors import NotFoundError as NoSuchFileError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SECRET = "11010519491231002X"
STUB = distribution_pb2_grpc.DistributionServiceStub
PROVIDER = "tipstaff://provider/aviation/air-1"


class Answering(distribution_pb2_grpc.DistributionServiceServicer):
    """Answers, or raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0

    async def GetMetadata(self, request: Any, context: Any) -> distribution_pb2.GetMetadataResponse:  # noqa: N802  the contract's name
        self.calls += 1
        if self.error:
            raise self.error
        return distribution_pb2.GetMetadataResponse(content=b"signed")

    async def GetArtefact(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  the contract's name
        self.calls += 1
        yield distribution_pb2.GetArtefactResponse(chunk=b"one")
        if self.error:
            raise self.error
        yield distribution_pb2.GetArtefactResponse(chunk=b"two").SerializeToString()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  the contract's name
        yield distribution_pb2.WatchResponse()

    async def GetEpochKeys(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's name
        return distribution_pb2.GetEpochKeysResponse()


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


def run(
    tls: Tls,
    service: Answering,
    identity: str | None,
    scenario: Callable[[grpc.aio.Channel], Awaitable[Any]],
) -> Any:
    """A server with the gate, a client with a certificate, one scenario."""

    async def main() -> Any:
        server = grpc.aio.server(interceptors=[Gate()])
        distribution_pb2_grpc.add_DistributionServiceServicer_to_server(service, server)
        port = server.add_secure_port("127.0.0.1:0", tls.server())
        await server.start()
        try:
            async with grpc.aio.secure_channel(
                f"localhost:{port}", tls.client(identity)
            ) as channel:
                return await scenario(channel)
        finally:
            await server.stop(0)

    return asyncio.run(main())


async def get_metadata(channel: grpc.aio.Channel) -> Any:
    return await calling(
        STUB(channel).GetMetadata(
            distribution_pb2.GetMetadataRequest(name="timestamp.json"), timeout=10
        )
    )


async def get_artefact(channel: grpc.aio.Channel) -> list[bytes]:
    call = STUB(channel).GetArtefact(distribution_pb2.GetArtefactRequest(path="x"), timeout=10)
    return [response.chunk async for response in call]


def test_who_may_gets_an_answer(tls: Tls):
    assert run(tls, Answering(), PROVIDER, get_metadata).content == b"signed"


def test_messages_and_bytes_that_were_serialised_before_both_go_through(tls: Tls):
    assert run(tls, Answering(), PROVIDER, get_artefact) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("identity", "status"),
    [
        pytest.param(
            "tipstaff://authority/court", grpc.StatusCode.PERMISSION_DENIED, id="another role"
        ),
        pytest.param(
            "tipstaff://operator/ops",
            grpc.StatusCode.PERMISSION_DENIED,
            id="the operator has no audience",
        ),
        pytest.param(
            "spiffe://example.org/x",
            grpc.StatusCode.UNAUTHENTICATED,
            id="an identity of another system",
        ),
        pytest.param(
            "tipstaff://provider/aviation", grpc.StatusCode.UNAUTHENTICATED, id="no such form"
        ),
        pytest.param(None, grpc.StatusCode.UNAVAILABLE, id="no certificate: not even a connection"),
    ],
)
@pytest.mark.parametrize("scenario", [get_metadata, get_artefact])
def test_who_may_not_never_reaches_the_service(
    tls: Tls, identity: str | None, status: grpc.StatusCode, scenario: Any
):
    service = Answering()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        run(tls, service, identity, scenario)
    assert refused.value.code() is status
    assert service.calls == 0


def test_a_method_outside_the_table_is_refused_even_if_it_is_served(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tipstaff_server.certificates.caller.MAY_CALL", {})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        run(tls, Answering(), PROVIDER, get_metadata)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_service_that_is_not_there_is_unimplemented(tls: Tls):
    async def scenario(channel: grpc.aio.Channel) -> None:
        stub = enforcement_pb2_grpc.EnforcementServiceStub(channel)
        await calling(stub.SubmitReports(enforcement_pb2.SubmitReportsRequest(), timeout=10))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        run(tls, Answering(), PROVIDER, scenario)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


STATUSES = [
    (errors.NotIdentifiedError("have it issued again"), grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDeniedError("not yours"), grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFoundError("no such restriction"), grpc.StatusCode.NOT_FOUND),
    (NoSuchFileError("no such file"), grpc.StatusCode.NOT_FOUND),
    (errors.LifecycleError("it has ended"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.InvalidRequestError("give a reason"), grpc.StatusCode.INVALID_ARGUMENT),
    (OffsetError("start again at 0"), grpc.StatusCode.OUT_OF_RANGE),
    (errors.EntryError(errors.EntryCode.TERM_MISSING, "no term"), grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidIdentifierError("check the digits"), grpc.StatusCode.INVALID_ARGUMENT),
]


@pytest.mark.parametrize(
    ("error", "status"),
    STATUSES,
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("scenario", [get_metadata, get_artefact])
def test_our_errors_become_a_status_and_keep_their_message(
    tls: Tls, error: Exception, status: grpc.StatusCode, scenario: Any
):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        run(tls, Answering(error), PROVIDER, scenario)
    assert refused.value.code() is status
    assert refused.value.details() == str(error)


@pytest.mark.parametrize("scenario", [get_metadata, get_artefact])
def test_anything_else_is_an_incident_whose_text_stays_inside(
    tls: Tls, scenario: Any, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        run(tls, Answering(ValueError(f"bad literal {SECRET}")), PROVIDER, scenario)
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    logged = [JsonLogFormatter().format(record) for record in caplog.records]
    incident = next(line for line in map(json.loads, logged) if line["event"] == "incident")
    assert incident["incident"] in (refused.value.details() or "")
    assert incident["error"] == "ValueError"
    assert any("test_gate" in place for place in incident["at"])
    assert SECRET not in (refused.value.details() or "") + "".join(logged)


def test_a_storage_errors_message_is_for_the_operator_only():
    status, text = status_of(errors.DatabaseUnavailableError("cannot reach 10.0.0.5"), "/x/y")
    assert status is grpc.StatusCode.UNAVAILABLE
    assert "10.0.0.5" not in text


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (errors.StreamEnd.SLOW, grpc.StatusCode.ABORTED),
        (errors.StreamEnd.STOPPING, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_an_ended_stream_says_what_to_do(reason: errors.StreamEnd, status: grpc.StatusCode):
    got, text = status_of(errors.StreamEndedError(reason), "/x/y")
    assert got is status
    assert "open Watch again" in text
