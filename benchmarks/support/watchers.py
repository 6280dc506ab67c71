"""Many watching providers in one process: each with its own certificate and connection.

Run by `benchmarks.watch`.

Commands come on standard input, one a line, answers go to standard output, one JSON line each:

    open      every provider opens its watch, all at once -> seconds until each has had its first message
    reopen    all connections are closed and opened again, all at once -> the same
    report    -> for each watch, when it had each relief sequence: [[sequence, nanoseconds of CLOCK_MONOTONIC], ...]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc

from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc

SECONDS = 60


class Watcher:
    """One provider."""

    def __init__(self, address: str, authority: bytes, pair: tuple[bytes, bytes]) -> None:
        self._address = address
        self._credentials = grpc.ssl_channel_credentials(authority, *pair)
        self._enforced = distribution_pb2.StateVersion()
        self._task: asyncio.Task[None] | None = None
        self.arrivals: list[tuple[int, int]] = []

    async def open(self) -> None:
        """Opens the watch and returns with its first message; the rest is taken in the background."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        began = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow(began))
        await asyncio.wait_for(began, SECONDS)

    async def _follow(self, began: asyncio.Future[None]) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(
            self._address, self._credentials, options=options
        ) as channel:
            call = distribution_pb2_grpc.DistributionServiceStub(channel).Watch(
                distribution_pb2.WatchRequest(enforced=self._enforced)
            )
            async for message in call:
                if began.done():
                    self.arrivals.append((message.current.relief_sequence, time.monotonic_ns()))
                else:
                    began.set_result(None)
                self._enforced = message.current


def providers(address: str, folder: Path) -> list[Watcher]:
    """A watcher for each pair of NAME.key and NAME.pem in `folder`, beside ca.pem."""
    authority = (folder / "ca.pem").read_bytes()
    pairs = [
        (key.read_bytes(), key.with_suffix(".pem").read_bytes())
        for key in sorted(folder.glob("*.key"))
    ]
    return [Watcher(address, authority, pair) for pair in pairs]


async def main(watchers: list[Watcher]) -> None:
    """Serves commands until standard input ends."""
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if command == "report":
            answer: object = [watcher.arrivals for watcher in watchers]
        else:
            began = time.monotonic()
            await asyncio.gather(*(watcher.open() for watcher in watchers))
            answer = time.monotonic() - began
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(providers(sys.argv[1], Path(sys.argv[2]))))
