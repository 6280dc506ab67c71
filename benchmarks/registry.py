"""A registry of millions of subjects in PostgreSQL: import, build, sign-off, and acts while a
server is up, as an operator does it.

The list is imported by `tipstaff-server import`, all of its subjects are in the listing of one
audience that `build` makes; a court's client releases restrictions and looks people up over mutual
TLS; and `sign-off` looks at the listing, lifts and all. Stretching is set to its cheapest, so that
the rest shows; what it costs stands beside.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np

from benchmarks.support.big_list import case_number, write_list
from benchmarks.support.database import Postgres, postgres
from benchmarks.support.plan import Figures
from benchmarks.support.processes import Ran, run_command
from tipstaff.v1 import registry_pb2, registry_pb2_grpc
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.sealing import Stretch
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.workdir import make as workdir
from tipstaff_server.workdir.layout import WorkDirPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.support.plan import Plan

__all__ = ["run"]

AUDIENCE: Final = "aviation"
AUTHORITY: Final = "court"
LIST: Final = "joint-discipline"
SECONDS: Final = 120
SEED: Final = 20_160_933
CHEAPEST: Final = (2, 1)  # N and r of scrypt; p is 1
USUAL: Final = (1 << 12, 8)
URL: Final = "TIPSTAFF_SERVER__DATABASE__URL"
CHEAP_R: Final = "TIPSTAFF_SERVER__STRETCH__R"


def run(plan: Plan) -> Figures:
    """The suite.

    With `plan.keep` the steps that a run before has finished there are not done again.
    """
    folder = plan.keep or Path(tempfile.mkdtemp(prefix="tipstaff-registry-"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "figures.json"
    if plan.keep is not None and not file.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds other things; name an empty or a new one")
    figures = _Done(file, plan.registry_subjects)
    figures.keep()
    try:
        if not figures.has("import"):
            # A list that is half in cannot be timed.
            for started in ("operator", "postgres"):
                shutil.rmtree(folder / started, ignore_errors=True)
        database = postgres(folder / "postgres" if plan.keep else None)
        with database as server, _environment({URL: server.url, CHEAP_R: str(CHEAPEST[1])}):
            _measure(plan, server, folder, figures)
    finally:
        if plan.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return figures.found


class _Done:
    """The figures of the steps that are through, kept in a file."""

    def __init__(self, file: Path, subjects: int) -> None:
        self._file = file
        self.found = Figures(flat={"registry_subjects": subjects})
        if file.exists():
            kept = json.loads(file.read_text("utf-8"))
            if kept["flat"]["registry_subjects"] == subjects:
                self.found = Figures(**kept)

    def has(self, step: str) -> bool:
        return step in self.found.details

    def keep(self) -> None:
        self._file.write_text(
            json.dumps({"flat": self.found.flat, "details": self.found.details}), encoding="utf-8"
        )


def _measure(plan: Plan, database: Postgres, folder: Path, done: _Done) -> None:
    figures = done.found
    file = folder / "list.csv"
    began = time.perf_counter()
    # By the seed the same each time; the acts want the numbers.
    people = write_list(file, plan.registry_subjects, SEED)
    figures.details["list"] = {
        "rows": plan.registry_subjects,
        "seconds": round(time.perf_counter() - began, 1),
    }
    figures.details["postgres"] = {
        "settings": database.settings,
        "version": database.ask("SHOW server_version")[0][0],
    }
    config = (
        Config.load(folder / "operator") if done.has("import") else _deployment(folder / "operator")
    )
    steps: dict[str, Callable[[], None]] = {
        "import": lambda: _import(figures, plan, database, config, file),
        "build": lambda: _build(figures, config),
        "acts": lambda: _acts(figures, plan, database, people, config),
        "sign_off": lambda: _sign_off(figures, config),
    }
    for step, measure in steps.items():
        if not done.has(step):
            sys.stderr.write(f"registry: {step} ...\n")
            measure()
            done.keep()
        file.unlink(missing_ok=True)


def _import(figures: Figures, plan: Plan, database: Postgres, config: Config, file: Path) -> None:
    spent = database.cpu_seconds()
    ran = run_command(
        "import",
        str(file),
        "--authority",
        AUTHORITY,
        "--list",
        LIST,
        "--config",
        str(config.folder),
        "--json",
    )
    result = json.loads(ran.output)
    # Some numbers of so many come up twice, with another name: those rows are refused, as they
    # should be.
    assert result["created"] >= 0.999 * plan.registry_subjects, result
    figures.flat["registry_import_rows_per_s"] = round(plan.registry_subjects / ran.seconds)
    figures.flat["registry_import_rss_mb"] = round(ran.peak_mb, 1)
    spent = database.cpu_seconds() - spent
    began = time.perf_counter()
    database.ask("VACUUM ANALYZE")
    figures.flat["registry_database_mb"] = round(
        database.ask("SELECT pg_database_size('postgres')")[0][0] / 2**20
    )
    _stretch(figures)
    figures.details["import"] = {
        **_figures(ran),
        "cpu_us_per_row": round(1e6 * ran.cpu_seconds / plan.registry_subjects, 1),
        "postgres_cpu_us_per_row": round(1e6 * spent / plan.registry_subjects, 1),
        "created": result["created"],
        "rejected": result["rejected"],
        "file_mb": round(file.stat().st_size / 2**20),
        "vacuum_analyze_seconds": round(time.perf_counter() - began, 1),
    }


def _stretch(figures: Figures) -> None:
    identifier = Identifier.resident_id("11010519491231002X")
    for key, (n, r), count in (
        ("registry_stretch_cheapest_ms", CHEAPEST, 2_000),
        ("registry_stretch_ms", USUAL, 20),
    ):
        stretch = Stretch(bytes(16), n, r, 1)
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            stretch.stretch(identifier)
            times.append(time.perf_counter() - began)
        figures.flat[key] = round(1e3 * float(np.median(times)), 4)


def _build(figures: Figures, config: Config) -> None:
    built = run_command("build", "--audience", AUDIENCE, "--config", str(config.folder))
    figures.flat["registry_build_seconds"] = round(built.seconds, 1)
    figures.flat["registry_build_rss_mb"] = round(built.peak_mb, 1)
    figures.details["build"] = {**_figures(built), "said": built.output.strip()}


def _sign_off(figures: Figures, config: Config) -> None:
    signed = run_command("sign-off", "--audience", AUDIENCE, "--config", str(config.folder))
    figures.flat["registry_signoff_seconds"] = round(signed.seconds, 1)
    figures.flat["registry_signoff_rss_mb"] = round(signed.peak_mb, 1)
    with Deployment(config) as runtime:
        began = time.perf_counter()
        publishing.publish(runtime, AUDIENCE)
        seconds = time.perf_counter() - began
        pack = runtime.published(AUDIENCE).path(f"listing/{AUDIENCE}/pack")
        megabytes = round(pack.stat().st_size / 2**20)
    figures.details["sign_off"] = {
        **_figures(signed),
        "publish_seconds": round(seconds, 1),
        "pack_mb": megabytes,
    }


def _acts(
    figures: Figures, plan: Plan, database: Postgres, people: list[str], config: Config
) -> None:
    choose = random.Random(SEED)
    ids = [_some_restriction(database, choose.randbytes(16)) for _ in range(plan.registry_acts)]
    numbers = [
        Identifier.resident_id(choose.choice(people)).to_proto() for _ in range(plan.registry_acts)
    ]
    cases = [
        case_number(choose.randrange(plan.registry_subjects)) for _ in range(plan.registry_acts)
    ]
    release = registry_pb2.END_KIND_RELEASE
    with _serving(config) as address, _client(address, config) as client:
        court = registry_pb2_grpc.RegistryServiceStub(client)

        def end(index: int) -> None:
            request = registry_pb2.EndRestrictionRequest(
                restriction_id=ids[index], kind=release, reason="performed"
            )
            assert court.EndRestriction(request, timeout=SECONDS).relief_sequence

        def by_number(index: int) -> None:
            request = registry_pb2.SearchRestrictionsRequest(identifier=numbers[index])
            assert court.SearchRestrictions(request, timeout=SECONDS).restrictions

        def by_case(index: int) -> None:
            request = registry_pb2.SearchRestrictionsRequest(case_number=cases[index])
            assert court.SearchRestrictions(request, timeout=SECONDS).restrictions

        for key, act in (
            ("registry_release", end),
            ("registry_lookup", by_number),
            ("registry_case_lookup", by_case),
        ):
            times = _timed(act, plan.registry_acts)
            figures.flat[f"{key}_p50_ms"] = round(float(np.percentile(times, 50)), 2)
            figures.flat[f"{key}_p99_ms"] = round(float(np.percentile(times, 99)), 2)
    figures.details["acts"] = {"each": plan.registry_acts}


def _timed(act: Callable[[int], None], count: int) -> list[float]:
    times: list[float] = []
    for index in range(count):
        began = time.perf_counter()
        act(index)
        times.append(1e3 * (time.perf_counter() - began))
    return times


def _some_restriction(database: Postgres, after: bytes) -> bytes:
    """One that is in force, by chance."""
    found = (
        f"SELECT id FROM restrictions WHERE id > '\\x{after.hex()}' AND state = 'ACTIVE' ORDER BY"
        " id LIMIT 1"
    )
    rows = database.ask(found) or database.ask(
        "SELECT id FROM restrictions WHERE state = 'ACTIVE' ORDER BY id LIMIT 1"
    )
    return bytes(rows[0][0])


def _deployment(folder: Path) -> Config:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    return workdir.initialise(folder, WorkDirPlan.of([AUDIENCE], [], listen, CHEAPEST[0]))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """For this process and those that it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _serving(config: Config) -> Iterator[str]:
    """`tipstaff-server serve`: its address."""
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
            assert process.poll() is None, (config.folder / "serve.log").read_text()
            assert time.monotonic() < deadline, "the server did not get ready"
            time.sleep(0.05)
        yield ready.read_text(encoding="utf-8").strip()
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextmanager
def _client(address: str, config: Config) -> Iterator[grpc.Channel]:
    folder = config.folder / "authorities" / AUTHORITY
    files = ("ca.pem", "private_key.pem", "certificate.pem")
    with grpc.secure_channel(
        address, grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in files))
    ) as channel:
        yield channel


def _figures(ran: Ran) -> dict[str, Any]:
    return {
        "seconds": round(ran.seconds, 1),
        "cpu_seconds": round(ran.cpu_seconds, 1),
        "private_mb": round(ran.peak_mb, 1),
    }
