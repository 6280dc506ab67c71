"""Files that survive: written aside, synced, renamed, the folder synced; one writer at a time.

`Disk` is the seam: every lasting change that this package makes goes through one, so that tests can
fail or kill any step.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
import weakref
from typing import TYPE_CHECKING, Self

from tipstaff_signing.errors import StateBusyError, StorageError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "DISK",
    "Disk",
    "FileLock",
    "fsync_dir",
    "read_capped",
    "sha256_file",
    "storage_errors",
    "write_atomic",
]

CHUNK_BYTES = 256 * 1024
_METADATA_NAME = re.compile(r"(?:[1-9][0-9]{0,18}\.)?[a-z0-9][a-z0-9-]{0,63}\.json")
_PATH_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and try again",
    errno.EDQUOT: "the disk quota is used up: free some space and try again",
    errno.EROFS: "the file system is read-only: mount it writable or choose another folder",
    errno.EACCES: "no permission: let this user read and write the folder",
    errno.EPERM: "no permission: let this user read and write the folder",
    errno.EIO: (
        "the device reports an error: check the disk, and choose another folder if it goes on"
    ),
}


class Disk:
    """The changes that this package makes to a disk. Raises OSError as the calls beneath do."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def fsync(self, descriptor: int) -> None:
        """Bring a file or folder to the platter."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over whatever is there."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        target.hardlink_to(source)

    def mkdir(self, path: Path) -> None:
        """Make a folder, its parents too, for this user alone; it may be there already."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        """Remove a file or a whole folder; it may be gone already."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


DISK = Disk()


@contextlib.contextmanager
def storage_errors(doing: str) -> Generator[None]:
    """Turn an OSError inside into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(
            error.errno or 0,
            f"{error.strerror or type(error).__name__}: check the folder and try again",
        )
        raise StorageError(f"{doing}: {remedy}; what was stored before is unchanged") from error


def fsync_dir(path: Path, disk: Disk = DISK) -> None:
    """Sync a folder, so that renames in it last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes, *, mode: int = 0o644, disk: Disk = DISK) -> None:
    """Write a new file and sync it; it must not be there yet. The folder is not synced."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode
    )
    try:
        disk.write(descriptor, data)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(
    path: Path, data: bytes, *, mode: int = 0o644, sync_dir: bool = True, disk: Disk = DISK
) -> None:
    """Replace a file whole or not at all: aside, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder exists.
        data: its new content.
        mode: permissions of the new file.
        sync_dir: False when the caller syncs the folder once after several files.
        disk: for tests.

    Raises:
        OSError: as the system says; the file is then as it was.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        write_synced(aside, data, mode=mode, disk=disk)
        disk.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(aside)
        raise
    if sync_dir:
        fsync_dir(path.parent, disk)


def sha256_file(path: Path) -> tuple[int, str]:
    """Length in bytes and SHA-256 in hexadecimal of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most `max_bytes`.

    Raises:
        TooLargeError: it is larger.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLargeError(
            f"{path.name} is larger than {max_bytes} bytes: it is not what it should be, do not"
            " use it"
        )
    return data


def is_metadata_name(name: str) -> bool:
    """Whether `name` is a metadata file name and nothing that leaves its folder."""
    return _METADATA_NAME.fullmatch(name) is not None


def is_target_path(path: str) -> bool:
    """Whether `path` is relative, of plain parts, and nothing that leaves its folder."""
    return len(path) <= 1024 and all(_PATH_PART.fullmatch(part) for part in path.split("/"))  # noqa: PLR2004  the cap is stated here only


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """One holder at a time among all threads and processes of this machine (flock); a killed holder
    lets go by itself.

    Not reentrant. One object serves one `with` at a time; make one per use.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._descriptor: int | None = None

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds. False: somebody else has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        pause = 0.001
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
            except BaseException:
                os.close(descriptor)
                raise
            else:
                self._descriptor = descriptor
                _held.add(self)
                return True

    def release(self) -> None:
        """Let go."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            # Said aloud: a child forked meanwhile holds the same lock, and closing our copy alone
            # would not free it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: close the copy of a lock that the parent holds, without freeing the
        parent's.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        if not self.acquire():
            raise StateBusyError(
                f"another process holds {self._path} since over {self._timeout:g} s: wait for it,"
                " or stop it"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _forget_locks() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks)
