"""What is put into the outbox stays until the server has answered for it, whoever dies meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tipstaff_sdk.enforcement.outbox import EventKind, Outbox, OutboxEvent, _Ticket
from tipstaff_sdk.errors import ClosedError, OutboxError, OutboxFullError

if TYPE_CHECKING:
    from pathlib import Path


def event(number: int, kind: EventKind = EventKind.REPORT) -> OutboxEvent:
    return OutboxEvent(number.to_bytes(16, "big"), kind, b"payload %d" % number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


def test_events_come_back_in_order_by_kind_and_survive_reopening(path: Path) -> None:
    outbox = Outbox(path)
    outbox.put([event(2), event(1)])
    outbox.put([event(3, EventKind.COVERAGE)])
    outbox.close()
    outbox = Outbox(path)
    assert outbox.batch(EventKind.REPORT) == [event(2), event(1)]
    assert outbox.batch(EventKind.COVERAGE) == [event(3, EventKind.COVERAGE)]
    assert outbox.batch(EventKind.REPORT, limit=1) == [event(2)]
    outbox.close()


def test_same_id_twice_is_one_event(path: Path) -> None:
    outbox = Outbox(path)
    outbox.put([event(1)])
    outbox.put([event(1), event(2)])
    assert outbox.depth().pending == 2
    outbox.close()


def test_settling_removes_what_arrived_and_sets_aside_what_was_refused(path: Path) -> None:
    outbox = Outbox(path, clock=lambda: 1_000.0)
    outbox.put([event(n) for n in range(5)])
    outbox.settle([event(0).event_id, event(1).event_id], [(event(2).event_id, "unknown measure")])
    depth = outbox.depth()
    assert (depth.pending, depth.set_aside, depth.oldest) == (2, 1, 1_000.0)
    assert outbox.batch(EventKind.REPORT) == [event(3), event(4)]
    assert outbox.set_aside() == [(event(2), "unknown measure")]
    assert outbox.retry_set_aside() == 1
    assert outbox.batch(EventKind.REPORT) == [event(2), event(3), event(4)]
    assert outbox.depth().set_aside == 0
    outbox.settle([event(n).event_id for n in range(5)])
    assert outbox.depth().oldest is None
    outbox.close()


def test_full_outbox_refuses_aloud_and_takes_nothing_in_part(path: Path) -> None:
    outbox = Outbox(path, limit=3)
    outbox.put([event(1), event(2)])
    with pytest.raises(OutboxFullError, match=r"limit \(outbox_limit\)"):
        outbox.put([event(3), event(4)])
    assert outbox.depth().pending == 2
    outbox.put([event(3)])
    outbox.settle([event(1).event_id])
    outbox.put([event(4)])
    assert outbox.depth().pending == 3
    outbox.close()


def test_room_can_be_left_for_others(path: Path) -> None:
    outbox = Outbox(path, limit=4)
    outbox.put([event(1), event(2)], leave=2)
    with pytest.raises(OutboxFullError):
        outbox.put([event(3)], leave=2)
    outbox.put([event(3)])
    outbox.close()


def test_full_outbox_waits_for_room_when_told_to(path: Path) -> None:
    outbox = Outbox(path, limit=1, wait=20)
    outbox.put([event(1)])
    waiting = threading.Thread(target=outbox.put, args=([event(2)],))
    waiting.start()
    assert waiting.is_alive()
    outbox.settle([event(1).event_id])
    waiting.join(20)
    assert outbox.batch(EventKind.REPORT) == [event(2)]
    outbox.close()


def test_many_threads_share_commits_and_lose_nothing(path: Path) -> None:
    outbox = Outbox(path)
    threads = [
        threading.Thread(
            target=lambda begin: [outbox.put([event(begin + n)]) for n in range(25)], args=(t * 25,)
        )
        for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.event_id for found in outbox.batch(EventKind.REPORT)} == {
        event(n).event_id for n in range(200)
    }
    outbox.close()


def test_two_outboxes_on_one_file_see_each_other(path: Path) -> None:
    first, second = Outbox(path), Outbox(path)
    first.put([event(1)])
    second.put([event(2)])
    assert first.depth().pending == second.depth().pending == 2
    with first.sole_sender() as mine, second.sole_sender() as other:
        assert mine
        assert not other
    with second.sole_sender() as mine:
        assert mine
    first.close()
    second.close()


def test_file_is_for_its_owner_only(path: Path) -> None:
    outbox = Outbox(path)
    outbox.put([event(1)])
    assert path.stat().st_mode & 0o077 == 0
    outbox.close()


def test_closed_outbox_says_so(path: Path) -> None:
    outbox = Outbox(path)
    outbox.close()
    outbox.close()
    with pytest.raises(ClosedError):
        outbox.put([event(1)])


@pytest.mark.parametrize(
    "content", [b"not a database" * 1_000, b"SQLite format 3\0" + bytes(4_096)]
)
def test_damaged_file_is_an_error_that_says_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="move the file aside"):
        outbox.put([event(1)])
    assert path.read_bytes() == content
    outbox.close()


def test_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="newer version"):
        outbox.depth()
    outbox.close()


def test_full_disk_is_an_error_and_what_was_kept_stays(path: Path) -> None:
    outbox = Outbox(path)
    outbox.put([event(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 8_192, before[1]))
    try:
        with pytest.raises(OutboxError, match=r"the outbox .* failed"):
            outbox.put([OutboxEvent(bytes(16), EventKind.REPORT, bytes(1 << 20))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert outbox.batch(EventKind.REPORT) == [event(1)]
    outbox.put([event(2)])
    assert outbox.depth().pending == 2
    outbox.close()


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # since Python 3.12, for good reasons that this test is about
def test_forked_child_uses_a_connection_of_its_own(path: Path) -> None:
    outbox = Outbox(path)
    outbox.put([event(1)])
    child = os.fork()
    if child == 0:
        outbox.after_fork_in_child()
        outbox.put([event(2)])
        outbox.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    outbox.put([event(3)])
    assert outbox.batch(EventKind.REPORT) == [event(1), event(2), event(3)]
    outbox.close()


WRITER = """
import sys
from pathlib import Path
from tipstaff_sdk.enforcement.outbox import OutboxEvent, EventKind, Outbox, _Ticket
outbox = Outbox(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    outbox.put([OutboxEvent(number.to_bytes(16, "big"), EventKind.REPORT, b"x")])
    print(number, flush=True)
    number += 1
"""


def test_what_put_returned_for_is_there_after_kill_9(path: Path) -> None:
    promised: list[int] = []
    for round_ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_ * 1_000_000)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        promised += [int(child.stdout.readline()) for _ in range(3 + round_)]
        child.kill()
        promised += [int(line) for line in child.stdout if line.endswith(b"\n")]
        child.stdout.close()
        child.wait()
    outbox = Outbox(path)
    kept = [
        int.from_bytes(found.event_id, "big")
        for found in outbox.batch(EventKind.REPORT, limit=1_000_000)
    ]
    outbox.close()
    assert set(promised) <= set(kept)
    assert len(kept) == len(set(kept)) <= len(promised) + 5


def test_callers_that_come_during_a_commit_share_the_next_one(path: Path) -> None:
    outbox = Outbox(path)
    sizes: list[int] = []
    commit = outbox._commit_group
    first_is_in, go_on = threading.Event(), threading.Event()

    def slow(group: list[object]) -> None:
        sizes.append(len(group))
        first_is_in.set()
        go_on.wait(20)
        commit(group)  # type: ignore[arg-type]

    outbox._commit_group = slow  # type: ignore[method-assign, assignment]
    threads = [threading.Thread(target=outbox.put, args=([event(number)],)) for number in range(9)]
    threads[0].start()
    assert first_is_in.wait(20)
    for thread in threads[1:]:
        thread.start()
    while len(outbox._queue) < 8:
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert sizes == [1, 8]
    assert outbox.depth().pending == 9
    outbox.close()


def test_caller_interrupted_while_waiting_hands_its_turn_on(path: Path) -> None:
    outbox = Outbox(path)
    with outbox._queue_lock:
        waiting, behind = _Ticket([event(1)], 0), _Ticket([event(2)], 0)
        outbox._queue, outbox._leader = [waiting, behind], waiting
    outbox._leave_queue(waiting)
    assert behind.wake.is_set()
    assert outbox._leader is behind
    outbox._lead()
    assert behind.done
    outbox.put([event(3)])
    assert outbox.batch(EventKind.REPORT) == [event(2), event(3)]
    outbox.close()
