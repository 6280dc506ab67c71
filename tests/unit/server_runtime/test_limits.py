"""Token buckets, and streams that this side ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.certificates.peer import Peer
from tipstaff_server.config import LimitsSection
from tipstaff_server.errors import CallLimitError, StreamEnd
from tipstaff_server.rpc.limits import MAX_BUCKETS, Buckets, CallerLimits
from tipstaff_server.rpc.streams import OpenCalls

AIR = Caller(Role.PROVIDER, "air-1", "aviation")
RAIL = Caller(Role.PROVIDER, "rail-1", "rail")
PEER = Peer(AIR, b"issuer", 1, datetime(2030, 1, 1, tzinfo=UTC))


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_then_its_rate():
    time = Seconds()
    buckets = Buckets(10, 5, monotonic=time)
    assert [buckets.take("a", 1) for _ in range(5)] == [0] * 5
    assert buckets.take("a", 1) == pytest.approx(0.1)
    time.now = 0.1
    assert buckets.take("a", 1) == 0
    assert buckets.take("a", 1) > 0


def test_waiting_as_advised_is_always_enough():
    time = Seconds()
    buckets = Buckets(3, 2, monotonic=time)
    for _ in range(50):
        while wait := buckets.take("a", 1):
            time.now += wait
    # 50 calls, 2 of them from the burst.
    assert time.now == pytest.approx(48 / 3, abs=1)


def test_callers_do_not_share_a_bucket():
    buckets = Buckets(1, 1, monotonic=Seconds())
    assert buckets.take("a", 1) == 0
    assert buckets.take("b", 1) == 0
    assert buckets.take("a", 1) > 0


def test_more_than_a_bucket_holds_can_be_had_and_is_waited_off():
    time = Seconds()
    buckets = Buckets(100, 1_000, monotonic=time)
    assert buckets.take("a", 5_000) == 0
    assert buckets.take("a", 1) == pytest.approx(40.01)
    time.now = 40.01
    assert buckets.take("a", 1) == 0


def test_what_was_not_sent_is_given_back_up_to_the_burst():
    buckets = Buckets(1, 10, monotonic=Seconds())
    assert buckets.take("a", 10) == 0
    buckets.give_back("a", 4)
    assert buckets.take("a", 4) == 0
    assert buckets.take("a", 1) > 0
    buckets.give_back("a", 1e9)
    assert buckets.take("a", 10) == 0
    assert buckets.take("a", 1) > 0


def test_full_buckets_are_forgotten_when_there_are_many():
    time = Seconds()
    buckets = Buckets(1, 1, monotonic=time)
    for number in range(MAX_BUCKETS):
        buckets.take(str(number), 1)
    time.now = 10
    buckets.take("one more", 1)
    assert len(buckets._levels) == 1


def test_limits_say_what_is_allowed_and_when_to_ask_again():
    section = LimitsSection(
        calls_per_second=2,
        calls_burst=1,
        artefact_bytes_per_second=1 << 20,
        artefact_burst_bytes=1 << 20,
    )
    limits = CallerLimits(section, monotonic=Seconds())
    limits.call(AIR)
    with pytest.raises(CallLimitError, match="2 a second are allowed; ask again in") as refused:
        limits.call(AIR)
    assert 0 < refused.value.wait <= 1
    limits.call(RAIL)
    limits.artefact(AIR, 3 << 20)
    with pytest.raises(CallLimitError, match="1 MiB a second"):
        limits.artefact(AIR, 1)
    limits.not_sent(AIR, 3 << 20)
    limits.artefact(AIR, 1)


def test_a_stream_is_ended_once_and_knows_why():
    async def scenario() -> tuple[int, int, StreamEnd | None, int]:
        calls = OpenCalls()
        seen: StreamEnd | None = None
        began = asyncio.Event()

        async def stream() -> None:
            nonlocal seen
            with calls.opened(PEER, "Watch", 1) as call:
                began.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    seen = call.ended

        task = asyncio.create_task(stream())
        await began.wait()
        first = calls.end_where(lambda call: StreamEnd.REVOKED if call.peer is PEER else None)
        second = calls.end_where(lambda _call: StreamEnd.STOPPING)
        await task
        return first, second, seen, len(calls)

    assert asyncio.run(scenario()) == (1, 0, StreamEnd.REVOKED, 0)


def test_a_caller_may_have_so_many_streams_of_one_kind():
    async def scenario() -> None:
        calls = OpenCalls()
        with calls.opened(PEER, "Watch", 1):
            with (
                pytest.raises(CallLimitError, match="1 are allowed"),
                calls.opened(PEER, "Watch", 1),
            ):
                pass
            with calls.opened(PEER, "GetArtefact", 1):
                assert len(calls) == 2
        with calls.opened(PEER, "Watch", 1):
            assert len(calls) == 1

    asyncio.run(scenario())
