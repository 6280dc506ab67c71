"""Files that survive, the lock, names that stay inside their folder."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.signing import FaultyDisk, KilledError
from tipstaff_signing import (
    DirectoryFetcher,
    NotFoundError,
    StateBusyError,
    StorageError,
    TooLargeError,
    UnavailableError,
)
from tipstaff_signing.files import (
    Disk,
    FileLock,
    is_metadata_name,
    is_target_path,
    read_capped,
    sha256_file,
    storage_errors,
    write_atomic,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"one", mode=0o600)
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_atomic_syncs_before_it_renames_and_the_folder_after(tmp_path: Path) -> None:
    done: list[str] = []

    class Watched(Disk):
        def fsync(self, descriptor: int) -> None:
            done.append(
                "fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file"
            )
            super().fsync(descriptor)

        def replace(self, source: Path, target: Path) -> None:
            done.append("rename")
            super().replace(source, target)

    write_atomic(tmp_path / "file", b"data", disk=Watched())
    assert done == ["fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize("mode", ["full", "eio", "fsync", "kill"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_write_atomic_leaves_the_old_content_when_it_fails(
    tmp_path: Path, mode: str, at: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    disk = FaultyDisk(mode, at)
    try:
        write_atomic(path, b"new and longer", disk=disk)
    except (OSError, KilledError):
        assert disk.fired
    assert path.read_bytes() in ({b"old"} if disk.fired and at < 3 else {b"old", b"new and longer"})
    if mode != "kill":
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "mount it writable"),
        (errno.EACCES, "read and write the folder"),
        (errno.EIO, "check the disk"),
        (errno.ENAMETOOLONG, "check the folder"),
    ],
)
def test_storage_errors_say_what_to_do(number: int, advice: str) -> None:
    with pytest.raises(StorageError, match=advice) as caught, storage_errors("saving"):
        raise OSError(number, "reason")
    assert isinstance(caught.value.__cause__, OSError)


def test_lock_keeps_other_threads_out_until_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside: list[int] = []
    overlaps: list[int] = []

    def work() -> None:
        for _ in range(20):
            with FileLock(path, timeout=30):
                inside.append(1)
                overlaps.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [1] * 80


def test_busy_lock_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path, timeout=0):
        assert not FileLock(path, timeout=0).acquire()
        with pytest.raises(StateBusyError, match="another process"), FileLock(path, timeout=0.01):
            pass
    with FileLock(path, timeout=0):
        pass


def test_releasing_a_lock_twice_does_no_harm(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", timeout=0)
    assert lock.acquire()
    lock.release()
    lock.release()
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    "name", ["timestamp.json", "1.root.json", "92.relief-aviation.json", "targets.json"]
)
def test_metadata_names(name: str) -> None:
    assert is_metadata_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../timestamp.json",
        "a/b.json",
        "timestamp",
        ".json",
        "0.root.json",
        "1..root.json",
        "x.JSON",
        "a\n.json",
        "1.root.json\n",
        ".x.json.new",
    ],
)
def test_names_that_are_none(name: str) -> None:
    assert not is_metadata_name(name)


@pytest.mark.parametrize(
    "path",
    [
        "catalogue",
        "listing/aviation/filter",
        "relief/rail/1-9",
        "listing/a/" + "0" * 64 + ".filter",
    ],
)
def test_plain_relative_paths_are_target_paths(path: str) -> None:
    assert is_target_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "a\0b",
        "a\\b",
        "a b",
        "é",
        "a/" * 600 + "a",
    ],
)
def test_paths_that_are_none(path: str) -> None:
    assert not is_target_path(path)


def test_read_capped_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert read_capped(path, 3) == b"abc"
    with pytest.raises(TooLargeError):
        read_capped(path, 2)
    assert sha256_file(path) == (
        3,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )


def test_directory_fetcher_serves_a_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    for folder in ("metadata", "targets/listing/a"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "metadata" / "timestamp.json").write_bytes(b"12345")
    (tmp_path / "targets" / "listing" / "a" / "f").write_bytes(b"0123456789")
    (tmp_path / "secret").write_bytes(b"secret")
    fetcher = DirectoryFetcher(tmp_path)
    assert fetcher.metadata("timestamp.json", 5) == b"12345"
    assert b"".join(fetcher.artefact("listing/a/f", 4)) == b"456789"
    assert b"".join(fetcher.artefact("listing/a/f", 10)) == b""
    with pytest.raises(TooLargeError):
        fetcher.metadata("timestamp.json", 4)
    for name in ("snapshot.json", "../secret", "../metadata/timestamp.json"):
        with pytest.raises(NotFoundError):
            fetcher.metadata(name, 100)
    for path in ("listing/a/g", "../secret", "listing/../../secret", "/etc/passwd"):
        with pytest.raises(NotFoundError):
            list(fetcher.artefact(path, 0))
    with pytest.raises(UnavailableError, match="check the mount"):
        list(fetcher.artefact("listing/a", 0))
    (tmp_path / "metadata" / "1.root.json").mkdir()
    with pytest.raises(UnavailableError, match="check the mount"):
        fetcher.metadata("1.root.json", 100)
