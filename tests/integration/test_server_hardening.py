"""A server that changes while clients are connected: its certificate, its end, and what it allows."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.server import enter, entry, make
from tests.support.server_process import Server, command, publish, serving
from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc
from tipstaff_sdk.errors import UnavailableError
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.transport import connect
from tipstaff_server.deployment import Deployment
from tipstaff_server.workdir.layout import development_authority
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.config import Config

AIRLINE = "providers/skyline-air"
SECONDS = 20
SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = make(tmp_path_factory.mktemp("hardening") / "operator")
    with Deployment(made) as runtime:
        enter(runtime.registry, [entry(number) for number in range(3)])
    publish(made, "aviation")
    return made


@pytest.fixture
def server(config: Config) -> Iterator[Server]:
    with serving(config, listen="127.0.0.1:0") as running:
        yield running


def health(
    channel: grpc.Channel, service: str = ""
) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType:
    return (
        health_pb2_grpc.HealthStub(channel)
        .Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
        .status
    )


def shown(server: Server) -> int:
    """The serial number of the certificate that a new connection is shown."""
    kit = server.kit("skyline-air")
    context = ssl.create_default_context(cafile=kit / "ca.pem")
    context.load_cert_chain(kit / "certificate.pem", kit / "private_key.pem")
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(server: Server) -> None:
    tls = server.config.folder / "tls"
    before = shown(server)
    with server.channel(AIRLINE) as connected:
        stream = distribution_pb2_grpc.DistributionServiceStub(connected).Watch(
            distribution_pb2.WatchRequest(), timeout=SECONDS
        )
        assert next(stream).current.timestamp
        new = development_authority(server.config).issue_server(["localhost", "127.0.0.1"])
        write_atomic(tls / "server.pem", new.certificate)
        assert shown(server) == before, "half of a pair is not taken"
        write_atomic(tls / "server.key", new.private_key, mode=0o600)
        assert (
            shown(server) == x509.load_pem_x509_certificate(new.certificate).serial_number != before
        )
        with server.channel(AIRLINE) as fresh:
            assert health(fresh) == SERVING
        assert next(stream).current.timestamp
        assert health(connected) == SERVING


def test_health_is_for_certificate_holders_and_knows_each_service(server: Server) -> None:
    with server.channel("operator") as channel:
        assert health(channel) == health(channel, "tipstaff.v1.DistributionService") == SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            health(channel, "nothing.v1.Service")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with server.channel(
        grpc.ssl_channel_credentials((server.kit("skyline-air") / "ca.pem").read_bytes())
    ) as channel:
        with pytest.raises(grpc.RpcError) as stranger:
            health(channel)
        assert stranger.value.code() is grpc.StatusCode.UNAVAILABLE


def test_drain_says_not_serving_first_then_streams_end_then_the_process(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIPSTAFF_SERVER__SERVER__DRAIN_SECONDS", "1.5")
    order: list[str] = []
    with (
        serving(config, listen="127.0.0.1:0") as server,
        server.channel("operator") as operator,
        server.channel(AIRLINE) as airline,
    ):
        statuses = health_pb2_grpc.HealthStub(operator).Watch(
            health_pb2.HealthCheckRequest(), timeout=SECONDS
        )
        assert next(statuses).status == SERVING
        stub = distribution_pb2_grpc.DistributionServiceStub(airline)
        watch = stub.Watch(distribution_pb2.WatchRequest(), timeout=SECONDS)
        next(watch)

        def follow() -> None:
            try:
                for _ in watch:
                    pass
            except grpc.RpcError as error:
                order.append(f"watch {error.code().name}")

        following = threading.Thread(target=follow)
        following.start()
        server.process.terminate()
        assert next(statuses).status == NOT_SERVING
        order.append("not serving")
        # Whoever was sent here before the balancer noticed is still served.
        assert stub.GetMetadata(
            distribution_pb2.GetMetadataRequest(name="timestamp.json"), timeout=SECONDS
        ).content
        order.append("served")
        following.join(SECONDS)
        with pytest.raises(grpc.RpcError) as ended:
            next(statuses)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(SECONDS) == 0
    assert order == ["not serving", "served", "watch UNAVAILABLE"]


def test_too_many_calls_and_downloads_are_refused_with_advice_that_the_sdk_follows(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option, value in {
        "CALLS_PER_SECOND": 2,
        "CALLS_BURST": 4,
        "ARTEFACT_BYTES_PER_SECOND": 1 << 10,
        "ARTEFACT_BURST_BYTES": 1 << 10,
    }.items():
        monkeypatch.setenv(f"TIPSTAFF_SERVER__LIMITS__{option}", str(value))
    (pack,) = (config.folder / "repository" / "aviation" / "targets" / "listing" / "aviation").glob(
        "*.pack"
    )
    with serving(config, listen="127.0.0.1:0") as server:
        settings = Settings.load(
            server.kit("skyline-air") / "tipstaff.toml", options={"server": server.address}
        )
        transport = connect(settings)
        try:
            assert (
                b"".join(transport.artefact(f"listing/aviation/{pack.name}", 0))
                == pack.read_bytes()
            )
            with pytest.raises(UnavailableError, match="too many downloads") as refused:
                list(transport.artefact(f"listing/aviation/{pack.name}", 0))
            assert refused.value.retry_after > 0

            def flood() -> None:
                for _ in range(50):
                    transport.metadata("timestamp.json")

            with pytest.raises(UnavailableError, match="too many calls") as refused:
                flood()
            assert 0 < refused.value.retry_after <= 3
            time.sleep(refused.value.retry_after + 0.05)
            assert transport.metadata("timestamp.json")
        finally:
            transport.close()


def test_a_revoked_provider_is_told_by_the_command_what_was_revoked(config: Config) -> None:
    done = command("provider", "revoke", "riverside-rail", "--config", config.folder)
    assert done.returncode == 0, done.stderr
    assert "riverside-rail is revoked" in done.stdout
    assert command("provider", "revoke", "nobody", "--config", config.folder).returncode == 1


def test_a_missing_revocation_list_stops_the_start_and_says_so(tmp_path: Path) -> None:
    config = make(tmp_path / "operator")
    (config.folder / "tls" / "ca.crl").unlink()
    done = command("serve", "--config", config.folder)
    assert done.returncode == 1
    assert "ca.crl cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
