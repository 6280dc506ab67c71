"""Where the services listen: one port, mutual TLS 1.3, the gate in front, limits on what a
connection may send, and a health service.

No reflection: the contract is public, and who has no certificate has no business asking.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from tipstaff.v1 import (
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2_grpc,
    registry_pb2_grpc,
    statistics_pb2_grpc,
)
from tipstaff_server.certificates.caller import HEALTH
from tipstaff_server.certificates.revocation import Revocations
from tipstaff_server.certificates.server_files import ServerFiles, only_tls_13
from tipstaff_server.enforcement.lag import Allowed
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.errors import ConfigurationError, StorageError, StreamEnd
from tipstaff_server.logs import log_info
from tipstaff_server.rpc.admission import Admission, KnownProviders
from tipstaff_server.rpc.gate import Gate
from tipstaff_server.rpc.limits import CallerLimits
from tipstaff_server.services.dispute import DisputeService
from tipstaff_server.services.distribution import DistributionService
from tipstaff_server.services.enforcement import EnforcementService
from tipstaff_server.services.registry import RegistryService
from tipstaff_server.services.statistics import StatisticsService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from concurrent.futures import Executor

    from tipstaff_server.certificates.caller import Caller
    from tipstaff_server.config import Config
    from tipstaff_server.deployment import Deployment
    from tipstaff_server.distribution.feed import AudienceFeed

__all__ = ["Endpoint"]

# Larger than SDK keep-alive pings are apart, so that a quiet connection is not taken for an attack.
MIN_PING_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 20_000
# How long connections past their age may take to end what they are doing.
AGE_GRACE_MS = 60_000
# What a database column holds; a provider may claim anything.
MAX_VERSION = (1 << 63) - 1
SERVICES = tuple(
    f"tipstaff.v1.{name}Service"
    for name in ("Distribution", "Enforcement", "Registry", "Dispute", "Statistics")
)


class Endpoint:
    """The listening server.

    Raises ConfigurationError when certificates or the revocation list cannot be used.

    `lifted` is called after an act that relief has to carry; `threads` is where the endpoint's own
    blocking work runs.
    """

    def __init__(
        self,
        runtime: Deployment,
        feeds: Mapping[str, AudienceFeed],
        *,
        heartbeat_seconds: float,
        lifted: Callable[[], None],
        threads: Executor,
        acknowledging: Executor,
    ) -> None:
        server = runtime.config.server
        self._runtime = runtime
        self._feeds = feeds
        self._threads = threads
        self._acknowledging = acknowledging
        self._limits = CallerLimits(runtime.config.limits)
        files = runtime.config
        self._files = ServerFiles(
            *map(
                files.path,
                (server.certificate_file, server.private_key_file, server.client_ca_file),
            )
        )
        self._revocations = (
            None
            if server.client_crl_file is None
            else Revocations(
                files.path(server.client_crl_file),
                files.path(server.client_ca_file),
                clock=runtime.clock,
            )
        )
        self._admission = admission = Admission(
            revocations=self._revocations,
            providers=KnownProviders(self._providers),
            limits=self._limits,
            clock=runtime.clock,
        )
        self._gate = Gate(
            admission, call_seconds=server.call_timeout_seconds, stall_seconds=server.stall_seconds
        )
        self._health = health.HealthServicer()
        self._server = self._build(heartbeat_seconds, lifted)

    async def start(self) -> str:
        """Listens; the address with the port in use. Raises ConfigurationError when it cannot."""
        listen = self._runtime.config.server.listen
        try:
            port = self._server.add_secure_port(listen, self._files.credentials())
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {listen}; stop what listens there, or change [server] listen"
            ) from error
        for service in SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        return f"{listen.rpartition(':')[0]}:{port}"

    async def turn_away(self) -> None:
        """Ends streams whose certificate was revoked or has run out, or whose provider was removed,
        since they were opened.
        """
        if self._revocations is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._revocations.poll)
        with contextlib.suppress(StorageError):  # what was read last holds
            await self._admission.refresh()
        if ended := self._gate.turn_away():
            log_info("streams_turned_away", streams=ended)

    async def stop(self) -> None:
        """NOT_SERVING first, so that load balancers send nobody here; then streams end, calls
        finish, and the port closes.
        """
        server = self._runtime.config.server
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(server.drain_seconds)
        # Streams before the port: each would otherwise hold the server for the whole grace.
        for feed in self._feeds.values():
            feed.broadcaster.stop()
        self._gate.open_calls.end_where(
            lambda call: StreamEnd.STOPPING if call.method in HEALTH else None
        )
        await self._server.stop(server.stop_grace_seconds)

    def _build(self, heartbeat_seconds: float, lifted: Callable[[], None]) -> grpc.aio.Server:
        only_tls_13()
        server = grpc.aio.server(interceptors=[self._gate], options=_options(self._runtime.config))
        registry = self._runtime.registry
        distribution = DistributionService(
            self._runtime.repository,
            self._feeds,
            self._runtime.epochs,
            self._acknowledge,
            self._runtime.registry.remedies,
            limits=self._limits,
            heartbeat_seconds=heartbeat_seconds,
        )
        distribution_pb2_grpc.add_DistributionServiceServicer_to_server(distribution, server)
        enforcement_pb2_grpc.add_EnforcementServiceServicer_to_server(
            EnforcementService(Feedback(self._runtime.store)), server
        )
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(
            RegistryService(registry, lifted), server
        )
        dispute_pb2_grpc.add_DisputeServiceServicer_to_server(
            DisputeService(registry, lifted, self._limits), server
        )
        allowed = Allowed.of(self._runtime.config.publication)
        statistics_pb2_grpc.add_StatisticsServiceServicer_to_server(
            StatisticsService(registry, allowed), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _providers(self) -> Awaitable[Mapping[str, str]]:
        return asyncio.get_running_loop().run_in_executor(
            self._threads, self._runtime.registry.providers.audiences
        )

    async def _acknowledge(self, caller: Caller, enforced: distribution_pb2.StateVersion) -> None:
        record = partial(
            self._runtime.registry.providers.acknowledge,
            caller.name,
            listing_version=min(enforced.listing, MAX_VERSION),
            relief_sequence=min(enforced.relief_sequence, MAX_VERSION),
        )
        await asyncio.get_running_loop().run_in_executor(self._acknowledging, record)


def _options(config: Config) -> list[tuple[str, int]]:
    server = config.server
    return [
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_metadata_size", server.max_metadata_bytes // 2),
        ("grpc.absolute_max_metadata_size", server.max_metadata_bytes),
        ("grpc.max_concurrent_streams", server.max_streams_per_connection),
        ("grpc.server_handshake_timeout_ms", int(server.handshake_timeout_seconds * 1_000)),
        # A client that is gone, or stopped, is noticed; its streams end with its connection.
        ("grpc.keepalive_time_ms", int(server.keepalive_seconds * 1_000)),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
        # Each connection now and then begins anew: with a new handshake, perhaps at another
        # replica.
        ("grpc.max_connection_age_ms", int(server.connection_age_seconds * 1_000)),
        ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
        # Two servers on one port would answer in turns.
        ("grpc.so_reuseport", 0),
    ]
