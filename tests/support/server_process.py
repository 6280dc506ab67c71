"""A real server: a working directory made once, people entered, listings published,
`tipstaff-server serve` as a process of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support import prepared
from tests.support.server import AUDIENCES, enter, entry, make
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.signoff.sign_off import sign_off

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.config import Config

START_SECONDS = 30
STOP_SECONDS = 20
PEOPLE = 40


def free_port() -> int:
    """Returns a port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def publish(config: Config, *audiences: str) -> None:
    """Builds, signs off and publishes in this process."""
    with Deployment(config) as runtime:
        for audience in audiences or AUDIENCES:
            build(runtime, audience)
            sign_off(runtime, audience)
            publishing.publish(runtime, audience)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs tipstaff-server to its end."""
    return prepared.run([str(argument) for argument in arguments], timeout=100)


@dataclass
class Server:
    """A running server and what a test needs of it."""

    config: Config
    address: str
    process: prepared.Command
    log: Path
    restrictions: list[bytes] = field(default_factory=list[bytes])

    def kit(self, provider: str) -> Path:
        """Returns the folder of a provider's kit."""
        return self.config.folder / "providers" / provider

    def credentials(self, folder: Path) -> grpc.ChannelCredentials:
        """Returns the credentials of the client whose certificate lies in `folder`."""
        files = ("ca.pem", "private_key.pem", "certificate.pem")
        authority, key, certificate = ((folder / name).read_bytes() for name in files)
        return grpc.ssl_channel_credentials(authority, key, certificate)

    @contextmanager
    def channel(self, who: str | grpc.ChannelCredentials) -> Iterator[grpc.Channel]:
        """Connects as "providers/<id>", "authorities/<id>" or "operator", or with credentials
        of its own.
        """
        credentials = self.credentials(self.config.folder / who) if isinstance(who, str) else who
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 16 << 20),
        ]
        with grpc.secure_channel(self.address, credentials, options=options) as channel:
            yield channel

    def stop(self) -> int:
        """Sends SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def serving(
    config: Config,
    *,
    listen: str | None = None,
    arguments: tuple[str, ...] = ("--heartbeat", "0.3"),
) -> Iterator[Server]:
    """Runs `tipstaff-server serve` until the block ends."""
    ready, log = config.folder / f"ready-{time.monotonic_ns()}", config.folder / "serve.log"
    environment = {**os.environ, **({"TIPSTAFF_SERVER__SERVER__LISTEN": listen} if listen else {})}
    serve = ["serve", "--config", str(config.folder), "--ready-file", str(ready), *arguments]
    process = prepared.Command(serve, log, log, environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, "the server did not get ready"
            time.sleep(0.02)
        yield Server(config, ready.read_text().strip(), process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Runs one server for the session.

    PEOPLE persons are under all four measures; `restrictions[i]` is on `entry(i)`.
    """
    folder = tmp_path_factory.mktemp("server") / "operator"
    config = make(folder, listen=f"127.0.0.1:{free_port()}")
    with Deployment(config) as runtime:
        restrictions = enter(runtime.registry, [entry(number) for number in range(PEOPLE)])
    publish(config)
    with serving(config) as running:
        running.restrictions = restrictions
        yield running
        running.process.send_signal(signal.SIGCONT)


@pytest.fixture
def server(session_server: Server) -> Iterator[Server]:
    """Lets the session's server run while a test uses it.

    Its loops look for changes twenty times a second, which is much for a server that nobody asks.
    """
    session_server.process.send_signal(signal.SIGCONT)
    yield session_server
    session_server.process.send_signal(signal.SIGSTOP)
