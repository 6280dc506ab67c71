"""Relief, from the act to everybody who watches: 1,000 providers with certificates and connections
of their own, clients and server on this one machine.

A court's client ends a restriction over the contract; the clock starts before its call. Delivered:
a provider's watch has a message that carries the lift. Clear: a full SDK among them has verified it
and answers CLEAR. The lifts come one by one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from benchmarks.support.plan import Figures
from tests.support.server import enter, entry, name_of, resident_id
from tipstaff.v1 import registry_pb2, registry_pb2_grpc
from tipstaff_sdk import Screener, Verdict
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_server.workdir import make as workdir
from tipstaff_server.workdir.layout import Provider, WorkDirPlan, development_authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.support.plan import Plan
    from tipstaff_server.config import Config

PROCESSES: Final = 2
WARM_UP: Final = 3
PAUSE_SECONDS: Final = 0.25
SECONDS: Final = 60
AUDIENCE: Final = "aviation"
MEASURE: Final = "AIR_TRAVEL"


@dataclass
class Crowd:
    """The processes that watch."""

    processes: Sequence[subprocess.Popen[str]]

    def ask(self, command: str) -> list[Any]:
        """Each process's answer; they work at the same time."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(command + "\n")
            process.stdin.flush()
        return [json.loads(self._line(process)) for process in self.processes]

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "a process of watchers ended"
        return line


def run(plan: Plan) -> Figures:
    """The suite."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tipstaff-watch-")))
        config, restrictions = _deployment(folder, plan.watchers, plan.lifts + WARM_UP)
        address, server = stack.enter_context(_serving(config))
        idle = _memory(server, "VmRSS")
        crowd = stack.enter_context(_crowd(address, folder))
        opened = max(crowd.ask("open"))
        screener = stack.enter_context(
            Screener.open(config.folder / "providers" / "full-sdk" / "tipstaff.toml")
        )
        assert screener.wait_ready(SECONDS)
        court = stack.enter_context(_channel(address, config.folder / "authorities" / "court"))
        acts = [
            _lift(court, screener, number, restriction)
            for number, restriction in enumerate(restrictions)
        ][WARM_UP:]
        reports = [watch for process in crowd.ask("report") for watch in process]
        reopened = max(crowd.ask("reopen"))
        memory, peak = _memory(server, "VmRSS"), _memory(server, "VmHWM")
    delivered = (
        np.array([[_arrival(watch, act.sequence) - act.began for act in acts] for watch in reports])
        / 1e6
    )
    clear = np.array([act.clear - act.began for act in acts]) / 1e6
    act_ms = np.array([act.acted - act.began for act in acts]) / 1e6
    return Figures(
        flat={
            "relief_delivery_p50_ms": round(float(np.percentile(delivered, 50)), 1),
            "relief_delivery_p99_ms": round(float(np.percentile(delivered, 99)), 1),
            "relief_clear_p99_ms": round(float(np.percentile(clear, 99)), 1),
            "watch_server_rss_mb": round(memory, 1),
        },
        details={
            "watchers": len(reports),
            "connections": len(reports),
            "lifts": len(acts),
            "delivery_max_ms": round(float(delivered.max()), 1),
            "delivery_of_the_last_watcher_p50_ms": round(
                float(np.percentile(delivered.max(axis=0), 50)), 1
            ),
            "clear_p50_ms": round(float(np.percentile(clear, 50)), 1),
            "act_p50_ms": round(float(np.percentile(act_ms, 50)), 1),
            "open_all_seconds": round(opened, 2),
            "reopen_all_seconds": round(reopened, 2),
            "server_rss_idle_mb": round(idle, 1),
            "server_rss_peak_mb": round(peak, 1),
        },
    )


@dataclass(frozen=True)
class Act:
    """One lift: its sequence, and when (nanoseconds of CLOCK_MONOTONIC) it was asked for, answered,
    and clear in the SDK.
    """

    sequence: int
    began: int
    acted: int
    clear: int


def _lift(court: grpc.Channel, screener: Screener, number: int, restriction: bytes) -> Act:
    def verdict() -> Verdict:
        return screener.check(resident_id(number), name=name_of(number), measure=MEASURE).verdict

    assert verdict() is Verdict.RESTRICTED
    request = registry_pb2.EndRestrictionRequest(
        restriction_id=restriction, kind=registry_pb2.END_KIND_RELEASE, reason="performed"
    )
    began = time.monotonic_ns()
    sequence = (
        registry_pb2_grpc.RegistryServiceStub(court)
        .EndRestriction(request, timeout=SECONDS)
        .relief_sequence
    )
    acted = time.monotonic_ns()
    while verdict() is not Verdict.CLEAR:
        assert time.monotonic_ns() - began < SECONDS * 10**9, "relief did not come"
        time.sleep(0.001)
    clear = time.monotonic_ns()
    time.sleep(PAUSE_SECONDS)
    return Act(sequence, began, acted, clear)


def _arrival(watch: Sequence[tuple[int, int]], sequence: int) -> int:
    return next(at for seen, at in watch if seen >= sequence)


def _deployment(folder: Path, watchers: int, people: int) -> tuple[Config, list[bytes]]:
    """A working directory, `people` persons listed, certificates of `watchers` providers in folders
    of their own.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    plan = WorkDirPlan.of([AUDIENCE], [Provider(AUDIENCE, "full-sdk")], listen, 2)
    config = workdir.initialise(folder / "operator", plan)
    authority = development_authority(config)
    with Deployment(config) as runtime:
        restrictions = enter(
            runtime.registry, [entry(number, [MEASURE]) for number in range(people)]
        )
        for number in range(watchers):
            name = f"watcher-{number}"
            runtime.registry.providers.add(name, AUDIENCE, actor=Actor.operator("benchmark"))
            pairs = folder / f"watchers-{number % PROCESSES}"
            pairs.mkdir(exist_ok=True)
            authority.issue_client(f"tipstaff://provider/{AUDIENCE}/{name}").write(
                pairs, f"{name}.pem", f"{name}.key"
            )
            (pairs / "ca.pem").write_bytes(authority.certificate)
        build(runtime, AUDIENCE)
        sign_off(runtime, AUDIENCE)
        publishing.publish(runtime, AUDIENCE)
    return config, restrictions


@contextmanager
def _serving(config: Config) -> Iterator[tuple[str, int]]:
    """`tipstaff-server serve`: its address and process id."""
    ready = config.folder / "ready"
    command = [
        sys.executable,
        "-m",
        "tipstaff_server",
        "serve",
        "--config",
        str(config.folder),
        "--ready-file",
        str(ready),
    ]
    with (config.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while not ready.exists():
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not get ready"
            time.sleep(0.02)
        yield ready.read_text(encoding="utf-8").strip(), process.pid
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextmanager
def _crowd(address: str, folder: Path) -> Iterator[Crowd]:
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.support.watchers",
                address,
                str(folder / f"watchers-{number}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(PROCESSES)
    ]
    try:
        yield Crowd(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def _channel(address: str, folder: Path) -> Iterator[grpc.Channel]:
    files = ("ca.pem", "private_key.pem", "certificate.pem")
    with grpc.secure_channel(
        address, grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in files))
    ) as channel:
        yield channel


def _memory(process: int, key: str) -> float:
    """MiB, from /proc."""
    found = re.search(
        rf"{key}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    )
    assert found is not None
    return int(found[1]) / 1024
