"""Making and reading single metadata files: our two extra signed fields, signatures, what a
snapshot says of a file.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, cast

from tuf.api.exceptions import RepositoryError as TufRepositoryError
from tuf.api.exceptions import UnsignedMetadataError

from tipstaff_signing.errors import (
    KeyFileError,
    MetadataFormatError,
    SignatureError,
    StateCorruptError,
)
from tipstaff_signing.tuf_names import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Signer,
    Snapshot,
    Targets,
    Timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

__all__ = [
    "SIGNED_AT",
    "VIEW",
    "add_signature",
    "check_signed",
    "describe",
    "parse",
    "sign",
    "signed_at",
    "stamp",
]

SIGNED_AT = "signed_at"
VIEW = "view"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)


def stamp(signed: Signed, now: datetime, lifetime: timedelta) -> None:
    """Set when `signed` is signed and when it ends, to the second."""
    now = now.astimezone(UTC).replace(microsecond=0)
    signed.expires = now + lifetime
    signed.unrecognized_fields[SIGNED_AT] = now.strftime(_TIME_FORMAT)


def signed_at(signed: Signed) -> datetime:
    """When it was signed.

    Raises:
        MetadataFormatError: it does not say.
    """
    value = cast("object", signed.unrecognized_fields.get(SIGNED_AT))
    try:
        return datetime.strptime(str(value), _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise MetadataFormatError(
            f"{signed.type} metadata does not say when it was signed: it was not made by this"
            " system"
        ) from error


def sign(signed: Root | Timestamp | Snapshot | Targets, signers: Iterable[Signer]) -> bytes:
    """The metadata file of `signed` with one signature of each signer.

    Raises:
        KeyFileError: a signer failed (a hardware module is away, a key was withdrawn).
    """
    metadata = Metadata(
        cast("Targets", signed)
    )  # any of the four; the library's type variable takes one at a time
    for signer in signers:
        add_signature(metadata, signer)
    return metadata.to_bytes()


def add_signature(metadata: Metadata[Targets], signer: Signer) -> None:
    """Add one signature. Raises KeyFileError when the signer fails."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise KeyFileError(
            "a signer did not sign: check that its key or hardware module is there, then try again"
        ) from error


def parse(data: bytes, kind: type[SignedT], name: str) -> SignedT:
    """One of our own metadata files. Raises StateCorruptError when it is not what its name says."""
    try:
        signed = cast("Signed", Metadata[Targets].from_bytes(data).signed)
    except TufRepositoryError as error:
        raise StateCorruptError(
            f"{name} in the repository is damaged: restore it from a backup or mirror"
        ) from error
    if not isinstance(signed, kind):
        raise StateCorruptError(
            f"{name} in the repository is of another kind: restore it from a backup or mirror"
        )
    return signed


def describe(version: int, data: bytes) -> MetaFile:
    """What a snapshot or timestamp says of a metadata file."""
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def check_signed(data: bytes, delegator: Root | Targets, role: str) -> None:
    """Refuse to publish what no reader would accept.

    Raises:
        SignatureError: fewer valid signatures than the role needs.
    """
    metadata = Metadata[Targets].from_bytes(data)
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    if not result:
        raise SignatureError(
            f"{role} has {len(result.signed)} of {result.threshold} signatures: sign with the keys"
            " that the repository names for it"
        )
