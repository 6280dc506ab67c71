"""Programs that tests start as processes of their own:

`python -m tests.support.provider_programs NAME KIT ...`.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

from tests.support.provider_world import MEASURE, resident_id
from tipstaff_sdk.decision.decide import Outcome, Reason, Verdict
from tipstaff_sdk.errors import TransportError
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.sync.status import SyncState

NAME = "张三"


def give_up() -> None:
    """Ends this process in 40 s whatever hangs in it.

    A child inherits no alarm, so it sets its own.
    """
    signal.alarm(40)


def until(condition: object, timeout: float = 20.0) -> None:
    """Waits until `condition()` holds; ends the process with status 3 when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            sys.stderr.write("did not come true in time\n")
            os._exit(3)
        time.sleep(0.01)


def lifted(screener: Screener, number: str) -> bool:
    return screener.check(number, name=NAME, measure=MEASURE).reason is Reason.LIFTED


def prefork(kit: str) -> None:
    """A pre-fork server: the parent opens, several children inherit.

    Says `forked` when all run, and lifts of person 0 end it.
    """
    screener = Screener.open(kit)
    assert screener.wait_ready(20)
    busy = threading.Event()

    def check() -> None:
        while not busy.wait(0.001):
            screener.check(resident_id(1), name=NAME, measure=MEASURE)

    checking = threading.Thread(target=check)
    checking.start()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            give_up()
            decision = screener.check(resident_id(0), name=NAME, measure=MEASURE)
            screener.report(decision, Outcome.DENIED)
            until(lambda: screener.status().sync_state is SyncState.FOLLOWING)
            until(lambda: lifted(screener, resident_id(0)))
            screener.close()
            os._exit(
                0 if decision.verdict is Verdict.RESTRICTED and len(tipstaff_threads()) == 0 else 4
            )
        children.append(child)
    until(lambda: screener.status().sync_state is SyncState.FOLLOWING)
    sys.stdout.write("forked\n")
    sys.stdout.flush()
    until(lambda: lifted(screener, resident_id(0)))
    busy.set()
    checking.join()
    statuses = [os.waitpid(child, 0)[1] for child in children]
    screener.close()
    sys.exit(0 if statuses == [0, 0, 0] and not tipstaff_threads() else 5)


def fork_from_listener(kit: str) -> None:
    """A listener runs in a thread of the screener, and forks there."""
    outcome: list[int] = []
    with Screener.open(kit) as screener:

        def fork(_: object) -> None:
            if outcome or not screener.status().ready:
                return
            child = os.fork()
            if child == 0:
                os._exit(
                    0
                    if screener.check(resident_id(0), name=NAME, measure=MEASURE).verdict
                    is Verdict.RESTRICTED
                    else 4
                )
            outcome.append(os.waitpid(child, 0)[1])

        screener.on_change(fork)
        until(lambda: outcome)
        until(lambda: screener.status().sync_state is SyncState.FOLLOWING)
    sys.exit(outcome[0])


def tipstaff_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tipstaff")]


def reporter(kit: str, log: str) -> None:
    """Syncs and reports without end; writes each id to `log` after `report` returned, so that only
    promised ids are there.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Screener.open(kit) as screener:
        assert screener.wait_ready(20)
        os.write(1, b"ready\n")
        for turn in itertools.count():
            decision = screener.check(resident_id(turn % 3), name=NAME, measure=MEASURE)
            os.write(descriptor, screener.report(decision, Outcome.DENIED).hex().encode() + b"\n")
            if turn % 5 == 0:
                try:
                    screener.sync()
                except TransportError:
                    time.sleep(0.01)


if __name__ == "__main__":
    give_up()
    {"prefork": prefork, "fork_from_listener": fork_from_listener, "reporter": reporter}[
        sys.argv[1]
    ](*sys.argv[2:])
