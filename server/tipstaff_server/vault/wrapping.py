"""Keys that wrap the registry's keys (KEKs): from a file, from the environment, or through a
command that reaches a KMS or an HSM.

    file:registry.key             32 random bytes in a file of mode 0600
    env:TIPSTAFF_REGISTRY_KEY     the same 32 bytes as base64 in a variable
    command:/opt/wrap --key k1    run as `… id`, `… wrap`, `… unwrap`; base64, a line each

A cloud KMS or a PKCS#11 module needs a script of some lines and none of our code. Keys go through
pipes, never into arguments.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import shlex
import subprocess
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tipstaff_server.errors import (
    ConfigurationError,
    KeyWrapperError,
    VaultDataKeyError,
    VaultKeyFileError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "KEY_BYTES",
    "CommandKey",
    "KeyWrapper",
    "LocalKey",
    "create_key",
    "expand",
    "wrapper_of",
]

KEY_BYTES = 32
COMMAND_SECONDS = 30
MAX_ANSWER = 64 << 10
MAX_ID = 200
_LABEL = b"tipstaff/registry/v1/"
_HEADER = "tipstaff registry key v1"
_AAD = [b"tipstaff/vault-key"]


class KeyWrapper(Protocol):
    """A key that wraps other keys. Thread-safe; shows nothing in its repr."""

    @property
    def id(self) -> str:
        """Which key it is, at most 200 characters, kept beside what it wrapped; no secret.

        Raises KeyWrapperError.
        """
        ...

    def wrap(self, key: bytes) -> bytes:
        """Encrypts and authenticates. Raises KeyWrapperError: it cannot be reached."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was wrapped.

        Raises KeyWrapperError; VaultDataKeyError: altered, or wrapped by another key.
        """
        ...


class LocalKey:
    """32 bytes that this process holds.

    `root`: what registries made before there were data keys derive theirs from.
    """

    def __init__(self, root: bytes) -> None:
        if len(root) != KEY_BYTES:
            raise VaultKeyFileError(f"a registry key has {KEY_BYTES} bytes")
        self.root = root
        self.id = f"local:{hmac.digest(expand(root, b'id', 32), b'id', 'sha256')[:8].hex()}"
        self._siv = AESSIV(expand(root, b"wrap", 64))

    def __repr__(self) -> str:
        return f"LocalKey({self.id})"

    @classmethod
    def from_file(cls, path: Path) -> LocalKey:
        """Raises VaultKeyFileError: missing, readable by others, or not a registry key."""
        try:
            mode = path.stat().st_mode
            text = path.read_text("ascii")
        except FileNotFoundError:
            raise VaultKeyFileError(
                f"{path} does not exist; restore the registry key from its backup: nothing opens"
                " without it"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise VaultKeyFileError(f"{path} cannot be read ({type(error).__name__})") from None
        if mode & 0o077:
            raise VaultKeyFileError(
                f"{path} can be read by others; run chmod 600 on it, and think about who may have"
                " read it"
            )
        header, _, body = text.strip().partition("\n")
        root = _base64(body)
        if header != _HEADER or root is None or len(root) != KEY_BYTES:
            raise VaultKeyFileError(
                f"{path} is not a registry key file; restore it from its backup"
            )
        return cls(root)

    @classmethod
    def from_environment(cls, name: str) -> LocalKey:
        """Raises KeyWrapperError: no such variable, or not 32 bytes in base64."""
        root = _base64(os.environ.get(name, ""))
        if root is None or len(root) != KEY_BYTES:
            what = "does not hold a registry key" if name in os.environ else "is not set"
            raise KeyWrapperError(
                f"the variable {name} {what}; set it to {KEY_BYTES} bytes in base64, from where the"
                " key is kept"
            )
        return cls(root)

    def wrap(self, key: bytes) -> bytes:
        """AES-256-SIV (RFC 5297), 16 bytes longer."""
        return self._siv.encrypt(key, _AAD)

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was wrapped. Raises VaultDataKeyError."""
        try:
            return self._siv.decrypt(wrapped, _AAD)
        except (InvalidTag, ValueError):
            raise VaultDataKeyError(
                "a wrapped key of the registry was altered; restore the table vault_keys from a"
                " backup"
            ) from None


class CommandKey:
    """A key that only a command reaches: a KMS, an HSM.

    The command gets one of the words id, wrap, unwrap as its last argument.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    def __repr__(self) -> str:
        return f"CommandKey({self._command[0]!r})"

    @property
    def id(self) -> str:
        """What the command says to `id`, on one line. Raises KeyWrapperError."""
        return self._id

    @cached_property
    def _id(self) -> str:
        name = self._run("id", b"").decode("utf-8", "replace").strip()
        if not 1 <= len(name) <= MAX_ID or not name.isprintable():
            raise KeyWrapperError(
                f"{self._command[0]} id has to print the name of its key, 1 to {MAX_ID} characters"
                " on one line"
            )
        return f"command:{name}"

    def wrap(self, key: bytes) -> bytes:
        """What the command makes of it. Raises KeyWrapperError."""
        return self._coded("wrap", key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was wrapped.

        Raises KeyWrapperError: it failed, which is also how it says that it did not wrap this.
        """
        return self._coded("unwrap", wrapped)

    def _coded(self, word: str, data: bytes) -> bytes:
        answer = _base64(self._run(word, base64.b64encode(data) + b"\n").decode("ascii", "replace"))
        if not answer:
            raise KeyWrapperError(f"{self._command[0]} {word} has to print one line of base64")
        return answer

    def _run(self, word: str, data: bytes) -> bytes:
        name = self._command[0]
        try:
            done = subprocess.run(
                [*self._command, word],
                input=data,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KeyWrapperError(
                f"{name} {word} did not answer within {COMMAND_SECONDS} s; look at it, then try"
                " again"
            ) from None
        except OSError as error:
            raise KeyWrapperError(
                f"{name} cannot be run: {error.strerror}; see [registry] key"
            ) from None
        # Its own words are left out: what a program prints about a key may hold the key.
        if done.returncode or len(done.stdout) > MAX_ANSWER:
            raise KeyWrapperError(
                f"{name} {word} failed (exit status {done.returncode}); run it by hand to see why,"
                " then try again"
            )
        return done.stdout


def wrapper_of(source: str, folder: Path) -> KeyWrapper:
    """From `file:…` (meant from `folder`), `env:…` or `command:…`.

    Raises ConfigurationError, VaultKeyFileError, KeyWrapperError.
    """
    kind, _, rest = source.partition(":")
    rest = rest.strip()
    if kind == "file" and rest:
        return LocalKey.from_file(folder / rest)
    if kind == "env" and rest:
        return LocalKey.from_environment(rest)
    if kind == "command":
        try:
            words = shlex.split(rest)
        except ValueError:
            words = []
        if words:
            return CommandKey(words)
    raise ConfigurationError(
        "registry.key: write file:PATH, env:VARIABLE or command:PROGRAM ARGUMENTS"
    )


def create_key(path: Path) -> LocalKey:
    """Makes a new random key file, mode 0600, never over an existing file.

    Raises VaultKeyFileError.
    """
    root = secrets.token_bytes(KEY_BYTES)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise VaultKeyFileError(
            f"{path} exists already; a registry key is never overwritten"
        ) from None
    except OSError as error:
        raise VaultKeyFileError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(f"{_HEADER}\n{base64.b64encode(root).decode()}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    return LocalKey(root)


def expand(root: bytes, purpose: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869, the expanding half): one of the keys that come from a root."""
    return HKDFExpand(algorithm=SHA256(), length=length, info=_LABEL + purpose).derive(root)


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
