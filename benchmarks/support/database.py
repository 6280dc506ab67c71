"""A PostgreSQL of its own, set as one would for a machine of this size: a quarter of the memory to
its cache, nothing safe left out.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.support.postgres import _binaries as binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Postgres", "postgres"]

SECONDS: Final = 120


@dataclass(frozen=True)
class Postgres:
    """A running server with one database. `settings`: those that are not PostgreSQL's own."""

    folder: Path
    process: int
    settings: dict[str, str]

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}"

    def ask(self, statement: str) -> list[Any]:
        """One statement outside of any transaction."""
        with psycopg.connect(
            f"host={self.folder} user=postgres dbname=postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cpu_seconds(self) -> float:
        """What the server and its children, also those that ended, have spent so far."""
        processes = [self.process, *_children(self.process)]
        return sum(_spent(process) for process in processes)


def _settings() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {
        "listen_addresses": "",
        "shared_buffers": f"{max(32, memory // 4)}MB",
        "effective_cache_size": f"{max(64, memory // 2)}MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "15min",
        "maintenance_work_mem": "256MB",
    }


@contextmanager
def postgres(keep: Path | None = None) -> Iterator[Postgres]:
    """Starts it, and in the end removes all of it.

    Not as root: PostgreSQL refuses, so it is `nobody`'s then.

    `keep`: a folder in which it stays, to be started again. Its path is short: the socket is there.
    """
    folder = keep or Path(mkdtemp(prefix="tipstaff-bench-pg-"))
    folder.mkdir(exist_ok=True)
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    process = None
    try:
        programs = binaries(folder, identity)
        if not (folder / "data").exists():
            made: list[str | Path] = [
                programs / "initdb",
                "-D",
                folder / "data",
                "-U",
                "postgres",
                "-A",
                "trust",
            ]
            made += ["-E", "UTF8", "--locale=C"]
            subprocess.run(made, check=True, capture_output=True, cwd=folder, **identity)
        settings = _settings()
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            folder / "data",
            "-k",
            folder,
            *options,
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, process_group=0, **identity
            )
        server = Postgres(folder, process.pid, settings)
        _wait(server, process)
        yield server
    finally:
        if process is not None:
            process.terminate()
            process.wait(SECONDS)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            server.ask("SELECT 1")
        except psycopg.OperationalError:
            log = (server.folder / "log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        else:
            return


def _children(process: int) -> list[int]:
    try:
        return [
            int(child)
            for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    except OSError:
        return []


def _spent(process: int) -> float:
    """Seconds of a process and of its children that ended; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
