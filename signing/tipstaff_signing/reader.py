"""Keeps one audience's verified state in a folder: opens it offline, refreshes it from a fetcher, applies pushed bundles.

    <state>/lock                 held while updating; opening needs no lock
    <state>/floor.json           versions and times seen, see floor.py
    <state>/cache/current.json   the version in force, see saved.py
    <state>/cache/artefacts/     see store.py
    <state>/cache/work/          python-tuf's private copy during an update

An update, step by step:

1. Take the lock; read what is in force and the floor; judge the clock.
2. Run the TUF client workflow in a private copy of the metadata (online.py).
3. Verify the outcome from the trusted root down, its view included (chain.py), and hold it against the floor.
4. Fetch the artefacts that are not there yet (store.py).
5. Put the new version in force by one rename; raise the floor; remove what retired long ago.

A failure, a full disk or a kill before the rename leaves the old version in force, after it the new one. What a failed update proved
(a new root, a newer timestamp) still raises the floor.
"""

from __future__ import annotations

import contextlib
import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from tipstaff_signing.chain import Chain, verify_chain, verify_prefix
from tipstaff_signing.errors import (
    FetchError,
    IncompleteBundleError,
    NotFoundError,
    StateCorruptError,
    StateError,
    TrustError,
)
from tipstaff_signing.fetchers import BundleFetcher
from tipstaff_signing.files import DISK, Disk, FileLock, storage_errors, write_atomic
from tipstaff_signing.floor import Floor
from tipstaff_signing.model import Limits, RoleState, Target, VerifiedState, utc_now
from tipstaff_signing.saved import Saved, root_number
from tipstaff_signing.signed import signed_at
from tipstaff_signing.store import ArtefactStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.fetchers import Fetcher
    from tipstaff_signing.library import TargetFile, Targets

__all__ = ["Reader"]

_LOG = logging.getLogger("tipstaff_signing")
_DEFAULT_LIMITS = Limits()


