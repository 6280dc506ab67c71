"""The loops beside the services: they go on after a failure, renew what is due, and end their
children.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.server import COURT, enter, entry, make
from tests.support.server_process import publish
from tipstaff_server.clock import utc_now
from tipstaff_server.config import CONFIG_NAME
from tipstaff_server.daemon.loops import Pace, _run_process, _Server
from tipstaff_server.deployment import Deployment
from tipstaff_server.registry.restrictions.transitions import EndKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.distribution.broadcast import Message


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(make(tmp_path / "operator")) as opened:
        yield opened


def server_of(runtime: Deployment, pace: Pace | None = None) -> _Server:
    return _Server(
        runtime,
        runtime.config.folder / CONFIG_NAME,
        pace or Pace(relief=0.01, listing=0.0, after_failure=0.0),
    )


def test_a_loop_goes_on_after_a_failure(runtime: Deployment):
    async def scenario() -> int:
        calls = 0
        done = asyncio.Event()

        async def step() -> None:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise OSError("the disk is full")
            done.set()
            await asyncio.sleep(10)

        loop = asyncio.create_task(server_of(runtime)._forever("test", step))
        await asyncio.wait_for(done.wait(), 10)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        return calls

    assert asyncio.run(scenario()) == 3


def test_a_lift_is_published_and_pushed_in_one_step(runtime: Deployment):
    (restriction,) = enter(runtime.registry, [entry(1)])

    async def scenario() -> Message:
        server = server_of(runtime)
        with server._feeds["aviation"].broadcaster.subscribe() as subscription:
            await server._relief_step()
            runtime.registry.restrictions.end(restriction, EndKind.REVOKE, "a test", actor=COURT)
            await server._relief_step()
            message = await subscription.next(1)
            assert message is not None
            return message

    assert restriction in asyncio.run(scenario()).payload


def test_a_failed_publication_is_tried_again(runtime: Deployment, monkeypatch: pytest.MonkeyPatch):
    (restriction,) = enter(runtime.registry, [entry(1)])
    runtime.registry.restrictions.end(restriction, EndKind.REVOKE, "a test", actor=COURT)
    real, failures = runtime.relief.publish, 1

    def failing(audience: str) -> int:
        nonlocal failures
        if audience == "rail" and failures:
            failures -= 1
            raise OSError("the disk is full")
        return real(audience)

    monkeypatch.setattr(runtime.relief, "publish", failing)

    async def scenario() -> None:
        server = server_of(runtime)
        with pytest.raises(OSError, match="full"):
            await server._relief_step()
        await server._relief_step()

    asyncio.run(scenario())
    for audience in runtime.repository.audiences():
        assert runtime.published(audience).relief_head() == 1


@pytest.mark.usefixtures("prepared_processes")
def test_listings_are_renewed_when_they_are_due_and_the_first_is_left_to_the_operator(
    runtime: Deployment,
):
    publish(runtime.config, "aviation")
    server = server_of(runtime)
    assert server._due() == []
    runtime.clock = lambda: utc_now() + timedelta(days=2)
    assert server._due() == ["aviation"]
    asyncio.run(server_of(runtime)._listing_step())
    assert runtime.repository.versions("aviation").listing == 3


def test_a_child_does_not_outlive_the_loop_that_started_it():
    async def scenario() -> None:
        task = asyncio.create_task(
            _run_process([sys.executable, "-c", "import time; time.sleep(60)"])
        )
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    began = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - began < 50
