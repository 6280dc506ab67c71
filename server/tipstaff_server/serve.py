"""The running server: grpc.aio over mutual TLS, and the loops beside it.

    relief loop      lifts in the registry -> signed -> published -> pushed; also keeps relief fresh
    repository loop  whatever anybody published -> pushed
    calendar loop    restrictions whose notice or term is over
    listing loop     listings that are due again -> built, signed off and published by other processes

Blocking work runs in threads; the event loop only moves bytes. A loop that fails says so in the log and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc

from tipstaff.v1 import (
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2_grpc,
    registry_pb2_grpc,
    statistics_pb2_grpc,
)
from tipstaff_server.errors import ConfigurationError
from tipstaff_server.feed import AudienceFeed
from tipstaff_server.feedback import Feedback
from tipstaff_server.gate import Gate
from tipstaff_server.logs import log_error, log_info, log_warning
from tipstaff_server.rpc_errors import place_of
from tipstaff_server.services.dispute import DisputeService
from tipstaff_server.services.distribution import HEARTBEAT_SECONDS, DistributionService
from tipstaff_server.services.enforcement import EnforcementService
from tipstaff_server.services.registry import RegistryService
from tipstaff_server.services.statistics import StatisticsService
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tipstaff_server.config import Config
    from tipstaff_server.runtime import Runtime
    from tipstaff_server.tls_identity import Caller

__all__ = ["Pace", "serve"]

# Larger than SDK keep-alive pings are apart, so that a quiet connection is not taken for an attack.
MIN_PING_MS = 10_000
MAX_STREAMS_PER_CONNECTION = 100
# What a database column holds; a provider may claim anything.
MAX_VERSION = (1 << 63) - 1

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the loops look, in seconds."""

    relief: float = 0.05
    repository: float = 0.1
    calendar: float = 30.0
    listing: float = 60.0
    heartbeat: float = HEARTBEAT_SECONDS
    after_failure: float = 1.0


