"""kill -9 of the real server under load, again and again: what was acknowledged is there, once;
what was not is there once or not at all.

`make test` kills ROUNDS times on each database, `make soak` SOAK_ROUNDS times. The clients of
tests/support/crowd.py submit in streams, end, dispute and report meanwhile, and send again whatever
was not answered.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from tests.support.crowd import Acknowledged, Crowd
from tests.support.databases import BACKENDS, working_directory
from tests.support.server_process import free_port, serving
from tipstaff_sdk.listing.relief import parse_segment
from tipstaff_server.audit.log import verify
from tipstaff_server.deployment import Deployment
from tipstaff_server.storage.models import (
    AuditRow,
    DisputeRow,
    IdempotencyRow,
    ReliefRow,
    ReportRow,
    RestrictionRow,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.config import Config

ROUNDS, SOAK_ROUNDS = 3, 30
CATCH_UP_SECONDS = 60


def kill_and_kill_again(
    folder: Path, backend: str, rounds: int, seed: int
) -> tuple[Config, Acknowledged, int]:
    """Serves and kills `rounds` times, then lets the last server finish what the clients began; how
    often clients had to send again.
    """
    chance = random.Random(seed)
    config = working_directory(
        folder / "operator", backend, 'key_file = "registry.key"', "disputes_per_hour = 1_000_000"
    )
    listen = f"127.0.0.1:{free_port()}"
    crowd = Crowd(config.folder, [listen])
    crowd.start()
    try:
        for _ in range(rounds):
            with serving(config, listen=listen) as server:
                enough = crowd.acknowledged.count() + chance.randrange(10, 80)
                deadline = time.monotonic() + CATCH_UP_SECONDS
                while crowd.acknowledged.count() < enough:
                    assert time.monotonic() < deadline, "nobody gets through"
                    time.sleep(0.005)
                time.sleep(chance.random() / 20)
                server.process.kill()
                server.process.wait()
        with serving(config, listen=listen):
            acknowledged = crowd.stop()
            wait_for_relief(config)
    finally:
        crowd.abandon()
    return config, acknowledged, crowd.retried


def wait_for_relief(config: Config) -> None:
    """Until the server has published every lift."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    with Deployment(config) as runtime:
        while runtime.published("aviation").relief_head() < runtime.registry.relief.head():
            assert time.monotonic() < deadline, "relief does not follow"
            time.sleep(0.05)


def check_everything_once(config: Config, acknowledged: Acknowledged) -> None:
    """The database holds each acknowledged act once, the audit chain is whole, relief has no gap,
    in the log and in what is published.
    """
    with Deployment(config) as runtime:
        registry = runtime.registry
        verify(registry.store)
        with registry.store.database.read() as session:
            restrictions = session.execute(
                select(RestrictionRow.id, RestrictionRow.case_number)
            ).all()
            acts = Counter(
                (row.object_id, row.act)
                for row in session.execute(select(AuditRow.object_id, AuditRow.act))
            )
            keys = {row.key: row.restriction_id for row in session.scalars(select(IdempotencyRow))}
            disputes = {
                row.request_id: row.case_number for row in session.scalars(select(DisputeRow))
            }
            reports = session.scalars(select(ReportRow.report_id)).all()
            lifts = session.execute(
                select(ReliefRow.sequence, ReliefRow.restriction_id).order_by(ReliefRow.sequence)
            ).all()
        # Nothing doubled: one restriction a case number, each act once, one answer a key.
        assert len({row.case_number for row in restrictions}) == len(restrictions)
        assert set(acts.values()) == {1}
        assert len(reports) == len(set(reports))
        # Nothing lost.
        assert {key: keys[key] for key in acknowledged.restrictions} == acknowledged.restrictions
        assert set(acknowledged.restrictions.values()) <= {row.id for row in restrictions}
        assert all(
            acts[restriction, "SUBMIT"] == 1 for restriction in acknowledged.restrictions.values()
        )
        assert all(acts[restriction, "RELEASE"] == 1 for restriction in acknowledged.ended)
        assert {
            request: disputes[request] for request in acknowledged.disputes
        } == acknowledged.disputes
        assert all(acts[restriction, "SUSPEND"] == 1 for restriction in acknowledged.disputes)
        assert acknowledged.reports <= set(reports)
        # Clients finished what they had begun, so nothing is there that was not acknowledged, but
        # for the last stream's rows.
        assert len(restrictions) - len(acknowledged.restrictions) <= 5
        assert [lift.sequence for lift in lifts] == list(range(1, registry.relief.head() + 1))
        assert all(
            lifts[sequence - 1].restriction_id == restriction
            for restriction, sequence in acknowledged.ended.items()
        )
        published = runtime.published("aviation")
        segments = published.segments()
        carried = [
            entry
            for segment in segments
            for entry in parse_segment(published.read(segment.stored)).entries
        ]
        assert carried == [(lift.sequence, lift.restriction_id) for lift in lifts]


def run(folder: Path, backend: str, rounds: int, seed: int) -> None:
    config, acknowledged, retried = kill_and_kill_again(folder, backend, rounds, seed)
    check_everything_once(config, acknowledged)
    assert (
        min(
            map(
                len,
                (
                    acknowledged.restrictions,
                    acknowledged.ended,
                    acknowledged.disputes,
                    acknowledged.reports,
                ),
            )
        )
        > 0
    )
    assert retried >= rounds
    print(
        f"{backend}: {rounds} kills, {acknowledged.count()} acts acknowledged, {retried} times sent"
        " again"
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_server_has_done_what_it_acknowledged_and_nothing_twice(
    tmp_path: Path, backend: str
) -> None:
    run(tmp_path, backend, ROUNDS, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("backend", BACKENDS)
def test_thirty_kills_lose_and_double_nothing(tmp_path: Path, backend: str) -> None:
    run(tmp_path, backend, SOAK_ROUNDS, seed=2)
