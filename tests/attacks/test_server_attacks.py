"""What somebody can try on the server from outside, or from inside with a provider's certificate.

Each row is an attack and its outcome.

Every row runs against a real server over mutual TLS, and afterwards another provider is still
served.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.server import MEASURES, enter, entry, make, name_of, resident_id
from tests.support.server_process import Server, free_port, publish, serving
from tests.support.server_tls import Tls
from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc, registry_pb2, registry_pb2_grpc
from tipstaff_sdk import Screener, Verdict
from tipstaff_sdk.errors import UntrustedError
from tipstaff_server.certificates.development_ca import CERTIFICATE_LIFETIME, CertificateAuthority
from tipstaff_server.config import LimitsSection
from tipstaff_server.deployment import Deployment
from tipstaff_server.distribution.broadcast import Broadcaster, Message
from tipstaff_server.rpc.gate import RETRY_KEY, Gate
from tipstaff_server.rpc.limits import CallerLimits
from tipstaff_server.services.distribution import DistributionService
from tipstaff_server.workdir.layout import development_authority
from tipstaff_server.workdir.revoke import revoke_provider
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tipstaff_server.certificates.development_ca import Issued

# How long anything may take before it counts as lost. What is promised is two seconds; this machine
# may be busy.
SECONDS = 20
CROWD = 1_000
CROWD_PROVIDERS = 5
HONEST, RIVAL = "providers/riverside-rail", "providers/skyline-air"
REFUSED, DENIED, GONE, BUSY, NONE = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAVAILABLE,  # a handshake that fails: not even a connection
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
)
Watch = distribution_pb2_grpc.DistributionServiceStub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    providers = ["rail/riverside-rail", "aviation/skyline-air"]
    providers += [
        f"aviation/{name}" for name in ("revoked", "rolled-back", "forged", "flooding", "flooded")
    ]
    providers += [f"aviation/crowd-{number}" for number in range(CROWD_PROVIDERS)]
    config = make(
        tmp_path_factory.mktemp("server") / "operator",
        providers=providers,
        listen=f"127.0.0.1:{free_port()}",
    )
    with Deployment(config) as runtime:
        restrictions = enter(runtime.registry, [entry(number) for number in range(8)])
    publish(config)
    with serving(config) as running:
        running.restrictions = restrictions
        yield running


def metadata(channel: grpc.Channel, name: str = "timestamp.json", **options: Any) -> bytes:
    return (
        Watch(channel)
        .GetMetadata(distribution_pb2.GetMetadataRequest(name=name), timeout=SECONDS, **options)
        .content
    )


def watching(channel: grpc.Channel) -> Any:
    """A watch that has begun."""
    stream = Watch(channel).Watch(distribution_pb2.WatchRequest())
    assert next(stream).current.timestamp
    return stream


def ended(stream: Any) -> grpc.StatusCode:
    """How a stream ends, read to its end."""
    deadline = time.monotonic() + SECONDS
    try:
        for _ in stream:
            assert time.monotonic() < deadline, "the stream goes on"
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def asked(server: Server, who: str | grpc.ChannelCredentials, **options: Any) -> grpc.StatusCode:
    """What a first call on a new connection comes to."""
    with server.channel(who) as channel:
        try:
            metadata(channel, **options)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def issued(server: Server, identity: str, *, ends_in: timedelta = timedelta(days=30)) -> Issued:
    """A certificate of the server's own authority that runs out in `ends_in`."""

    def then() -> datetime:
        return datetime.now(UTC) + ends_in - CERTIFICATE_LIFETIME

    tls = server.config.folder / "tls"
    return CertificateAuthority.load(tls / "ca.pem", tls / "ca.key", clock=then).issue_client(
        identity
    )


def with_certificate(server: Server, pair: Issued) -> grpc.ChannelCredentials:
    authority = (server.config.folder / "tls" / "ca.pem").read_bytes()
    return grpc.ssl_channel_credentials(authority, pair.private_key, pair.certificate)


def no_certificate(server: Server) -> grpc.StatusCode:
    return asked(
        server, grpc.ssl_channel_credentials((server.kit("skyline-air") / "ca.pem").read_bytes())
    )


