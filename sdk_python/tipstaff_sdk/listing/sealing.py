"""Sealed records: from an identifier and a name to the keys that open one
(docs/formats/records.md).

    S              = scrypt("tipstaff/v1/stretch" 00 kind number, salt, N, r, p), 32 bytes        RFC 7914
    PRK            = HKDF-Extract(salt = epoch key, S)                                           RFC 5869, SHA-256
    locator        = HKDF-Expand(PRK, "tipstaff/v1/locator" 00 audience), 8 bytes
    record key, 64 | commitment, 16 = HKDF-Expand(PRK, "tipstaff/v1/record" 00 audience 00 canonical name), 80 bytes
    sealed         = AES-256-SIV(record key, padded, "tipstaff/v1/sealed" 00 audience 00 epoch locator commitment)
                     RFC 5297
    padded         = length (4, big-endian) | Record | zeros up to 256 * 2^i bytes, at most 64 KiB

SIV is deterministic, so a record that has not changed keeps its bytes from listing to listing; and
it commits, together with the commitment derived from the same secret, to the one key that opens it.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from google.protobuf.message import DecodeError

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import ConfigurationError, ParametersError, RecordFormatError, SealError
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.tokens import KEY_SIZE, Tokeniser

__all__ = ["EpochKey", "NameKeys", "Stretch", "SubjectKeys", "open_sealed", "seal"]

LOCATOR_SIZE: Final = 8
COMMITMENT_SIZE: Final = 16
MASTER_SIZE: Final = 32
STRETCHED_SIZE: Final = 32
SALT_SIZE: Final = 16
TAG_SIZE: Final = 16
RECORD_VERSIONS: Final = (1, 2)

# Plaintext sizes that a record is padded to. A sealed record is TAG_SIZE longer.
SIZE_CLASSES: Final = tuple(256 << i for i in range(9))

_RECORD_KEY_SIZE: Final = 64
_LENGTH_SIZE: Final = 4
_MAX_EPOCH: Final = (1 << 32) - 1
_MAX_SCRYPT_MEMORY: Final = 256 << 20
_MAX_SCRYPT_P: Final = 16
_audience = re.compile("[a-z0-9-]{1,40}").fullmatch


@dataclass(frozen=True, slots=True)
class Stretch:
    """scrypt with a deployment's own salt (16 bytes) and cost.

    Raises ParametersError when they are out of bounds.

    n: a power of two from 2 on; memory is 128 * n * r bytes, at most 256 MiB. p: at most 16.
    """

    salt: bytes
    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_SIZE:
            raise ParametersError(
                f"The stretch salt is {len(self.salt)} bytes, not {SALT_SIZE}: this listing cannot"
                " be used."
            )
        if self.n <= 1 or self.n & (self.n - 1) or self.r < 1 or not 1 <= self.p <= _MAX_SCRYPT_P:
            raise ParametersError(
                "The stretch cost is no scrypt cost (n a power of two, r and p positive): this"
                " listing cannot be used."
            )
        if 128 * self.n * self.r > _MAX_SCRYPT_MEMORY:
            raise ParametersError(
                "The stretch cost asks for over 256 MiB of memory: this listing cannot be used."
            )

    @classmethod
    def from_proto(cls, message: listing_pb2.StretchParameters) -> "Stretch":
        """From a listing's parameters."""
        return cls(message.salt, message.n, message.r, message.p)

    def to_proto(self) -> listing_pb2.StretchParameters:
        """For a listing's parameters."""
        return listing_pb2.StretchParameters(salt=self.salt, n=self.n, r=self.r, p=self.p)

    def stretch(self, identifier: Identifier) -> bytes:
        """S of an identifier, 32 bytes.

        Slow on purpose (about 10 ms at n=4096, r=8); other threads run meanwhile.

        Raises SealError when there is not the memory for it.
        """
        try:
            return hashlib.scrypt(
                b"tipstaff/v1/stretch\0"
                + bytes((identifier.kind,))
                + identifier.number.encode("ascii"),
                salt=self.salt,
                n=self.n,
                r=self.r,
                p=self.p,
                maxmem=128 * self.r * (self.n + self.p + 2) + (1 << 20),
                dklen=STRETCHED_SIZE,
            )
        except (MemoryError, ValueError):  # OpenSSL's refusal is a ValueError
            raise SealError(
                "There is not enough memory to stretch an identifier: free some, or ask a person."
            ) from None


@dataclass(frozen=True, slots=True, repr=False)
class NameKeys:
    """What seals and opens the record of one identifier under one name."""

    record_key: bytes
    commitment: bytes
    associated_data: bytes

    def __repr__(self) -> str:
        return "NameKeys(hidden)"


