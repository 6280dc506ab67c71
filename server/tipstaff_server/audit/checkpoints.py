"""Signed checkpoints of the audit log: how long it was, and with which digest, for somebody else to
keep (docs/formats/audit.md).

    tipstaff.audit/0f1e2d3c4b5a69788796a5b4c3d2e1f0      origin: the registry's id
    1284                                                  entries
    nND/nri/U0xuHUrYSy0HtMeal2vzD9V4k/BO79C+QeI=          digest of the last of them, base64
    time 2026-05-04T08:00:00Z
                                                          an empty line, then signatures
    — tipstaff.audit/0f1e2d3c4b5a69788796a5b4c3d2e1f0 HbLq3t…

A signed note (c2sp.org/signed-note, Ed25519) in the shape of c2sp.org/tlog-checkpoint. The digest
is that of a chain, not of a tree. Whoever can write the database can make a new chain from the
beginning, but not a note that fits it in a folder that somebody else keeps.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tipstaff_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tipstaff_signing.tuf_names import Key, Signer

__all__ = ["MAX_BYTES", "Checkpoint", "key_line", "open_note", "origin_of", "raw_key", "sign"]

MAX_BYTES = 4_096
MAX_SIGNATURES = 16
LAST = (1 << 63) - 1
_ED25519 = b"\x01"
_ID_BYTES, _DIGEST_BYTES = 4, 32
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_ORIGIN = re.compile(r"tipstaff\.audit/[0-9a-f]{32}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_SIGNATURE = re.compile(r"— (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+=*)")
_LINES = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log as it was at `at` (aware, whole seconds): its number of entries and the digest of the
    last, 32 bytes.
    """

    origin: str
    sequence: int
    digest: bytes
    at: datetime

    def text(self) -> str:
        """What is signed."""
        time = self.at.astimezone(UTC).strftime(_TIME)
        return (
            f"{self.origin}\n{self.sequence}\n{base64.b64encode(self.digest).decode()}\ntime"
            f" {time}\n"
        )


def origin_of(registry_id: bytes) -> str:
    """The name of a registry's log, which is also the name of its key."""
    return f"tipstaff.audit/{registry_id.hex()}"


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """The signed note. Raises CheckpointError: not an Ed25519 key."""
    name, key = checkpoint.origin, raw_key(signer.public_key)
    signature = bytes.fromhex(signer.sign(checkpoint.text().encode()).signature)
    return (
        f"{checkpoint.text()}\n— {name}"
        f" {base64.b64encode(_key_id(name, key) + signature).decode()}\n"
    )


def key_line(origin: str, key: Key) -> str:
    """The verifier key of signed notes, for other programs: name, id, key."""
    raw = raw_key(key)
    return f"{origin}+{_key_id(origin, raw).hex()}+{base64.b64encode(_ED25519 + raw).decode()}"


def open_note(data: bytes, origin: str, keys: Iterable[Key]) -> Checkpoint:
    """A checkpoint of this log that one of `keys` signed.

    Raises CheckpointError: damaged, of another log, or signed by none of them.
    """
    checkpoint, signatures = _parse(data)
    if checkpoint.origin != origin:
        raise CheckpointError(
            checkpoint.sequence,
            f"the checkpoint at entry {checkpoint.sequence} is of another registry",
        )
    message = checkpoint.text().encode()
    for raw in map(raw_key, keys):
        expected = _key_id(origin, raw)
        for name, value in signatures:
            if (
                name == origin
                and value[:_ID_BYTES] == expected
                and _fits(raw, value[_ID_BYTES:], message)
            ):
                return checkpoint
    raise CheckpointError(
        checkpoint.sequence,
        f"the checkpoint at entry {checkpoint.sequence} is signed by no known key; give the key of"
        " then with --key",
    )


def raw_key(key: Key) -> bytes:
    """The 32 bytes of an Ed25519 key. Raises CheckpointError."""
    if key.scheme != "ed25519":
        raise CheckpointError(
            0,
            "checkpoints are signed with Ed25519; make such a key with `tipstaff-server keys new"
            " audit`",
        )
    return bytes.fromhex(key.keyval["public"])


def _key_id(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key).digest()[:_ID_BYTES]


def _fits(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _parse(data: bytes) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    damaged = CheckpointError(0, "this is not a checkpoint of an audit log, or it was altered")
    try:
        text, _, tail = data.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError:
        raise damaged from None
    lines = text.split("\n")
    if len(data) > MAX_BYTES or len(lines) != _LINES or not tail.endswith("\n"):
        raise damaged
    origin, number, digest, time = lines
    try:
        at = datetime.strptime(time, f"time {_TIME}").replace(tzinfo=UTC)
        checkpoint = Checkpoint(
            origin, int(number) if _NUMBER.fullmatch(number) else 0, _decode(digest), at
        )
    except ValueError:
        raise damaged from None
    whole = (
        _ORIGIN.fullmatch(origin)
        and 0 < checkpoint.sequence <= LAST
        and len(checkpoint.digest) == _DIGEST_BYTES
    )
    # Written again it has to be the same bytes: there is one form of each checkpoint.
    if not whole or checkpoint.text() != text + "\n":
        raise damaged
    signatures = [_SIGNATURE.fullmatch(line) for line in tail[:-1].split("\n")]
    if len(signatures) > MAX_SIGNATURES or not all(signatures):
        raise damaged
    try:
        return checkpoint, [
            (match["name"], _decode(match["value"])) for match in signatures if match
        ]
    except ValueError:
        raise damaged from None


def _decode(text: str) -> bytes:
    """Canonical base64. Raises ValueError."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error
    if base64.b64encode(data).decode() != text:
        raise ValueError(text)
    return data
