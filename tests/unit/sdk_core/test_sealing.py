"""Sealed records: who has identifier, name and key opens them, and nobody else; damage is an error,
never another answer.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tests.support.sealed_world import CHEAP, record, restriction
from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import ConfigurationError, ParametersError, RecordFormatError, SealError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.listing.sealing import (
    SIZE_CLASSES,
    EpochKey,
    NameKeys,
    Stretch,
    open_sealed,
    seal,
)

MASTER = bytes(range(32))
PERSON = Identifier.resident_id("11010519491231002X")
SALT = bytes(range(16))


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, as it stands there."""
    blocks, block = b"", b""
    for counter in range(1, length // 32 + 2):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        blocks += block
    return blocks[:length]


def keys_of(
    name: str = "张三",
    *,
    audience: str = "aviation",
    epoch: int = 3,
    master: bytes = MASTER,
    person: Identifier = PERSON,
) -> NameKeys:
    return EpochKey(audience, epoch, master).derive(CHEAP.stretch(person)).name_keys(name)


def sealed_with(keys: NameKeys, padded: bytes) -> bytes:
    return AESSIV(keys.record_key).encrypt(padded, [keys.associated_data])


def test_the_derivation_is_the_one_that_is_written_down() -> None:
    stretch = Stretch(SALT, 16, 8, 1)
    secret = hashlib.scrypt(
        b"tipstaff/v1/stretch\0\x01" + b"11010519491231002X", salt=SALT, n=16, r=8, p=1, dklen=32
    )
    assert stretch.stretch(PERSON) == secret
    key = EpochKey("aviation", 3, MASTER)
    assert key.token_key == hkdf_expand(MASTER, b"tipstaff/v1/token\0aviation", 16)
    prk = hmac.digest(MASTER, secret, "sha256")
    subject = key.derive(secret)
    assert subject.locator == hkdf_expand(prk, b"tipstaff/v1/locator\0aviation", 8)
    names = subject.name_keys("张三")
    expected = hkdf_expand(prk, b"tipstaff/v1/record\0aviation\0" + "张三".encode(), 80)
    assert (names.record_key, names.commitment) == (expected[:64], expected[64:])
    content = record(restriction()).SerializeToString(deterministic=True)
    padded = (len(content).to_bytes(4, "big") + content).ljust(256, b"\0")
    context = (
        b"tipstaff/v1/sealed\0aviation\0" + bytes([0, 0, 0, 3]) + subject.locator + names.commitment
    )
    assert seal(names, record(restriction())) == AESSIV(names.record_key).encrypt(padded, [context])


def test_a_sealed_record_opens_and_is_deterministic() -> None:
    keys, content = keys_of(), record(restriction(1), restriction(2))
    assert open_sealed(keys, seal(keys, content)) == content
    assert seal(keys, content) == seal(keys_of(), record(restriction(2), restriction(1)))


@pytest.mark.parametrize(
    "other",
    [
        {"name": "李四"},
        {"audience": "rail"},
        {"epoch": 4},
        {"master": bytes(32)},
        {"person": Identifier(IdentifierKind.PASSPORT, "E12345678")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_keys_neither_find_nor_open_it(other: dict) -> None:
    sealed, others = seal(keys_of(), record(restriction())), keys_of(**other)
    with pytest.raises(SealError, match="does not open"):
        open_sealed(others, sealed)
    if (
        "epoch" not in other
    ):  # the epoch is told apart by its secret; the same one would be a mistake of the operator's
        assert others.commitment != keys_of().commitment


def test_every_flipped_bit_is_noticed() -> None:
    keys = keys_of()
    sealed = seal(keys, record(restriction()))
    for position in range(0, len(sealed), 7):
        for bit in (1, 0x80):
            damaged = bytearray(sealed)
            damaged[position] ^= bit
            with pytest.raises(SealError):
                open_sealed(keys, bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 16, 255, 256, 271, 273, 527, 65536, 65553, 131088])
def test_a_size_that_none_has_is_refused(length: int) -> None:
    with pytest.raises(SealError, match="a size that none has"):
        open_sealed(keys_of(), bytes(length))


def test_sizes_show_only_their_class() -> None:
    keys = keys_of()
    assert {
        len(seal(keys, record(*(restriction(n) for n in range(1, count + 1))))) - 16
        for count in (1, 2)
    } <= set(SIZE_CLASSES)
    assert len(seal(keys, listing_pb2.Record(version=1))) == 256 + 16
    exact = listing_pb2.Record(version=1)
    exact.restrictions.add(case_number="x" * (252 - 2 - 3 - 3))
    assert exact.ByteSize() == 252
    assert len(seal(keys, exact)) == 256 + 16
    exact.restrictions[0].case_number += "x"
    assert len(seal(keys, exact)) == 512 + 16
    assert open_sealed(keys, seal(keys, exact)) == exact


def test_the_largest_record_and_one_byte_more() -> None:
    keys = keys_of()
    content = listing_pb2.Record(version=1)
    content.restrictions.add(case_number="x" * 65_500)
    spare = SIZE_CLASSES[-1] - 4 - content.ByteSize()
    content.restrictions[0].case_number += "x" * spare
    assert len(seal(keys, content)) == SIZE_CLASSES[-1] + 16
    content.restrictions[0].case_number += "x"
    with pytest.raises(RecordFormatError, match="at most 65536 fit"):
        seal(keys, content)


MALFORMED = {
    "length beyond the end": (b"\x00\x00\x01\x00" + bytes(252), "padded"),
    "length of four gigabytes": (b"\xff" * 4 + bytes(252), "padded"),
    "padding is not zeros": (b"\x00\x00\x00\x02\x08\x01" + bytes(249) + b"\x01", "padded"),
    "larger class than needed": (b"\x00\x00\x00\x02\x08\x01" + bytes(506), "padded"),
    "not a protobuf": (b"\x00\x00\x00\x03\xff\xff\xff" + bytes(249), "does not parse"),
    "a record of version 3": (b"\x00\x00\x00\x02\x08\x03" + bytes(250), "version 3"),
    "an empty record": (bytes(256), "version 0"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_opens_and_is_no_record_is_an_error(case: str) -> None:
    padded, message = MALFORMED[case]
    keys = keys_of()
    with pytest.raises(RecordFormatError, match=message):
        open_sealed(keys, sealed_with(keys, padded))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"salt": bytes(15)}, "15 bytes"),
        ({"salt": b""}, "0 bytes"),
        ({"n": 0}, "power of two"),
        ({"n": 1}, "power of two"),
        ({"n": 3}, "power of two"),
        ({"r": 0}, "power of two"),
        ({"p": 0}, "power of two"),
        ({"p": 17}, "power of two"),
        ({"n": 1 << 22}, "256 MiB"),
        ({"n": 2, "r": 1 << 30}, "256 MiB"),
    ],
)
def test_a_cost_out_of_bounds_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ParametersError, match=message):
        Stretch(**({"salt": SALT, "n": 16, "r": 8, "p": 1} | changes))


