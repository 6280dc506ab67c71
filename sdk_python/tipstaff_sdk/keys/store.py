"""Where a provider keeps its epoch master keys.

Whoever holds the files and these keys can enumerate the listing, so by default keys live in memory
only and are fetched anew at each start. `KeyringKeyStore` gives them to the operating system's
keyring, `Pkcs11KeyStore` (pkcs11.py) seals them by a key in a token; `FileKeyStore` keeps
them in clear on disk, a stated choice for development and for sites without a network. Whoever has
a vault of another kind passes a `KeyStore` of their own to `Screener`.
"""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.keys.document import checked_keys, decode_keys, encode_keys
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tipstaff_sdk.settings import Settings

__all__ = ["FileKeyStore", "KeyStore", "KeyringKeyStore", "MemoryKeyStore", "open_key_store"]

_MAX_BYTES: Final = 1 << 20


class KeyStore(Protocol):
    """Epoch master keys by epoch; 32 bytes each."""

    def load(self) -> Mapping[int, bytes]:
        """All keys at hand; empty when there are none."""
        ...

    def save(self, keys: Mapping[int, bytes]) -> None:
        """Replaces what is held."""
        ...


class MemoryKeyStore:
    """Keys for as long as the process lives; a forked child inherits them."""

    def __init__(self) -> None:
        self._keys: dict[int, bytes] = {}

    def load(self) -> Mapping[int, bytes]:
        return dict(self._keys)

    def save(self, keys: Mapping[int, bytes]) -> None:
        self._keys = checked_keys(keys)

    def __repr__(self) -> str:
        return f"MemoryKeyStore(epochs={sorted(self._keys)})"


class FileKeyStore:
    """Keys in a JSON file of mode 0600, written atomically:

    `{"version": 1, "keys": {"<epoch>": "<base64>"}}`.

    Raises:
        ConfigurationError: the file can be read by others, belongs to somebody else, or is not such
            a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Mapping[int, bytes]:
        try:
            # O_NOFOLLOW: a link in its place is not ours.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the key file {self._path} ({error.strerror}); correct its owner or"
                " delete it"
            ) from error
        try:
            self._refuse_shared(os.fstat(descriptor))
            return decode_keys(
                os.read(descriptor, _MAX_BYTES),
                f"the key file {self._path} is damaged: delete it and sync again",
            )
        finally:
            os.close(descriptor)

    def save(self, keys: Mapping[int, bytes]) -> None:
        try:
            write_atomic(self._path, encode_keys(keys), mode=0o600)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write the key file {self._path} ({error.strerror}); make room or use"
                " key_store=memory"
            ) from error

    def _refuse_shared(self, status: os.stat_result) -> None:
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & 0o077
        ):
            raise ConfigurationError(
                f"the key file {self._path} can be read by others or belongs to somebody else: run"
                f" `chown {os.geteuid()} {self._path} && chmod 600 {self._path}`, or delete it and"
                " sync again"
            )

    def __repr__(self) -> str:
        return f"FileKeyStore({str(self._path)!r})"


class _Keyring(Protocol):
    """What is used of the package `keyring`."""

    def get_password(self, service: str, username: str, /) -> str | None: ...
    def set_password(self, service: str, username: str, password: str, /) -> None: ...


class KeyringKeyStore:
    """Keys in the operating system's keyring (Secret Service, KWallet, Keychain), one entry for
    each audience and state folder.

    Needs the package `keyring`, which tipstaff does not bring along.

    Raises:
        ConfigurationError: it is not installed, finds no keyring, or the keyring refuses.
    """

    def __init__(self, audience: str, state_dir: Path) -> None:
        self._entry = (f"tipstaff epoch keys, {audience}", str(state_dir.absolute()))
        try:
            self._keyring = cast("_Keyring", import_module("keyring"))
            self._refusal: type[Exception] = import_module("keyring.errors").KeyringError
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                "key_store = keyring needs the package keyring: `pip install keyring`, or use"
                " memory"
            ) from error

    def load(self) -> Mapping[int, bytes]:
        try:
            content = self._keyring.get_password(*self._entry)
        except self._refusal as error:
            raise self._refused(error) from error
        damaged = f"the keyring's entry {self._entry[0]!r} is damaged: delete it and sync again"
        return {} if content is None else decode_keys(content.encode("utf-8", "replace"), damaged)

    def save(self, keys: Mapping[int, bytes]) -> None:
        try:
            self._keyring.set_password(*self._entry, encode_keys(keys).decode("ascii"))
        except self._refusal as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"the keyring refuses ({type(error).__name__}): unlock it or set one up, or use"
            " key_store = memory"
        )

    def __repr__(self) -> str:
        return f"KeyringKeyStore({self._entry[0]!r})"


def open_key_store(settings: Settings) -> KeyStore:
    """The key store that `settings.key_store` names. Raises ConfigurationError."""
    if settings.key_store == "file":
        return FileKeyStore(settings.state_dir / "epoch-keys.json")
    if settings.key_store == "keyring":
        return KeyringKeyStore(settings.audience, settings.state_dir)
    if settings.key_store == "pkcs11":
        return _open_pkcs11(settings)
    return MemoryKeyStore()


def _open_pkcs11(settings: Settings) -> KeyStore:
    from tipstaff_sdk.keys.pkcs11 import Pkcs11KeyStore  # noqa: PLC0415  an extra

    module, token, key = settings.pkcs11_module, settings.pkcs11_token, settings.pkcs11_key
    if module is None or token is None or key is None:
        raise ConfigurationError(
            "key_store = pkcs11 needs pkcs11_module, pkcs11_token and pkcs11_key: where the library"
            " is, and the labels"
        )
    return Pkcs11KeyStore(
        settings.state_dir / "epoch-keys.sealed",
        settings.audience,
        module=module,
        token=token,
        key=key,
    )
