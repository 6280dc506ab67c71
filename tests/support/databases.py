"""An operator's working directory on SQLite or on PostgreSQL, and a server's endpoint in this
process under a clock that tests turn.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
from sqlalchemy import delete, update

from tests.support.folders import scratch
from tests.support.postgres import PostgresServer, postgres
from tests.support.registry import TurnableClock
from tests.support.server import make
from tipstaff_server.audit.log import START
from tipstaff_server.config import CONFIG_NAME, Config, DatabaseSection
from tipstaff_server.daemon.endpoint import Endpoint
from tipstaff_server.deployment import Deployment
from tipstaff_server.storage.models import AuditHeadRow, Base, ReliefHeadRow

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

BACKENDS = ("sqlite", "postgresql")
# Tables that setting up fills.
SETTLED = {
    "administrations",
    "audience_measures",
    "audiences",
    "audit_head",
    "authorities",
    "entitlements",
    "list_measures",
    "lists",
    "measures",
    "meta",
    "stretches",
    "providers",
    "relief_head",
    "vault_keys",
}
URL = "TIPSTAFF_SERVER__DATABASE__URL"


@cache
def template(backend: str) -> tuple[Path, str]:
    """A working directory that was just set up, made once, and the name of its database (a file, or
    one of this process's server).
    """
    folder = scratch()
    atexit.register(shutil.rmtree, folder)
    if backend == "sqlite":
        make(folder / "operator")
        return folder / "operator", "registry.db"
    name = postgres().create()
    make_on(folder / "operator", postgres().url(name))
    return folder / "operator", name


def make_on(folder: Path, url: str) -> Config:
    """Makes a working directory whose registry is in this database."""
    with mock.patch.dict(os.environ, {URL: url}):
        make(folder)
    file = folder / CONFIG_NAME
    file.write_text(file.read_text("utf-8").replace("sqlite:///registry.db", url), "utf-8")
    return Config.load(folder)


def working_directory(folder: Path, backend: str, after: str = "", line: str = "") -> Config:
    """A copy of the template in `folder`, with a database of its own; it listens on any free port.

    `line` goes into its configuration, behind the line `after`.
    """
    source, name = template(backend)
    shutil.copytree(source, folder)
    file = folder / CONFIG_NAME
    text = file.read_text("utf-8").replace("127.0.0.1:7443", "127.0.0.1:0")
    if backend == "postgresql":
        text = text.replace(postgres().url(name), postgres().url(postgres().create(name)))
    file.write_text(text.replace(after, f"{after}\n{line}", 1) if line else text, "utf-8")
    return Config.load(folder)


def channel_to(address: str, folder: Path) -> grpc.Channel:
    """A connection of its own with the certificate in `folder`."""
    authority, key, certificate = (
        (folder / name).read_bytes() for name in ("ca.pem", "private_key.pem", "certificate.pem")
    )
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 16 << 20),
        ("grpc.enable_retries", 0),
    ]
    options += [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(authority, key, certificate), options=options
    )


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(4))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine in that loop, and waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@cache
def loop() -> Loop:
    """Returns the loop of all endpoints of this process."""
    return Loop()


class LiveEndpoint:
    """All services of a fresh registry, on real sockets with mutual TLS, without the loops beside
    them: time is the test's.
    """

    def __init__(self, backend: str) -> None:
        self.folder, name = template(backend)
        self._place = scratch()
        self._database = ""
        if backend == "sqlite":
            shutil.copy(self.folder / name, self._place / "registry.db")
            url = f"sqlite:///{self._place}/registry.db"
        else:
            self._database = postgres().create(name)
            url = postgres().url(self._database)
        config = Config.load(self.folder)
        server = config.server.model_copy(
            update={"listen": "127.0.0.1:0", "drain_seconds": 0.0, "stop_grace_seconds": 0.0}
        )
        config = config.model_copy(
            update={"database": DatabaseSection(url=url, pool_size=2), "server": server}
        )
        limits = config.limits.model_copy(
            update={"calls_per_second": 1e6, "calls_burst": 10_000_000}
        )
        config = config.model_copy(update={"limits": limits})
        self.began = datetime.now(UTC).replace(microsecond=0)
        self.clock = TurnableClock(self.began)
        self.runtime = Deployment(config, clock=self.clock)
        self.lifted = 0
        self._threads = ThreadPoolExecutor(2)
        self._channels: dict[str, grpc.Channel] = {}
        self._endpoint, self.address = loop().run(self._start())

    async def _start(self) -> tuple[Endpoint, str]:
        endpoint = Endpoint(
            self.runtime,
            {},
            heartbeat_seconds=60,
            lifted=self._note,
            threads=self._threads,
            acknowledging=self._threads,
        )
        return endpoint, await endpoint.start()

    def _note(self) -> None:
        self.lifted += 1

    def begin_anew(self) -> None:
        """Everything that was ever entered or done is gone, and the clock stands where it stood at
        first.
        """
        self.clock.now = self.began
        with self.runtime.registry.store.database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in SETTLED:
                    session.execute(delete(table))
            session.execute(update(ReliefHeadRow).values(sequence=0))
            session.execute(update(AuditHeadRow).values(sequence=0, digest=START))

    def channel(self, who: str) -> grpc.Channel:
        """The connection of "providers/<id>", "authorities/<id>" or "operator"."""
        if who not in self._channels:
            self._channels[who] = channel_to(self.address, self.folder / who)
        return self._channels[who]

    def close(self) -> None:
        """Stops the endpoint and removes its database."""
        for channel in self._channels.values():
            channel.close()
        loop().run(self._endpoint.stop())
        self._threads.shutdown()
        self.runtime.close()
        if self._database:
            postgres().drop(self._database)
        shutil.rmtree(self._place)


@contextmanager
def own_postgres(server: PostgresServer) -> Iterator[PostgresServer]:
    """A server of a test's own, stopped at the end."""
    try:
        yield server
    finally:
        server.stop()


__all__ = [
    "BACKENDS",
    "LiveEndpoint",
    "channel_to",
    "make_on",
    "own_postgres",
    "template",
    "working_directory",
]
