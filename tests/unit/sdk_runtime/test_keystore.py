"""Epoch keys stay where they were put, and nobody else's file is taken for ours."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.keystore import FileKeyStore, KeyStore, MemoryKeyStore

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {1: bytes(range(32)), 7: bytes(32)}


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    return MemoryKeyStore() if request.param == "memory" else FileKeyStore(tmp_path / "keys.json")


def test_empty_then_saved_then_replaced(store: KeyStore) -> None:
    assert store.load() == {}
    store.save(KEYS)
    assert store.load() == KEYS
    store.save({8: bytes(32)})
    assert store.load() == {8: bytes(32)}


@pytest.mark.parametrize("keys", [{1: b"short"}, {-1: bytes(32)}, {1 << 32: bytes(32)}])
def test_what_is_no_key_is_refused(store: KeyStore, keys: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        store.save(keys)
    assert store.load() == {}


def test_repr_shows_no_key(store: KeyStore) -> None:
    store.save(KEYS)
    assert KEYS[1].hex() not in repr(store)
    assert str(KEYS[1]) not in repr(store)


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    FileKeyStore(path).save(KEYS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    FileKeyStore(path).save(KEYS)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        FileKeyStore(path).load()


def test_link_and_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    FileKeyStore(tmp_path / "real.json").save(KEYS)
    (tmp_path / "keys.json").symlink_to(tmp_path / "real.json")
    with pytest.raises(ConfigurationError, match="cannot read the key file"):
        FileKeyStore(tmp_path / "keys.json").load()
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="folder"):
        FileKeyStore(tmp_path / "folder").load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "keys": {}}',
        b'{"version": 1, "keys": {"1": "AAAA"}}',
        b'{"version": 1, "keys": {"x": ""}}',
        b"\xff",
    ],
)
def test_damaged_file_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="damaged: delete it and sync again") as caught:
        FileKeyStore(path).load()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    FileKeyStore(path).save(KEYS)
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to somebody else"):
        FileKeyStore(path).load()


def test_unwritable_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write the key file"):
        FileKeyStore(tmp_path / "missing" / "keys.json").save(KEYS)
