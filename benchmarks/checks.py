"""Whole checks:

`Screener.check` and `check_columns` from texts to verdicts, and what asking a Redis on the same
machine takes instead.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.support.machine import load
from benchmarks.support.peers import keyed
from benchmarks.support.people import resident_ids
from benchmarks.support.plan import Figures, Plan
from benchmarks.support.provider import MEASURE, open_screener
from benchmarks.support.timing import median_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["run"]

_NAMES: Final = ("张三", "欧阳娜娜", "Zhang San", "阿凡提·买买提")
_SET: Final = "tipstaff-benchmark"
_REDIS_ITEMS: Final = 100_000  # a set's look-up does not depend on its size
_REDIS_ASKED: Final = 2_000
_START_SECONDS: Final = 10.0


def run(plan: Plan) -> Figures:
    """The suite."""
    size = plan.sizes[-1]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_screener(Path(folder), size, 1e-3) as screener,
    ):
        contains = screener.screening(MEASURE)
        # Those whom the filter lets through at once, as nearly everybody: what a hit costs is the
        # stretch, which is told apart.
        numbers = resident_ids(plan.asked_singly + plan.asked_singly // 10, seed=3)
        names = [_NAMES[place % len(_NAMES)] for place in range(len(numbers))]
        reasons = contains.settle(_people(numbers, names)).reasons
        clear = [
            number.decode()
            for number, reason in zip(numbers.tolist(), reasons.tolist(), strict=True)
            if reason == reasons[0]
        ]
        asked = list(zip(clear[: plan.asked_singly], names, strict=False))

        def one_by_one() -> None:
            check = screener.check
            for number, name in asked:
                check(number, name=name, measure=MEASURE)

        texts, given = [number for number, _ in asked], [name for _, name in asked]
        single = median_seconds(one_by_one, plan.repeats) / len(asked) * 1e9
        rows = (
            median_seconds(lambda: screener.check_many(asked, measure=MEASURE), plan.repeats)
            / len(asked)
            * 1e9
        )
        columns = (
            median_seconds(
                lambda: screener.check_columns(texts, given, measure=MEASURE), plan.repeats
            )
            / len(asked)
            * 1e9
        )
        arrow = _arrow_ns(screener, texts, given, plan.repeats)
    redis = _redis_ns(texts, plan.repeats)
    flat = {"screener_check_ns": single, "redis_lookup_ns": redis}
    details: dict[str, object] = {
        "size": size,
        "check_many_ns": rows,
        "check_columns_lists_ns": columns,
        "check_columns_arrow_ns": arrow,
        "redis_vs_screener_check": None if redis is None else redis / single,
        "load_after": load(),
    }
    return Figures(flat, details)


def _people(numbers: Any, names: Sequence[str]) -> Any:
    return import_module("tipstaff_sdk.screening.engine").People(len(numbers), numbers, names)


def _arrow_ns(
    screener: Any, numbers: Sequence[str], names: Sequence[str], repeats: int
) -> float | None:
    try:
        arrow = import_module("pyarrow")
    except ImportError:
        return None
    columns = arrow.array(numbers), arrow.array(names)
    return (
        median_seconds(lambda: screener.check_columns(*columns, measure=MEASURE), repeats)
        / len(numbers)
        * 1e9
    )


def _redis_ns(numbers: Sequence[str], repeats: int) -> float | None:
    """One SISMEMBER over loopback through redis-py, keyed like the other peers; None where there is
    no redis-server or no redis-py.
    """
    program = shutil.which("redis-server")
    try:
        redis = import_module("redis")
    except ImportError:
        return None
    if program is None:
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL) as server,
    ):
        try:
            client = redis.Redis(port=port)
            _wait(client.ping, redis.exceptions.ConnectionError)
            client.sadd(_SET, *(number.to_bytes(16, "big") for number in range(_REDIS_ITEMS)))
            asked = [number.encode() for number in numbers[:_REDIS_ASKED]]

            def look_up() -> None:
                for number in asked:
                    client.sismember(_SET, keyed(number))

            seconds = median_seconds(look_up, repeats, alone=False)
            client.close()
        finally:
            server.terminate()
    return seconds / len(asked) * 1e9


def _wait(ping: Callable[[], object], refused: type[Exception]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            ping()
        except refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
