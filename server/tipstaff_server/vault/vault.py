"""Identifiers, names and keys at rest: encrypted per column, looked up through a keyed blind index.

    ciphertext = key version (1 byte) || AES-256-SIV(column key, plaintext, [column, row])     RFC 5297
    index      = HMAC-SHA256(index key, column || 0x00 || canonical value)                     32 bytes

The column and the row are associated data, so a value neither opens in another column or row, nor
shows that two rows hold the same. The keys lie in the database, wrapped (keys.py) by one that does
not (wrapping.py). Without that one a dump of the database names nobody; with it, everything opens:
keep the two apart, backups too.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidTag

from tipstaff_server.errors import VaultDataError, VaultError, WrongVaultKeyError
from tipstaff_server.vault import keys as vault_keys
from tipstaff_server.vault.keys import Keys
from tipstaff_server.vault.wrapping import KEY_BYTES, LocalKey, create_key, wrapper_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tipstaff_server.config import Config
    from tipstaff_server.storage.database import Database
    from tipstaff_server.vault.wrapping import KeyWrapper

__all__ = ["KEY_BYTES", "Vault", "create_key_file"]


class Vault:
    """The keys of one registry.

    Its repr shows nothing; thread-safe. Follows changes of keys by itself, once it is attached.
    """

    __slots__ = ("_database", "_keys", "wrappers")

    def __init__(self, key: bytes | Sequence[KeyWrapper]) -> None:
        """Whose keys the first of the wrappers wraps, or is to wrap; the others may have wrapped
        them before. To be attached.

        Of bytes: with a bare root key and without a database, as registries began.
        """
        self.wrappers: tuple[KeyWrapper, ...] = (
            (LocalKey(key),) if isinstance(key, bytes) else tuple(key)
        )
        self._keys: Keys | None = Keys.of_root(key) if isinstance(key, bytes) else None
        self._database: Database | None = None

    def __repr__(self) -> str:
        return "Vault(…)"

    @classmethod
    def open(cls, path: Path) -> Self:
        """From a key file, to be attached.

        Raises VaultKeyFileError: missing, readable by others, or not a registry key.
        """
        return cls([LocalKey.from_file(path)])

    @classmethod
    def configured(cls, config: Config) -> Self:
        """The configured one, to be attached.

        Raises VaultKeyFileError, KeyWrapperError, ConfigurationError.
        """
        registry = config.registry
        sources = [registry.key or f"file:{registry.key_file}", *registry.other_keys]
        return cls([wrapper_of(source, config.folder) for source in sources])

    def attach(self, database: Database) -> None:
        """Reads the keys, and looks there when they change.

        Raises WrongVaultKeyError, VaultDataKeyError, KeyWrapperError.
        """
        with database.read() as session:
            self._keys = vault_keys.load(session, self.wrappers)
        self._database = database

    def refresh(self, session: Session, generation: int) -> None:
        """Makes sure that these are the keys of `generation`: to be called under the head's lock,
        before an act encrypts anything.
        """
        if self._keys is None or self._keys.generation != generation:
            self._keys = vault_keys.load(session, self.wrappers)

    @property
    def keys(self) -> Keys:
        """The keys in use. Raises VaultError: not attached yet."""
        if self._keys is None:
            raise VaultError(
                "the registry's keys have not been read from its database yet; attach the vault"
                " to it"
            )
        return self._keys

    def encrypt(self, column: str, row: bytes, plaintext: bytes) -> bytes:
        """A stored value, 17 bytes longer than `plaintext` (which must not be empty)."""
        keys = self.keys
        return bytes([keys.column]) + keys.columns[keys.column].encrypt(
            plaintext, [column.encode(), row]
        )

    def decrypt(self, column: str, row: bytes, stored: bytes) -> bytes:
        """The plaintext. Raises VaultDataError when the value was altered or belongs elsewhere."""
        version = stored[0] if stored else 0
        if version not in self.keys.columns and self._database is not None:
            # Another program began a new key, and this one has not acted since.
            self.attach(self._database)
        siv = self.keys.columns.get(version)
        if siv is None:
            raise VaultDataError(
                f"a value of {column} was written under key {version}, which this database does not"
                " have: altered?"
            )
        try:
            return siv.decrypt(stored[1:], [column.encode(), row])
        except (InvalidTag, ValueError):
            raise VaultDataError(
                f"a value of {column} does not decrypt: altered, moved to another row, or of"
                " another key"
            ) from None

    def encrypt_text(self, column: str, row: bytes, text: str) -> bytes:
        """As `encrypt`, for a text."""
        return self.encrypt(column, row, text.encode())

    def decrypt_text(self, column: str, row: bytes, stored: bytes) -> str:
        """As `decrypt`, for a text."""
        return self.decrypt(column, row, stored).decode()

    def index(self, column: str, value: bytes) -> bytes:
        """The blind index of a canonical value, 32 bytes: equal for equal values, and nothing
        without the key.
        """
        keys = self.keys
        return keys.digest(keys.index, column, value)

    def made(self, digest: bytes, column: str, value: bytes) -> bool:
        """Whether `digest` is the blind index of a value, under the index key in use or one before
        it.
        """
        keys = self.keys
        return any(
            hmac.compare_digest(digest, keys.digest(version, column, value))
            for version in keys.indices
        )

    def check_value(self, registry_id: bytes) -> bytes:
        """What a database keeps to recognise its key, 32 bytes."""
        return self.index("vault.check", registry_id)

    def verify(self, registry_id: bytes, check_value: bytes) -> None:
        """Raises WrongVaultKeyError when `check_value` was made with another key."""
        if not hmac.compare_digest(self.check_value(registry_id), check_value):
            raise WrongVaultKeyError(
                "this registry key does not belong to this database; configure the key that was"
                " made with it"
            )


def create_key_file(path: Path) -> Vault:
    """Makes a new random registry key, mode 0600, never over an existing file.

    Raises VaultKeyFileError.
    """
    return Vault([create_key(path)])