def test_stretch_parameters_go_through_the_contract() -> None:
    stretch = Stretch(SALT, 4096, 8, 1)
    assert Stretch.from_proto(stretch.to_proto()) == stretch
    with pytest.raises(ParametersError):
        Stretch.from_proto(listing_pb2.StretchParameters())


def test_default_cost_has_the_memory_it_needs() -> None:
    assert len(Stretch(SALT, 4096, 8, 1).stretch(PERSON)) == 32


def test_no_memory_to_stretch_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(hashlib, "scrypt", refuse)
    with pytest.raises(SealError, match="not enough memory"):
        CHEAP.stretch(PERSON)


@pytest.mark.parametrize(
    ("audience", "epoch", "master"),
    [("", 1, MASTER), ("Aviation", 1, MASTER), ("a" * 41, 1, MASTER), ("a\0b", 1, MASTER), ("航空", 1, MASTER), ("a\n", 1, MASTER),
     ("a", -1, MASTER), ("a", 1 << 32, MASTER), ("a", 1, b""), ("a", 1, bytes(31)), ("a", 1, bytes(33))],
)  # fmt: skip
def test_an_epoch_key_that_cannot_be_is_refused(audience: str, epoch: int, master: bytes) -> None:
    with pytest.raises(ConfigurationError):
        EpochKey(audience, epoch, master)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_size_is_refused(length: int) -> None:
    with pytest.raises(ConfigurationError, match=f"not {length}"):
        EpochKey("a", 1, MASTER).derive(bytes(length))


def test_nothing_shows_a_key() -> None:
    key = EpochKey("aviation", 3, MASTER)
    subject = key.derive(CHEAP.stretch(PERSON))
    names = subject.name_keys("张三")
    for thing in (key, key.tokeniser, subject, names):
        shown = repr(thing) + str(thing)
        assert "hidden" in shown
        for secret in (MASTER, key.token_key, names.record_key, names.commitment, subject.locator):
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
