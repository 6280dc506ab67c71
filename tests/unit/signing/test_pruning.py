"""Superseded files move into the history; clients within the window miss nothing."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.signing import Clock, Deployment
from tipstaff_signing import DirectoryFetcher, Reader, RepositoryError, StorageError
from tipstaff_signing.files import Disk
from tipstaff_signing.repository.history import prune

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = timedelta(days=7)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def deployment(original: Deployment, tmp_path: Path) -> Deployment:
    return original.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Three listings and six reliefs, four days apart."""
    made = Deployment(tmp_path_factory.mktemp("original"))
    assert isinstance(made.clock, Clock)
    for number in range(3):
        made.listing(b"filter %d" % number)
        for part in range(2):
            made.relief(b"relief %d %d" % (number, part))
        made.clock.move(days=4)
    return made


def read(deployment: Deployment, name: str) -> bytes:
    deployment.repository.refresh(
        "aviation", deployment.keys.signer("relief-aviation"), *deployment.online
    )
    roles = ["listing-aviation", "relief-aviation"]
    reader = Reader(
        deployment.folder / name,
        view="aviation",
        trusted_root=deployment.root,
        roles=roles,
        clock=deployment.clock,
    )
    state = reader.refresh(DirectoryFetcher(deployment.path / "aviation"))
    return state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()


def test_what_is_older_than_the_window_moves_and_nothing_is_lost(deployment: Deployment) -> None:
    view, history = deployment.path / "aviation", deployment.folder / "history"
    before, root = files(view), deployment.repository.root_bytes()
    moved = prune(deployment.repository, "aviation", history, now=deployment.clock(), window=WINDOW)
    assert moved > 0
    left, old = files(view), files(history / "aviation")
    assert left | old == before
    assert not left & old
    assert len(old) == moved
    assert {
        "metadata/1.root.json",
        "metadata/1.targets.json",
        "metadata/4.listing-aviation.json",
    } <= left
    # Eight and twelve days ago: the first two listings, but the second's last snapshots belong to
    # nobody within the window.
    assert {"metadata/2.listing-aviation.json", "metadata/3.listing-aviation.json"} <= old
    assert deployment.repository.root_bytes() == root
    assert read(deployment, "after") == b"filter 2"
    assert (
        prune(deployment.repository, "aviation", history, now=deployment.clock(), window=WINDOW)
        == 0
    )


def test_within_the_window_everything_stays(deployment: Deployment) -> None:
    history = deployment.folder / "history"
    assert (
        prune(
            deployment.repository,
            "aviation",
            history,
            now=deployment.clock(),
            window=timedelta(days=30),
        )
        == 0
    )


def test_writing_goes_on_above_what_was_pruned(deployment: Deployment) -> None:
    before = deployment.repository.versions("aviation")
    prune(
        deployment.repository,
        "aviation",
        deployment.folder / "history",
        now=deployment.clock(),
        window=timedelta(),
    )
    deployment.listing(b"filter 3")
    after = deployment.repository.versions("aviation")
    assert (after.listing, after.snapshot) == (before.listing + 1, before.snapshot + 1)
    assert read(deployment, "after") == b"filter 3"


class OtherFileSystem(Disk):
    """The history is on another one."""

    def replace(self, source: Path, target: Path) -> None:
        if not source.name.startswith("."):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        super().replace(source, target)


def test_to_another_file_system_files_are_copied(deployment: Deployment) -> None:
    view, history = deployment.path / "aviation", deployment.folder / "history"
    before = {name: (view / name).read_bytes() for name in files(view)}
    prune(
        deployment.repository,
        "aviation",
        history,
        now=deployment.clock(),
        window=WINDOW,
        disk=OtherFileSystem(),
    )
    for name in files(history / "aviation"):
        assert (history / "aviation" / name).read_bytes() == before[name]
        assert not (view / name).exists()


class Full(Disk):
    """Room for a few files only."""

    def __init__(self, room: int) -> None:
        self.room = room

    def replace(self, source: Path, target: Path) -> None:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= 1
        super().replace(source, target)


@pytest.mark.parametrize("room", [0, 1, 5, 12])
def test_stopped_by_a_full_disk_the_repository_is_whole(deployment: Deployment, room: int) -> None:
    history = deployment.folder / "history"
    with pytest.raises(StorageError):
        prune(
            deployment.repository,
            "aviation",
            history,
            now=deployment.clock(),
            window=WINDOW,
            disk=Full(room),
        )
    assert read(deployment, "after") == b"filter 2"
    prune(deployment.repository, "aviation", history, now=deployment.clock(), window=WINDOW)
    assert read(deployment, "again") == b"filter 2"


def test_an_unknown_audience(deployment: Deployment) -> None:
    with pytest.raises(RepositoryError, match="no audience"):
        prune(
            deployment.repository,
            "space",
            deployment.folder / "history",
            now=deployment.clock(),
            window=WINDOW,
        )
