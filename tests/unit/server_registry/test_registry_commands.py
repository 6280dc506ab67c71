"""The registry's commands, run in this process on a real working folder."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.registry import AIRLINE, NOW, make_world
from tipstaff.v1 import enforcement_pb2 as pb
from tipstaff_server.commands import administration, audit, generate, stats
from tipstaff_server.commands.registry import dispute, end
from tipstaff_server.commands.registry import import_list as import_
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.errors import (
    AuditError,
    ConfigurationError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.registry import Registry
from tipstaff_server.storage.models import RestrictionRow

if TYPE_CHECKING:
    from pathlib import Path

    from typer import Typer

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry with its configuration."""
    make_world(tmp_path).registry.close()
    (tmp_path / CONFIG_NAME).write_text(
        '[database]\nurl = "sqlite:///registry.db"\n[stretch]\nthreads = 1\n'
    )
    return tmp_path


def run(app: Typer, *arguments: object) -> str:
    result = RUN.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def import_some(folder: Path, rows: int = 30, broken: float = 0.1) -> dict[str, Any]:
    run(
        generate.app,
        folder / "l.csv",
        "--rows",
        rows,
        "--seed",
        4,
        "--encoding",
        "gb18030",
        "--broken",
        broken,
        "--broken-out",
        folder / "b.csv",
    )
    options = ("--authority", "court", "--list", "joint-discipline", "--config", folder, "--json")
    found: dict[str, Any] = json.loads(run(import_.app, folder / "l.csv", *options))
    return found


def some_restriction(folder: Path) -> bytes:
    with Registry.open(Config.load(folder)) as registry, registry.store.database.read() as session:
        rows = session.query(RestrictionRow).all()
    return next(row.id for row in rows if row.measure_set_id)


def test_generate_and_import_agree_on_what_is_broken(folder: Path) -> None:
    result = import_some(folder)
    assert (result["encoding"], result["rows"], result["created"], result["rejected"]) == (
        "gb18030",
        30,
        27,
        3,
    )
    with (
        (folder / "b.csv").open(newline="") as told,
        (folder / "l.csv.rejects.csv").open(encoding="utf-8-sig", newline="") as refused,
    ):
        assert [(row["line"], row["code"]) for row in csv.DictReader(told)] == [
            (row["line"], row["code"]) for row in csv.DictReader(refused)
        ]
    assert result["rejects"] == str(folder / "l.csv.rejects.csv")
    assert import_some(folder)["unchanged"] == 27


def test_import_says_in_words_what_happened(folder: Path) -> None:
    run(generate.app, folder / "l.csv", "--rows", 20, "--broken", 0.1, "--headers", "en")
    options = (
        "--authority",
        "court",
        "--list",
        "joint-discipline",
        "--config",
        folder,
        "--rejects",
        folder / "out.csv",
    )
    output = run(import_.app, folder / "l.csv", *options)
    assert "20 rows (utf-8): 18 new, 0 unchanged, 2 refused" in output
    assert "sex" in output
    assert str(folder / "out.csv") in output.replace("\n", "")


def test_release_and_revoke_say_the_relief_sequence(folder: Path) -> None:
    import_some(folder, broken=0)
    restriction = some_restriction(folder)
    output = json.loads(
        run(
            end.app,
            "release",
            restriction.hex(),
            "--reason",
            "performed",
            "--config",
            folder,
            "--json",
        )
    )
    assert output == {
        "restriction_id": restriction.hex(),
        "state": "RELEASED",
        "relief_sequence": 1,
    }
    with pytest.raises(LifecycleError):
        run(end.app, "revoke", restriction.hex(), "--reason", "x", "--config", folder)
    with pytest.raises(NotFoundError):
        run(end.app, "repair", bytes(16).hex(), "--reason", "x", "--config", folder)
    with pytest.raises(InvalidRequestError, match="32 hexadecimal"):
        run(end.app, "repair", "no-id", "--reason", "x", "--config", folder)


