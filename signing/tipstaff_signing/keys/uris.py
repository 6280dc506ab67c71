"""Keys in hardware modules and cloud KMS, by securesystemslib's signer URIs.

    <folder>/keys.toml
    root-1 = "hsm:2"                                                   # PKCS#11: YubiKey, smart card
    timestamp = "awskms:arn:aws:kms:eu-central-1:111122223333:key/…"   # also gcpkms:, azurekms:, hv: (HashiCorp Vault)
    targets-1 = "file2:/media/stick/targets-1.pem"                     # a PEM file elsewhere

The public half, `<name>.pub`, lies beside it. Each kind needs its own library
(`securesystemslib[PKCS11]`, `[awskms]`, `[gcpkms]` …).
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from tipstaff_signing.errors import KeyFileError
from tipstaff_signing.tuf_names import Key, Signer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_uris", "signer_at"]

KEYS_FILE = "keys.toml"


def read_uris(folder: Path) -> dict[str, str]:
    """The URIs by key name; none when there is no such file.

    Raises:
        KeyFileError: it is damaged.
    """
    path = folder / KEYS_FILE
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f'{path} cannot be read: write one line for each key, timestamp = "file2:/path/key.pem"'
        ) from error
    uris = {name: uri for name, uri in content.items() if isinstance(uri, str) and ":" in uri}
    if wrong := sorted(content.keys() - uris.keys()):
        raise KeyFileError(f"{path}: {wrong[0]} is not a signer URI such as file2:/path/key.pem")
    return uris


def signer_at(uri: str, public: Key, name: str) -> Signer:
    """The signer that a URI names.

    Raises:
        KeyFileError: of an unknown kind, its library is not installed, it cannot be reached, or it
            is another key than the public one.
    """
    kind = uri.partition(":")[0]
    try:
        return Signer.from_priv_key_uri(uri, public)
    except Exception as error:  # each kind of module raises errors of its own
        raise KeyFileError(
            f"the key {name} cannot be used through {kind}: ({type(error).__name__}): check"
            f" {KEYS_FILE}, that it is plugged in or reachable, that its library is installed, and"
            f" that {name}.pub is its public half"
        ) from error
