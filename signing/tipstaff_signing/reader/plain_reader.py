"""Reads any TUF repository, not only ours: no views, no `signed_at`, delegations of any depth. For
repositories of other projects, and for holding the reader against the public conformance suite
(`tests/conformance/client`).

    <folder>/root.json timestamp.json snapshot.json targets.json <role>.json   what is trusted
    <folder>/.tipstaff/lock              held while updating
    <folder>/.tipstaff/trusted_root.json the root that trust began with
    <folder>/.tipstaff/roots/2.root.json the roots since
    <folder>/.tipstaff/cache/            artefacts by their SHA-256, see store.py

An update: the workflow runs in a private copy (tuf_client.py); what it trusts afterwards is put in
force file by file in the order of trust, also when it failed half-way, as the specification wants
(5.3 to 5.6: each role is kept once it is verified); then the whole is verified again from the
trusted root down (chain.py). What `Reader` demands of our own repositories beyond the specification
is off here: one version in force as a whole, the view, the time of signing, and a floor beside the
cache; the folder itself is all that is remembered.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError

from tipstaff_signing.chain import verify_chain, verify_prefix
from tipstaff_signing.errors import (
    MismatchError,
    NotFoundError,
    StateError,
    TooLargeError,
    TrustError,
    UnavailableError,
)
from tipstaff_signing.files import (
    DISK,
    Disk,
    FileLock,
    fsync_dir,
    read_capped,
    storage_errors,
    write_atomic,
)
from tipstaff_signing.model import Limits, utc_now
from tipstaff_signing.names import prefixed_path
from tipstaff_signing.reader.saved import root_number
from tipstaff_signing.reader.store import ArtefactStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.reader.tuf_client import PlainWorkflow
    from tipstaff_signing.tuf_names import Root, TargetFile

__all__ = ["PlainReader"]

_DEFAULT_LIMITS = Limits(targets_per_role=1_000_000)
_FIRST = ("root", "timestamp", "snapshot", "targets")


class PlainReader:
    """See the module. Processes may share a folder; one updates at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits = _DEFAULT_LIMITS,
        disk: Disk = DISK,
    ) -> None:
        """Touches nothing yet. Arguments as `Reader`'s."""
        self._folder = folder
        self._own = folder / ".tipstaff"
        self._roots = self._own / "roots"
        self._work = self._own / "work"
        self._store = ArtefactStore(
            self._own / "cache", limits=limits, monotonic=monotonic, disk=disk
        )
        self._clock = clock
        self._monotonic = monotonic
        self._limits = limits
        self._disk = disk

    def initialise(self, trusted_root: bytes) -> None:
        """Begin trust in a root, in place of whatever other root was trusted here before.

        It is verified when it is first used.

        Raises:
            StorageError: the folder cannot be written.
        """
        with storage_errors(f"beginning in {self._folder}"):
            self._disk.mkdir(self._own)
            with self._lock():
                start = self._own / "trusted_root.json"
                if start.is_file() and start.read_bytes() == trusted_root:
                    return
                for left in (*self._folder.glob("*.json"), self._roots):
                    self._disk.remove(left)
                self._disk.mkdir(self._roots)
                write_atomic(self._folder / "root.json", trusted_root, disk=self._disk)
                write_atomic(start, trusted_root, disk=self._disk)

    def refresh(self, fetcher: Fetcher) -> None:
        """Bring the top-level metadata up to date.

        Raises:
            TrustError: something must not be believed; roles verified before it are trusted
                nevertheless.
            FetchError: something could not be had.
            StateError: never initialised, busy, or the disk refused.
        """
        with self._updating(), self._workflow(fetcher):
            pass

    def download(self, fetcher: Fetcher, paths: Sequence[str], folder: Path) -> list[Path]:
        """Refresh, then fetch artefacts by their target paths into `folder`, each under its own
        name; sound ones stay untouched.

        Raises as refresh, and:
            NotFoundError: nobody who may has signed such a path.
            MismatchError: what came is not what was signed; nothing of it is in `folder`.
        """
        with self._updating(), self._workflow(fetcher) as (workflow, root):
            self._store.prepare()
            return [
                self._deliver(path, self._find(workflow, path), fetcher, root, folder)
                for path in paths
            ]

    @contextlib.contextmanager
    def _workflow(self, fetcher: Fetcher) -> Generator[tuple[PlainWorkflow, Root]]:
        """The workflow after a refresh, and the newest root."""
        # Brings an HTTP library: not for starting
        from tipstaff_signing.reader.tuf_client import (  # noqa: PLC0415
            PlainWorkflow,
            lay_out,
        )

        trusted_root = self._trusted_root()
        verify_prefix(trusted_root, {}, view=None)
        self._disk.remove(self._work)
        roots = {path.name: path.read_bytes() for path in self._roots.glob("*.root.json")}
        trusted = {
            path.name: path.read_bytes()
            for path in self._folder.glob("*.json")
            if path.name != "root.json"
        }
        try:
            lay_out(self._work, {**roots, **trusted})
            try:
                workflow = PlainWorkflow(
                    self._work, trusted_root, fetcher, now=self._clock(), limits=self._limits
                )
                workflow.refresh()
            finally:
                self._keep()
            files = {
                path.name: path.read_bytes()
                for path in (*self._folder.glob("*.json"), *self._roots.iterdir())
            }
            yield (
                workflow,
                verify_chain(trusted_root, files, view=None, roles=(), limits=self._limits).root,
            )
        finally:
            with contextlib.suppress(OSError):  # the next update removes it
                self._disk.remove(self._work)

    def _find(self, workflow: PlainWorkflow, path: str) -> TargetFile:
        try:
            target = workflow.find(path)
        finally:
            self._keep()
        if target is None:
            raise NotFoundError(
                f"no role that may has signed an artefact of the path {path[:200]!r}: check its"
                " spelling"
            )
        return target

    def _keep(self) -> None:
        """Put in force what the workflow trusts, in the order in which it came to."""
        for path in (self._work / "root_history").glob("*.root.json"):
            if root_number(path.name):
                self._replace(self._roots / path.name, path.read_bytes())
        left = {path.name.removesuffix(".json"): path for path in self._work.glob("*.json")}
        for role in (*_FIRST, *sorted(left.keys() - set(_FIRST))):
            if (
                role in left and left[role].exists()
            ):  # root.json is a link, which dangles when not even the first root was good
                self._replace(self._folder / f"{role}.json", left[role].read_bytes())
        fsync_dir(self._folder, self._disk)

    def _replace(self, path: Path, data: bytes) -> None:
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, sync_dir=False, disk=self._disk)

    def _deliver(
        self, path: str, target: TargetFile, fetcher: Fetcher, root: Root, folder: Path
    ) -> Path:
        source = _Unprefixed(fetcher, target) if root.consistent_snapshot is False else fetcher
        place = folder / _local_name(path)
        if place.is_file() and _is_sound(place, target):
            return place
        self._disk.mkdir(place.parent)
        if "sha256" in target.hashes:
            self._store.fetch(target, source)
            file = self._store.path(target.hashes["sha256"])
        else:
            file = self._fetch_by_other_hash(target, source)
        if not _is_sound(file, target):
            raise MismatchError(
                f"{path} is not what was signed: the source or the way to it alters data"
            )
        aside = place.with_name(f".{place.name}.new")
        self._disk.remove(aside)
        with aside.open("xb") as writer:
            for chunk in _chunks(file):
                self._disk.write(writer.fileno(), chunk)
            self._disk.fsync(writer.fileno())
        self._disk.replace(aside, place)
        fsync_dir(place.parent, self._disk)
        return place

    def _fetch_by_other_hash(self, target: TargetFile, fetcher: Fetcher) -> Path:
        """The store goes by SHA-256; an artefact that is signed without one is fetched whole,
        within its signed length.
        """
        deadline = self._monotonic() + self._limits.fetch_seconds
        aside, have = self._own / "cache" / "partial" / "other", 0
        self._disk.remove(aside)
        with aside.open("xb") as writer:
            for chunk in fetcher.artefact(
                prefixed_path(target.path, next(iter(target.hashes.values()))), 0
            ):
                have += len(chunk)
                if have > target.length:
                    raise TooLargeError(
                        f"{target.path} goes on beyond its signed {target.length} bytes: do not use"
                        " this source"
                    )
                if self._monotonic() > deadline:
                    raise UnavailableError(
                        f"{target.path} took over {self._limits.fetch_seconds:g} s: try again"
                    )
                self._disk.write(writer.fileno(), chunk)
        return aside

    def _trusted_root(self) -> bytes:
        try:
            return read_capped(self._own / "trusted_root.json", self._limits.root_bytes)
        except FileNotFoundError as error:
            raise StateError(
                f"{self._folder} was never given a root to trust: initialise it first"
            ) from error

    @contextlib.contextmanager
    def _updating(self) -> Generator[None]:
        with storage_errors(f"updating {self._folder}"):
            if not self._own.is_dir():
                raise StateError(
                    f"{self._folder} was never given a root to trust: initialise it first"
                )
            with self._lock():
                yield

    def _lock(self) -> FileLock:
        return FileLock(self._own / "lock", timeout=self._limits.lock_seconds)


