"""A screener in processes that fork, die and share one folder."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.provider_fixtures import NAME, operator, people, server
from tests.support.provider_server import ProviderServer, wait_for
from tests.support.provider_world import MEASURE, Operator, resident_id
from tipstaff_sdk.decision.decide import Outcome, Verdict
from tipstaff_sdk.screener import Screener

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["operator", "server"]


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "tests.support.provider_programs",
        program,
        *map(str, arguments),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("prepared_processes")
def test_forked_children_keep_checking_and_restart_their_own_sync(
    operator: Operator, server: ProviderServer, tmp_path: Path
) -> None:
    process = start("prefork", operator.kit(tmp_path / "kit", server=server.address))
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "forked\n"
        wait_for(lambda: len(server.reports) == 3)
        operator.lift(people()[0].restriction_ids[0])
        assert process.wait(60) == 0
    assert server.duplicates == 0


def test_fork_inside_a_listener(operator: Operator, server: ProviderServer, tmp_path: Path) -> None:
    process = start("fork_from_listener", operator.kit(tmp_path / "kit", server=server.address))
    assert process.stdout is not None
    with process.stdout:
        assert process.wait(60) == 0


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.parametrize("kills", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_again_and_again_state_opens_and_every_report_arrives_once(
    operator: Operator, server: ProviderServer, tmp_path: Path, kills: int
) -> None:
    """kill -9 at random moments of syncing and reporting, while relief changes, so that state is
    written all the time.
    """
    kit, log = (
        operator.kit(tmp_path / "kit", server=server.address, flush_interval=0.05),
        tmp_path / "promised",
    )
    draw = random.Random(20161)
    killed = 0
    waiting: list[subprocess.Popen[str]] = [start("reporter", kit, log)]
    while killed < kills:
        process = waiting.pop()
        # The next one loads its modules meanwhile.
        waiting.append(start("reporter", kit, log))
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
            operator.lift(bytes([killed + 1]) * 16)
            if killed % 10 == 9:
                operator.publish(people(50 + killed))
            time.sleep(draw.uniform(0.0, 0.08))
            process.kill()
            process.wait()
        killed += 1
        if killed % 10 == 0:
            with Screener.open(kit, background=False, key_store="file") as screener:
                assert screener.sync().ready
    waiting[0].kill()
    waiting[0].wait()
    with waiting[0].stdout or sys.stdin:
        pass
    with Screener.open(kit, background=False) as screener:
        assert screener.status().listing_version == operator.listing_version
        screener.sync()
        status = screener.status()
        assert (status.outbox_pending, status.outbox_set_aside) == (0, 0)
        assert (
            screener.check(resident_id(0), name=NAME, measure=MEASURE).verdict is Verdict.RESTRICTED
        )
    promised = {bytes.fromhex(line) for line in log.read_text().split("\n") if len(line) == 32}
    assert len(promised) >= kills
    assert promised <= set(server.reports)
    # Reports that were durable when the kill came, before `report` could return, arrive too: one a
    # life at most.
    assert len(server.reports) <= len(promised) + kills + 1


@pytest.mark.usefixtures("prepared_processes")
def test_processes_share_one_folder(
    operator: Operator, server: ProviderServer, tmp_path: Path
) -> None:
    kit, log = operator.kit(tmp_path / "kit", server=server.address), tmp_path / "promised"
    processes = [start("reporter", kit, log) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with Screener.open(kit) as screener:
        assert screener.wait_ready(15)
        mine = screener.report(
            screener.check(resident_id(0), name=NAME, measure=MEASURE), Outcome.DENIED
        )
        operator.publish(people(2))
        wait_for(lambda: screener.status().listing_version == 2)
        wait_for(lambda: len(server.reports) >= 20)
        assert server.duplicates == 0
        for process in processes:
            assert process.poll() is None
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        wait_for(lambda: screener.status().outbox_pending == 0)
    promised = {bytes.fromhex(line) for line in log.read_text().split("\n") if len(line) == 32}
    assert promised | {mine} <= set(server.reports)


@pytest.mark.parametrize(
    "module", ["tipstaff_sdk", "tipstaff_sdk.screener", "tipstaff_sdk.testing"]
)
def test_importing_brings_no_grpc_no_pytest_and_nothing_of_the_server(module: str) -> None:
    unwanted = ("grpc", "pytest", "typer", "rich", "sqlalchemy", "tipstaff_server")
    code = f"import sys, {module}; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
