"""The state folder of a reader: what is in force, and the floor.

Damage found here is put aside, never used and never lost.

<state>/lock                 held while updating; opening needs no lock
<state>/floor.json           versions and times seen, see floor.py
<state>/cache/current.json   the version in force, see saved.py
<state>/cache/artefacts/     see store.py
<state>/cache/work/          python-tuf's private copy during an update
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from tipstaff_signing.chain import Chain, verify_chain
from tipstaff_signing.deltas import check_deltas
from tipstaff_signing.errors import StateCorruptError, StateError, TrustError
from tipstaff_signing.files import Disk, FileLock, write_atomic
from tipstaff_signing.reader.floor import Floor
from tipstaff_signing.reader.saved import Saved

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from tipstaff_signing.model import Limits

__all__ = ["StateFolder"]

_LOG = logging.getLogger("tipstaff_signing")
_UNUSABLE = "the state on disk cannot be used and is put aside: %s"


class StateFolder:
    """Reads and writes one folder for one audience. OSErrors pass through."""

    def __init__(
        self,
        path: Path,
        *,
        view: str,
        trusted_root: bytes,
        roles: Sequence[str],
        limits: Limits,
        disk: Disk,
    ) -> None:
        self.path = path
        self.cache = path / "cache"
        self.work = self.cache / "work"
        self.names = ("timestamp", "snapshot", "targets", *roles)
        self._current = self.cache / "current.json"
        self._floor = path / "floor.json"
        self._view = view
        self._trusted_root = trusted_root
        self._roles = tuple(roles)
        self._limits = limits
        self._disk = disk

    def lock(self, *, timeout: float | None = None) -> FileLock:
        """The lock that updates hold."""
        return FileLock(
            self.path / "lock", timeout=self._limits.lock_seconds if timeout is None else timeout
        )

    def verify(self, files: Mapping[str, bytes]) -> Chain:
        """chain.py's rules, for this audience and these roles, and those of deltas.py."""
        chain = verify_chain(
            self._trusted_root, files, view=self._view, roles=self._roles, limits=self._limits
        )
        for role, signed in chain.roles.items():
            check_deltas(role, signed.targets)
        return chain

    def current(self) -> bytes | None:
        """The file that says what is in force, if there is one."""
        return _read(self._current)

    def open(self, data: bytes) -> tuple[Chain | None, Floor]:
        """What is in force, for use without network.

        None: nothing for these roles, or damaged, which is then put aside.
        """
        try:
            floor = self._read_floor()
        except StateCorruptError:
            floor = Floor()  # the next update sees to it
        try:
            return self._believe(self._parse(data), floor), floor
        except (TrustError, StateCorruptError) as error:
            _LOG.error(_UNUSABLE, error)
            self.discard(data)
            return None, floor

    def open_for_update(self) -> tuple[Saved, Chain | None, Floor]:
        """What an update starts from; the caller holds the lock.

        A damaged floor is made anew from a sound version in force.

        Raises:
            StateCorruptError: the floor is damaged and nothing sound is in force.
        """
        for left in (
            self.work,
            *self.path.glob(".*.new"),
            *self.cache.glob(".*.new"),
        ):  # by a killed process
            self._disk.remove(left)
        floor, damage = Floor(), None
        try:
            floor = self._read_floor()
        except StateCorruptError as error:
            damage = error
        saved, chain = Saved(self._view), None
        if (data := self.current()) is not None:
            try:
                saved = self._parse(data)
                chain = self._believe(saved, floor)
            except (TrustError, StateCorruptError) as error:
                _LOG.error(_UNUSABLE, error)
                self._put_aside(self._current)
                saved = Saved(self._view)
        if damage is not None:
            if chain is None:
                raise damage
            self._put_aside(self._floor)
        # A kill between the rename and the raising of the floor leaves the floor behind the version
        # in force.
        return saved, chain, floor.raised(chain) if chain else floor

    def save(self, saved: Saved) -> None:
        """Put a version in force."""
        write_atomic(self._current, saved.to_bytes(), mode=0o600, disk=self._disk)

    def save_floor(self, floor: Floor) -> None:
        """Raise the floor."""
        data = floor.to_bytes(self._view)
        if _read(self._floor) != data:
            write_atomic(self._floor, data, mode=0o600, disk=self._disk)

    @contextlib.contextmanager
    def if_unchanged(self, data: bytes) -> Generator[bool]:
        """Whether `data` is still what is in force and nobody is updating; they are kept out
        inside.
        """
        lock = self.lock(timeout=0)
        if not lock.acquire():
            yield False
            return
        try:
            yield self.current() == data
        finally:
            lock.release()

    def discard(self, data: bytes) -> None:
        """Put the version in force aside, unless somebody else is seeing to it or has done so."""
        with contextlib.suppress(OSError), self.if_unchanged(data) as unchanged:
            if unchanged:
                self._put_aside(self._current)

    def _put_aside(self, path: Path) -> None:
        self._disk.replace(path, path.with_suffix(".damaged"))

    def _parse(self, data: bytes) -> Saved:
        saved = Saved.from_bytes(data)
        self._check_view(saved.view)
        return saved

    def _believe(self, saved: Saved, floor: Floor) -> Chain | None:
        """The version in force, verified and not below the floor; None when there is none for these
        roles.
        """
        if saved.root < 1 or any(f"{name}.json" not in saved.metadata for name in self.names):
            return None
        chain = self.verify(saved.in_force())
        floor.check_state(chain)
        return chain

    def _read_floor(self) -> Floor:
        if (data := _read(self._floor)) is None:
            return Floor()
        floor, view = Floor.from_bytes(data)
        self._check_view(view)
        return floor

    def _check_view(self, view: str) -> None:
        if view != self._view:
            raise StateError(
                f"{self.path} holds the state of audience {view!r}, not {self._view!r}: give each"
                " audience its own folder"
            )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