class SubjectKeys:
    """What follows from an identifier's S in one epoch: where its records are, and the keys for
    each of its names.
    """

    __slots__ = ("_audience", "_epoch", "_expand_key", "locator")

    def __init__(self, audience: bytes, epoch: int, expand_key: bytes) -> None:
        self._audience = audience
        self._epoch = epoch
        self._expand_key = expand_key
        self.locator = _expand(expand_key, b"tipstaff/v1/locator\0" + audience, LOCATOR_SIZE)

    def name_keys(self, canonical_name: str) -> NameKeys:
        """Keys for one name, as `names.canonical_name` gives it."""
        info = b"tipstaff/v1/record\0" + self._audience + b"\0" + canonical_name.encode()
        secret = _expand(self._expand_key, info, _RECORD_KEY_SIZE + COMMITMENT_SIZE)
        commitment = secret[_RECORD_KEY_SIZE:]
        context = (
            b"tipstaff/v1/sealed\0"
            + self._audience
            + b"\0"
            + self._epoch.to_bytes(4, "big")
            + self.locator
            + commitment
        )
        return NameKeys(secret[:_RECORD_KEY_SIZE], commitment, context)

    def __repr__(self) -> str:
        return "SubjectKeys(hidden)"


class EpochKey:
    """An audience's secret of 32 bytes for one epoch, and what is derived from it.

    Shows none of it.

    Raises ConfigurationError when the audience is not 1 to 40 of a-z, 0-9 and '-', the epoch not 32
    bits, or the secret not 32 bytes.
    """

    def __init__(self, audience: str, epoch: int, master: bytes) -> None:
        if not _audience(audience):
            raise ConfigurationError(
                "An audience's name is 1 to 40 small letters, digits and hyphens: correct it in the"
                " settings."
            )
        if not 0 <= epoch <= _MAX_EPOCH:
            raise ConfigurationError(
                "An epoch is a number of 32 bits: take it from the listing's parameters."
            )
        if len(master) != MASTER_SIZE:
            raise ConfigurationError(
                f"An epoch key is {MASTER_SIZE} bytes, not {len(master)}: fetch it again."
            )
        self.audience: Final = audience
        self.epoch: Final = epoch
        self._name = audience.encode("ascii")
        self._master = master

    @cached_property
    def token_key(self) -> bytes:
        """Key of the tokens, 16 bytes."""
        return _expand(self._master, b"tipstaff/v1/token\0" + self._name, KEY_SIZE)

    @cached_property
    def tokeniser(self) -> Tokeniser:
        """Makes this epoch's tokens."""
        return Tokeniser(self.token_key)

    def derive(self, stretched: bytes) -> SubjectKeys:
        """Keys of the identifier whose S this is (32 bytes)."""
        if len(stretched) != STRETCHED_SIZE:
            raise ConfigurationError(
                f"A stretched identifier is {STRETCHED_SIZE} bytes, not {len(stretched)}: stretch"
                " it again."
            )
        expand_key = HKDF.extract(SHA256(), self._master, stretched)
        return SubjectKeys(self._name, self.epoch, expand_key)

    def __repr__(self) -> str:
        return f"EpochKey(audience={self.audience!r}, epoch={self.epoch}, key hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An EpochKey is not pickled: fetch it where it is needed.")


def seal(keys: NameKeys, record: listing_pb2.Record) -> bytes:
    """Seals a record: 16 bytes more than its size class.

    The same record under the same keys gives the same bytes.

    Raises RecordFormatError when it is larger than the largest size class holds.
    """
    content = record.SerializeToString(deterministic=True)
    padded = len(content).to_bytes(_LENGTH_SIZE, "big") + content
    return AESSIV(keys.record_key).encrypt(
        padded.ljust(_size_class(len(padded)), b"\0"), [keys.associated_data]
    )


def open_sealed(keys: NameKeys, sealed: bytes) -> listing_pb2.Record:
    """The record that was sealed.

    Raises SealError when these keys do not open it, RecordFormatError when what is inside is not a
    record of a known version.
    """
    if len(sealed) - TAG_SIZE not in SIZE_CLASSES:
        raise SealError(
            "A sealed record has a size that none has: the pack is damaged, synchronise again."
        )
    try:
        padded = AESSIV(keys.record_key).decrypt(sealed, [keys.associated_data])
    except InvalidTag:
        raise SealError(
            "A sealed record does not open with the keys of this number and name."
        ) from None
    record = _parse(padded)
    if record.version not in RECORD_VERSIONS:
        raise RecordFormatError(
            f"A record has version {record.version}, and {RECORD_VERSIONS[-1]} is understood:"
            " update this software."
        )
    return record


def _parse(padded: bytes) -> listing_pb2.Record:
    end = _LENGTH_SIZE + int.from_bytes(padded[:_LENGTH_SIZE], "big")
    if end > len(padded) or _size_class(end) != len(padded) or any(padded[end:]):
        raise RecordFormatError(
            "A record is not padded as it has to be: the listing was built wrongly, tell the"
            " operator."
        )
    try:
        return listing_pb2.Record.FromString(padded[_LENGTH_SIZE:end])
    except DecodeError:
        raise RecordFormatError(
            "A record does not parse: the listing was built wrongly, tell the operator."
        ) from None


def _size_class(length: int) -> int:
    for size in SIZE_CLASSES:
        if length <= size:
            return size
    raise RecordFormatError(
        f"A record takes {length} bytes, at most {SIZE_CLASSES[-1]} fit: split the subject's"
        " restrictions."
    )


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(SHA256(), length, info).derive(key)
