"""Commands as processes of their own: how long they take, what they spend, and how much memory they
and their children hold at most.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Ran", "run_command"]

PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Ran:
    """A command that ended well. peak_mb: private memory (not of files), in MiB, of it and its
    children together.
    """

    output: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_command(*arguments: str) -> Ran:
    """`tipstaff-server` with these arguments; its error output goes to ours."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tipstaff_server", *arguments], stdout=subprocess.PIPE, text=True
    )
    peak = _Peak(process.pid)
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
        held = peak.stop()
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0, (
        f"tipstaff-server {arguments[0]} ended with {process.returncode}"
    )
    return Ran(
        output, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, held
    )


class _Peak(threading.Thread):
    """Looks at a process and its descendants ten times a second."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._ended = threading.Event()
        self._most = 0.0
        self.start()

    def run(self) -> None:
        """Until `stop`."""
        while not self._ended.wait(PAUSE_SECONDS):
            self._most = max(self._most, _private_mb(self._process))

    def stop(self) -> float:
        """Ends it; the most that was seen, MiB."""
        self._ended.set()
        self.join()
        return self._most


def _private_mb(process: int) -> float:
    held = 0.0
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        held = int(found[1]) / 1024 if found else 0.0
        children = [
            child
            for task in os.listdir(f"/proc/{process}/task")  # noqa: PTH208
            for child in _children(process, task)
        ]
    except OSError:
        return held  # it ended meanwhile
    return held + sum(_private_mb(child) for child in children)


def _children(process: int, task: str) -> list[int]:
    try:
        return [
            int(child)
            for child in Path(f"/proc/{process}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []
