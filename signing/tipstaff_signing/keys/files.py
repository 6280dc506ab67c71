"""Private keys in files:

Ed25519 or ML-DSA-65, PEM PKCS#8 (RFC 5208, RFC 8410, RFC 9881), mode 0600, with or without a
passphrase.

Signers are handed on as securesystemslib `Signer`s, so that a hardware module or a cloud KMS takes
the same place: `keys.toml` names it.

    <folder>/<name>.pem    private key, 0600        root-1 root-2 root-3 targets-1 targets-2 snapshot timestamp
    <folder>/<name>.pub    public key, 0644         listing-<audience>-builder and -signoff, relief-<audience>
    <folder>/keys.toml     where keys are that lie in no file here, see uris.py
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tipstaff_signing.errors import KeyFileError
from tipstaff_signing.files import fsync_dir, storage_errors, write_synced
from tipstaff_signing.keys.uris import read_uris, signer_at
from tipstaff_signing.names import check_audience, listing_role, relief_role
from tipstaff_signing.tuf_names import CryptoSigner, Key, Signer, SSlibKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["SCHEMES", "KeyFolder", "create_key", "create_key_files", "key_names"]

SCHEMES: Mapping[str, Callable[[], Ed25519PrivateKey | MLDSA65PrivateKey]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ml-dsa-65": MLDSA65PrivateKey.generate,
}

ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
TARGETS_KEYS = ("targets-1", "targets-2")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_MAX_KEY_BYTES = 64 * 1024


def builder_key(audience: str) -> str:
    """Name of the first listing key: the build's."""
    return f"{listing_role(audience)}-builder"


def signoff_key(audience: str) -> str:
    """Name of the second listing key: the independent sign-off's."""
    return f"{listing_role(audience)}-signoff"


def key_names(audiences: Sequence[str]) -> list[str]:
    """Names of all keys that a deployment with these audiences has."""
    names = [*ROOT_KEYS, *TARGETS_KEYS, "snapshot", "timestamp"]
    for audience in audiences:
        names += [builder_key(audience), signoff_key(audience), relief_role(audience)]
    return names


