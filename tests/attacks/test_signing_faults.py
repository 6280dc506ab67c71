"""The disk fills, fails, or the process is killed, at every single step: what was there stays
usable, and the next attempt succeeds.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.signing import Deployment, FaultyDisk, KilledError, contents
from tipstaff_signing import Limits, Repository, StorageError, Versions
from tipstaff_signing.files import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
MODES = ["kill", "full", "eio", "fsync"]
# Nothing is kept for late openers, so that removing old artefacts is among the steps.
NO_RETENTION = {"limits": Limits(retention=Limits().retention * 0)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A reader that holds one version, and a repository that is one ahead."""
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.listing(b"filter 1")
    made.relief(b"relief 1")
    made.reader().refresh(made.fetcher())
    shutil.copytree(made.path, made.folder / "behind")
    made.listing(b"filter 2")
    made.relief(b"relief 2")
    return made


def attempt(act: Callable[[FaultyDisk], object], mode: str, at: int) -> bool:
    """Act on a disk that fails at one step. Returns whether it got that far."""
    disk = FaultyDisk(mode, at)
    raised: BaseException | None = None
    try:
        act(disk)
    except (KilledError, StorageError) as error:
        raised = error
    if isinstance(raised, StorageError):
        assert ("disk is full" if mode == "full" else "check the disk") in str(raised)
    assert isinstance(raised, KilledError) == (mode == "kill" and disk.fired)
    return disk.fired


@pytest.mark.parametrize(
    ("by", "mode"), [*(("refresh", mode) for mode in MODES), ("bundle", "kill"), ("bundle", "full")]
)
def test_reader_survives_a_fault_at_every_step(
    built: Deployment, tmp_path: Path, mode: str, by: str
) -> None:
    bundle = built.repository.bundle_files("aviation", Versions(0, 0, 0, 0), 1 << 20)
    old, new = built.reader().load(), built.reader("other").refresh(built.fetcher())
    wanted = [contents(old), contents(new)]
    at, outcomes = 0, set()
    fired = True
    while fired:
        at += 1
        state = tmp_path / str(at)
        shutil.copytree(built.folder / "state", state)

        def act(disk: FaultyDisk, state: Path = state) -> object:
            reader = built.reader(str(state), disk=disk, **NO_RETENTION)
            return reader.refresh(built.fetcher()) if by == "refresh" else reader.apply(*bundle)

        fired = attempt(act, mode, at)
        found = contents(built.reader(str(state)).load())
        assert found in wanted
        outcomes.add(found == wanted[1])
        assert contents(built.reader(str(state)).refresh(built.fetcher())) == wanted[1]
        assert built.reader(str(state)).load() is not None
        litter = [
            path
            for path in state.rglob("*")
            if path.name.endswith(".new") or path.name == "work" or path.parent.name == "partial"
        ]
        assert not litter
        shutil.rmtree(state)
    assert outcomes == {False, True}


def test_first_refresh_survives_a_kill_at_every_step(built: Deployment, tmp_path: Path) -> None:
    at, fired = 0, True
    while fired:
        at += 3
        state = str(tmp_path / str(at))
        fired = attempt(
            lambda disk: built.reader(state, disk=disk).refresh(  # noqa: B023  called at once
                built.fetcher()
            ),
            "kill",
            at,
        )
        found = contents(built.reader(state).load())
        assert found is None or found["relief/aviation/1-9"] == b"relief 2"
        assert (
            contents(built.reader(state).refresh(built.fetcher()))["relief/aviation/1-9"]
            == b"relief 2"
        )


def relief(deployment: Deployment) -> object:
    return deployment.relief(b"relief 3")


def listing(deployment: Deployment) -> object:
    return deployment.listing(b"filter 3")


def catalogue(deployment: Deployment) -> object:
    return deployment.repository.set_catalogue(b"catalogue 3", deployment.keys)


