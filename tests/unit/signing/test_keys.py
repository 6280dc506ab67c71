"""Key files: made once, read with care, and errors that say what to do."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tipstaff_signing import (
    KeyFileError,
    KeyFolder,
    RepositoryError,
    StorageError,
    create_key_files,
)
from tipstaff_signing.keys.files import key_names

if TYPE_CHECKING:
    from pathlib import Path


def test_every_role_has_its_keys_and_only_this_user_reads_them(tmp_path: Path) -> None:
    keys = create_key_files(tmp_path / "keys", audiences=["rail"])
    names = [
        "root-1", "root-2", "root-3", "targets-1", "targets-2", "snapshot", "timestamp",
        "listing-rail-builder", "listing-rail-signoff", "relief-rail",
    ]  # fmt: skip
    assert keys.names() == sorted(names) == sorted(key_names(["rail"]))
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for name in names:
        assert stat.S_IMODE((tmp_path / "keys" / f"{name}.pem").stat().st_mode) == 0o600
        signer = keys.signer(name)
        assert keys.public(name) == signer.public_key
        signer.public_key.verify_signature(signer.sign(b"data"), b"data")
    assert len({keys.public(name).keyid for name in names}) == len(names)


def test_existing_keys_are_never_replaced(tmp_path: Path) -> None:
    first = create_key_files(tmp_path, audiences=["rail"]).public("root-1")
    more = create_key_files(tmp_path, audiences=["rail", "aviation"])
    assert more.public("root-1") == first
    assert (
        more.signer("relief-aviation").public_key.keyid
        != more.signer("relief-rail").public_key.keyid
    )


def test_passphrase_protects_and_is_asked_for(tmp_path: Path) -> None:
    keys = create_key_files(tmp_path, audiences=["rail"], passphrase=b"correct horse")
    assert b"ENCRYPTED" in (tmp_path / "snapshot.pem").read_bytes()
    assert keys.signer("snapshot").public_key == KeyFolder(tmp_path).public("snapshot")
    with pytest.raises(KeyFileError, match="give its passphrase"):
        KeyFolder(tmp_path).signer("snapshot")
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        KeyFolder(tmp_path, passphrase=b"battery staple").signer("snapshot")


def test_passphrase_for_a_key_in_clear_is_refused(tmp_path: Path) -> None:
    create_key_files(tmp_path, audiences=["rail"])
    with pytest.raises(KeyFileError, match="without a passphrase"):
        KeyFolder(tmp_path, passphrase=b"correct horse").signer("snapshot")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys = create_key_files(tmp_path, audiences=["rail"])
    (tmp_path / "snapshot.pem").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keys.signer("snapshot")


def test_missing_key_and_missing_folder_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="keys init"):
        KeyFolder(tmp_path).signer("snapshot")
    with pytest.raises(KeyFileError, match="keys init"):
        KeyFolder(tmp_path).public("snapshot")
    with pytest.raises(KeyFileError, match="keys init"):
        KeyFolder.load(tmp_path / "nowhere")
    assert KeyFolder.load(tmp_path).names() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
    ],
    ids=["empty", "text", "broken", "another kind"],
)
def test_file_that_is_no_signing_key_is_refused(tmp_path: Path, content: bytes) -> None:
    keys = create_key_files(tmp_path, audiences=["rail"])
    (tmp_path / "snapshot.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match="cannot be used"):
        keys.signer("snapshot")
    (tmp_path / "snapshot.pub").write_bytes(content)
    with pytest.raises(KeyFileError, match="not a PEM public key"):
        keys.public("snapshot")


def test_folder_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "snapshot.pem").mkdir(mode=0o700)
    (tmp_path / "snapshot.pub").mkdir()
    with pytest.raises(KeyFileError, match="right folder"):
        KeyFolder(tmp_path).signer("snapshot")
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFolder(tmp_path).public("snapshot")


@pytest.mark.parametrize("name", ["../snapshot", "", "Snapshot", "a/b", "snapshot.pem"])
def test_key_names_do_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="not a key name"):
        KeyFolder(tmp_path).signer(name)


@pytest.mark.parametrize(
    "audience", ["", "Rail", "a" * 41, "../rail", "proposals", "refused", "鐵路"]
)
def test_bad_audience_makes_no_keys(tmp_path: Path, audience: str) -> None:
    with pytest.raises(RepositoryError, match="not an audience id"):
        create_key_files(tmp_path / "keys", audiences=["rail", audience])
    assert not (tmp_path / "keys").exists()


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        create_key_files(tmp_path / "file" / "keys", audiences=["rail"])


def test_representation_says_where_and_nothing_else(tmp_path: Path) -> None:
    assert repr(KeyFolder(tmp_path, passphrase=b"correct horse")) == f"KeyFolder({str(tmp_path)!r})"
    keys = create_key_files(tmp_path / "k", audiences=["rail"])
    secret = keys.signer("snapshot").private_bytes.decode().splitlines()[1]
    assert secret not in repr(keys.signer("snapshot"))
