"""The registry's keys: wrapped by a key from a file, a variable or a command, changed while servers
run, never lost half way.
"""

from __future__ import annotations

import base64
import stat
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import LargeBinary, select, text

from tests.support.keeping import make_bare, write_reasons_as_before
from tests.support.registry import COURT, NOW, OPERATOR, World, entry, listed, make_registry, person
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.audit.log import verify
from tipstaff_server.config import Config
from tipstaff_server.errors import (
    ConfigurationError,
    KeyWrapperError,
    VaultDataError,
    VaultDataKeyError,
    VaultError,
    VaultKeyFileError,
    WrongVaultKeyError,
)
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.keys import reencryption as sealed
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.registry import Registry
from tipstaff_server.registry.restrictions.search import Wanted
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage import migrations
from tipstaff_server.storage.database import Database
from tipstaff_server.storage.models import AuditRow, Base, KeyPurpose, VaultKeyRow
from tipstaff_server.vault.epochs import EpochKeys
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault, create_key_file
from tipstaff_server.vault.wrapping import CommandKey, LocalKey, create_key, wrapper_of

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.vault.wrapping import KeyWrapper

STATEMENT = "it was somebody else of the same name"
KMS = """\
import base64, sys
word = sys.argv[-1]
if word == "id":
    print("kms-key-7")
else:
    data = base64.b64decode(sys.stdin.read())
    assert word == "wrap" or data.startswith(b"KMS"), "not mine"
    print(base64.b64encode(b"KMS" + data[::-1] if word == "wrap" else data[3:][::-1]).decode())
"""


@pytest.fixture
def kms(tmp_path: Path) -> CommandKey:
    """A command that wraps by turning round, as an HSM would not."""
    program = tmp_path / "kms.py"
    program.write_text(KMS)
    return CommandKey([sys.executable, str(program), "--region", "x"])


def fill(world: World, registry: Registry, count: int = 5) -> list[bytes]:
    """Restrictions with everything that is encrypted: names, numbers, statements, exemptions,
    reasons, epoch keys.
    """
    entries = [entry(person(index), case_number=str(index)) for index in range(count)]
    answers = registry.restrictions.submit_many(
        entries, authority="court", actor=COURT, keys=[f"k{index}" for index in range(count)]
    )
    ids = [answer.restriction_id for answer in answers]
    registry.disputes.open(ids[0], STATEMENT, request_id=b"r" * 16, actor=OPERATOR)
    span = (NOW, world.clock.turn(seconds=1))
    registry.restrictions.exempt(
        ids[1],
        measures=(),
        valid=span,
        why=("赴京就医", "to see a doctor"),
        actor=COURT,
        given=Precondition(key="e"),
    )
    registry.restrictions.end(ids[2], EndKind.RELEASE, "paid by 王小明", actor=COURT)
    EpochKeys(registry.store).current("aviation")
    return ids


def readable(registry: Registry, ids: list[bytes]) -> None:
    """Everything that `fill` wrote opens, is found, and is recognised when it comes again."""
    held = registry.held_on(person(0).identifiers[0], actor=OPERATOR)
    assert held["names"] == list(person(0).names)
    assert held["restrictions"][0]["disputes"][0]["statement"] == STATEMENT
    exempted = registry.held_on(person(1).identifiers[0], actor=OPERATOR)["restrictions"][0][
        "exemptions"
    ]
    assert exempted[0]["reason"] == ["赴京就医", "to see a doctor"]
    assert registry.restrictions.history(ids[2], COURT)[-1].reason == "paid by 王小明"
    assert (
        len(registry.restrictions.search(Wanted(identifier=person(3).identifiers[0]), COURT)) == 1
    )
    again = registry.restrictions.submit(
        entry(person(3), case_number="3"), authority="court", actor=COURT, idempotency_key="k3"
    )
    assert again.restriction_id == ids[3]
    assert (
        registry.restrictions.submit(
            entry(person(4), case_number="4"), authority="court", actor=COURT
        ).status
        == "UNCHANGED"
    )
    assert EpochKeys(registry.store).current("aviation").number == 1
    verify(registry.store)


