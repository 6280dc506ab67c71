"""Epoch keys: made once, kept encrypted, sealed to who asks, rotated with an overlap."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.server import make
from tipstaff_server.administration.providers import Providers
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import (
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    VaultDataError,
)
from tipstaff_server.storage.database import Database
from tipstaff_server.storage.models import EpochKeyRow
from tipstaff_server.vault.epochs import EpochKeys
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault
from tipstaff_server.workdir.wrapping_keys import read_public, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    config = make(tmp_path / "operator")
    opened = Database.open(config)
    yield opened
    opened.close()


@pytest.fixture
def epochs(database: Database, tmp_path: Path, clock: Clock) -> EpochKeys:
    vault = Vault.open(tmp_path / "operator" / "registry.key")
    vault.attach(database)
    return EpochKeys(Store(database, vault, clock))


def test_the_first_epoch_is_made_when_asked_for_and_stays(epochs: EpochKeys):
    first = epochs.current("aviation")
    assert (first.number, len(first.key), first.valid_from, first.valid_until) == (1, 32, NOW, None)
    assert epochs.current("aviation") == first
    assert epochs.current("rail").key != first.key


def test_many_at_once_make_one(epochs: EpochKeys):
    seen: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: seen.append(epochs.current("aviation").key))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_keys_are_not_in_the_database_nor_in_a_repr(epochs: EpochKeys, tmp_path: Path):
    epoch = epochs.current("aviation")
    assert epoch.key not in (tmp_path / "operator" / "registry.db").read_bytes()
    assert repr(epoch.key) not in repr(epoch)
    assert epoch.key.hex() not in repr(epoch)


def test_a_key_moved_to_another_audience_does_not_open(epochs: EpochKeys, database: Database):
    epochs.current("aviation")
    with database.write() as session:
        row = session.get(EpochKeyRow, ("aviation", 1))
        assert row is not None
        session.add(
            EpochKeyRow(
                audience_id="rail",
                epoch=1,
                key=row.key,
                created_at=row.created_at,
                retired_at=None,
                stretch=1,
            )
        )
    with pytest.raises(VaultDataError):
        epochs.current("rail")


def test_a_rotation_keeps_both_in_use_for_the_overlap(epochs: EpochKeys, clock: Clock):
    old = epochs.current("aviation")
    new = epochs.rotate("aviation", timedelta(days=7))
    assert new.number == 2
    assert new.key != old.key
    assert epochs.current("aviation") == new
    assert [epoch.number for epoch in epochs.in_use("aviation")] == [1, 2]
    clock.now += timedelta(days=7)
    assert [epoch.number for epoch in epochs.in_use("aviation")] == [2]
    kept = epochs.get("aviation", 1)
    assert kept is not None
    assert (kept.key, kept.valid_until) == (old.key, clock.now)
    assert epochs.get("aviation", 3) is None


def test_a_rotation_of_an_audience_without_an_epoch_makes_the_first(epochs: EpochKeys):
    assert epochs.rotate("aviation", timedelta(days=1)).number == 1


def test_keys_are_sealed_to_the_recipient_for_this_audience_and_epoch_alone(epochs: EpochKeys):
    epochs.rotate("aviation", timedelta(days=7))
    epochs.rotate("aviation", timedelta(days=7))
    private, suite = (
        X25519PrivateKey.generate(),
        Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM),
    )
    sealed = epochs.sealed("aviation", private.public_key().public_bytes_raw())
    assert [message.epoch for message in sealed] == [1, 2]
    assert [message.HasField("valid_until") for message in sealed] == [True, False]
    for message in sealed:
        epoch = epochs.get("aviation", message.epoch)
        assert epoch is not None
        assert len(message.sealed) == 32 + 32 + 16
        assert (
            suite.decrypt(
                message.sealed,
                private,
                info=f"tipstaff/v1/epoch-key\0aviation\0{message.epoch}".encode(),
            )
            == epoch.key
        )
        for wrong in (
            f"tipstaff/v1/epoch-key\0rail\0{message.epoch}",
            f"tipstaff/v1/epoch-key\0aviation\0{message.epoch + 1}",
        ):
            with pytest.raises(InvalidTag):
                suite.decrypt(message.sealed, private, info=wrong.encode())
        with pytest.raises(InvalidTag):
            suite.decrypt(
                message.sealed,
                X25519PrivateKey.generate(),
                info=f"tipstaff/v1/epoch-key\0aviation\0{message.epoch}".encode(),
            )


def test_a_low_order_key_is_refused(epochs: EpochKeys):
    with pytest.raises(InvalidRequestError, match="make a new one"):
        epochs.sealed("aviation", bytes(32))


def test_the_next_epoch_s_key_is_given_out_before_listings_use_it(epochs: EpochKeys, clock: Clock):
    first = epochs.current("aviation")
    lead, overlap = timedelta(hours=2), timedelta(days=7)
    second = epochs.rotate("aviation", overlap, lead)
    assert (second.number, second.valid_from, second.valid_until) == (2, NOW + lead, None)
    assert epochs.current("aviation").number == first.number
    given = epochs.sealed("aviation", X25519PrivateKey.generate().public_key().public_bytes_raw())
    assert [key.epoch for key in given] == [1, 2]
    assert given[1].valid_from.ToDatetime(UTC) == NOW + lead
    clock.now = NOW + lead
    assert epochs.current("aviation").number == 2
    clock.now = NOW + lead + overlap - timedelta(seconds=1)
    assert [epoch.number for epoch in epochs.in_use("aviation")] == [1, 2]
    clock.now = NOW + lead + overlap
    assert [epoch.number for epoch in epochs.in_use("aviation")] == [2]


def test_a_rotation_at_once_overtakes_one_that_waits(epochs: EpochKeys, clock: Clock):
    epochs.current("aviation")
    epochs.rotate("aviation", timedelta(days=7), timedelta(hours=2))
    assert epochs.rotate("aviation", timedelta(days=7)).number == 3
    assert epochs.current("aviation").number == 3
    clock.now = NOW + timedelta(hours=3)
    assert epochs.current("aviation").number == 3


def test_the_first_epoch_is_used_at_once_whatever_the_lead(epochs: EpochKeys):
    assert epochs.rotate("banking", timedelta(days=7), timedelta(hours=2)).number == 1
    assert epochs.current("banking").number == 1


def test_keys_are_sealed_to_the_registered_key_only(
    epochs: EpochKeys, database: Database, tmp_path: Path
):
    own, thief = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    vault = Vault.open(tmp_path / "operator" / "registry.key")
    members = Providers(Store(database, vault))
    public, actor = own.public_key().public_bytes_raw(), Actor.operator("test")
    with pytest.raises(
        PermissionDeniedError, match="wrapping_key_file"
    ):  # the kit's own is registered
        epochs.sealed("aviation", public, provider="skyline-air")
    for _ in range(2):
        members.register_wrapping_key("skyline-air", public, actor=actor)
    (sealed,) = epochs.sealed("aviation", public, provider="skyline-air")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    assert (
        suite.decrypt(sealed.sealed, own, info=b"tipstaff/v1/epoch-key\0aviation\x001")
        == epochs.current("aviation").key
    )
    with pytest.raises(PermissionDeniedError, match="wrapping_key_file"):
        epochs.sealed("aviation", thief.public_key().public_bytes_raw(), provider="skyline-air")
    kit = read_public(
        (tmp_path / "operator" / "providers" / "skyline-air" / "wrapping_key.pem").read_bytes()
    )
    with pytest.raises(PermissionDeniedError):
        epochs.sealed("aviation", kit, provider="skyline-air")
    assert epochs.sealed(
        "rail", thief.public_key().public_bytes_raw(), provider="somebody without a key"
    )
    with pytest.raises(NotFoundError, match="add it first"):
        members.register_wrapping_key("nobody", public, actor=actor)


def test_a_wrapping_key_file_is_private_and_its_public_half_can_be_read(tmp_path: Path):
    write_private(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert len(read_public((tmp_path / "key.pem").read_bytes())) == 32
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "key.pem")
    public = X25519PrivateKey.generate().public_key()
    assert (
        read_public(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        == public.public_bytes_raw()
    )
    for wrong in (b"", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(InvalidRequestError, match="no X25519 key"):
            read_public(wrong)
    other = (
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(InvalidRequestError, match="another kind of key"):
        read_public(other)
