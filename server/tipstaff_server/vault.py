"""Identifiers, names and keys at rest: encrypted per column, looked up through a keyed blind index.

    ciphertext = key version (1 byte) || AES-256-SIV(column key, plaintext, [column, row])     RFC 5297
    index      = HMAC-SHA256(index key, column || 0x00 || canonical value)                     32 bytes

The column and the row are associated data, so a value neither opens in another column or row, nor shows that two rows hold
the same. Both keys come by HKDF-SHA256 from one 32-byte registry key in a file of mode 0600. Without it a dump of the
database names nobody; with it, everything opens: keep the two apart, backups too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tipstaff_server.errors import VaultDataError, VaultKeyFileError, WrongVaultKeyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KEY_BYTES", "Vault", "create_key_file"]

KEY_BYTES = 32
INDEX_BYTES = 32
_VERSION = b"\x01"
_LABEL = b"tipstaff/registry/v1/"
_HEADER = "tipstaff registry key v1"


class Vault:
    """The keys of one registry. Its repr shows nothing; thread-safe."""

    __slots__ = ("_index", "_siv")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise VaultKeyFileError(f"a registry key has {KEY_BYTES} bytes")
        self._siv = AESSIV(_expand(key, b"column", 64))
        self._index = hmac.new(_expand(key, b"index", 32), digestmod="sha256")

    def __repr__(self) -> str:
        return "Vault(…)"

    @classmethod
    def open(cls, path: Path) -> Vault:
        """From a key file. Raises VaultKeyFileError: missing, readable by others, or not a registry key."""
        try:
            mode = path.stat().st_mode
            text = path.read_text("ascii")
        except FileNotFoundError:
            raise VaultKeyFileError(f"{path} does not exist; restore the registry key from its backup: nothing opens without it") from None
        except (OSError, UnicodeDecodeError) as error:
            raise VaultKeyFileError(f"{path} cannot be read ({type(error).__name__})") from None
        if mode & 0o077:
            raise VaultKeyFileError(f"{path} can be read by others; run chmod 600 on it, and think about who may have read it")
        header, _, body = text.strip().partition("\n")
        try:
            key = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if header != _HEADER or len(key) != KEY_BYTES:
            raise VaultKeyFileError(f"{path} is not a registry key file; restore it from its backup")
        return cls(key)

    def encrypt(self, column: str, row: bytes, plaintext: bytes) -> bytes:
        """A stored value, 17 bytes longer than `plaintext` (which must not be empty)."""
        return _VERSION + self._siv.encrypt(plaintext, [column.encode(), row])

    def decrypt(self, column: str, row: bytes, stored: bytes) -> bytes:
        """The plaintext. Raises VaultDataError when the value was altered or belongs elsewhere."""
        if stored[:1] != _VERSION:
            raise VaultDataError(f"a value of {column} was written by a newer program")
        try:
            return self._siv.decrypt(stored[1:], [column.encode(), row])
        except (InvalidTag, ValueError):
            raise VaultDataError(f"a value of {column} does not decrypt: altered, moved to another row, or of another key") from None

    def encrypt_text(self, column: str, row: bytes, text: str) -> bytes:
        """As `encrypt`, for a text."""
        return self.encrypt(column, row, text.encode())

    def decrypt_text(self, column: str, row: bytes, stored: bytes) -> str:
        """As `decrypt`, for a text."""
        return self.decrypt(column, row, stored).decode()

    def index(self, column: str, value: bytes) -> bytes:
        """The blind index of a canonical value, 32 bytes: equal for equal values, and nothing without the key."""
        digest = self._index.copy()
        digest.update(column.encode() + b"\0" + value)
        return digest.digest()

    def check_value(self, registry_id: bytes) -> bytes:
        """What a database keeps to recognise its key, 32 bytes."""
        return self.index("vault.check", registry_id)

    def verify(self, registry_id: bytes, check_value: bytes) -> None:
        """Raises WrongVaultKeyError when `check_value` was made with another key."""
        if not hmac.compare_digest(self.check_value(registry_id), check_value):
            raise WrongVaultKeyError("this registry key does not belong to this database; configure the key file that was made with it")


def create_key_file(path: Path) -> Vault:
    """Makes a new random registry key, mode 0600, never over an existing file. Raises VaultKeyFileError."""
    key = secrets.token_bytes(KEY_BYTES)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise VaultKeyFileError(f"{path} exists already; a registry key is never overwritten") from None
    except OSError as error:
        raise VaultKeyFileError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(f"{_HEADER}\n{base64.b64encode(key).decode()}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    return Vault(key)


def _expand(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=length, info=_LABEL + purpose).derive(key)