def create_key_files(
    folder: Path,
    *,
    audiences: Sequence[str],
    passphrase: bytes | None = None,
    ml_dsa: Sequence[str] = (),
) -> KeyFolder:
    """Make every key that is not there yet; existing key files are never touched.

    Args:
        folder: made if missing, for this user alone.
        audiences: audience ids, each `[a-z0-9-]{1,40}`.
        passphrase: encrypts the private keys; None leaves them in clear.
        ml_dsa: names of keys to make as ML-DSA-65 (FIPS 204); the others are Ed25519. Thresholds
            may mix both.

    Raises:
        RepositoryError: an audience id is not valid.
        KeyFileError: `ml_dsa` names a key that this deployment does not have.
        StorageError: the folder cannot be written.
    """
    for audience in audiences:
        check_audience(audience)
    if unknown := sorted(set(ml_dsa) - set(key_names(audiences))):
        raise KeyFileError(
            f"there is no key {', '.join(unknown)}: keys are {', '.join(key_names(audiences))}"
        )
    with storage_errors(f"making key files in {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in key_names(audiences):
            if not (folder / f"{name}.pem").exists():
                _create(folder, name, passphrase, "ml-dsa-65" if name in ml_dsa else "ed25519")
        fsync_dir(folder)
    return KeyFolder(folder, passphrase=passphrase)


def create_key(
    folder: Path, name: str, *, scheme: str = "ed25519", passphrase: bytes | None = None
) -> KeyFolder:
    """Make one key, a replacement for example.

    Raises:
        KeyFileError: it is there already, or the name or the scheme is none.
        StorageError: the folder cannot be written.
    """
    keys = KeyFolder(folder, passphrase=passphrase)
    if scheme not in SCHEMES:
        raise KeyFileError(f"{scheme!r} is not a scheme here: use {' or '.join(SCHEMES)}")
    if keys.has_files(name):
        raise KeyFileError(
            f"{folder} holds a key {name} already: keys are never overwritten; make the new one in"
            " another folder"
        )
    with storage_errors(f"making a key in {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(folder, name, passphrase, scheme)
        fsync_dir(folder)
    return keys


def _create(folder: Path, name: str, passphrase: bytes | None, scheme: str) -> None:
    private = SCHEMES[scheme]()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    # The private file comes last and by rename: where it exists, the pair is whole.
    for suffix, data, mode in ((".pub", public_pem, 0o644), (".pem", private_pem, 0o600)):
        aside = folder / f".{name}{suffix}.new"
        aside.unlink(missing_ok=True)
        try:
            write_synced(aside, data, mode=mode)
            aside.replace(folder / f"{name}{suffix}")
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


class KeyFolder:
    """The keys in one folder, read when asked for.

    A folder may hold only some: the sign-off's machine has only its own.
    """

    def __init__(self, folder: Path, *, passphrase: bytes | None = None) -> None:
        self._folder = folder
        self._passphrase = passphrase

    @classmethod
    def load(cls, folder: Path, *, passphrase: bytes | None = None) -> KeyFolder:
        """Open an existing folder.

        Raises:
            KeyFileError: there is no such folder.
        """
        if not folder.is_dir():
            raise KeyFileError(
                f"there is no key folder {folder}: make one with `tipstaff-server keys init`, or"
                " correct the path"
            )
        return cls(folder, passphrase=passphrase)

    def __repr__(self) -> str:
        return f"KeyFolder({str(self._folder)!r})"

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def names(self) -> list[str]:
        """Names of the private keys here, or reached from here, sorted."""
        files = {path.stem for path in self._folder.glob("*.pem") if _NAME.fullmatch(path.stem)}
        return sorted(files | read_uris(self._folder).keys())

    def public_names(self) -> list[str]:
        """Names of the public keys here, sorted; a lost key's public half stays."""
        return sorted(
            {path.stem for path in self._folder.glob("*.pub") if _NAME.fullmatch(path.stem)}
            | set(self.names())
        )

    def has_files(self, name: str) -> bool:
        """Whether a file of this key is here."""
        return any(self._path(name, suffix).exists() for suffix in (".pem", ".pub"))

    def signer(self, name: str) -> Signer:
        """The signer of one private key.

        Raises:
            KeyFileError: no such key, readable by others, wrong passphrase, or not a key that
                signs; its module is away.
        """
        path = self._path(name, ".pem")
        if (uri := read_uris(self._folder).get(name)) is not None:
            return signer_at(uri, self.public(name), name)
        data = _read_private(path)
        try:
            return CryptoSigner(load_pem_private_key(data, self._passphrase))
        except TypeError as error:
            what = (
                "is encrypted: give its passphrase"
                if self._passphrase is None
                else "is not encrypted: open the folder without a passphrase"
            )
            raise KeyFileError(f"the key file {path} {what}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            wrong = (
                "the passphrase is wrong or the file is damaged"
                if self._passphrase
                else "it is not a PEM PKCS#8 key that can sign"
            )
            raise KeyFileError(
                f"the key file {path} cannot be used: {wrong}; restore it from its backup"
            ) from error

    def public(self, name: str) -> Key:
        """The public half, from its own file, or from the private one when that is all there is.

        Raises:
            KeyFileError: neither is there, or it cannot be read.
        """
        path = self._path(name, ".pub")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return self.signer(name).public_key
        except OSError as error:
            raise KeyFileError(
                f"the public key file {path} cannot be read: {error.strerror}"
            ) from error
        try:
            return SSlibKey.from_crypto(load_pem_public_key(data))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"{path} is not a PEM public key: copy it again from where the key was made"
            ) from error

    def _path(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"{name!r} is not a key name: use small letters, digits and hyphens")
        return self._folder / f"{name}{suffix}"


def _read_private(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KeyFileError(
            f"there is no key file {path}: make it with `tipstaff-server keys init`, or point to"
            " the right folder"
        ) from error
    except OSError as error:
        raise KeyFileError(
            f"the key file {path} cannot be read: {error.strerror}; let this user, and only this"
            " user, read it"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is not a file: point to the right folder")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyFileError(
                f"others may read or write the key file {path}: `chmod 600 {path}`, and replace the"
                " key if they had a chance to"
            )
        return os.read(descriptor, _MAX_KEY_BYTES)
    finally:
        os.close(descriptor)