class Reader:
    """See the module. Threads may share one; processes and other readers may use the same folder at the same time."""

    def __init__(
        self,
        state_dir: Path,
        *,
        view: str,
        trusted_root: bytes,
        roles: Sequence[str],
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits = _DEFAULT_LIMITS,
        disk: Disk = DISK,
    ) -> None:
        """Touches nothing yet.

        Args:
            state_dir: made when first needed, for this user alone. One audience each.
            view: the audience.
            trusted_root: root metadata that came by a trustworthy way, with the provider's kit.
            roles: delegated roles wanted, "listing-aviation"; "targets" always comes too.
            clock: aware UTC; judges expiry.
            monotonic: seconds; bounds fetches.
            limits: on sizes and times.
            disk: for tests.

        Raises:
            TrustError: `trusted_root` is not a root that is signed by its own keys.
        """
        verify_prefix(trusted_root, {}, view=view)
        self._folder = state_dir
        self._cache = state_dir / "cache"
        self._current = self._cache / "current.json"
        self._floor_file = state_dir / "floor.json"
        self._view = view
        self._trusted_root = trusted_root
        self._roles = tuple(roles)
        self._clock = clock
        self._limits = limits
        self._disk = disk
        self._store = ArtefactStore(self._cache, limits=limits, monotonic=monotonic, disk=disk)

    def load(self) -> VerifiedState | None:
        """The version in force, without network. Signatures and artefacts are verified again; expiry is reported, not judged.

        Returns:
            None when there is none, when it is damaged (it is put aside, and the next refresh repairs it), or when it is below the floor.

        Raises:
            ClockError: the clock is behind what was signed, so that nothing can be said about expiry.
            StateError: the folder is another audience's, or cannot be read.
        """
        with storage_errors(f"opening the state in {self._folder}"):
            for _ in range(2):  # once more when another process replaced the version under our eyes
                data = self._read(self._current)
                if data is None:
                    return None
                found = self._open(data)
                if found is not None or self._read(self._current) == data:
                    return found
        return None

    def refresh(self, fetcher: Fetcher) -> VerifiedState:
        """Bring the state up to date.

        Raises:
            TrustError: what came must not be believed.
            FetchError: something could not be had.
            StateError: the folder is busy, damaged, another audience's, or the disk refused.

        Whatever is raised, the version in force is as before.
        """
        with storage_errors(f"updating the state in {self._folder}"):
            self._disk.mkdir(self._folder)
            self._store.prepare()
            with FileLock(self._folder / "lock", timeout=self._limits.lock_seconds):
                return self._update(fetcher)

    def apply(self, metadata: Mapping[str, bytes], artefacts: Mapping[str, bytes]) -> VerifiedState:
        """Take over a pushed bundle, verified from memory in the same way as a refresh.

        Args:
            metadata: files by name, "timestamp.json", "3.snapshot.json", "4.relief-aviation.json".
            artefacts: small artefacts by path with hash prefix.

        Raises:
            IncompleteBundleError: it lacks something that is not on disk either: refresh instead.
            As refresh.
        """
        try:
            return self.refresh(BundleFetcher(metadata, artefacts))
        except NotFoundError as error:
            raise IncompleteBundleError(f"the bundle is not complete ({error}): refresh instead") from error

    # Opening

    def _open(self, data: bytes) -> VerifiedState | None:
        try:
            saved = self._parse(data)
            if not self._is_complete(saved):
                return None
            chain = self._verify(saved.in_force())
            floor = self._floor()
            (floor or Floor()).check_state(chain)
        except (TrustError, StateCorruptError) as error:
            _LOG.error("the state on disk cannot be used and is put aside: %s", error)
            self._set_aside(data, None)
            return None
        (floor or Floor()).check_clock(self._clock(), self._limits.clock_tolerance, chain.newest_signing())
        for target in _artefacts(chain):
            if not self._store.is_sound(target):
                _LOG.error("artefact %s on disk is damaged or missing; refresh to fetch it again", target.path)
                self._set_aside(data, target)
                return None
        return self._state(chain)

    def _parse(self, data: bytes) -> Saved:
        saved = Saved.from_bytes(data)
        self._check_view(saved.view)
        return saved

    def _is_complete(self, saved: Saved) -> bool:
        return saved.root > 0 and all(f"{role}.json" in saved.metadata for role in self._names())

    def _verify(self, files: Mapping[str, bytes]) -> Chain:
        return verify_chain(self._trusted_root, files, view=self._view, roles=self._roles, limits=self._limits)

    def _set_aside(self, data: bytes, target: TargetFile | None) -> None:
        """Put a damaged file aside, unless somebody is updating, who will see to it, or has just done so."""
        lock = FileLock(self._folder / "lock", timeout=0)
        with contextlib.suppress(OSError):
            if lock.acquire():
                try:
                    if self._read(self._current) == data:
                        self._discard(target)
                finally:
                    lock.release()

    def _discard(self, target: TargetFile | None) -> None:
        if target is None:
            self._disk.replace(self._current, self._current.with_suffix(".damaged"))
        else:
            self._store.set_aside(target)

    # Updating

    def _update(self, fetcher: Fetcher) -> VerifiedState:
        now = self._clock()
        saved, floor = self._in_force()
        floor.check_clock(now, self._limits.clock_tolerance)
        work = self._cache / "work"
        for left in (work, *self._folder.glob(".*.new"), *self._cache.glob(".*.new")):  # by a killed process
            self._disk.remove(left)
        try:
            return self._advance(work, fetcher, saved, floor, now)
        finally:
            with contextlib.suppress(OSError):
                self._disk.remove(work)

    def _advance(self, work: Path, fetcher: Fetcher, saved: Saved, floor: Floor, now: datetime) -> VerifiedState:
        from tipstaff_signing.online import collect, lay_out, run_workflow  # noqa: PLC0415  brings an HTTP library: not for opening

        lay_out(work, saved.metadata)
        try:
            run_workflow(work, self._trusted_root, fetcher, roles=self._roles, now=now, limits=self._limits)
            files = collect(work, self._names())
            chain = self._verify(files)
            floor.check_update(chain)
            floor.check_clock(now, self._limits.clock_tolerance, chain.newest_signing())
            for target in _artefacts(chain):
                self._store.fetch(target, fetcher)
        except (TrustError, FetchError):
            with contextlib.suppress(OSError):  # what went wrong first says more
                self._remember(collect(work, self._names()), saved, floor, now)
            raise
        self._commit(chain, files, saved, floor, now)
        return self._state(chain)

    def _commit(self, chain: Chain, files: Mapping[str, bytes], saved: Saved, floor: Floor, now: datetime) -> None:
        used = {target.hashes["sha256"] for target in _artefacts(chain)}
        retired = self._store.unused(used, saved.retired, now)
        fresh = Saved(self._view, chain.root.version, files, retired)
        if fresh != saved:
            write_atomic(self._current, fresh.to_bytes(), mode=0o600, disk=self._disk)
        self._raise_floor(floor, floor.raised(chain))
        self._store.sweep(used, retired, now)

    def _remember(self, files: Mapping[str, bytes], saved: Saved, floor: Floor, now: datetime) -> None:
        """Keep what a failed update proved: newer roots, and the versions of a newer timestamp and snapshot."""
        prefix = verify_prefix(self._trusted_root, files, view=self._view)
        if prefix.newest_signing() > now + self._limits.clock_tolerance or prefix.root.version < floor.accepted.get("root", 0):
            return
        roots = {name: data for name, data in files.items() if (number := root_number(name)) and number <= prefix.root.version}
        if not roots.keys() <= saved.metadata.keys():
            kept = Saved(self._view, saved.root, {**saved.metadata, **roots}, saved.retired)
            write_atomic(self._current, kept.to_bytes(), mode=0o600, disk=self._disk)
        self._raise_floor(floor, floor.warned(prefix))

    def _raise_floor(self, old: Floor, new: Floor) -> None:
        if new != old:
            write_atomic(self._floor_file, new.to_bytes(self._view), mode=0o600, disk=self._disk)

    def _in_force(self) -> tuple[Saved, Floor]:
        """What is on disk, for an update: damaged files are put aside; a damaged floor is made anew from a sound version in force."""
        data = self._read(self._current)
        saved, chain = Saved(self._view), None
        if data is not None:
            try:
                saved = self._parse(data)
                if self._is_complete(saved):
                    chain = self._verify(saved.in_force())
            except (TrustError, StateCorruptError) as error:
                _LOG.error("the state on disk cannot be used and is put aside: %s", error)
                self._discard(None)
                saved = Saved(self._view)
        try:
            floor = self._floor()
        except StateCorruptError:
            if chain is None:
                raise
            self._disk.replace(self._floor_file, self._floor_file.with_suffix(".damaged"))
            floor = None
        # A kill between the rename and the raising of the floor leaves the floor behind the version in force.
        return saved, (floor or Floor()).raised(chain) if chain else (floor or Floor())

    def _floor(self) -> Floor | None:
        data = self._read(self._floor_file)
        if data is None:
            return None
        floor, view = Floor.from_bytes(data)
        self._check_view(view)
        return floor

    # Both

    def _names(self) -> tuple[str, ...]:
        return ("timestamp", "snapshot", "targets", *self._roles)

    def _check_view(self, view: str) -> None:
        if view != self._view:
            raise StateError(f"{self._folder} holds the state of audience {view!r}, not {self._view!r}: give each audience its own folder")

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _state(self, chain: Chain) -> VerifiedState:
        signed = chain.signed()
        return VerifiedState(
            view=self._view,
            timestamp_version=signed["timestamp"].version,
            snapshot_version=signed["snapshot"].version,
            root_version=chain.root.version,
            roles=MappingProxyType({name: self._role_state(name, role) for name, role in chain.roles.items()}),
            expiries=MappingProxyType({name: item.expires for name, item in signed.items()}),
        )

    def _role_state(self, name: str, role: Targets) -> RoleState:
        targets = {path: self._target(path, target) for path, target in role.targets.items()}
        return RoleState(name, role.version, signed_at(role), role.expires, MappingProxyType(targets))

    def _target(self, path: str, target: TargetFile) -> Target:
        custom = cast("object", target.custom)
        fields = cast("dict[str, object]", custom) if isinstance(custom, dict) else {}
        sha256 = target.hashes["sha256"]
        return Target(path, target.length, sha256, MappingProxyType(fields), self._store.path(sha256))


def _artefacts(chain: Chain) -> Iterator[TargetFile]:
    for role in chain.roles.values():
        yield from role.targets.values()
