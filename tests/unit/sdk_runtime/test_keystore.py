"""Epoch keys stay where they were put, and nobody else's file is taken for ours."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.keys.store import (
    FileKeyStore,
    KeyringKeyStore,
    KeyStore,
    MemoryKeyStore,
    open_key_store,
)
from tipstaff_sdk.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {1: bytes(range(32)), 7: bytes(32)}


class Keyring:
    """Stands in for the package `keyring`, which need not be installed."""

    class KeyringError(Exception):
        pass

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise self.KeyringError("locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise self.KeyringError("locked")
        self.entries[service, username] = password


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    made = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", made)
    monkeypatch.setitem(sys.modules, "keyring.errors", made)
    return made


@pytest.fixture(params=["memory", "file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path, keyring: Keyring) -> KeyStore:
    values = {
        "audience": "aviation",
        "state_dir": tmp_path,
        "trusted_root_file": tmp_path,
        "key_store": request.param,
    }
    return open_key_store(Settings(**values))


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


def test_keys_in_the_keyring_are_kept_by_audience_and_state_folder(
    keyring: Keyring, tmp_path: Path
) -> None:
    KeyringKeyStore("aviation", tmp_path / "a").save(KEYS)
    assert KeyringKeyStore("aviation", tmp_path / "a").load() == KEYS
    for audience, folder in (("rail", "a"), ("aviation", "b")):
        assert KeyringKeyStore(audience, tmp_path / folder).load() == {}
    assert not list(tmp_path.iterdir())
    assert (
        repr(KeyringKeyStore("aviation", tmp_path))
        == "KeyringKeyStore('tipstaff epoch keys, aviation')"
    )


def test_a_keyring_that_refuses_or_holds_something_else_says_what_to_do(
    keyring: Keyring, tmp_path: Path
) -> None:
    store = KeyringKeyStore("aviation", tmp_path)
    store.save(KEYS)
    (entry,) = keyring.entries
    for content in ("", "{}", "[]", '{"version": 1, "keys": {"1": "AAAA"}}', "\ud800"):
        keyring.entries[entry] = content
        with pytest.raises(ConfigurationError, match="delete it and sync again"):
            store.load()
    keyring.locked = True
    for use in (store.load, lambda: store.save(KEYS)):
        with pytest.raises(ConfigurationError, match="unlock it"):
            use()


def test_without_the_package_the_keyring_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="pip install keyring"):
        KeyringKeyStore("aviation", tmp_path)


def test_settings_choose_the_store(tmp_path: Path, keyring: Keyring) -> None:
    values = {"audience": "aviation", "state_dir": tmp_path, "trusted_root_file": tmp_path}
    kinds = {"memory": MemoryKeyStore, "file": FileKeyStore, "keyring": KeyringKeyStore}
    for name, kind in kinds.items():
        assert isinstance(open_key_store(Settings(**values, key_store=name)), kind)  # type: ignore[arg-type]