def rotate(world: World) -> list[int]:
    """A whole rotation, in small batches; the versions destroyed."""
    rekeying.rotate(world.store, actor=OPERATOR)
    assert sum(sealed.reencrypt(world.store, batch=3)) > 0
    return rekeying.retire(world.store, actor=OPERATOR)


def versions(world: World) -> set[int]:
    with world.database.read() as session:
        return set(sealed.counts(session))


# The column keys


def test_a_rotation_brings_everything_over_and_destroys_the_old_key(world: World) -> None:
    ids = fill(world, world.registry)
    before = listed(world)
    assert rotate(world) == [1]
    assert versions(world) == {2}
    readable(world.registry, ids)
    assert listed(world).keys() == before.keys()
    with world.database.read() as session:
        assert session.scalars(
            select(VaultKeyRow.version).where(VaultKeyRow.purpose == KeyPurpose.COLUMN)
        ).all() == [2]
    assert rotate(world) == [2]
    readable(world.registry, ids)


def test_another_server_takes_up_the_new_key_with_its_next_act(world: World) -> None:
    other = world.replica()
    other_vault = Vault.open(world.folder / "registry.key")
    other = make_registry(Store(Database(world.url), other_vault, world.clock))
    fill(world, world.registry)
    rekeying.rotate(world.store, actor=OPERATOR)
    assert other_vault.keys.column == 1
    made = other.restrictions.submit(
        entry(person(9), case_number="9"), authority="court", actor=COURT
    )
    assert other_vault.keys.column == 2
    assert 2 in versions(world)
    assert (
        world.registry.restrictions.search(Wanted(identifier=person(9).identifiers[0]), COURT)[
            0
        ].restriction_id
        == made.restriction_id
    )
    other.close()


def test_a_server_that_only_reads_opens_what_is_under_a_key_it_has_not_seen(world: World) -> None:
    reader = make_registry(
        Store(Database(world.url), Vault.open(world.folder / "registry.key"), world.clock)
    )
    fill(world, world.registry)
    rotate(world)
    assert reader.store.vault.keys.column == 1
    assert len(list(ListingReader(reader.store).subjects("aviation", world.clock()))) == 3
    reader.close()


def test_a_re_encryption_that_was_cut_off_goes_on(world: World) -> None:
    ids = fill(world, world.registry)
    rekeying.rotate(world.store, actor=OPERATOR)
    work = sealed.reencrypt(world.store, batch=2)
    next(work)
    work.close()
    assert versions(world) == {1, 2}
    assert rekeying.retire(world.store, actor=OPERATOR) == []
    readable(world.registry, ids)
    assert sum(sealed.reencrypt(world.store)) > 0
    assert sum(sealed.reencrypt(world.store)) == 0
    assert rekeying.retire(world.store, actor=OPERATOR) == [1]
    readable(world.registry, ids)


def test_every_encrypted_column_is_among_those_that_are_encrypted_anew() -> None:
    """A new column of bytes has to be named here or in sealed.ENCRYPTED_COLUMNS: what nobody thought of would
    be lost with its key.
    """
    plain = {
        *(
            "meta.value",
            "providers.wrapping_key",
            "vault_keys.wrapped",
            "audit_log.object_id",
            "audit_log.reason",
            "disputes.decision_id",
        ),
        *(
            f"{table.name}.{column.name}"
            for table in Base.metadata.tables.values()
            for column in table.columns
            if _fixed(column.type)
        ),
    }
    found = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if _bytes(column.type)
    }
    named = {
        f"{item.column.class_.__tablename__}.{item.column.key}" for item in sealed.ENCRYPTED_COLUMNS
    }
    assert found - plain == named


def _bytes(kind: object) -> bool:
    return isinstance(kind, LargeBinary)


def _fixed(kind: object) -> bool:
    """Ids and digests."""
    return isinstance(kind, LargeBinary) and kind.length in {16, 32}


def test_there_are_255_keys_and_then_an_end(sqlite_world: World) -> None:
    with sqlite_world.database.write() as session:
        session.execute(text("UPDATE vault_keys SET version = 255 WHERE purpose = 'COLUMN'"))
    with pytest.raises(VaultError, match="255"):
        rekeying.rotate(sqlite_world.store, actor=OPERATOR)


