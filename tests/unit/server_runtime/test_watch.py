"""Fan-out: order, bounded queues, slow subscribers, stopping."""

from __future__ import annotations

import asyncio

import pytest

from tipstaff_server.distribution.broadcast import Broadcaster, Message
from tipstaff_server.errors import StreamEnd, StreamEndedError


def message(number: int) -> Message:
    return Message(number, b"%d" % number)


def test_every_subscriber_gets_every_message_in_order_and_the_same_bytes():
    async def scenario() -> None:
        broadcaster = Broadcaster()
        sent = [message(number) for number in range(5)]
        with broadcaster.subscribe() as one, broadcaster.subscribe() as two:
            for each in sent:
                assert broadcaster.publish(each) == 0
            for subscription in (one, two):
                for each in sent:
                    assert await subscription.next(1) is each

    asyncio.run(scenario())


def test_a_waiting_subscriber_is_woken():
    async def scenario() -> None:
        broadcaster = Broadcaster()
        with broadcaster.subscribe() as subscription:
            waiting = asyncio.create_task(subscription.next(10))
            await asyncio.sleep(0)
            broadcaster.publish(message(1))
            assert await waiting == message(1)

    asyncio.run(scenario())


def test_silence_gives_none_and_the_stream_goes_on():
    async def scenario() -> None:
        broadcaster = Broadcaster()
        with broadcaster.subscribe() as subscription:
            assert await subscription.next(0.001) is None
            broadcaster.publish(message(1))
            assert await subscription.next(0.001) == message(1)

    asyncio.run(scenario())


def test_a_slow_subscriber_is_dropped_and_the_others_are_not():
    async def scenario() -> None:
        broadcaster = Broadcaster(queue_length=2)
        with broadcaster.subscribe() as slow, broadcaster.subscribe() as quick:
            for number in range(3):
                dropped = broadcaster.publish(message(number))
                assert await quick.next(1) == message(number)
                assert dropped == (number == 2)
            with pytest.raises(StreamEndedError) as ended:
                await slow.next(1)
            assert ended.value.reason is StreamEnd.SLOW
            assert len(broadcaster) == 1

    asyncio.run(scenario())


def test_what_a_dropped_subscriber_had_queued_is_let_go():
    async def scenario() -> None:
        broadcaster = Broadcaster(queue_length=1)
        with broadcaster.subscribe() as slow:
            broadcaster.publish(message(1))
            broadcaster.publish(message(2))
            for _ in range(2):
                with pytest.raises(StreamEndedError):
                    await slow.next(1)

    asyncio.run(scenario())


def test_leaving_unsubscribes_and_nothing_is_queued_for_the_gone():
    async def scenario() -> None:
        broadcaster = Broadcaster(queue_length=1)
        with broadcaster.subscribe():
            assert len(broadcaster) == 1
        assert len(broadcaster) == 0
        assert [broadcaster.publish(message(number)) for number in range(3)] == [0, 0, 0]

    asyncio.run(scenario())


def test_stopping_ends_waiting_streams_and_lets_nobody_in():
    async def scenario() -> None:
        broadcaster = Broadcaster()
        with broadcaster.subscribe() as subscription:
            waiting = asyncio.create_task(subscription.next(10))
            await asyncio.sleep(0)
            broadcaster.stop()
            with pytest.raises(StreamEndedError) as ended:
                await waiting
            assert ended.value.reason is StreamEnd.STOPPING
        with pytest.raises(StreamEndedError):
            broadcaster.subscribe()

    asyncio.run(scenario())
