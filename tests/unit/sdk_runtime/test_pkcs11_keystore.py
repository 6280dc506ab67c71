"""Epoch keys sealed by a real PKCS#11 token (SoftHSM): the file says nothing without it, and every
refusal says what to do.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import softhsm
from tipstaff_sdk import errors
from tipstaff_sdk.errors import ConfigurationError, KeyStoreError
from tipstaff_sdk.keys.pkcs11 import PIN_VARIABLE, Pkcs11KeyStore
from tipstaff_sdk.keys.store import open_key_store
from tipstaff_sdk.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {1: bytes(range(32)), 7: bytes(32)}
needs_token = pytest.mark.skipif(softhsm.missing() is not None, reason=softhsm.missing() or "")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> softhsm.Tokens:
    made = softhsm.Tokens.make(tmp_path_factory.mktemp("softhsm"))
    made.token("ours", "epochs", "other")
    return made


@pytest.fixture(autouse=True)
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIN_VARIABLE, softhsm.PIN)


def store(tokens: softhsm.Tokens, folder: Path, **changes: Any) -> Pkcs11KeyStore:
    options = {
        "audience": "aviation",
        "module": tokens.module,
        "token": "ours",
        "key": "epochs",
        **changes,
    }
    return Pkcs11KeyStore(folder / "epoch-keys.sealed", **options)


@pytest.mark.engines
@needs_token
def test_empty_then_saved_then_replaced(tokens: softhsm.Tokens, tmp_path: Path) -> None:
    assert store(tokens, tmp_path).load() == {}
    store(tokens, tmp_path).save(KEYS)
    assert store(tokens, tmp_path).load() == KEYS
    store(tokens, tmp_path).save({8: b"k" * 32})
    assert store(tokens, tmp_path).load() == {8: b"k" * 32}


@pytest.mark.engines
@needs_token
def test_the_file_holds_no_key_and_is_never_the_same_twice(
    tokens: softhsm.Tokens, tmp_path: Path
) -> None:
    seen: set[bytes] = set()
    for _ in range(2):
        store(tokens, tmp_path).save(KEYS)
        file = tmp_path / "epoch-keys.sealed"
        content = file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
        assert KEYS[1] not in content
        assert b"AAEC" not in content  # its base64
        seen.add(content)
    assert len(seen) == 2


@pytest.mark.engines
@needs_token
def test_the_sealing_key_does_not_leave_the_token(tokens: softhsm.Tokens, tmp_path: Path) -> None:
    library: Any = import_module("pkcs11")
    with (
        library.lib(str(tokens.module))
        .get_token(token_label="ours")
        .open(user_pin=softhsm.PIN) as session
    ):
        key = session.get_key(label="epochs", object_class=library.ObjectClass.SECRET_KEY)
        with pytest.raises(library.AttributeSensitive):
            key[library.Attribute.VALUE]


@pytest.mark.engines
@needs_token
def test_the_settings_select_it(tokens: softhsm.Tokens, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "audience": "aviation",
        "state_dir": tmp_path,
        "trusted_root_file": tmp_path,
        "key_store": "pkcs11",
    }
    with pytest.raises(
        ConfigurationError, match="needs pkcs11_module, pkcs11_token and pkcs11_key"
    ):
        open_key_store(Settings(**values))
    made = open_key_store(
        Settings(**values, pkcs11_module=tokens.module, pkcs11_token="ours", pkcs11_key="epochs")
    )
    made.save(KEYS)
    assert made.load() == KEYS
    assert softhsm.PIN not in repr(made)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such token": ({"token": "theirs"}, "is not there"),
    "no such key": ({"key": "none"}, "has no AES key 'none'"),
    "a wrong PIN": ({"pin": lambda: "0000"}, "does not accept the PIN"),
}


@pytest.mark.engines
@needs_token
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_to_do(
    tokens: softhsm.Tokens, tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes, why = REFUSED[case]
    store(tokens, tmp_path).save(KEYS)
    with caplog.at_level(logging.DEBUG):
        for act in (lambda made: made.load(), lambda made: made.save(KEYS)):
            with pytest.raises(KeyStoreError, match=why) as caught:
                act(store(tokens, tmp_path, **changes))
            assert not {softhsm.PIN, "0000"} & set(str(caught.value).split())
            assert caught.value.__cause__ is None
    assert softhsm.PIN not in caplog.text
    assert store(tokens, tmp_path).load() == KEYS


@pytest.mark.engines
@needs_token
def test_a_module_that_is_none_is_named(tokens: softhsm.Tokens, tmp_path: Path) -> None:
    (tmp_path / "junk.so").write_bytes(b"junk")
    for module in (tmp_path / "none.so", tmp_path / "junk.so"):
        with pytest.raises(KeyStoreError, match="cannot be loaded"):
            store(tokens, tmp_path, module=module).save(KEYS)


@pytest.mark.engines
@needs_token
def test_a_token_that_goes_away_is_an_error_and_loses_nothing(
    tokens: softhsm.Tokens, tmp_path: Path
) -> None:
    tokens.token("leaving", "epochs")
    made = store(tokens, tmp_path, token="leaving")
    made.save(KEYS)
    before = (tmp_path / "epoch-keys.sealed").read_bytes()
    tokens.remove("leaving")
    for act in (made.load, lambda: made.save({9: bytes(32)})):
        with pytest.raises(KeyStoreError, match=r"not there|gone"):
            act()
    assert (tmp_path / "epoch-keys.sealed").read_bytes() == before


@pytest.mark.engines
@needs_token
@pytest.mark.parametrize(
    "how", ["another key", "another audience", "altered", "cut", "empty", "other bytes"]
)
def test_a_file_that_it_did_not_seal_is_refused(
    tokens: softhsm.Tokens, tmp_path: Path, how: str
) -> None:
    store(tokens, tmp_path).save(KEYS)
    file = tmp_path / "epoch-keys.sealed"
    content = file.read_bytes()
    changed = {
        "altered": content[:-1] + bytes([content[-1] ^ 1]),
        "cut": content[:-20],
        "empty": b"",
        "other bytes": b"x" * 100,
    }
    file.write_bytes(changed.get(how, content))
    options = {"another key": {"key": "other"}, "another audience": {"audience": "rail"}}.get(
        how, {}
    )
    with pytest.raises(KeyStoreError, match="delete it and sync again"):
        store(tokens, tmp_path, **options).load()


@pytest.mark.engines
@needs_token
def test_a_forked_child_opens_the_token_for_itself(tokens: softhsm.Tokens, tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from tipstaff_sdk.keys.pkcs11 import Pkcs11KeyStore
made = Pkcs11KeyStore(Path(sys.argv[1]), "aviation", module=Path(sys.argv[2]), token="ours", key="epochs")
made.save({1: bytes(32)})
child = os.fork()
if child == 0:
    os._exit(0 if made.load() == {1: bytes(32)} else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert made.load() == {1: bytes(32)}
"""
    command = [
        sys.executable,
        "-c",
        program,
        str(tmp_path / "epoch-keys.sealed"),
        str(tokens.module),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(KeyStoreError, match=r"pip install 'tipstaff\[pkcs11\]'"):
        Pkcs11KeyStore(tmp_path / "x", "aviation", module=tmp_path, token="ours", key="epochs")


@pytest.mark.engines
@needs_token
def test_no_pin_is_an_error_before_the_token_is_asked(
    tokens: softhsm.Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PIN_VARIABLE)
    with pytest.raises(errors.KeyStoreError, match=f"set {PIN_VARIABLE}"):
        store(tokens, tmp_path).save(KEYS)