def test_a_dispute_is_answered(folder: Path) -> None:
    import_some(folder, broken=0)
    with Registry.open(Config.load(folder)) as registry:
        identity = next(
            record.restriction_id
            for subject in ListingReader(registry.store).subjects(
                "aviation", registry.store.clock()
            )
            for record in subject.restrictions
        )
        opened = registry.disputes.open(identity, "不是我", request_id=bytes(16), actor=AIRLINE)
    arguments = (
        "answer",
        opened.dispute.case_number,
        "--outcome",
        "revoked",
        "--reason",
        "wrong person",
        "--config",
        folder,
    )
    assert "revoked" in run(dispute.app, *arguments)


def test_stats_in_tables_and_as_json(folder: Path) -> None:
    document = json.loads(run(stats.app, "--config", folder, "--json"))
    assert document["relief_head"] == 0
    assert [row["provider_id"] for row in document["providers"]] == ["air-1", "rail-1"]
    assert document["measures"] == []
    output = run(stats.app, "--config", folder)
    assert "Checks and outcomes" in output
    assert "air-1" in output


def test_stats_show_what_was_reported_in_numbers(folder: Path) -> None:
    count = pb.CoverageCount(
        count_id=bytes(16), measure="AIR_TRAVEL", checked=3, clear=2, restricted=1, filter_hits=1
    )
    count.hour.FromDatetime(NOW)
    report = pb.Report(
        report_id=bytes(16),
        decision_id=bytes(16),
        measure="AIR_TRAVEL",
        verdict=pb.VERDICT_REVIEW,
        reason=pb.REASON_NAME_MISMATCH,
    )
    report.outcome = pb.OUTCOME_REVIEWED_AND_CLEARED
    report.decided_at.FromDatetime(NOW)
    report.acted_at.FromDatetime(NOW)
    with Registry.open(Config.load(folder)) as registry:
        feedback = Feedback(registry.store)
        results = [
            *feedback.submit_coverage("air-1", [count]),
            *feedback.submit_reports("air-1", [report]),
        ]
        registry.providers.acknowledge("air-1", listing_version=2, relief_sequence=0)
    assert [result.status for result in results] == [pb.EVENT_STATUS_ACCEPTED] * 2
    document = json.loads(run(stats.app, "--config", folder, "--json"))
    row = document["measures"][0]
    assert (row["checked"], row["restricted"], row["outcomes"]) == (
        3,
        1,
        {"REVIEWED_AND_CLEARED": 1},
    )
    assert document["providers"][0]["enforced_listing"] == 2
    assert document["providers"][0]["acknowledged_at"].endswith("+00:00")
    output = run(stats.app, "--config", folder)
    assert "reviewed_and_cleared 1" in output.replace("\n", " ")
    assert not json.loads(run(stats.app, "--config", folder, "--since", "2026-05-05", "--json"))[
        "measures"
    ]


def test_audit_verify_counts_or_fails(folder: Path) -> None:
    import_some(folder, broken=0)
    assert json.loads(run(audit.app, "verify", "--config", folder, "--json")) == {
        "entries": 33,
        "checkpoints": 0,
        "intact": True,
    }
    assert "33 audit entries, all in place" in run(audit.app, "verify", "--config", folder)
    with (
        Registry.open(Config.load(folder)) as registry,
        registry.store.database.connection() as connection,
    ):
        connection.exec_driver_sql("DELETE FROM audit_log WHERE sequence = 7")
    with pytest.raises(AuditError, match="7"):
        run(audit.app, "verify", "--config", folder)


def test_administration_and_migrate_may_be_repeated(folder: Path) -> None:
    assert "administration version 1" in run(administration.app, "--config", folder)
    assert "this program's schema" in run(audit.upkeep_app, "--config", folder)


def test_without_a_configuration_they_say_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tipstaff-server init"):
        run(stats.app, "--config", tmp_path)
