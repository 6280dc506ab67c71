"""Epoch keys on disk, sealed by an AES key that never leaves a PKCS#11 token (an HSM, a smart card,
SoftHSM).

    epoch-keys.sealed = "TSKS" version (1) nonce (12)
        | AES-GCM(key in the token, keys, "tipstaff/v1/epoch-keys" 00 audience)

The token does the sealing and the opening (CKM_AES_GCM); what it gives back is in memory, as with
any other key store. The file without the token says nothing, so a stolen disk or backup yields no
epoch key. Needs the extra `[pkcs11]`.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tipstaff_sdk.errors import KeyStoreError
from tipstaff_sdk.keys.document import decode_keys, encode_keys
from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

__all__ = ["PIN_VARIABLE", "Pkcs11KeyStore", "pin_from_environment"]

PIN_VARIABLE: Final = "TIPSTAFF_PKCS11_PIN"
NONCE_SIZE: Final = 12
MAGIC: Final = b"TSKS\x01"
_MAX_BYTES: Final = 1 << 20
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# A login is the whole process's, and so is what a fork leaves behind of the module.
_lock = threading.Lock()
_process = os.getpid()


def pin_from_environment() -> str:
    """The PIN in TIPSTAFF_PKCS11_PIN. Raises KeyStoreError when there is none."""
    pin = os.environ.get(PIN_VARIABLE)
    if not pin:
        raise KeyStoreError(
            f"there is no PIN for the PKCS#11 token: set {PIN_VARIABLE}, or pass a function that"
            " asks for it"
        )
    return pin


class Pkcs11KeyStore:
    """Keys in the file `path`, sealed by the AES key labelled `key` in the token labelled `token`,
    through the library `module`.

    `pin` is called each time that the token is opened, which is when keys are loaded and saved; its
    answer is not kept. Raises KeyStoreError: no module, no token, wrong PIN, no such key, a token
    that went away, or a file that it did not seal.
    """

    def __init__(
        self,
        path: Path,
        audience: str,
        *,
        module: Path,
        token: str,
        key: str,
        pin: Callable[[], str] = pin_from_environment,
    ) -> None:
        self._path = path
        self._context = b"tipstaff/v1/epoch-keys\0" + audience.encode()
        self._module, self._token, self._key, self._pin = module, token, key, pin
        try:
            self._pkcs11: Any = import_module("pkcs11")
            self._mechanisms: Any = import_module("pkcs11.mechanisms")
        except ImportError as error:
            raise KeyStoreError(
                "key_store = pkcs11 needs the extra: `pip install 'tipstaff[pkcs11]'`"
            ) from error

    def load(self) -> Mapping[int, bytes]:
        """All keys at hand; empty when there is no file yet."""
        content = self._read()
        if content is None:
            return {}
        start = len(MAGIC) + NONCE_SIZE
        if not content.startswith(MAGIC) or len(content) <= start:
            raise KeyStoreError(self._damaged())
        with self._opened() as key:
            try:
                plain = key.decrypt(content[start:], **self._mechanism(content[len(MAGIC) : start]))
            except (
                self._pkcs11.EncryptedDataInvalid,
                self._pkcs11.EncryptedDataLenRange,
                self._pkcs11.GeneralError,
            ):
                # Tokens differ in what they call a wrong tag; SoftHSM says that something went
                # wrong.
                raise KeyStoreError(self._damaged()) from None
        return decode_keys(plain, self._damaged())

    def save(self, keys: Mapping[int, bytes]) -> None:
        """Seals and writes them, atomically."""
        nonce = os.urandom(NONCE_SIZE)
        with self._opened() as key:
            sealed = key.encrypt(encode_keys(keys), **self._mechanism(nonce))
        try:
            write_atomic(self._path, MAGIC + nonce + sealed, mode=0o600)
        except OSError as error:
            raise KeyStoreError(
                f"cannot write {self._path} ({error.strerror}); make room or correct its owner"
            ) from error

    def _mechanism(self, nonce: bytes) -> dict[str, Any]:
        return {
            "mechanism": self._mechanisms.Mechanism.AES_GCM,
            "mechanism_param": self._mechanisms.GCMParams(nonce, self._context, 128),
        }

    def _read(self) -> bytes | None:
        try:
            descriptor = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyStoreError(
                f"cannot read {self._path} ({error.strerror}); correct its owner or delete it"
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_BYTES)

    def _damaged(self) -> str:
        return (
            f"{self._path} was not sealed by the key {self._key!r} for this audience, or is"
            " damaged: delete it and sync again"
        )

    @contextmanager
    def _opened(self) -> Generator[Any]:
        """The token's key, for as long as the block runs.

        Its errors as ours, without the PIN and without what was sealed.
        """
        library = self._pkcs11
        advice: dict[Any, str] = {
            library.PinIncorrect: (
                "does not accept the PIN; correct it before the token locks itself"
            ),
            library.PinLocked: (
                "is locked after too many wrong PINs; its security officer unlocks it"
            ),
            library.PinExpired: "wants a new PIN",
            library.PinInvalid: "does not accept the PIN; correct it before the token locks itself",
            library.PinLenRange: "does not accept the PIN: its length is wrong",
            library.NoSuchToken: "is not there; plug it in, or correct pkcs11_token",
            library.MultipleTokensReturned: "is there several times; give it a label of its own",
            library.NoSuchKey: (
                f"has no AES key {self._key!r}; make it (docs/operations.md), or correct pkcs11_key"
            ),
            library.MultipleObjectsReturned: (
                f"has several AES keys {self._key!r}; give ours a label of its own"
            ),
            library.TokenNotPresent: "is gone; plug it in again",
            library.DeviceRemoved: "is gone; plug it in again",
            library.SlotIDInvalid: "is gone; plug it in again",
            library.MechanismInvalid: "does not know AES-GCM (CKM_AES_GCM); use one that does",
        }
        pin = self._pin()
        with _lock:
            try:
                with self._session(pin) as session:
                    constants = self._mechanisms
                    yield session.get_key(
                        object_class=library.ObjectClass.SECRET_KEY,
                        key_type=constants.KeyType.AES,
                        label=self._key,
                    )
            except library.PKCS11Error as error:
                said = advice.get(
                    error.__class__, f"refuses ({type(error).__name__}); look at its state"
                )
                raise KeyStoreError(f"the PKCS#11 token {self._token!r} {said}") from None

    def _session(self, pin: str) -> Any:
        global _process  # noqa: PLW0603  what the module knows of its process is the process's
        library = self._pkcs11
        try:
            loaded = library.lib(str(self._module))
        except (library.PKCS11Error, RuntimeError, OSError) as error:
            raise KeyStoreError(
                f"the PKCS#11 module {self._module} cannot be loaded ({type(error).__name__});"
                " correct pkcs11_module"
            ) from None
        if _process != os.getpid():
            loaded.reinitialize()
            _process = os.getpid()
        token = loaded.get_token(token_label=self._token)
        try:
            return token.open(user_pin=pin)
        except library.UserAlreadyLoggedIn:  # by the application itself
            return token.open()

    def __repr__(self) -> str:
        return f"Pkcs11KeyStore({str(self._path)!r}, token={self._token!r}, key={self._key!r})"
