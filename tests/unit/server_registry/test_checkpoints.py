"""Checkpoints of the audit log: what is signed, what is refused, and what they show that the chain
alone does not.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, select, text, update

from tests.support.registry import COURT, World, entry, person, submit
from tipstaff_server.audit import log as audit
from tipstaff_server.audit.checkpointer import Checkpointer
from tipstaff_server.audit.checkpoints import Checkpoint, key_line, open_note, sign
from tipstaff_server.audit.log import START, chain, verify
from tipstaff_server.config import AuditSection
from tipstaff_server.errors import AuditError, CheckpointError
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import (
    AuditCheckpointRow,
    AuditHeadRow,
    AuditReasonRow,
    AuditRow,
)
from tipstaff_signing.errors import KeyFileError
from tipstaff_signing.keys.files import create_key
from tipstaff_signing.tuf_names import CryptoSigner

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = Path(__file__).parents[3] / "docs" / "formats" / "audit.md"
ORIGIN = "tipstaff.audit/" + "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SIGNER = CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NAMES = [column.key for column in AuditRow.__table__.columns]
GIVEN = Checkpoint(ORIGIN, 1284, bytes(range(100, 132)), datetime(2026, 5, 4, 8, 0, tzinfo=UTC))


@pytest.fixture
def checkpointing(world: World) -> Checkpointer:
    """With a key, and a folder that somebody else will keep."""
    create_key(world.folder / "keys", "audit")
    return Checkpointer(world.store, world.folder / "keys", world.folder / "checkpoints")


def fill(world: World, first: int, count: int = 3) -> int:
    """Some acts, two of them with reasons; the number of entries."""
    ids = [
        submit(world, entry(person(index), case_number=str(index)))
        for index in range(first, first + count)
    ]
    for restriction in ids[:2]:
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "performed", actor=COURT)
    return verify(world.registry.store)


# The form


def test_the_example_of_the_document_is_what_the_program_writes() -> None:
    blocks = re.findall(
        r"^```text\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert blocks == [sign(GIVEN, SIGNER), key_line(ORIGIN, SIGNER.public_key) + "\n"]
    assert open_note(blocks[0].encode(), ORIGIN, [SIGNER.public_key]) == GIVEN


def test_the_chain_of_the_document_is_what_the_program_computes() -> None:
    row = {
        "sequence": 1,
        "at": datetime(2026, 5, 4, 8, 0, tzinfo=UTC),
        "actor": "authority:court",
        "act": "RELEASE",
        "object_kind": "restriction",
        "object_id": bytes(range(16)),
        "detail": '{"from":"ACTIVE","to":"RELEASED"}',
        "reason": b"\x00" + bytes(range(32)),
    }
    assert chain(START, row).hex() in DOCUMENT.read_text("utf-8")


def altered(change: Callable[[str], str]) -> bytes:
    return change(sign(GIVEN, SIGNER)).encode()


REFUSED = {
    "nothing": b"",
    "another number": altered(lambda note: note.replace("1284", "1285")),
    "a leading zero": altered(lambda note: note.replace("1284", "01284")),
    "another digest": altered(lambda note: note.replace("ZGVm", "AAAA")),
    "another time": altered(lambda note: note.replace("08:00", "09:00")),
    "no time": altered(lambda note: re.sub("time .*\n", "", note)),
    "an added line": altered(lambda note: note.replace("time", "more\ntime")),
    "no signature": altered(lambda note: note.partition("—")[0]),
    "a cut signature": altered(lambda note: note[:-5] + "\n"),
    "no last newline": altered(lambda note: note[:-1]),
    "carriage returns": altered(lambda note: note.replace("\n", "\r\n")),
    "a loose base64": altered(lambda note: note.replace("=\n", "==\n")),
    "a byte order mark": altered(lambda note: "\ufeff" + note),
    "not UTF-8": sign(GIVEN, SIGNER).encode("gb18030"),
    "a megabyte": altered(lambda note: note + "x" * (1 << 20)),
    "a hundred signatures": altered(lambda note: note + note.splitlines(keepends=True)[-1] * 100),
    "another name": altered(lambda note: note.replace(f"— {ORIGIN}", "— somebody")),
    "another registry": sign(replace(GIVEN, origin="tipstaff.audit/" + "0" * 32), SIGNER).encode(),
    "another key": sign(
        GIVEN, CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    ).encode(),
    "entry nought": sign(replace(GIVEN, sequence=0), SIGNER).encode(),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_that_is_not_exactly_one_is_refused(case: str) -> None:
    assert REFUSED[case] != sign(GIVEN, SIGNER).encode()
    with pytest.raises(CheckpointError):
        open_note(REFUSED[case], ORIGIN, [SIGNER.public_key])


def test_more_signatures_than_ours_do_no_harm() -> None:
    note = sign(GIVEN, SIGNER) + "— witness.example/1 AAAAAAAA\n"
    assert open_note(note.encode(), ORIGIN, [SIGNER.public_key]) == GIVEN


def test_only_ed25519_signs(tmp_path: Path) -> None:
    signer = create_key(tmp_path, "audit", scheme="ml-dsa-65").signer("audit")
    with pytest.raises(CheckpointError, match="Ed25519"):
        sign(GIVEN, signer)


# Making them


def test_checkpoints_are_made_when_they_are_due_and_lie_in_the_folder(
    world: World, checkpointing: Checkpointer
) -> None:
    rules = AuditSection(checkpoint_entries=4, checkpoint_seconds=3_600)
    first = checkpointing.make_due(rules)
    assert first is not None
    assert checkpointing.make_due(rules) is None
    submit(world, entry(person(0), case_number="0"))
    assert checkpointing.make_due(rules) is None
    world.clock.turn(hours=1)
    second = checkpointing.make_due(rules)
    assert second is not None
    assert second.sequence == first.sequence + 1
    world.clock.turn(days=3)
    assert checkpointing.make_due(rules) is None
    fill(world, 1)
    assert checkpointing.make_due(rules) is not None
    files = sorted(path.name for path in checkpointing.folder.iterdir())
    assert files[:2] == [f"{item.sequence:012}.note" for item in (first, second)]
    assert len(files) == 3


def test_replicas_make_one_between_them_and_each_folder_gets_all(
    world: World, checkpointing: Checkpointer
) -> None:
    other = Checkpointer(world.store, world.folder / "keys", world.folder / "elsewhere")
    assert checkpointing.make() is not None
    assert other.make() is None
    assert [path.read_bytes() for path in other.folder.iterdir()] == [
        path.read_bytes() for path in checkpointing.folder.iterdir()
    ]


def test_without_a_key_nothing_is_signed(world: World) -> None:
    without = Checkpointer(world.store, world.folder / "keys", world.folder / "checkpoints")
    assert not without.can_sign()
    with pytest.raises(KeyFileError):
        without.make()
    assert without.known_keys() == []


def test_a_replaced_key_still_verifies_what_it_signed(
    world: World, checkpointing: Checkpointer
) -> None:
    checkpointing.make()
    keys = world.folder / "keys"
    (keys / "retired").mkdir()
    for suffix in (".pem", ".pub"):
        (keys / f"audit{suffix}").rename(keys / "retired" / f"audit-0123abcd{suffix}")
    create_key(keys, "audit")
    fill(world, 0)
    checkpointing.make()
    assert (
        verify(
            world.registry.store,
            checkpointing.read([checkpointing.folder], checkpointing.known_keys()),
        )
        > 0
    )


# What they show


def rewritten(world: World, change: Callable[[list[AuditRow]], None]) -> None:
    """The log written anew with a whole chain, as somebody can who writes the database."""
    with world.database.write() as session:
        rows = list(session.scalars(select(AuditRow).order_by(AuditRow.sequence)))
        session.expunge_all()
        change(rows)
        session.execute(delete(AuditRow))
        digest = START
        for number, row in enumerate(rows, 1):
            values = {name: getattr(row, name) for name in NAMES} | {"sequence": number}
            digest = values["digest"] = chain(digest, values)
            session.add(AuditRow(**values))
        session.execute(update(AuditHeadRow).values(sequence=len(rows), digest=digest))
        session.execute(delete(AuditCheckpointRow))


def alter(rows: list[AuditRow]) -> None:
    rows[5].actor = "authority:tax"


def drop(rows: list[AuditRow]) -> None:
    del rows[5]


def exchange(rows: list[AuditRow]) -> None:
    rows[5], rows[4] = rows[4], rows[5]


def insert(rows: list[AuditRow]) -> None:
    rows.insert(5, AuditRow(**{name: getattr(rows[4], name) for name in NAMES}))


def truncate(rows: list[AuditRow]) -> None:
    del rows[6:]


def begin_anew(rows: list[AuditRow]) -> None:
    del rows[1:]


REWRITTEN = {
    "altered": alter,
    "one taken out": drop,
    "two exchanged": exchange,
    "one put in": insert,
    "shortened": truncate,
    "begun anew": begin_anew,
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_a_log_written_anew_with_a_whole_chain_shows(
    world: World, checkpointing: Checkpointer, case: str
) -> None:
    fill_without_reasons(world, 0)
    early = checkpointing.make()
    fill_without_reasons(world, 10)
    late = checkpointing.make()
    fill_without_reasons(world, 20)
    assert early is not None
    assert late is not None
    rewritten(world, REWRITTEN[case])
    assert verify(world.registry.store) > 0  # the chain alone says that all is well
    given = checkpointing.read([checkpointing.folder], checkpointing.known_keys())
    with pytest.raises(AuditError) as caught:
        verify(world.registry.store, given)
    shortened = case in {"shortened", "begun anew"}
    assert caught.value.sequence == ({"shortened": 7, "begun anew": 2}[case] if shortened else 1)
    assert ("are missing" if shortened else f"1 to {early.sequence}") in str(caught.value)


def fill_without_reasons(world: World, first: int) -> None:
    for index in range(first, first + 4):
        submit(world, entry(person(index), case_number=str(index)))


def test_a_change_between_two_checkpoints_is_put_between_them(
    world: World, checkpointing: Checkpointer
) -> None:
    fill_without_reasons(world, 0)
    early = checkpointing.make()
    fill_without_reasons(world, 10)
    late = checkpointing.make()
    assert early is not None
    assert late is not None
    rewritten(world, lambda rows: setattr(rows[early.sequence + 1], "actor", "authority:tax"))
    with pytest.raises(AuditError, match=f"{early.sequence + 1} to {late.sequence}") as caught:
        verify(
            world.registry.store,
            checkpointing.read([checkpointing.folder], checkpointing.known_keys()),
        )
    assert caught.value.sequence == early.sequence + 1


def test_an_empty_folder_and_a_foreign_file_are_refused(
    world: World, checkpointing: Checkpointer
) -> None:
    with pytest.raises(CheckpointError, match="no checkpoints"):
        checkpointing.read([world.folder / "nothing"], checkpointing.known_keys())
    checkpointing.make()
    (checkpointing.folder / "000000009999.note").write_text("hello\n")
    with pytest.raises(CheckpointError):
        checkpointing.read([checkpointing.folder], checkpointing.known_keys())


def test_a_checkpoint_altered_in_the_database_shows(
    world: World, checkpointing: Checkpointer
) -> None:
    checkpointing.make()
    with world.database.write() as session:
        session.execute(
            text("UPDATE audit_checkpoints SET note = replace(note, 'time 2026', 'time 2027')")
        )
    with pytest.raises(CheckpointError, match="no known key"):
        checkpointing.read([], checkpointing.known_keys())


# Reasons beside the log


@pytest.mark.parametrize("case", ["missing", "exchanged", "altered"])
def test_a_reason_that_is_not_what_was_given_shows(world: World, case: str) -> None:
    fill(world, 0)
    with world.database.write() as session:
        rows = session.scalars(select(AuditReasonRow).order_by(AuditReasonRow.sequence)).all()
        target = rows[-1].sequence
        if case == "missing":
            session.delete(rows[-1])
        elif case == "exchanged":
            rows[-1].sealed = rows[-2].sealed
        else:
            rows[-1].sealed = world.vault.encrypt(
                "audit_log.reason", target.to_bytes(8, "big"), bytes(16) + b"no"
            )
    with pytest.raises(AuditError, match=str(target)) as caught:
        audit.verify(world.store)
    assert caught.value.sequence == target
