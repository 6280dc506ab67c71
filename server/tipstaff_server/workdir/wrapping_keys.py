"""Providers' own keys that epoch keys are sealed to:

X25519 (RFC 7748), PEM. The operator needs the public half only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tipstaff_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_public", "write_private"]


def write_private(path: Path) -> None:
    """A new key in a new file, 0600, PKCS#8."""
    pem = X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)


def read_public(pem: bytes) -> bytes:
    """The public key, 32 bytes, of a PEM file with either half. Raises InvalidRequestError."""
    try:
        key = load_pem_private_key(pem, None) if b"PRIVATE KEY" in pem else load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequestError(
            "this is no X25519 key in PEM; make one with `openssl genpkey -algorithm x25519`"
        ) from None
    public = key.public_key() if isinstance(key, X25519PrivateKey) else key
    if not isinstance(public, X25519PublicKey):
        raise InvalidRequestError(
            "this is another kind of key than X25519; make one with `openssl genpkey -algorithm"
            " x25519`"
        )
    return public.public_bytes_raw()