async def serve(runtime: Runtime, *, config_file: Path, pace: Pace, ready_file: Path | None) -> None:
    """Serves until SIGTERM or SIGINT, then lets streams end and calls finish. Raises ConfigurationError when it cannot listen."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.set_default_executor(ThreadPoolExecutor(runtime.config.server.threads, thread_name_prefix="tipstaff"))
    await _Server(runtime, config_file, pace).run(stopping, ready_file)


class _Server:
    def __init__(self, runtime: Runtime, config_file: Path, pace: Pace) -> None:
        self._runtime = runtime
        self._config_file = config_file
        self._pace = pace
        self._feeds = {audience: AudienceFeed(runtime.repository, audience) for audience in runtime.repository.audiences()}
        # Relief must not wait for a crowd of calls, nor calls for a crowd of returning watchers: threads of their own.
        self._own_threads = ThreadPoolExecutor(4, thread_name_prefix="tipstaff-loop")
        self._acknowledging = ThreadPoolExecutor(1, thread_name_prefix="tipstaff-acknowledge")
        self._pushing = {audience: asyncio.Lock() for audience in self._feeds}
        self._lifted = asyncio.Event()
        self._seen_head = -1

    async def run(self, stopping: asyncio.Event, ready_file: Path | None) -> None:
        server, address = self._bind()
        await server.start()
        loops = [
            asyncio.create_task(self._forever("relief", self._relief_step)),
            asyncio.create_task(self._forever("refresh", self._refresh_step)),
            asyncio.create_task(self._forever("repository", self._repository_step)),
            asyncio.create_task(self._forever("calendar", self._calendar_step)),
            asyncio.create_task(self._forever("listing", self._listing_step)),
        ]
        print(f"tipstaff-server: ready on {address}", flush=True)
        log_info("ready", address=address, audiences=sorted(self._feeds))
        if ready_file is not None:
            write_atomic(ready_file, f"{address}\n".encode())
        await stopping.wait()
        log_info("stopping")
        for task in loops:
            task.cancel()
        # Streams first: each would otherwise hold the server for the whole grace.
        for feed in self._feeds.values():
            feed.broadcaster.stop()
        await server.stop(self._runtime.config.server.stop_grace_seconds)
        await asyncio.gather(*loops, return_exceptions=True)
        for threads in (self._own_threads, self._acknowledging):
            threads.shutdown(cancel_futures=True)
        log_info("stopped")

    def _bind(self) -> tuple[grpc.aio.Server, str]:
        config = self._runtime.config
        limit = config.server.max_message_bytes
        server = grpc.aio.server(
            interceptors=[Gate()],
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
                ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                # Two servers on one port would answer in turns.
                ("grpc.so_reuseport", 0),
            ],
        )
        self._add_services(server)
        host = config.server.listen.rpartition(":")[0]
        try:
            port = server.add_secure_port(config.server.listen, _credentials(config))
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {config.server.listen}; stop what listens there, or change [server] listen"
            ) from error
        return server, f"{host}:{port}"

    def _add_services(self, server: grpc.aio.Server) -> None:
        runtime = self._runtime
        registry = runtime.registry
        distribution = DistributionService(
            runtime.repository, self._feeds, runtime.epochs, self._acknowledge, heartbeat_seconds=self._pace.heartbeat
        )
        distribution_pb2_grpc.add_DistributionServiceServicer_to_server(distribution, server)
        enforcement_pb2_grpc.add_EnforcementServiceServicer_to_server(
            EnforcementService(Feedback(registry.database, clock=runtime.clock)), server
        )
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(RegistryService(registry, self._lifted.set), server)
        dispute_pb2_grpc.add_DisputeServiceServicer_to_server(DisputeService(registry, self._lifted.set), server)
        statistics_pb2_grpc.add_StatisticsServiceServicer_to_server(StatisticsService(registry.database), server)

    async def _acknowledge(self, caller: Caller, enforced: distribution_pb2.StateVersion) -> None:
        record = partial(
            self._runtime.registry.acknowledge,
            caller.name,
            listing_version=min(enforced.listing, MAX_VERSION),
            relief_sequence=min(enforced.relief_sequence, MAX_VERSION),
        )
        await asyncio.get_running_loop().run_in_executor(self._acknowledging, record)

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Blocking work of a loop, in the loops' own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._own_threads, partial(work, *arguments))

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # noqa: BLE001  one bad moment (a full disk, a locked database) must not end relief for good
                log_error("loop_failed", loop=name, error=type(error).__name__, at=place_of(error))
                await asyncio.sleep(self._pace.after_failure)

    async def _relief_step(self) -> None:
        """Waits for an act of this process, or looks whether another one acted; then publishes and pushes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.relief):
                await self._lifted.wait()
        self._lifted.clear()
        head = await self._run(self._runtime.registry.relief_head)
        if head == self._seen_head:
            return
        for audience in self._feeds:
            lifts = await self._run(self._runtime.relief.publish, audience)
            if lifts:
                log_info("relief_published", audience=audience, lifts=lifts, head=head)
                await self._push(audience)
        self._seen_head = head

    async def _refresh_step(self) -> None:
        every = self._runtime.config.publication.relief_refresh_seconds
        for audience in self._feeds:
            if await self._run(self._runtime.relief.refresh, audience, timedelta(seconds=every)):
                await self._push(audience)
        await asyncio.sleep(min(every / 10, 10.0))

    async def _repository_step(self) -> None:
        for audience in self._feeds:
            await self._push(audience)
        await asyncio.sleep(self._pace.repository)

    async def _push(self, audience: str) -> None:
        feed = self._feeds[audience]
        # One at a time: a bundle builds on the one before, so they must not overtake each other.
        async with self._pushing[audience]:
            message = await self._run(feed.poll)
            dropped = feed.broadcaster.publish(message) if message is not None else 0
        if dropped:
            log_warning("slow_watchers_dropped", audience=audience, dropped=dropped)

    async def _calendar_step(self) -> None:
        await self._run(self._runtime.registry.expire_due, self._runtime.clock())
        await asyncio.sleep(self._pace.calendar)

    async def _listing_step(self) -> None:
        """Renews listings before they grow old. The first one of an audience is the operator's to publish."""
        await asyncio.sleep(self._pace.listing)
        if due := await self._run(self._due):
            command = [sys.executable, "-m", "tipstaff_server", "publish", "--config", str(self._config_file)]
            command += [argument for audience in due for argument in ("--audience", audience)]
            status = await _run_process(command)
            (log_info if status == 0 else log_warning)("listings_renewed", audiences=due, status=status)
            if status != 0:
                # Refused, or something is wrong that a person has to look at: building again at once would not help.
                await asyncio.sleep(self._runtime.config.publication.listing_interval_seconds / 24)

    def _due(self) -> list[str]:
        interval = timedelta(seconds=self._runtime.config.publication.listing_interval_seconds)
        due: list[str] = []
        for audience in self._feeds:
            parameters = self._runtime.published(audience).parameters(self._runtime.repository.versions(audience))
            if parameters is not None and parameters.built_at.ToDatetime(UTC) + interval <= self._runtime.clock():
                due.append(audience)
        return due


async def _run_process(command: list[str]) -> int:
    """Runs a command to its end; ends it when we are stopped."""
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _credentials(config: Config) -> grpc.ServerCredentials:
    """Mutual TLS: a client without a certificate of our authority does not get as far as a call."""
    server = config.server
    try:
        key, certificate, authority = (
            config.path(path).read_bytes() for path in (server.private_key_file, server.certificate_file, server.client_ca_file)
        )
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read ({error.strerror}); see [server] in tipstaff-server.toml") from error
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)
