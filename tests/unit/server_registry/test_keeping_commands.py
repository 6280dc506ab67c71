"""`tipstaff-server vault`, `audit checkpoint` and `retention`, run in this process on a real
folder.
"""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from tests.support.registry import COURT, World, entry, make_world, person, submit
from tipstaff_server.commands import audit, vault
from tipstaff_server.commands.registry import retention
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.errors import (
    AuditError,
    CheckpointError,
    InvalidRequestError,
    RetentionError,
    ServerError,
    WrongVaultKeyError,
)
from tipstaff_server.registry.registry import Registry
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import AuditRow, RestrictionRow
from tipstaff_signing.keys.files import create_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer import Typer

CONFIG = (
    '[database]\nurl = "sqlite:///registry.db"\n[stretch]\nthreads = 1\n[retention]\ndays ='
    " 1\n[registry]\n"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    (tmp_path / CONFIG_NAME).write_text(CONFIG)
    create_key(tmp_path / "keys", "audit")
    yield made
    made.close()


@pytest.fixture
def folder(world: World) -> Path:
    """With one restriction in force, and one that ended long ago."""
    ended = submit(world, entry(person(0)))
    world.registry.restrictions.end(
        ended, EndKind.RELEASE, f"{person(0).names[0]} paid", actor=COURT
    )
    submit(world, entry(person(1), case_number="other"))
    with world.database.write() as session:
        past = world.clock.now - timedelta(days=400)
        session.execute(
            update(RestrictionRow).where(RestrictionRow.id == ended).values(ended_at=past)
        )
    return world.folder


def run(app: Typer, folder: Path, *arguments: object, given: str | None = None) -> str:
    words = [*map(str, arguments), "--config", str(folder)]
    result = CliRunner().invoke(app, words, input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(
    app: Typer, folder: Path, error: type[ServerError], *arguments: object, given: str | None = None
) -> str:
    with pytest.raises(error) as caught:
        run(app, folder, *arguments, given=given)
    return str(caught.value)


def test_the_keys_change_from_the_command_line(folder: Path) -> None:
    (before,) = [
        row
        for row in json.loads(run(vault.app, folder, "status", "--json"))
        if row["purpose"] == "COLUMN"
    ]
    assert (before["version"], before["replaced_at"]) == (1, None)
    assert before["values"] >= 7
    assert "column key 2 is in use" in run(vault.app, folder, "rotate")
    assert "replaced" in run(vault.app, folder, "status")
    assert "column key 1 destroyed" in run(vault.app, folder, "re-encrypt", "--batch", 2)
    assert "0 values encrypted anew" in run(vault.app, folder, "re-encrypt")
    assert "4 identifiers and names" in run(vault.app, folder, "reindex")
    assert "already" in run(vault.app, folder, "rewrap")
    made = CliRunner().invoke(vault.app, ["new-key", str(folder / "next.key")])
    assert made.exit_code == 0
    assert stat.S_IMODE((folder / "next.key").stat().st_mode) == 0o600
    (folder / CONFIG_NAME).write_text(CONFIG + 'key = "file:next.key"\n')
    assert "other_keys" in refused(vault.app, folder, WrongVaultKeyError, "status")
    (folder / CONFIG_NAME).write_text(
        CONFIG + 'key = "file:next.key"\nother_keys = ["file:registry.key"]\n'
    )
    assert "3 keys wrapped anew" in run(
        vault.app, folder, "rewrap"
    )  # one column key, two index keys
    (folder / CONFIG_NAME).write_text(CONFIG + 'key = "file:next.key"\n')
    (folder / "registry.key").unlink()
    assert "all in place" in run(audit.app, folder, "verify")


def test_checkpoints_from_the_command_line(folder: Path, world: World) -> None:
    assert "checkpoint at entry" in run(audit.app, folder, "checkpoint")
    assert "already" in run(audit.app, folder, "checkpoint")
    assert run(audit.app, folder, "checkpoint", "--show-key").startswith("tipstaff.audit/")
    (folder / "checkpoints").rename(folder / "auditor")
    told = json.loads(
        run(
            audit.app,
            folder,
            "verify",
            "--checkpoints",
            folder / "auditor",
            "--key",
            folder / "keys" / "audit.pub",
            "--json",
        )
    )
    assert (told["checkpoints"], told["intact"]) == (2, True)
    other = create_key(folder / "other", "audit").folder / "audit.pub"
    (folder / "keys" / "audit.pub").unlink()
    (folder / "keys" / "audit.pem").unlink()
    refused(
        audit.app,
        folder,
        CheckpointError,
        "verify",
        "--checkpoints",
        folder / "auditor",
        "--key",
        other,
    )
    with world.database.write() as session:
        session.execute(update(AuditRow).where(AuditRow.sequence == 3).values(act="NOTHING"))
    assert "audit entry 3" in refused(audit.app, folder, AuditError, "verify")


def test_erasing_asks_first_and_keeps_an_archive(folder: Path) -> None:
    assert "1 restrictions would be erased" in run(retention.app, folder, "erase")
    assert "--no-archive" in refused(retention.app, folder, InvalidRequestError, "erase", "--yes")
    refused(
        retention.app,
        folder,
        InvalidRequestError,
        "erase",
        "--yes",
        "--no-archive",
        "--restriction",
        "zz",
    )
    with Registry.open(Config.load(folder)) as registry, registry.store.database.read() as session:
        stays = session.scalars(
            select(RestrictionRow.id).where(RestrictionRow.case_number == "other")
        ).one()
    refused(
        retention.app,
        folder,
        RetentionError,
        "erase",
        "--yes",
        "--no-archive",
        "--restriction",
        stays.hex(),
    )
    assert "1 restrictions written" in run(retention.app, folder, "export", folder / "before.jsonl")
    assert "1 restrictions, and 1 subjects" in run(
        retention.app, folder, "erase", "--yes", "--archive", folder / "a.jsonl"
    )
    assert person(0).names[0] in (folder / "a.jsonl").read_text("utf-8")
    assert "0 restrictions would be erased" in run(retention.app, folder, "erase")
    assert "all in place" in run(audit.app, folder, "verify")


def test_a_person_gets_what_is_held_on_them(folder: Path) -> None:
    number = person(1).identifiers[0].number
    answer = folder / "answer.json"
    shown = run(retention.app, folder, "access", answer, given=f"{number}\n")
    assert number not in shown
    assert stat.S_IMODE(answer.stat().st_mode) == 0o600
    held = json.loads(answer.read_text("utf-8"))
    assert held["names"] == list(person(1).names)
    assert held["history"] == []
    run(retention.app, folder, "access", folder / "again.json", given=f"{number}\n")
    assert [
        item["act"] for item in json.loads((folder / "again.json").read_text("utf-8"))["history"]
    ] == ["ACCESS"]
    refused(retention.app, folder, InvalidRequestError, "access", answer, given=f"{number}\n")
    refused(
        retention.app,
        folder,
        InvalidRequestError,
        "access",
        folder / "b",
        "--kind",
        "SHOE_SIZE",
        given=f"{number}\n",
    )
    assert number not in refused(
        retention.app,
        folder,
        ServerError,
        "access",
        folder / "c",
        given=f"{person(5).identifiers[0].number}\n",
    )
    assert not (folder / "c").exists()