class _Unprefixed:
    """An artefact of a repository without consistent snapshots, which lies under its own name."""

    def __init__(self, fetcher: Fetcher, target: TargetFile) -> None:
        self._fetcher = fetcher
        self._path = target.path

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """See Fetcher."""
        return self._fetcher.metadata(name, max_bytes)

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """See Fetcher."""
        del path
        return self._fetcher.artefact(self._path, offset)


def _is_sound(file: Path, target: TargetFile) -> bool:
    """Whether a file has the signed length and every signed hash.

    Raises TrustError when a hash is of a kind nobody here can compute.
    """
    with file.open("rb") as reader:
        try:
            target.verify_length_and_hashes(reader)
        except LengthOrHashMismatchError:
            return False
        except ValueError as error:
            raise TrustError(
                f"{target.path} is signed with a hash of unknown kind: ask the publisher for"
                " SHA-256"
            ) from error
    return True


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as reader:
        while chunk := reader.read(256 * 1024):
            yield chunk


def _local_name(path: str) -> PurePosixPath:
    """Where an artefact lies in the caller's folder: its own path, with whatever could lead out of
    the folder encoded.
    """
    parts = [quote(part, safe=" !$&'()+,;=@~") for part in path.split("/")]
    return PurePosixPath(
        *(f"%2E{part[1:]}" if part.startswith(".") else part or "%00" for part in parts)
    )
