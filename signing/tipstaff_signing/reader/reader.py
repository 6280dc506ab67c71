"""Keeps one audience's verified state in a folder: opens it offline, refreshes it from a fetcher,
applies pushed bundles.

An update, step by step:

1. Take the lock; read what is in force and the floor (state_folder.py); judge the clock.
2. Run the TUF client workflow in a private copy of the metadata (tuf_client.py).
3. Verify the outcome from the trusted root down, its view included (chain.py), and hold it against
   the floor (floor.py).
4. Bring in the artefacts that are not there yet (store.py), by way of deltas where that is shorter
   (supply.py). Let those who know what is in them look at a new version.
5. Put the new version in force by one rename; raise the floor; remove what retired long ago.

A failure, a full disk or a kill before the rename leaves the old version in force, after it the new
one. What a failed update proved (a new root, a newer timestamp) still raises the floor.
"""

from __future__ import annotations

import contextlib
import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from tipstaff_signing.chain import Chain, verify_prefix
from tipstaff_signing.deltas import whole
from tipstaff_signing.errors import (
    ContentError,
    FetchError,
    IncompleteBundleError,
    NotFoundError,
    TrustError,
)
from tipstaff_signing.files import DISK, Disk, storage_errors
from tipstaff_signing.model import Limits, RoleState, Target, VerifiedState, utc_now
from tipstaff_signing.reader.fetchers import BundleFetcher
from tipstaff_signing.reader.saved import Saved, root_number
from tipstaff_signing.reader.state_folder import StateFolder
from tipstaff_signing.reader.store import ArtefactStore
from tipstaff_signing.reader.supply import Supply
from tipstaff_signing.signed import signed_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.reader.floor import Floor
    from tipstaff_signing.reader.supply import Assemble
    from tipstaff_signing.tuf_names import TargetFile, Targets

__all__ = ["Reader"]

_LOG = logging.getLogger("tipstaff_signing")
_DEFAULT_LIMITS = Limits()


