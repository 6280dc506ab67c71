"""A long list is read in a process of its own: the same goes in, its errors are errors here, and
whoever dies is run again.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.registry import World, entry, person
from tests.unit.server_registry.test_import_run import SYNTHETIC, check_import, counts, importer
from tipstaff_server.errors import FileHeaderError, ImportFileError, ProcessEndedError
from tipstaff_server.importing import batches as reading
from tipstaff_server.importing.synthetic.files import write_csv
from tipstaff_server.processes import read_ahead as ahead
from tipstaff_server.processes.executor import open_executor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tipstaff_server.importing.batches import ImportBatch, Order


@pytest.fixture(autouse=True)
def _long_lists_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each process that was started."""
    words: list[str] = []

    def told(workers: int) -> AbstractContextManager[Executor]:
        words.extend(["ahead"] * workers)
        return open_executor(workers)

    monkeypatch.setattr(ahead, "open_executor", told)
    return words


@pytest.mark.usefixtures("prepared_processes")
def test_the_same_goes_in_and_the_same_is_refused(
    world: World, tmp_path: Path, started: list[str]
) -> None:
    check_import(world, tmp_path, 2_000)
    assert started == ["ahead", "ahead"]
    assert not [
        child
        for child in multiprocessing.active_children()
        if child.name.startswith("SpawnProcess")
    ]


def test_short_lists_and_single_cores_take_no_process(
    sqlite_world: World, tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 20)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    importer(sqlite_world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    monkeypatch.setattr(reading, "WORTH_A_PROCESS", 1 << 20)
    importer(sqlite_world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert started == []


@pytest.mark.usefixtures("prepared_processes")
def test_a_file_without_a_header_is_refused(
    sqlite_world: World, tmp_path: Path, started: list[str]
) -> None:
    (tmp_path / "l.csv").write_text("姓名,案号\n张三,1\n")
    with pytest.raises(FileHeaderError, match="证件号码"):
        importer(sqlite_world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert started == ["ahead"]
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.usefixtures("prepared_processes")
def test_a_file_that_cannot_be_read_to_its_end_keeps_what_was_read(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 30)
    monkeypatch.setattr(reading, "_read", _read_one)
    with pytest.raises(ImportFileError, match="damaged"):
        importer(sqlite_world, batch=10).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert counts(sqlite_world)[0] == 10


# In the worker `reading._read` is the real one.
def _read_one(order: Order) -> Iterator[ImportBatch]:
    yield next(reading._read(order))
    raise ImportFileError("damaged")


def _read_one_and_die(order: Order) -> Iterator[ImportBatch]:
    yield next(reading._read(order))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("prepared_processes")
def test_a_reader_that_is_killed_ends_the_import_and_running_it_again_completes_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 30)
    with monkeypatch.context() as patched:
        patched.setattr(reading, "_read", _read_one_and_die)
        with pytest.raises(ProcessEndedError, match="try again"):
            importer(world, batch=10).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert counts(world)[0] == 10
    again = importer(world, batch=10).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert (again.created, again.unchanged, again.rejected) == (20, 10, 0)


def test_entries_arrive_as_they_were(sqlite_world: World) -> None:
    sent = entry(person(1))
    told = sent.canonical("court")
    sent.party.canonical_names()
    arrived = pickle.loads(pickle.dumps(sent))
    assert arrived == sent
    assert arrived._told == ("court", told)
    assert arrived.party._canonical == sent.party.canonical_names()
    assert arrived.canonical("tax") == sent.canonical("tax") != told
    assert pickle.loads(pickle.dumps(entry(person(1)))) == sent
