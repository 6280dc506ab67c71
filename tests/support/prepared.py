"""`tipstaff-server` as processes that are forked from one that has imported everything: a start is
most of what a command takes.

Each is a process with an environment, a folder and outputs of its own, as if started from a shell;
only the importing was done before. What a start really is, and what it imports, is tested elsewhere
(test_commands, test_readme, test_runbook).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.preloaded"])


class Command:
    """A running `tipstaff-server`, with what tests use of `subprocess.Popen`.

    Outputs are appended to files.
    """

    def __init__(
        self, arguments: list[str], out: Path, err: Path, environment: dict[str, str]
    ) -> None:
        self._arguments = arguments
        self._process: Any = _CONTEXT.Process(
            target=_run,
            args=(arguments, str(out), str(err), environment, os.getcwd()),  # noqa: PTH109
        )
        self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Returns the exit status, None while it runs."""
        status: int | None = self._process.exitcode
        return status

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended; returns its exit status. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
        return int(self._process.exitcode)

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run(arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. Raises subprocess.TimeoutExpired."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        running = Command(arguments, out, err, dict(os.environ))
        try:
            status = running.wait(timeout)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        return subprocess.CompletedProcess(
            arguments, status, out.read_text("utf-8"), err.read_text("utf-8")
        )


def _run(
    arguments: list[str], out: str, err: str, environment: dict[str, str], folder: str
) -> None:
    """Runs the command, in the process that was forked for it."""
    for descriptor, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["tipstaff-server", *arguments]
    # Started from a shell it would be nobody's helper, and could have some of its own.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    from tipstaff_server.cli import main  # noqa: PLC0415  imported when its environment is set

    main()
