"""What a provider transfers and waits for: a listing of ten million subjects, a real server
process, a real SDK, mutual TLS over loopback.

    first       nothing is there: keys, metadata, filter and pack
    unchanged   again, when nothing happened; the median of some
    delta       after a new listing with 10,000 changes
    relief      after 100 lifts, acted in the registry and published by the server
    full        everything anew into an empty folder, for comparison

Bytes are those of the TCP connection in both directions (TCP_INFO), so TLS, HTTP/2, questions and
answers are among them; the packets' own headers are not. Milliseconds run from the call until what
came is verified, on disk (fsync) and in use. The processor's time is this process's alone, all
threads, so the SDK's. The server's limit on bytes a second is lifted: it would be what is measured.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import numpy as np

from benchmarks.bulk import SEALED_BYTES, Bulk
from benchmarks.support.plan import Figures
from tests.support.server import enter, entry, name_of, resident_id
from tipstaff.v1 import registry_pb2, registry_pb2_grpc
from tipstaff_sdk import Reason, Screener, Verdict
from tipstaff_server.deployment import Deployment
from tipstaff_server.workdir import make as workdir
from tipstaff_server.workdir.layout import Provider, WorkDirPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.support.plan import Plan
    from tipstaff_server.config import Config

AUDIENCE: Final = "aviation"
MEASURE: Final = "AIR_TRAVEL"
PROVIDER: Final = "full-sdk"
SECONDS: Final = 120
UNCHANGED: Final = 20
_LIMIT: Final = str(1 << 40)
_TCP_INFO_BYTES: Final = 192
_ACKED_AND_RECEIVED: Final = struct.Struct("=QQ")  # tcpi_bytes_acked, tcpi_bytes_received
_ACKED_AT: Final = 120


@dataclass(frozen=True)
class Cost:
    """Of one synchronisation: bytes received and sent, milliseconds of the clock and of this
    process's processor time.
    """

    received: int
    sent: int
    ms: float
    cpu_ms: float

    @property
    def bytes(self) -> int:
        """Both directions."""
        return self.received + self.sent


def run(plan: Plan) -> Figures:
    """The suite."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tipstaff-sync-")))
        config, restrictions = _deployment(folder, plan.lifts)
        runtime = stack.enter_context(Deployment(config))
        work = folder / "build"
        work.mkdir()
        bulk = Bulk(runtime, AUDIENCE, work, plan.sync_size)
        listing = bulk.publish()
        _sign_relief(runtime)
        address = stack.enter_context(_serving(config))
        screener = stack.enter_context(_screener(config, folder / "state"))
        first = _measured(address, screener.sync)
        _expect(screener, 0, Verdict.RESTRICTED)
        unchanged = _median([_measured(address, screener.sync) for _ in range(UNCHANGED)])
        changed = bulk.publish_changed(plan.changes)
        delta = _measured(address, screener.sync)
        assert screener.status().listing_version == runtime.repository.versions(AUDIENCE).listing
        _lift(config, address, runtime, restrictions)
        relief = _measured(address, screener.sync)
        for number in range(len(restrictions)):
            _expect(screener, number, Verdict.CLEAR)
        screener.close()
        opened = _opened(config, folder / "state")
        shutil.rmtree(folder / "state")
        again = stack.enter_context(_screener(config, folder / "other"))
        full = _measured(address, again.sync)
        _expect(again, 0, Verdict.CLEAR)
    costs = {"first": first, "unchanged": unchanged, "delta": delta, "relief": relief, "full": full}
    flat: dict[str, float | None] = {}
    for name, cost in costs.items():
        flat |= {f"sync_{name}_bytes": cost.bytes, f"sync_{name}_ms": round(cost.ms, 1)}
    flat["sync_delta_vs_full"] = round(full.bytes / delta.bytes, 1)
    return Figures(
        flat=flat,
        details={
            "subjects": plan.sync_size,
            "changes": plan.changes,
            "lifts": len(restrictions),
            "record_bytes": SEALED_BYTES,
            "listing_bytes": dict(listing.sizes),
            "changed_listing_bytes": dict(changed.sizes),
            "delta_vs_full_ms": round(full.ms / delta.ms, 1),
            "relief_bytes_per_lift": round(relief.bytes / len(restrictions), 1),
            "open_ms": round(opened, 1),
            **{
                name: {
                    "received": cost.received,
                    "sent": cost.sent,
                    "cpu_ms": round(cost.cpu_ms, 1),
                }
                for name, cost in costs.items()
            },
        },
    )


