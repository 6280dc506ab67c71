"""What the vault promises, and each way in which it must refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.registry import OPERATOR, World, entry, person, submit
from tipstaff_server.config import StretchSection
from tipstaff_server.errors import VaultDataError, VaultKeyFileError, WrongVaultKeyError
from tipstaff_server.registry import facts as setup
from tipstaff_server.registry.registry import Registry
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault, create_key_file

if TYPE_CHECKING:
    from pathlib import Path

ROW = b"r" * 16


def test_what_goes_in_comes_out() -> None:
    vault = Vault(b"k" * 32)
    stored = vault.encrypt_text("names.value", ROW, "买买提·吐尔逊")
    assert vault.decrypt_text("names.value", ROW, stored) == "买买提·吐尔逊"
    assert "买".encode() not in stored


def test_the_same_text_looks_different_in_every_row_and_column() -> None:
    vault = Vault(b"k" * 32)
    stored = {
        vault.encrypt_text(column, row, "张三") for column in ("a", "b") for row in (b"1", b"2")
    }
    assert len(stored) == 4


@pytest.mark.parametrize(
    "case",
    ["other row", "other column", "other key", "flipped", "shortened", "empty", "newer version"],
)
def test_a_value_opens_only_where_it_was_put(case: str) -> None:
    vault = Vault(b"k" * 32)
    stored = vault.encrypt("names.value", ROW, b"text")
    opened = {
        "other row": (vault, "names.value", b"s" * 16, stored),
        "other column": (vault, "identifiers.value", ROW, stored),
        "other key": (Vault(b"j" * 32), "names.value", ROW, stored),
        "flipped": (vault, "names.value", ROW, stored[:-1] + bytes([stored[-1] ^ 1])),
        "shortened": (vault, "names.value", ROW, stored[:10]),
        "empty": (vault, "names.value", ROW, b""),
        "newer version": (vault, "names.value", ROW, b"\x02" + stored[1:]),
    }[case]
    with pytest.raises(VaultDataError) as caught:
        opened[0].decrypt(*opened[1:])
    assert "text" not in str(caught.value)


def test_the_index_is_stable_and_keyed() -> None:
    vault = Vault(b"k" * 32)
    assert vault.index("identifiers", b"1") == Vault(b"k" * 32).index("identifiers", b"1")
    others = {
        vault.index("identifiers", b"2"),
        vault.index("names", b"1"),
        Vault(b"j" * 32).index("identifiers", b"1"),
    }
    assert vault.index("identifiers", b"1") not in others
    assert vault.index("a", b"b") != vault.index("a\0b", b"")


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.id for item in Vault.open(path).wrappers] == [item.id for item in made.wrappers]
    with pytest.raises(VaultKeyFileError, match="never overwritten"):
        create_key_file(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"tipstaff registry key v1\nAAAA\n",
        b"tipstaff registry key v1\n!!!\n",
        b"\xff\xff",
        b"other\n" + b"A" * 44,
    ],
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(VaultKeyFileError):
        Vault.open(path)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_key_file(path)
    path.chmod(0o640)
    with pytest.raises(VaultKeyFileError, match="chmod 600"):
        Vault.open(path)


def test_a_missing_key_file_says_that_nothing_opens_without_it(tmp_path: Path) -> None:
    with pytest.raises(VaultKeyFileError, match="backup"):
        Vault.open(tmp_path / "key")


def test_another_registry_s_key_is_recognised_at_once(world: World, tmp_path: Path) -> None:
    other = create_key_file(tmp_path / "other")
    with pytest.raises(WrongVaultKeyError, match="does not belong"):
        Registry(Store(world.database, other))
    with pytest.raises(WrongVaultKeyError):
        setup.initialise(Store(world.database, other), StretchSection())


def test_no_identifier_and_no_name_is_in_the_files(world: World) -> None:
    secrets: list[bytes] = []
    for index in range(50):
        party = person(index)
        submit(world, entry(party, case_number=f"{index}"))
        secrets += [party.identifiers[0].number.encode(), party.names[0].encode()]
    restriction = submit(world, entry(person(0), case_number="other"))
    world.registry.restrictions.end(
        restriction, EndKind.REVOKE, f"{person(0).names[0]} was right", actor=OPERATOR
    )
    world.registry.close()
    content = world.raw()
    assert len(content) > 100_000
    assert not [secret for secret in secrets if secret in content]


def test_secrets_do_not_show_in_reprs(world: World) -> None:
    assert repr(world.vault) == "Vault(…)"
    item = entry()
    for secret in (item.party.identifiers[0].number, item.party.names[0]):
        assert secret not in repr(item)