def test_migrations_down_and_up_keep_keys_reasons_and_exemptions(world: World) -> None:
    ids = fill(world, world.registry)
    rotate(world)
    rekeying.reindex(world.store, actor=OPERATOR)
    entries = verify(world.registry.store)
    migrations.downgrade(world.database, "0005")
    migrations.upgrade(world.database)
    fresh = make_registry(
        Store(Database(world.url), Vault.open(world.folder / "registry.key"), world.clock)
    )
    assert verify(fresh.store) == entries
    readable(fresh, ids)
    fresh.close()


# The index key


def test_a_new_index_key_finds_everything_and_recognises_what_comes_again(world: World) -> None:
    ids = fill(world, world.registry)
    with world.database.read() as session:
        before = set(session.scalars(select(text("blind")).select_from(text("identifiers"))))
    assert rekeying.reindex(world.store, actor=OPERATOR) == 10
    with world.database.read() as session:
        assert before.isdisjoint(
            session.scalars(select(text("blind")).select_from(text("identifiers")))
        )
    readable(world.registry, ids)
    fresh = make_registry(
        Store(Database(world.url), Vault.open(world.folder / "registry.key"), world.clock)
    )
    readable(fresh, ids)
    rekeying.reindex(world.store, actor=OPERATOR)
    readable(fresh, ids)  # this one did not know
    rotate(world)
    readable(world.registry, ids)
    fresh.close()


# What wraps them


def test_a_registry_from_before_works_and_is_wrapped_at_the_first_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = make_bare(world)
    old = make_registry(Store(world.database, vault, world.clock))
    with monkeypatch.context() as patch:
        write_reasons_as_before(patch)
        ids = fill(world, old)
    assert vault.keys.bare
    assert "not wrapped" in rekeying.status(old.store)[0].wrapper
    readable(old, ids)
    assert rekeying.rewrap(old.store, actor=OPERATOR) == 2
    readable(old, ids)
    with world.database.read() as session:
        chained = {
            row.sequence: row.reason
            for row in session.scalars(select(AuditRow))
            if row.reason is not None
        }
    world.vault = vault
    assert rotate(world) == [1]
    readable(old, ids)
    with world.database.read() as session:
        kept = {
            row.sequence: row.reason
            for row in session.scalars(select(AuditRow))
            if row.reason is not None
        }
    assert {sequence: kept[sequence] for sequence in chained} == chained
    legacy = next(reason for reason in chained.values() if reason[:1] == b"\x01")
    with pytest.raises(VaultDataError):
        vault.decrypt(
            "audit_log.reason",
            next(s for s, r in chained.items() if r == legacy).to_bytes(8, "big"),
            legacy,
        )


def test_the_wrapping_key_changes_without_touching_values(
    world: World, tmp_path: Path, kms: CommandKey
) -> None:
    ids = fill(world, world.registry)
    old = LocalKey.from_file(world.folder / "registry.key")
    chain: list[KeyWrapper] = [old, create_key(tmp_path / "next.key"), kms]
    for before, after in pairwise(chain):
        both = make_registry(Store(Database(world.url), Vault([after, before]), world.clock))
        assert rekeying.rewrap(both.store, actor=OPERATOR) == 2
        assert rekeying.rewrap(both.store, actor=OPERATOR) == 0
        both.close()
        alone = make_registry(Store(Database(world.url), Vault([after]), world.clock))
        readable(alone, ids)
        alone.close()
        with pytest.raises(WrongVaultKeyError, match=r"other_keys"):
            Vault([before]).attach(world.database)
    readable(world.registry, ids)  # a server that runs on is not disturbed
    assert versions(world) == {1}


def test_a_key_from_a_variable_is_the_key_of_the_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = (world.folder / "registry.key").read_text().splitlines()[1]
    monkeypatch.setenv("SECRET_KEY_OF_THE_REGISTRY", root)
    made = Vault([wrapper_of("env:SECRET_KEY_OF_THE_REGISTRY", world.folder)])
    made.attach(world.database)
    assert made.keys.indices == world.vault.keys.indices


