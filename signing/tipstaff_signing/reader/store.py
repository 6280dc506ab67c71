"""Artefacts by their SHA-256: downloaded aside, resumed, checked, renamed; never changed
afterwards.

    cache/artefacts/<sha256>     whole and checked
    cache/partial/<sha256>       the beginning of one, so that a download can go on; deltas until used
    cache/partial/<sha256>.made  one that is being made from another one and deltas
    cache/quarantine/<sha256>    found damaged on disk; removed once a sound copy is in force

What was hashed once by this object is not hashed again while the file's identity, size and time
stay the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Protocol

from tipstaff_signing.errors import FetchError, MismatchError, TooLargeError, UnavailableError
from tipstaff_signing.files import Disk, fsync_dir, sha256_file
from tipstaff_signing.names import prefixed_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.model import Limits
    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.tuf_names import TargetFile

__all__ = ["ArtefactStore"]

_LOG = logging.getLogger("tipstaff_signing")
_MAX_EMPTY = 1024


class _Digest(Protocol):
    """A running SHA-256, as hashlib gives it."""

    def update(self, data: bytes, /) -> None:
        """More of the content."""
        ...

    def hexdigest(self) -> str:
        """Of what came so far."""
        ...


class ArtefactStore:
    """See the module.

    Callers hold the state's lock, except for `path` and `is_sound`. OSErrors of the disk pass
    through.
    """

    def __init__(
        self, cache: Path, *, limits: Limits, monotonic: Callable[[], float], disk: Disk
    ) -> None:
        self._artefacts = cache / "artefacts"
        self._partial = cache / "partial"
        self._quarantine = cache / "quarantine"
        self._limits = limits
        self._monotonic = monotonic
        self._disk = disk
        self._checked: dict[str, tuple[int, int, int, int]] = {}

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self._artefacts, self._partial, self._quarantine):
            self._disk.mkdir(folder)

    def path(self, sha256: str) -> Path:
        """Where an artefact is, if it is there."""
        return self._artefacts / sha256

    def is_sound(self, target: TargetFile) -> bool:
        """Whether the artefact is there with the signed length and hash."""
        sha256 = target.hashes["sha256"]
        path = self.path(sha256)
        try:
            identity = _identity(path)
            if self._checked.get(sha256) == identity:
                return True
            sound = identity[1] == target.length and sha256_file(path) == (target.length, sha256)
        except FileNotFoundError:
            return False
        if sound:
            self._checked[sha256] = identity
        return sound

    def holds(self, sha256: str) -> bool:
        """Whether an artefact of that hash is there, whatever its length."""
        path = self.path(sha256)
        try:
            identity = _identity(path)
            if self._checked.get(sha256) != identity:
                if sha256_file(path)[1] != sha256:
                    return False
                self._checked[sha256] = identity
        except FileNotFoundError:
            return False
        return True

    def set_aside(self, target: TargetFile) -> None:
        """Put a damaged artefact where nobody uses it."""
        path = self.path(target.hashes["sha256"])
        self._checked.pop(path.name, None)
        with contextlib.suppress(FileNotFoundError):
            self._disk.replace(path, self._quarantine / path.name)
            _LOG.error(
                "artefact %s was damaged on disk and is in quarantine; the next refresh fetches it"
                " again",
                target.path,
            )

    def lacks(self, target: TargetFile) -> bool:
        """Whether the artefact has to be brought in. A damaged one is set aside first."""
        if self.is_sound(target):
            return False
        if self.path(target.hashes["sha256"]).exists():
            self.set_aside(target)
        return True

    def fetch(self, target: TargetFile, fetcher: Fetcher) -> None:
        """Make sure that the artefact is there and sound.

        Raises:
            FetchError: it could not be had; what came so far is kept for the next attempt.
            MismatchError: what came is not what was signed.
        """
        if self.lacks(target):
            self._keep(target, self.fetch_part(target, fetcher))

    def fetch_part(self, target: TargetFile, fetcher: Fetcher) -> Path:
        """Fetch and check an artefact that is needed for a moment only; it goes with the next
        sweep. Raises as fetch.
        """
        partial = self._partial / target.hashes["sha256"]
        resumed, right = self._download(target, fetcher, partial)
        # The beginning kept from last time may have been the bad part: once more from the start.
        if not right and not (resumed and self._download(target, fetcher, partial)[1]):
            raise MismatchError(
                f"{target.path} is not what was signed: the source or the way to it alters data;"
                " try another, and tell the operator"
            )
        return partial

    def make(self, target: TargetFile, pieces: Iterable[bytes]) -> None:
        """Take an artefact that is made here rather than fetched, with the same checks.

        Raises:
            MismatchError: it is not what was signed. Whatever `pieces` raises passes, too; nothing
                is left then.
        """
        made = self._partial / f"{target.hashes['sha256']}.made"
        self._disk.remove(made)
        descriptor = os.open(
            made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        digest = hashlib.sha256()
        try:
            self._append(descriptor, target, pieces, 0, digest)
            self._disk.fsync(descriptor)
        except Exception:
            self._disk.remove(made)
            raise
        finally:
            os.close(descriptor)
        if digest.hexdigest() != target.hashes["sha256"]:
            self._disk.remove(made)
            raise MismatchError(f"{target.path} did not become what was signed")
        self._keep(target, made)

    def unused(
        self, used: Collection[str], retired: Mapping[str, datetime], now: datetime
    ) -> tuple[list[Path], dict[str, datetime]]:
        """What lies here unused.

        Returns:
            What may go, and what stays for those who may still be opening it, with the time since
                when it is unused.
        """
        since = {
            path: retired.get(path.name, now)
            for path in sorted(self._artefacts.iterdir())
            if path.name not in used
        }
        expendable = [path for path, time in since.items() if now - time >= self._limits.retention]
        return expendable, {
            path.name: time for path, time in since.items() if now - time < self._limits.retention
        }

    def sweep(self, expendable: Iterable[Path]) -> None:
        """Remove these artefacts, and what is left of downloads and damage."""
        for path in (*expendable, *self._partial.iterdir(), *self._quarantine.iterdir()):
            self._disk.remove(path)
            self._checked.pop(path.name, None)

    def _keep(self, target: TargetFile, partial: Path) -> None:
        path = self.path(target.hashes["sha256"])
        self._disk.replace(partial, path)
        fsync_dir(self._artefacts, self._disk)
        self._checked[path.name] = _identity(path)

    def _download(self, target: TargetFile, fetcher: Fetcher, partial: Path) -> tuple[bool, bool]:
        """Bring `partial` to its full length, hashing what is written on the way; a wrong one is
        removed.

        Returns:
            Whether it began with bytes kept from an earlier attempt, and whether it is what was
                signed.
        """
        if partial.exists() and partial.stat().st_size > target.length:
            self._disk.remove(partial)
        descriptor = os.open(
            partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            start = os.fstat(descriptor).st_size
            digest = _begun(partial) if start else hashlib.sha256()
            if start < target.length:
                self._append(
                    descriptor, target, self._chunks(target, fetcher, start), start, digest
                )
            self._disk.fsync(descriptor)
        except (TooLargeError, OSError):
            # Too much came, or the disk is full or failing: give the space back.
            self._disk.remove(partial)
            raise
        finally:
            os.close(descriptor)
        right = digest.hexdigest() == target.hashes["sha256"]
        if not right:
            self._disk.remove(partial)
        return start > 0, right

    def _append(
        self,
        descriptor: int,
        target: TargetFile,
        chunks: Iterable[bytes],
        have: int,
        digest: _Digest,
    ) -> None:
        for chunk in chunks:
            have += len(chunk)
            if have > target.length:
                raise TooLargeError(
                    f"{target.path} goes on beyond its signed {target.length} bytes: do not use"
                    " this source"
                )
            self._disk.write(descriptor, chunk)
            digest.update(chunk)
        if have < target.length:
            raise UnavailableError(
                f"{target.path} broke off at {have} of {target.length} bytes: refresh again, it is"
                " resumed there"
            )

    def _chunks(self, target: TargetFile, fetcher: Fetcher, offset: int) -> Iterator[bytes]:
        deadline = self._monotonic() + self._limits.fetch_seconds
        empty = 0
        with _fetching(target.path):
            chunks = iter(
                fetcher.artefact(prefixed_path(target.path, target.hashes["sha256"]), offset)
            )
        while True:
            with _fetching(target.path):
                chunk = next(chunks, None)
            if chunk is None:
                return
            empty = 0 if chunk else empty + 1
            if self._monotonic() > deadline or empty > _MAX_EMPTY:
                raise UnavailableError(
                    f"{target.path} took over {self._limits.fetch_seconds:g} s: refresh again, it"
                    " is resumed"
                )
            yield chunk


@contextlib.contextmanager
def _fetching(path: str) -> Generator[None]:
    """Whatever a transport raises, at the call or in mid-stream, is a FetchError."""
    try:
        yield
    except FetchError:
        raise
    except Exception as error:
        raise UnavailableError(
            f"{path} could not be fetched ({type(error).__name__}): check the connection and"
            " refresh again"
        ) from error


def _begun(partial: Path) -> _Digest:
    with partial.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _identity(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
