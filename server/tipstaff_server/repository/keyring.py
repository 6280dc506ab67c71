"""The keys of a deployment by name: those in its key folder, and new ones on their way in.

<keys>/                           in use
<keys>/retired/<name>-<keyid>.*   what a ceremony replaced; delete it once nobody asks for it any more
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

from tipstaff_signing.errors import KeyFileError
from tipstaff_signing.files import fsync_dir, storage_errors, write_atomic
from tipstaff_signing.keys.files import KeyFolder
from tipstaff_signing.model import Lifetimes
from tipstaff_signing.repository.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tipstaff_server.config import Config
    from tipstaff_signing.tuf_names import Key, Root, Signer, Targets

__all__ = ["Ring", "lifetimes", "open_repository", "public_of", "roles_of"]

_SHORTEST = 8  # characters of a key id
_HELD_ELSEWHERE = ("root-", "targets-")


def open_repository(config: Config) -> tuple[Repository, Lifetimes]:
    """The repository without the registry: a ceremony needs no database."""
    lives = lifetimes(config)
    return Repository(config.path(config.repository.path), lifetimes=lives), lives


def public_of(file: Path) -> Key:
    """The public key in a file `<name>.pub`. Raises KeyFileError."""
    if file.suffix != ".pub" or not file.is_file():
        raise KeyFileError(
            f"{file} is not a public key file: give NAME.pub, as `tipstaff-server keys new`"
            " makes it"
        )
    return KeyFolder(file.parent).public(file.stem)


def roles_of(root: Root, targets: Targets) -> dict[str, tuple[int, list[str]]]:
    """Threshold and key ids of every role."""
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    return {
        role: (item.threshold, item.keyids) for role, item in {**root.roles, **delegated}.items()
    }


class Ring:
    """A key folder, and perhaps a folder of new keys, which come first."""

    def __init__(self, keys: KeyFolder, new: KeyFolder | None) -> None:
        self._keys = keys
        self._new = new

    @classmethod
    def of(cls, config: Config, new_keys: Path | None = None) -> Ring:
        """Open both. Raises KeyFileError."""
        keys = KeyFolder.load(config.path(config.repository.keys))
        return cls(keys, KeyFolder.load(new_keys) if new_keys else None)

    def signer(self, name: str) -> Signer:
        """The new key of that name, or the one in use. Raises KeyFileError."""
        if self._new is not None and name in self._new.names():
            return self._new.signer(name)
        return self._keys.signer(name)

    def names(self) -> dict[str, str]:
        """Key names by key id, of the public keys here."""
        return {self._keys.public(name).keyid: name for name in self._keys.public_names()}

    def held(self) -> list[str]:
        """Names of the private keys here."""
        return self._keys.names()

    def keyid(self, text: str) -> str:
        """The key id that a name, or the beginning of a key id, stands for. Raises KeyFileError."""
        if text in self._keys.public_names():
            return self._keys.public(text).keyid
        if len(text) >= _SHORTEST and all(character in "0123456789abcdef" for character in text):
            return next((keyid for keyid in self.names() if keyid.startswith(text)), text)
        raise KeyFileError(
            f"there is no key {text[:80]!r} here: `tipstaff-server keys show` lists names and"
            " key ids"
        )

    def install(self, roles: Mapping[str, tuple[int, list[str]]]) -> list[str]:
        """Take over those new keys that the roles name, and put the old ones aside.

        Returns their names.

        Private halves of root and targets keys stay with their holders; others come along.
        """
        if self._new is None:
            return []
        wanted = {keyid for _, keyids in roles.values() for keyid in keyids}
        fresh = [
            name for name in self._new.public_names() if self._new.public(name).keyid in wanted
        ]
        with storage_errors(f"installing keys in {self._keys.folder}"):
            for name in fresh:
                self._take(name, self._new)
            fsync_dir(self._keys.folder)
        return fresh

    def _take(self, name: str, new: KeyFolder) -> None:
        if name in self._keys.public_names():
            old = self._keys.public(name).keyid
            if old == new.public(name).keyid and not self._is_torn(name, new):
                return
            self._retire(name, old)
        held_here = (
            not name.startswith(_HELD_ELSEWHERE) or (self._keys.folder / f"{name}.pem").exists()
        )
        if held_here and (new.folder / f"{name}.pem").is_file():
            write_atomic(
                self._keys.folder / f"{name}.pem",
                (new.folder / f"{name}.pem").read_bytes(),
                mode=0o600,
            )
        # The public half last: while it is the old one, a repeated import does this again.
        if (new.folder / f"{name}.pub").is_file():
            write_atomic(
                self._keys.folder / f"{name}.pub", (new.folder / f"{name}.pub").read_bytes()
            )

    def _is_torn(self, name: str, new: KeyFolder) -> bool:
        here, there = self._keys.folder / f"{name}.pem", new.folder / f"{name}.pem"
        return here.is_file() and there.is_file() and here.read_bytes() != there.read_bytes()

    def _retire(self, name: str, keyid: str) -> None:
        folder = self._keys.folder / "retired"
        folder.mkdir(mode=0o700, exist_ok=True)
        for suffix in (".pem", ".pub"):
            file, kept = (
                self._keys.folder / f"{name}{suffix}",
                folder / f"{name}-{keyid[:8]}{suffix}",
            )
            if file.is_file() and not kept.exists():
                shutil.copy2(file, kept)
        fsync_dir(folder)


def lifetimes(config: Config) -> Lifetimes:
    """How long metadata of listings and relief are valid; the other roles keep the usual lifetimes."""
    publication = config.publication
    return Lifetimes(
        listing=timedelta(seconds=publication.listing_lifetime_seconds),
        relief=timedelta(seconds=publication.relief_lifetime_seconds),
    )