def _measured(address: str, sync: Callable[[], object]) -> Cost:
    received, sent = _transferred(address)
    begin, cpu = time.perf_counter(), time.process_time()
    sync()
    ms, cpu_ms = (time.perf_counter() - begin) * 1e3, (time.process_time() - cpu) * 1e3
    received_after, sent_after = _transferred(address)
    return Cost(received_after - received, sent_after - sent, ms, cpu_ms)


def _median(costs: Sequence[Cost]) -> Cost:
    rows = np.array([(cost.received, cost.sent, cost.ms, cost.cpu_ms) for cost in costs])
    received, sent, ms, cpu_ms = np.median(rows, axis=0).tolist()
    return Cost(int(received), int(sent), ms, cpu_ms)


def _transferred(address: str) -> tuple[int, int]:
    """Bytes received and sent by this process's connections to the server."""
    port, received, sent = int(address.rpartition(":")[2]), 0, 0
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            if not link.readlink().name.startswith("socket:"):
                continue
        except FileNotFoundError:  # the folder's own
            continue
        with socket.socket(fileno=os.dup(int(link.name))) as connection:
            try:
                if connection.getpeername()[1] != port:
                    continue
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            except (OSError, IndexError):  # not connected, or not TCP
                continue
            acked, came = _ACKED_AND_RECEIVED.unpack_from(info, _ACKED_AT)
            received, sent = received + came, sent + acked
    return received, sent


def _opened(config: Config, state: Path) -> float:
    """Milliseconds until another screener has verified what is on disk, without the network."""
    begin = time.perf_counter()
    with _screener(config, state) as screener:
        took = time.perf_counter() - begin
        assert screener.status().listing_version
    return took * 1e3


def _expect(screener: Screener, number: int, verdict: Verdict) -> None:
    decision = screener.check(resident_id(number), name=name_of(number), measure=MEASURE)
    assert decision.verdict is verdict, decision
    assert verdict is not Verdict.CLEAR or decision.reason is Reason.LIFTED, decision


def _screener(config: Config, state: Path) -> Screener:
    return Screener.open(
        config.folder / "providers" / PROVIDER / "tipstaff.toml", state_dir=state, background=False
    )


def _deployment(folder: Path, people: int) -> tuple[Config, list[bytes]]:
    """A working directory, and restrictions on `people` persons in its registry."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    config = workdir.initialise(
        folder / "operator",
        WorkDirPlan.of([AUDIENCE], [Provider(AUDIENCE, PROVIDER)], listen, 2),
    )
    with Deployment(config) as runtime:
        return config, enter(
            runtime.registry, [entry(number, [MEASURE]) for number in range(people)]
        )


def _sign_relief(runtime: Deployment) -> None:
    """Relief is signed once, as a running server would have done long ago."""
    runtime.repository.refresh(
        AUDIENCE,
        runtime.keys.signer(f"relief-{AUDIENCE}"),
        runtime.keys.signer("snapshot"),
        runtime.keys.signer("timestamp"),
    )


def _lift(config: Config, address: str, runtime: Deployment, restrictions: Sequence[bytes]) -> None:
    """The court ends every restriction; returns when the server has published all of that."""
    files = ("ca.pem", "private_key.pem", "certificate.pem")
    credentials = grpc.ssl_channel_credentials(
        *((config.folder / "authorities" / "court" / name).read_bytes() for name in files)
    )
    sequence = 0
    with grpc.secure_channel(
        address, credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        registry = registry_pb2_grpc.RegistryServiceStub(channel)
        for restriction in restrictions:
            request = registry_pb2.EndRestrictionRequest(
                restriction_id=restriction, kind=registry_pb2.END_KIND_RELEASE, reason="performed"
            )
            sequence = registry.EndRestriction(request, timeout=SECONDS).relief_sequence
    deadline = time.monotonic() + SECONDS
    while runtime.published(AUDIENCE).relief_head() < sequence:
        assert time.monotonic() < deadline, "the server did not publish relief"
        time.sleep(0.02)


@contextmanager
def _serving(config: Config) -> Iterator[str]:
    """`tipstaff-server serve` without its limit on downloads: its address."""
    ready = config.folder / "ready"
    limits = {
        f"TIPSTAFF_SERVER__LIMITS__ARTEFACT_{name}": _LIMIT
        for name in ("BYTES_PER_SECOND", "BURST_BYTES")
    }
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
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **limits})
    try:
        deadline = time.monotonic() + SECONDS
        while not ready.exists():
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not get ready"
            time.sleep(0.02)
        yield ready.read_text(encoding="utf-8").strip()
    finally:
        process.terminate()
        process.wait(SECONDS)
