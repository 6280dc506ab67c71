"""Epoch master keys as a JSON document: the form in which every key store keeps them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEY_BYTES", "checked_keys", "decode_keys", "encode_keys"]

KEY_BYTES: Final = 32
_VERSION: Final = 1


def encode_keys(keys: Mapping[int, bytes]) -> bytes:
    """Writes keys as a document.

    Raises:
        ValueError: an epoch key is not 32 bytes.
    """
    encoded = {
        str(epoch): base64.b64encode(key).decode("ascii")
        for epoch, key in sorted(checked_keys(keys).items())
    }
    return json.dumps({"version": _VERSION, "keys": encoded}, indent=1).encode("ascii")


def decode_keys(content: bytes, damaged: str) -> dict[int, bytes]:
    """Reads a document that `encode_keys` wrote.

    Raises:
        ConfigurationError: the document is damaged; the message is the text `damaged`.
    """
    try:
        document = json.loads(content)
        keys = {
            int(epoch): base64.b64decode(text, validate=True)
            for epoch, text in document["keys"].items()
        }
        return checked_keys(keys, version=document["version"])
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        # Without the cause: its text could quote key bytes.
        raise ConfigurationError(damaged) from None


def checked_keys(keys: Mapping[int, bytes], *, version: object = _VERSION) -> dict[int, bytes]:
    """Copies the keys.

    Raises:
        ValueError: the version is unknown, an epoch is out of range, or a key is not 32 bytes.
    """
    if version != _VERSION:
        raise ValueError("a key file of another version")
    for epoch, key in keys.items():
        if not 0 <= epoch < 1 << 32 or len(key) != KEY_BYTES:
            raise ValueError("an epoch key is 32 bytes, and its epoch a 32-bit number")
    return dict(keys)
