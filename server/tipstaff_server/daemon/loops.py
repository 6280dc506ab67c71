"""The running server: grpc.aio over mutual TLS, and the loops beside it.

    relief loop      lifts in the registry -> signed -> published -> pushed; also keeps relief fresh
    repository loop  whatever anybody published -> pushed
    calendar loop    what is due by itself (schedule.py)
    audit loop       checkpoints of the audit log, when they are due
    certificate loop revoked certificates, and those that ran out -> their streams end
    listing loop     listings that are due again -> built and published by other processes
    stretch loop     a change of stretch under way -> keeps up with entries, takes over in time

Blocking work runs in threads; the event loop only moves bytes. A loop that fails says so in the log
and goes on.
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

from tipstaff_server.daemon.endpoint import Endpoint
from tipstaff_server.daemon.schedule import Scheduler
from tipstaff_server.distribution.feed import AudienceFeed
from tipstaff_server.logs import log_error, log_info, log_warning
from tipstaff_server.rpc.statuses import place_of
from tipstaff_server.services.distribution import HEARTBEAT_SECONDS
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tipstaff_server.deployment import Deployment

__all__ = ["Pace", "serve"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the loops look, in seconds."""

    relief: float = 0.05
    repository: float = 0.1
    calendar: float = 30.0
    audit: float = 30.0
    certificates: float = 0.5
    listing: float = 60.0
    stretch: float = 60.0
    heartbeat: float = HEARTBEAT_SECONDS
    after_failure: float = 1.0


async def serve(
    runtime: Deployment, *, config_file: Path, pace: Pace, ready_file: Path | None
) -> None:
    """Serves until SIGTERM or SIGINT, then lets streams end and calls finish.

    Raises ConfigurationError when it cannot listen.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.set_default_executor(
        ThreadPoolExecutor(runtime.config.server.threads, thread_name_prefix="tipstaff")
    )
    await _Server(runtime, config_file, pace).run(stopping, ready_file)


class _Server:
    def __init__(self, runtime: Deployment, config_file: Path, pace: Pace) -> None:
        self._runtime = runtime
        self._config_file = config_file
        self._pace = pace
        self._feeds = {
            audience: AudienceFeed(runtime.repository, audience)
            for audience in runtime.repository.audiences()
        }
        # Relief must not wait for a crowd of calls, nor calls for a crowd of returning watchers:
        # threads of their own.
        self._own_threads = ThreadPoolExecutor(4, thread_name_prefix="tipstaff-loop")
        self._acknowledging = ThreadPoolExecutor(1, thread_name_prefix="tipstaff-acknowledge")
        self._pushing = {audience: asyncio.Lock() for audience in self._feeds}
        self._lifted = asyncio.Event()
        self._seen_head = -1
        self._scheduler = Scheduler(runtime.registry, runtime.clock)

    async def run(self, stopping: asyncio.Event, ready_file: Path | None) -> None:
        endpoint = Endpoint(
            self._runtime,
            self._feeds,
            heartbeat_seconds=self._pace.heartbeat,
            lifted=self._lifted.set,
            threads=self._own_threads,
            acknowledging=self._acknowledging,
        )
        address = await endpoint.start()
        loops = [
            asyncio.create_task(self._forever("relief", self._relief_step)),
            asyncio.create_task(self._forever("refresh", self._refresh_step)),
            asyncio.create_task(self._forever("repository", self._repository_step)),
            asyncio.create_task(self._forever("calendar", self._calendar_step)),
            asyncio.create_task(self._forever("audit", self._audit_step)),
            asyncio.create_task(self._forever("listing", self._listing_step)),
            asyncio.create_task(self._forever("stretch", self._stretch_step)),
            asyncio.create_task(
                self._forever("certificates", partial(self._certificate_step, endpoint))
            ),
        ]
        print(f"tipstaff-server: ready on {address}", flush=True)
        log_info("ready", address=address, audiences=sorted(self._feeds))
        if ready_file is not None:
            write_atomic(ready_file, f"{address}\n".encode())
        await stopping.wait()
        log_info("stopping")
        await endpoint.stop()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for threads in (self._own_threads, self._acknowledging):
            threads.shutdown(cancel_futures=True)
        log_info("stopped")

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Blocking work of a loop, in the loops' own threads."""
        return await asyncio.get_running_loop().run_in_executor(
            self._own_threads, partial(work, *arguments)
        )

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # noqa: BLE001  one bad moment (a full disk, a locked database) must not end relief for good
                log_error("loop_failed", loop=name, error=type(error).__name__, at=place_of(error))
                await asyncio.sleep(self._pace.after_failure)

    async def _relief_step(self) -> None:
        """Waits for an act of this process, or looks whether another one acted; then publishes and
        pushes.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.relief):
                await self._lifted.wait()
        self._lifted.clear()
        head = await self._run(self._runtime.registry.relief.head)
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

    async def _certificate_step(self, endpoint: Endpoint) -> None:
        await endpoint.turn_away()
        await asyncio.sleep(self._pace.certificates)

    async def _calendar_step(self) -> None:
        looked = await self._run(self._scheduler.look)
        if looked.waiting:
            log_error("clock_jumped")
        if looked.disputes.reminded or looked.disputes.overdue:
            log_warning(
                "disputes", reminded=looked.disputes.reminded, overdue=looked.disputes.overdue
            )
        done = looked.remedies
        if done.opened or done.reminded or done.overdue:
            log_warning(
                "remedies", opened=done.opened, reminded=done.reminded, overdue=done.overdue
            )
        await asyncio.sleep(self._pace.calendar)

    async def _audit_step(self) -> None:
        """Signs the audit log and puts the checkpoint where somebody else fetches it."""
        checkpointing = self._runtime.checkpoints
        if not await self._run(checkpointing.can_sign):
            log_warning("audit_key_missing", remedy="tipstaff-server keys new audit --folder keys")
            await asyncio.sleep(self._runtime.config.audit.checkpoint_seconds)
        elif made := await self._run(checkpointing.make_due, self._runtime.config.audit):
            log_info("audit_checkpoint", entries=made.sequence)
        await asyncio.sleep(self._pace.audit)

    async def _stretch_step(self) -> None:
        """Does nothing at nearly all times."""
        await asyncio.sleep(self._pace.stretch)
        if (state := await self._run(self._runtime.registry.stretch_change.tend)) is not None:
            log_info("stretch", state=state)

    async def _listing_step(self) -> None:
        """Renews listings before they grow old.

        The first one of an audience is the operator's to publish.
        """
        await asyncio.sleep(self._pace.listing)
        if due := await self._run(self._due):
            command = [
                sys.executable,
                "-m",
                "tipstaff_server",
                "publish",
                "--config",
                str(self._config_file),
            ]
            command += [argument for audience in due for argument in ("--audience", audience)]
            status = await _run_process(command)
            (log_info if status == 0 else log_warning)(
                "listings_renewed", audiences=due, status=status
            )
            if status != 0:
                # Refused, or something is wrong that a person has to look at: building again at
                # once would not help.
                await asyncio.sleep(self._runtime.config.publication.listing_interval_seconds / 24)

    def _due(self) -> list[str]:
        interval = timedelta(seconds=self._runtime.config.publication.listing_interval_seconds)
        due: list[str] = []
        for audience in self._feeds:
            parameters = self._runtime.published(audience).parameters()
            if (
                parameters is not None
                and parameters.built_at.ToDatetime(UTC) + interval <= self._runtime.clock()
            ):
                due.append(audience)
        return due


async def _run_process(command: list[str]) -> int:
    """Runs a command to its end; ends it when we are stopped."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