@pytest.mark.parametrize(
    ("act", "mode", "stride"),
    [
        *((relief, mode, 1) for mode in MODES),
        (listing, "kill", 2),
        (listing, "full", 3),
        (listing, "eio", 5),
        (catalogue, "kill", 2),
        (catalogue, "full", 4),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_repository_survives_a_fault_at_every_step(
    built: Deployment, tmp_path: Path, act: Callable[[Deployment], object], mode: str, stride: int
) -> None:
    wanted = {"relief": b"relief 3", "listing": b"filter 3", "catalogue": b"catalogue 3"}[
        act.__name__
    ]
    before = built.reader("before").refresh(built.fetcher())
    at, outcomes, fired = 0, set(), True
    while fired:
        at += stride
        copy = tmp_path / str(at)
        (copy / "keys").mkdir(parents=True)
        shutil.copytree(built.path, copy / "repository")
        shutil.copytree(built.keys.folder, copy / "keys", dirs_exist_ok=True)
        trial = Deployment(copy, clock=built.clock)

        def faulty(disk: FaultyDisk, trial: Deployment = trial) -> object:
            trial.repository = Repository(trial.path, clock=trial.clock, disk=disk)
            return act(trial)

        fired = attempt(faulty, mode, at)
        trial.repository = Repository(trial.path, clock=trial.clock)
        state = trial.reader(trusted_root=built.root).refresh(trial.fetcher())
        published = wanted in contents(state).values()
        assert published or contents(state) == contents(before)
        outcomes.add(published)
        act(trial)
        again = trial.reader(trusted_root=built.root).refresh(trial.fetcher())
        assert again.timestamp_version > state.timestamp_version
        assert wanted in contents(again).values()
        shutil.rmtree(copy)
    assert outcomes == {False, True}


def test_founding_a_repository_is_all_or_nothing(built: Deployment, tmp_path: Path) -> None:
    for mode, stride in (("kill", 7), ("full", 9)):
        at, fired = 1, True
        while fired:
            path = tmp_path / f"{mode}{at}"

            def found(disk: FaultyDisk, path: Path = path) -> object:
                return Repository.create(
                    path,
                    built.keys,
                    audiences=["rail"],
                    catalogue=b"c",
                    clock=built.clock,
                    disk=disk,
                )

            fired = attempt(found, mode, at)
            if not path.exists():
                Repository.create(
                    path, built.keys, audiences=["rail"], catalogue=b"c", clock=built.clock
                )
            assert Repository(path).versions("rail") == Versions(1, 1, 1, 1, 1, 1)
            at += stride


def test_full_disk_in_the_private_copy_is_a_storage_error(
    built: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """python-tuf's own writes."""
    before = contents(built.reader().load())

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tuf.ngclient.updater.os.replace", full)
    with pytest.raises(StorageError, match="free some space"):
        built.reader().refresh(built.fetcher())
    monkeypatch.undo()
    assert contents(built.reader().load()) == before


WORKER = """
import sys
from pathlib import Path
from signing import Deployment
deployment = Deployment(Path(sys.argv[1]))
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    reader = deployment.reader(sys.argv[2])
    for source in ("behind", "repository"):
        try:
            state = reader.refresh(deployment.fetcher(repository=source))
        except Exception as error:
            if type(error).__name__ != "RollbackError":
                raise
    assert reader.load() is not None
print(state.timestamp_version, flush=True)
"""


def worker(deployment: Deployment, state: Path, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # By folder, not as tests.support: an installed package may bring a top-level "tests" of its
        # own.
        [sys.executable, "-c", WORKER, str(deployment.folder), str(state), str(rounds)],
        cwd=ROOT / "tests" / "support",
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_process_leaves_a_state_that_opens(built: Deployment, tmp_path: Path) -> None:
    """SIGKILL, for real, at random moments of first and later refreshes."""
    chance = random.Random(20260701)
    for number in range(4):
        state = tmp_path / str(number)
        with worker(built, state, 10_000) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL
        found = contents(built.reader(str(state)).load())
        assert found is None or found["relief/aviation/1-9"] in {b"relief 1", b"relief 2"}
        assert (
            contents(built.reader(str(state)).refresh(built.fetcher()))["relief/aviation/1-9"]
            == b"relief 2"
        )


def test_two_processes_and_an_opening_third_share_a_state(
    built: Deployment, tmp_path: Path
) -> None:
    state = tmp_path / "shared"
    newest = built.reader("newest").refresh(built.fetcher())
    processes = [worker(built, state, 15) for _ in range(2)]
    opened = 0
    while any(process.poll() is None for process in processes):
        found = built.reader(str(state)).load()
        if found is not None:
            assert contents(found)["relief/aviation/1-9"] in {b"relief 1", b"relief 2"}
            opened += 1
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output.split() == ["ready", str(newest.timestamp_version)]
    assert opened
    assert built.reader(str(state)).load().timestamp_version == newest.timestamp_version


def test_lock_of_a_killed_holder_is_free_although_its_forked_child_lives(tmp_path: Path) -> None:
    script = """
import os, sys, time, pathlib
from tipstaff_signing.files import FileLock
lock = FileLock(pathlib.Path(sys.argv[1]), timeout=0)
assert lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
time.sleep(30)
"""
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert not FileLock(path, timeout=0).acquire()
            process.kill()
            process.wait()
            with FileLock(path, timeout=5):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