def test_the_configuration_names_the_keys(sqlite_world: World) -> None:
    key = sqlite_world.folder / "registry.key"
    key.rename(sqlite_world.folder / "old.key")
    create_key_file(sqlite_world.folder / "new.key")
    values = {
        "database": {"url": sqlite_world.url},
        "registry": {"key": "file:new.key", "other_keys": ["file:old.key"]},
    }
    with Registry.open(Config.of(values, folder=sqlite_world.folder)) as registry:
        assert rekeying.rewrap(registry.store, actor=OPERATOR) == 2
    values["registry"] = {"key_file": "new.key"}
    with Registry.open(Config.of(values, folder=sqlite_world.folder)) as registry:
        assert verify(registry.store) > 0


WRONG_SOURCES = {
    "no kind": ("registry.key", ConfigurationError),
    "unknown kind": ("kms:key", ConfigurationError),
    "no path": ("file:", ConfigurationError),
    "no command": ("command:", ConfigurationError),
    "an open quote": ("command:a 'b", ConfigurationError),
    "no such file": ("file:nothing.key", VaultKeyFileError),
    "no such variable": ("env:TIPSTAFF_NO_SUCH_KEY", KeyWrapperError),
    "a variable without a key": ("env:HOME", KeyWrapperError),
}


@pytest.mark.parametrize("case", WRONG_SOURCES)
def test_a_wrong_source_says_what_to_do(case: str, tmp_path: Path) -> None:
    source, error = WRONG_SOURCES[case]
    with pytest.raises(error) as caught:
        wrapper_of(source, tmp_path)
    assert len(str(caught.value)) > 30


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit(3)", "exit status 3"),
        ("print('not base64 !')", "one line of base64"),
        ("pass", "one line of base64"),
        ("print('A' * 100_000)", "failed"),
    ],
)
def test_a_command_that_fails_says_so_without_its_own_words(program: str, message: str) -> None:
    with pytest.raises(KeyWrapperError, match=message):
        CommandKey([sys.executable, "-c", program]).wrap(b"k" * 32)


def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyWrapperError, match=r"\[registry\] key"):
        _ = CommandKey([str(tmp_path / "nothing")]).id


DAMAGE = {
    "a wrapped key flipped": (
        "UPDATE vault_keys SET wrapped = :other WHERE purpose = 'COLUMN'",
        VaultDataKeyError,
    ),
    "the column key lost": ("DELETE FROM vault_keys WHERE purpose = 'COLUMN'", VaultDataKeyError),
    "the index key lost": ("DELETE FROM vault_keys WHERE purpose = 'INDEX'", VaultDataKeyError),
    "all of them lost": ("DELETE FROM vault_keys", WrongVaultKeyError),
    "one in the place of the other": (
        (
            "UPDATE vault_keys SET wrapped = (SELECT wrapped FROM vault_keys k WHERE k.purpose ="
            " 'COLUMN') WHERE purpose = 'INDEX'"
        ),
        VaultDataKeyError,
    ),
    "a key of another registry": (
        "UPDATE meta SET value = :id WHERE name = 'registry.id'",
        VaultDataKeyError,
    ),
    "another check value": (
        "UPDATE meta SET value = :other WHERE name = 'vault.check'",
        VaultDataKeyError,
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_keys_are_told_from_a_wrong_one_and_nothing_is_served(
    world: World, case: str
) -> None:
    statement, error = DAMAGE[case]
    with world.database.write() as session:
        values = {
            name: value
            for name, value in (("other", bytes(32)), ("id", bytes(16)))
            if f":{name}" in statement
        }
        session.execute(text(statement), values)
    with pytest.raises(error, match="backup"):
        Registry(Store(world.database, Vault.open(world.folder / "registry.key")))


def test_a_vault_that_was_not_attached_writes_nothing(world: World) -> None:
    with pytest.raises(VaultError, match="attach"):
        Vault.open(world.folder / "registry.key").encrypt("a", b"b", b"c")


def test_keys_do_not_show(world: World, kms: CommandKey) -> None:
    root = (world.folder / "registry.key").read_text().splitlines()[1]
    shown = " ".join(
        map(
            repr,
            (
                world.vault,
                world.vault.keys,
                world.vault.wrappers,
                kms,
                Config.of({}, folder=world.folder),
            ),
        )
    )
    assert root not in shown
    assert base64.b64decode(root).hex() not in shown
    assert "--region" not in shown
    assert stat.S_IMODE((world.folder / "registry.key").stat().st_mode) == 0o600
    assert isinstance(person(0).identifiers[0], Identifier)