class Reader:
    """See the module.

    Threads may share one; processes and other readers may use the same folder at the same time.
    """

    def __init__(  # noqa: PLR0913  all but the first by name, most of them for tests
        self,
        state_dir: Path,
        *,
        view: str,
        trusted_root: bytes,
        roles: Sequence[str],
        assemble: Assemble | None = None,
        wanted: Callable[[str], bool] | None = None,
        accept: Callable[[VerifiedState], object] | None = None,
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
            assemble: applies deltas; without it whole artefacts are fetched.
            wanted: says of an artefact's path whether it is kept here; default: all are. The others
                are as if they were not there.
            accept: looks into a new version before it is put in force, and raises anything but
                OSError when it is not what it should be.
            clock: aware UTC; judges expiry.
            monotonic: seconds; bounds fetches.
            limits: on sizes and times.
            disk: for tests.

        Raises:
            TrustError: `trusted_root` is not a root that is signed by its own keys.
        """
        verify_prefix(trusted_root, {}, view=view).newest_signing()
        self._folder = StateFolder(
            state_dir, view=view, trusted_root=trusted_root, roles=roles, limits=limits, disk=disk
        )
        self._store = ArtefactStore(
            self._folder.cache, limits=limits, monotonic=monotonic, disk=disk
        )
        self._supply = Supply(self._store, assemble, limits)
        self._view = view
        self._trusted_root = trusted_root
        self._roles = tuple(roles)
        self._wanted = wanted
        self._accept = accept
        self._clock = clock
        self._limits = limits
        self._disk = disk

    def load(self) -> VerifiedState | None:
        """The version in force, without network.

        Signatures and artefacts are verified again; expiry is reported, not judged.

        Returns:
            None when there is none, when it is damaged (it is put aside, and the next refresh
                repairs it), or when it is below the floor.

        Raises:
            ClockError: the clock is behind what was signed, so that nothing can be said about
                expiry.
            StateError: the folder is another audience's, or cannot be read.
        """
        with storage_errors(f"opening the state in {self._folder.path}"):
            for _ in range(2):  # once more when another process replaced the version under our eyes
                data = self._folder.current()
                if data is None:
                    return None
                bundle = self._open(data)
                if bundle is not None or self._folder.current() == data:
                    return bundle
        return None

    def refresh(self, fetcher: Fetcher) -> VerifiedState:
        """Bring the state up to date.

        Raises:
            TrustError: what came must not be believed.
            FetchError: something could not be had.
            StateError: the folder is busy, damaged, another audience's, or the disk refused.

        Whatever is raised, a whole verified version stays in force: the one before, or, after a
        StorageError, perhaps the new one.
        """
        with storage_errors(f"updating the state in {self._folder.path}"):
            self._disk.mkdir(self._folder.path)
            self._store.prepare()
            with self._folder.lock():
                return self._update(fetcher)

    def apply(self, metadata: Mapping[str, bytes], artefacts: Mapping[str, bytes]) -> VerifiedState:
        """Take over a pushed bundle, verified from memory in the same way as a refresh.

        A bundle behind the version in force is passed over: another process on this folder was
        faster.

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
            raise IncompleteBundleError(
                f"the bundle is not complete ({error}): refresh instead"
            ) from error

    def _open(self, data: bytes) -> VerifiedState | None:
        chain, floor = self._folder.open(data)
        if chain is None:
            return None
        floor.check_clock(self._clock(), self._limits.clock_tolerance, chain.newest_signing())
        damaged = [target for target in self._artefacts(chain) if not self._store.is_sound(target)]
        if damaged:
            _LOG.error(
                "%d artefacts on disk are damaged or missing: refresh to fetch them again",
                len(damaged),
            )
            with contextlib.suppress(OSError), self._folder.if_unchanged(data) as unchanged:
                for target in damaged if unchanged else ():
                    self._store.set_aside(target)
            return None
        return self._state(chain)

    def _update(self, fetcher: Fetcher) -> VerifiedState:
        now = self._clock()
        saved, chain, floor = self._folder.open_for_update()
        floor.check_clock(now, self._limits.clock_tolerance)
        if (
            isinstance(fetcher, BundleFetcher)
            and chain is not None
            and self._is_overtaken(fetcher, chain)
        ):
            return self._state(chain)
        try:
            return self._advance(fetcher, saved, floor, now)
        finally:
            with contextlib.suppress(OSError):
                self._disk.remove(self._folder.work)

    def _is_overtaken(self, bundle: BundleFetcher, chain: Chain) -> bool:
        """Whether a bundle's timestamp, not verified, claims less than what is in force and whole."""
        version = chain.signed()["timestamp"].version
        return bundle.claimed_version() < version and all(
            self._store.is_sound(target) for target in self._artefacts(chain)
        )

    def _advance(
        self, fetcher: Fetcher, saved: Saved, floor: Floor, now: datetime
    ) -> VerifiedState:
        # Brings an HTTP library: not for opening
        from tipstaff_signing.reader.tuf_client import (  # noqa: PLC0415
            collect,
            lay_out,
            run_workflow,
        )

        work = self._folder.work
        lay_out(work, saved.metadata)
        try:
            run_workflow(
                work,
                self._trusted_root,
                fetcher,
                view=self._view,
                roles=self._roles,
                now=now,
                limits=self._limits,
            )
            files = collect(work, self._folder.names)
            chain = self._folder.verify(files)
            floor.check_update(chain)
            floor.check_clock(now, self._limits.clock_tolerance, chain.newest_signing())
            wanted = [
                (target, role.targets)
                for role in chain.roles.values()
                for target in self._kept(role)
            ]
            # The small ones first: what cannot be had or believed shows before gigabytes have come.
            for target, targets in sorted(wanted, key=lambda item: item[0].length):
                self._supply.obtain(target, targets, fetcher)
            if files != saved.metadata:
                self._look_into(chain)
        except (TrustError, FetchError):
            with contextlib.suppress(OSError):  # what went wrong first says more
                self._remember(collect(work, self._folder.names), saved, floor, now)
            raise
        self._commit(chain, files, saved, floor, now)
        return self._state(chain)

    def _look_into(self, chain: Chain) -> None:
        if self._accept is None:
            return
        try:
            self._accept(self._state(chain))
        except OSError:
            raise
        except Exception as error:
            raise ContentError(
                f"what was signed cannot be used ({error}): the version in force stays; tell the"
                " operator"
            ) from error

    def _commit(
        self, chain: Chain, files: Mapping[str, bytes], saved: Saved, floor: Floor, now: datetime
    ) -> None:
        used = {target.hashes["sha256"] for target in self._artefacts(chain)}
        expendable, retired = self._store.unused(used, saved.retired, now)
        fresh = Saved(self._view, chain.root.version, files, retired)
        if fresh != saved:
            self._folder.save(fresh)
        self._folder.save_floor(floor.raised(chain))
        with contextlib.suppress(
            OSError
        ):  # the new version is in force; what stays is removed next time
            self._store.sweep(expendable)

    def _remember(
        self, files: Mapping[str, bytes], saved: Saved, floor: Floor, now: datetime
    ) -> None:
        """Keep what a failed update proved: newer roots, and the versions of a newer timestamp and
        snapshot.
        """
        prefix = verify_prefix(self._trusted_root, files, view=self._view)
        if (
            prefix.newest_signing() > now + self._limits.clock_tolerance
            or prefix.root.version < floor.accepted.get("root", 0)
        ):
            return
        roots = {
            name: data
            for name, data in files.items()
            if (number := root_number(name)) and number <= prefix.root.version
        }
        if not roots.keys() <= saved.metadata.keys():
            self._folder.save(
                Saved(self._view, saved.root, {**saved.metadata, **roots}, saved.retired)
            )
        self._folder.save_floor(floor.warned(prefix))

    def _state(self, chain: Chain) -> VerifiedState:
        signed = chain.signed()
        return VerifiedState(
            view=self._view,
            timestamp_version=signed["timestamp"].version,
            snapshot_version=signed["snapshot"].version,
            root_version=chain.root.version,
            roles=MappingProxyType(
                {name: self._role_state(name, role) for name, role in chain.roles.items()}
            ),
            expiries=MappingProxyType({name: item.expires for name, item in signed.items()}),
        )

    def _role_state(self, name: str, role: Targets) -> RoleState:
        targets = {target.path: self._target(target) for target in self._kept(role)}
        return RoleState(
            name, role.version, signed_at(role), role.expires, MappingProxyType(targets)
        )

    def _target(self, target: TargetFile) -> Target:
        custom = cast("object", target.custom)
        fields = cast("dict[str, object]", custom) if isinstance(custom, dict) else {}
        sha256 = target.hashes["sha256"]
        return Target(
            target.path, target.length, sha256, MappingProxyType(fields), self._store.path(sha256)
        )

    def _artefacts(self, chain: Chain) -> Iterator[TargetFile]:
        for role in chain.roles.values():
            yield from self._kept(role)

    def _kept(self, role: Targets) -> Iterator[TargetFile]:
        return (
            target
            for target in whole(role.targets)
            if self._wanted is None or self._wanted(target.path)
        )
