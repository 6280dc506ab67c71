"""Waiting after failures, and what is said of them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tipstaff_sdk.errors import UnavailableError
from tipstaff_sdk.sync.follower import Backoff, SyncRecord
from tipstaff_sdk.sync.status import SyncState

if TYPE_CHECKING:
    import pytest


def test_backoff_draws_from_zero_to_a_doubling_bound() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    backoff = Backoff(0.5, 5.0, draw=draw)
    assert [backoff.failed() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.succeeded()
    assert backoff.failed() == 0.5
    assert {low for low, _ in drawn} == {0.0}


def test_backoff_waits_what_the_server_advised_and_a_drawn_time_on_top_but_not_for_ever() -> None:
    backoff = Backoff(1.0, 60.0, draw=lambda _low, high: high)
    error = UnavailableError("too many calls")
    error.retry_after = 7.5
    assert backoff.failed(error) == 8.5
    assert backoff.failed(UnavailableError("not there")) == 2.0
    error.retry_after = 1e9
    assert backoff.failed(error) == 64.0


def test_backoff_stays_at_its_maximum_for_ever() -> None:
    backoff = Backoff(0.5, 60.0, draw=lambda low, high: high)
    assert {backoff.failed() for _ in range(5_000)} >= {60.0}


def test_record_says_since_when_and_logs_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    changes: list[SyncState] = []
    record = SyncRecord(SyncState.STARTING, lambda: now[0], lambda: changes.append(record.state))
    now[0] += timedelta(seconds=5)
    for _ in range(3):
        record.failed(UnavailableError("down"), SyncState.RETRYING)
        now[0] += timedelta(seconds=1)
    assert (record.state, record.last_error, record.last_success) == (
        SyncState.RETRYING,
        "down",
        None,
    )
    assert record.since == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]
    record.succeeded(SyncState.FOLLOWING)
    record.succeeded(SyncState.FOLLOWING)
    assert (record.state, record.last_error, record.last_success) == (
        SyncState.FOLLOWING,
        None,
        now[0],
    )
    assert changes == [SyncState.RETRYING, SyncState.FOLLOWING]
