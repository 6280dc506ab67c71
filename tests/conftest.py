"""Logging as it was after each test; at the end of a run the attack table, every case by name, when
attacks were among the tests.
"""

from __future__ import annotations

import gc
import logging
import sys
import textwrap
from collections import defaultdict
from multiprocessing import spawn
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from tests.support import engines, folders
from tests.support.prepared_python import python

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "tests/attacks/"
FAILED = {"failed", "error"}
engines.share()
folders.keep_in_memory()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process sets the level that its configuration names; the
    next test must not inherit it.
    """
    loggers = [logging.getLogger(), logging.getLogger("tipstaff_server")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def prepared_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes that are started by `sys.executable`, or spawned, are forked from one that has
    imported everything.
    """
    usual = spawn.get_executable()
    monkeypatch.setattr(sys, "executable", python())
    spawn.set_executable(python())
    yield
    spawn.set_executable(usual)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table: what must hold, how many of its cases did, and their names; those that did
    not hold stand first.
    """
    held: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            if report.nodeid.startswith(FOLDER):
                file, _, test = report.nodeid.partition("::")
                name, _, case = test.partition("[")
                rows = held[PurePosixPath(file).stem.removeprefix("test_").replace("_", " "), name]
                case = case.removesuffix("]").encode("ascii", "replace").decode()
                rows[case] = rows.get(case, True) and outcome not in FAILED
    if not held:
        return
    cases = [passed for rows in held.values() for passed in rows.values()]
    terminalreporter.section(f"attack table: {sum(cases)} of {len(cases)} cases held")
    title = ""
    for (file, name), rows in sorted(held.items()):
        if file != title:
            title = file
            terminalreporter.write_line(title, bold=True)
        sentence = name.removeprefix("test_").replace("_", " ")
        terminalreporter.write_line(
            f"  {sum(rows.values())}/{len(rows)}  {sentence}", red=not all(rows.values())
        )
        for case in (case for case, passed in rows.items() if case and not passed):
            terminalreporter.write_line(f"        FAILED  {case}", red=True)
        names = "; ".join(case for case, passed in sorted(rows.items()) if case and passed)
        for line in textwrap.wrap(names, max(60, terminalreporter._tw.fullwidth - 10)):
            terminalreporter.write_line(f"        {line}")


def pytest_collection_finish() -> None:
    """Python's collector of cycles looks rarely, and not at what was loaded until now: it was an
    eighth of the processor time, and found nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