def wrong_authority(server: Server) -> grpc.StatusCode:
    return asked(
        server,
        with_certificate(
            server, Tls().authority.issue_client("tipstaff://provider/aviation/skyline-air")
        ),
    )


def expired(server: Server) -> grpc.StatusCode:
    pair = issued(server, "tipstaff://provider/aviation/skyline-air", ends_in=timedelta(hours=-1))
    return asked(server, with_certificate(server, pair))


def runs_out_while_open(server: Server) -> grpc.StatusCode:
    pair = issued(server, "tipstaff://provider/aviation/skyline-air", ends_in=timedelta(seconds=3))
    with server.channel(with_certificate(server, pair)) as channel:
        return ended(watching(channel))


def plain_text(server: Server) -> grpc.StatusCode:
    with grpc.insecure_channel(server.address) as channel:
        try:
            metadata(channel)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def tls_12(server: Server) -> grpc.StatusCode:
    kit = server.kit("skyline-air")
    context = ssl.create_default_context(cafile=kit / "ca.pem")
    context.load_cert_chain(kit / "certificate.pem", kit / "private_key.pem")
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")

    def version() -> str | None:
        with (
            socket.create_connection((host, int(port)), SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as tls,
        ):
            return tls.version()

    assert version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        version()
    except OSError:
        return GONE
    return grpc.StatusCode.OK


def another_audience_in_the_certificate(server: Server) -> grpc.StatusCode:
    return asked(
        server, with_certificate(server, issued(server, "tipstaff://provider/rail/skyline-air"))
    )


def provider_nobody_registered(server: Server) -> grpc.StatusCode:
    return asked(
        server, with_certificate(server, issued(server, "tipstaff://provider/aviation/nobody"))
    )


def two_identities(server: Server) -> grpc.StatusCode:
    authority = development_authority(server.config)
    names = [
        x509.UniformResourceIdentifier(f"tipstaff://provider/{who}")
        for who in ("aviation/skyline-air", "rail/riverside-rail")
    ]
    pair = authority._issue("both", names, x509.ExtendedKeyUsageOID.CLIENT_AUTH)
    return asked(server, with_certificate(server, pair))


def leaf_as_authority(server: Server) -> grpc.StatusCode:
    """Provider A signs a certificate for B with the key of its own."""
    kit = server.kit("skyline-air")
    key = serialization.load_pem_private_key((kit / "private_key.pem").read_bytes(), None)
    own = x509.load_pem_x509_certificate((kit / "certificate.pem").read_bytes())
    wanted = x509.load_pem_x509_certificate(
        (server.kit("riverside-rail") / "certificate.pem").read_bytes()
    )
    builder = x509.CertificateBuilder(
        own.subject,
        wanted.subject,
        key.public_key(),
        1,
        own.not_valid_before_utc,
        own.not_valid_after_utc,
    )
    for extension in wanted.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    forged = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    ours = (server.config.folder / "tls" / "ca.pem").read_bytes()
    chain = forged + (kit / "certificate.pem").read_bytes()
    return asked(
        server, grpc.ssl_channel_credentials(ours, (kit / "private_key.pem").read_bytes(), chain)
    )


def identity_in_headers(server: Server) -> grpc.StatusCode:
    """Says it is somebody else wherever a careless server would look; what it gets are its own
    audience's files.
    """
    claims = tuple(
        (key, "tipstaff://provider/rail/riverside-rail")
        for key in ("peer_uri", "x-forwarded-client-cert", "x-provider")
    )
    with server.channel(RIVAL) as channel:
        got = metadata(channel, metadata=claims)
    assert b'"view":"aviation"' in got.replace(b" ", b"")
    with server.channel(RIVAL) as channel, pytest.raises(grpc.RpcError) as refused:
        metadata(channel, "2.listing-rail.json", metadata=claims)
    return refused.value.code()


def oversized_message(server: Server) -> grpc.StatusCode:
    return asked(server, RIVAL, name="a" * (server.config.server.max_message_bytes + 1))


def oversized_metadata(server: Server) -> grpc.StatusCode:
    return asked(
        server, RIVAL, metadata=tuple((f"x-{number}", "a" * 1_000) for number in range(40))
    )


def a_crowd_of_streams_on_one_connection(server: Server) -> grpc.StatusCode:
    """More than a connection may carry: the rest waits at the client, whose deadline it is."""
    with server.channel(RIVAL) as channel:
        streams = [
            watching(channel) for _ in range(server.config.server.max_streams_per_connection)
        ]
        try:
            Watch(channel).GetMetadata(
                distribution_pb2.GetMetadataRequest(name="timestamp.json"), timeout=0.5
            )
        except grpc.RpcError as error:
            assert asked(server, RIVAL) is grpc.StatusCode.OK
            return error.code()
        finally:
            for stream in streams:
                stream.cancel()
    return grpc.StatusCode.OK


def reflection(server: Server) -> grpc.StatusCode:
    with server.channel(RIVAL) as channel:
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        return ended(call(iter([b"*"]), timeout=SECONDS))


def flood_of_calls(server: Server) -> grpc.StatusCode:
    """More calls than the bucket holds: refused with advice, which is enough; the rest of the world
    is served.
    """
    with server.channel("providers/flooding") as channel:
        request = distribution_pb2.GetMetadataRequest(name="timestamp.json")
        limits = server.config.limits
        for _ in range(40):
            calls = [Watch(channel).GetMetadata.future(request, timeout=SECONDS) for _ in range(90)]
            refused = [
                error for call in calls if isinstance(error := call.exception(), grpc.RpcError)
            ]
            if refused:
                break
        first = refused[0]
        (advice,) = (int(value) for key, value in first.trailing_metadata() if key == RETRY_KEY)
        assert 0 < advice <= 1_000 * (limits.calls_burst + 1) / limits.calls_per_second
        assert "ask again in" in first.details()
        time.sleep(advice / 1_000 + 0.05)
        assert metadata(channel)
        return first.code()


def revoked(server: Server) -> grpc.StatusCode:
    """With a stream open: it ends, and neither its connection nor a new one is of any use."""
    with server.channel("providers/revoked") as channel, server.channel(RIVAL) as other:
        stream, others = watching(channel), watching(other)
        revoke_provider(server.config, "revoked")
        code = ended(stream)
        with pytest.raises(grpc.RpcError) as refused:
            metadata(channel)
        assert refused.value.code() is asked(server, "providers/revoked") is code
        assert next(others).current.timestamp
        others.cancel()
        return code


def until(code: grpc.StatusCode, ask: Callable[[], grpc.StatusCode]) -> None:
    deadline = time.monotonic() + SECONDS
    while (got := ask()) is not code:
        assert time.monotonic() < deadline, got
        time.sleep(0.05)


def old_revocation_list(server: Server) -> grpc.StatusCode:
    """The list from before is put back: a revoked certificate stays revoked."""
    file = server.config.folder / "tls" / "ca.crl"
    before = file.read_bytes()
    time.sleep(1.1)  # lists are dated in seconds
    revoke_provider(server.config, "rolled-back")
    after = file.read_bytes()
    until(REFUSED, lambda: asked(server, "providers/rolled-back"))
    write_atomic(file, before)
    time.sleep(1.5)  # three looks at the file
    code = asked(server, "providers/rolled-back")
    write_atomic(file, after)
    return code


def foreign_revocation_list(server: Server) -> grpc.StatusCode:
    """A list that somebody else signed does not lock anybody out."""
    file = server.config.folder / "tls" / "ca.crl"
    ours = file.read_bytes()
    serial = x509.load_pem_x509_certificate(
        (server.kit("forged") / "certificate.pem").read_bytes()
    ).serial_number
    write_atomic(file, Tls().authority.revocation_list({serial: datetime.now(UTC)}, 99))
    time.sleep(1.5)
    code = asked(server, "providers/forged")
    write_atomic(file, ours)
    return code


class Attack(NamedTuple):
    name: str
    act: Callable[[Server], grpc.StatusCode]
    outcome: grpc.StatusCode


ATTACKS = [
    Attack("no client certificate", no_certificate, GONE),
    Attack("wrong CA", wrong_authority, GONE),
    Attack("expired certificate", expired, GONE),
    Attack("certificate that runs out while its stream is open", runs_out_while_open, REFUSED),
    Attack("no TLS at all", plain_text, GONE),
    Attack("TLS 1.2", tls_12, GONE),
    Attack("revoked certificate with an open stream", revoked, REFUSED),
    Attack("old revocation list put back", old_revocation_list, REFUSED),
    Attack("revocation list signed by somebody else", foreign_revocation_list, grpc.StatusCode.OK),
    Attack("provider A posing as B: in headers", identity_in_headers, NONE),
    Attack("provider A posing as B: a certificate signed with its own", leaf_as_authority, GONE),
    Attack("provider A posing as B: two identities in one certificate", two_identities, REFUSED),
    Attack(
        "provider in another audience than the registry's",
        another_audience_in_the_certificate,
        DENIED,
    ),
    Attack("provider that nobody registered", provider_nobody_registered, DENIED),
    Attack("oversized message", oversized_message, BUSY),
    Attack("oversized metadata", oversized_metadata, BUSY),
    Attack(
        "more streams than a connection may carry",
        a_crowd_of_streams_on_one_connection,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ),
    Attack("reflection", reflection, grpc.StatusCode.UNIMPLEMENTED),
    Attack("flood of calls", flood_of_calls, BUSY),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_ends_as_its_row_says_and_others_are_served(server: Server, attack: Attack) -> None:
    assert attack.act(server) is attack.outcome
    assert asked(server, HONEST) is grpc.StatusCode.OK


async def watched(
    server: Server, folder: Path, enforced: distribution_pb2.StateVersion
) -> distribution_pb2.WatchResponse:
    """One client: its own connection, its first message."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(
        server.address, server.credentials(folder), options=options
    ) as channel:
        call = Watch(channel).Watch(distribution_pb2.WatchRequest(enforced=enforced), timeout=180)
        async for message in call:
            call.cancel()
            return message
    raise AssertionError("the stream ended")


def test_thousand_clients_that_reconnect_at_once(server: Server) -> None:
    """Without any jitter, as after an outage at worst: each gets what it lacks, and those who lack
    nothing get no files.
    """

    async def crowd(
        enforced: distribution_pb2.StateVersion,
    ) -> list[distribution_pb2.WatchResponse]:
        folders = [
            server.config.folder / "providers" / f"crowd-{number % CROWD_PROVIDERS}"
            for number in range(CROWD)
        ]
        return await asyncio.gather(*(watched(server, folder, enforced) for folder in folders))

    first = asyncio.run(crowd(distribution_pb2.StateVersion()))
    assert all(message.bundle.metadata for message in first)
    again = asyncio.run(crowd(first[0].current))
    assert len(again) == CROWD
    assert not any(message.HasField("bundle") for message in again)
    assert asked(server, HONEST) is grpc.StatusCode.OK


class Loud:
    """A feed whose every message is a mebibyte."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self.broadcaster = broadcaster
        self.sent = 0

    def message(self) -> Message:
        self.sent += 1
        bundle = distribution_pb2.Bundle(
            metadata=[distribution_pb2.MetadataFile(name="x", content=bytes(1 << 20))]
        )
        current = distribution_pb2.StateVersion(timestamp=self.sent)
        return Message(
            self.sent,
            distribution_pb2.WatchResponse(current=current, bundle=bundle).SerializeToString(),
        )

    def opening(self, enforced: distribution_pb2.StateVersion) -> Message:
        return self.message()

    def heartbeat(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("length", "stall"), [(4, 600.0), (1_000, 2.0)], ids=["by its queue", "by its silence"]
)
def test_stalled_reader_is_dropped_and_the_others_miss_nothing(length: int, stall: float) -> None:
    """It opens a watch and reads nothing.

    Its queue is bounded, and so is its silence; it is dropped, and it holds up nobody.
    """
    tls, rounds = Tls(), 24
    feed = Loud(Broadcaster(queue_length=length))

    async def nothing(*_: object) -> None:
        return None

    got: list[int] = []

    async def follow(call: Any) -> None:
        async for message in call:
            got.append(message.current.timestamp)
            if message.current.timestamp == rounds:
                return
        raise AssertionError("the stream ended")

    async def main() -> tuple[int, str]:
        gate = Gate(stall_seconds=stall)
        parts: Any = {
            "repository": None,
            "epochs": None,
            "remedies": None,
            "feeds": {"aviation": feed},
            "acknowledge": nothing,
        }
        service = DistributionService(
            **parts, limits=CallerLimits(LimitsSection()), heartbeat_seconds=60
        )
        running = grpc.aio.server(interceptors=[gate])
        distribution_pb2_grpc.add_DistributionServiceServicer_to_server(service, running)
        port = running.add_secure_port("127.0.0.1:0", tls.server())
        await running.start()
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
        target, request = f"localhost:{port}", distribution_pb2.WatchRequest()
        async with (
            grpc.aio.secure_channel(
                target, tls.client("tipstaff://provider/aviation/stalled"), options=options
            ) as stalling,
            grpc.aio.secure_channel(
                target, tls.client("tipstaff://provider/aviation/reading"), options=options
            ) as reading,
        ):
            stalled = Watch(stalling).Watch(request)
            await stalled.initial_metadata()
            call = Watch(reading).Watch(request)
            await call.initial_metadata()
            opened = feed.sent
            following = asyncio.create_task(follow(call))
            deadline = time.monotonic() + 2 * SECONDS
            while feed.sent < rounds or len(feed.broadcaster) > 1:
                assert time.monotonic() < deadline, "nobody was dropped"
                # As fast as the one who reads can take it, however busy the machine is.
                if feed.sent < rounds and feed.sent - max([opened, *got]) < 2:
                    feed.broadcaster.publish(feed.message())
                await asyncio.sleep(0.02)
            await asyncio.wait_for(following, SECONDS)
            left = len(feed.broadcaster)
            call.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as dropped:
                async for _ in stalled:
                    pass
        await running.stop(0)
        return left, dropped.value.code().name

    left, code = asyncio.run(main())
    assert got[-1] == rounds
    assert got == list(range(got[0], rounds + 1))
    assert left <= 1
    assert code == "ABORTED"


def test_server_restored_from_an_old_backup(tmp_path: Path) -> None:
    """The client keeps its newer state, answers from it, and says that what the server offers is
    older.
    """
    config = make(
        tmp_path / "operator", providers=["aviation/skyline-air"], listen=f"127.0.0.1:{free_port()}"
    )
    with Deployment(config) as runtime:
        (restriction,) = enter(runtime.registry, [entry(0)])
    publish(config, "aviation")
    kept = ("registry.db", "repository")
    with (
        serving(config) as running,
        Screener.open(running.kit("skyline-air") / "tipstaff.toml", background=False) as screener,
    ):

        def verdict() -> Verdict:
            return screener.check(resident_id(0), name=name_of(0), measure=MEASURES[0]).verdict

        screener.sync()
        assert verdict() is Verdict.RESTRICTED
        shutil.copytree(config.folder / "repository", tmp_path / "backup" / "repository")
        shutil.copy2(config.folder / "registry.db", tmp_path / "backup" / "registry.db")
        with running.channel("authorities/court") as channel:
            request = registry_pb2.EndRestrictionRequest(
                restriction_id=restriction, kind=registry_pb2.END_KIND_RELEASE, reason="performed"
            )
            registry_pb2_grpc.RegistryServiceStub(channel).EndRestriction(request, timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while verdict() is not Verdict.CLEAR:
            assert time.monotonic() < deadline
            screener.sync()
        assert running.stop() == 0
        for name in kept:
            found = config.folder / name
            shutil.rmtree(found) if found.is_dir() else found.unlink()
            shutil.move(tmp_path / "backup" / name, found)
        with serving(config):
            with pytest.raises(UntrustedError, match=r"older|version"):
                screener.sync()
            assert verdict() is Verdict.CLEAR
            assert screener.status().last_error
