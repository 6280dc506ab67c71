"""Whole imports of made-up lists: exactly the broken rows are refused, and nothing goes in twice."""

from __future__ import annotations

import csv
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from tests.support.leaks import occurring
from tests.support.registry import OPERATOR, World, listed
from tipstaff_server.errors import (
    DatabaseUnavailableError,
    FileHeaderError,
    ImportFileError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.importing import Importer
from tipstaff_server.importing.synthetic.files import Breakage, write_csv
from tipstaff_server.importing.synthetic.lists import Synthetic
from tipstaff_server.storage.models import AuditRow, IdentifierRow, ImportRow, RestrictionRow

if TYPE_CHECKING:
    from pathlib import Path

SYNTHETIC = Synthetic(7, date(2026, 5, 4))


def importer(world: World, **options: Any) -> Importer:
    return Importer(
        world.registry,
        **({"authority": "court", "list_id": "joint-discipline", "actor": OPERATOR} | options),
    )


def refused(path: Path) -> list[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return sorted((int(row["line"]), row["code"]) for row in csv.DictReader(file))


def counts(world: World) -> tuple[int, ...]:
    with world.database.read() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (RestrictionRow, IdentifierRow, AuditRow)
        )


def check_import(world: World, folder: Path, rows: int, **options: Any) -> None:
    """Imports a list of which 1% is broken, twice."""
    path, rejects = folder / "list.csv", folder / "rejects.csv"
    broken = write_csv(path, SYNTHETIC, rows, broken=0.01, **options)
    assert len(broken) == rows // 100
    first = importer(world).run(path, rejects)
    assert (first.rows, first.created, first.unchanged, first.rejected) == (
        rows,
        rows - len(broken),
        0,
        len(broken),
    )
    assert refused(rejects) == sorted((item.line, item.code.value) for item in broken)
    before = counts(world)
    second = importer(world).run(path, rejects)
    assert (second.created, second.unchanged, second.rejected) == (
        0,
        rows - len(broken),
        len(broken),
    )
    assert counts(world) == before
    assert before[0] == rows - len(broken)


def test_2000_rows_in_gb18030_with_one_percent_broken(world: World, tmp_path: Path) -> None:
    check_import(world, tmp_path, 2_000, encoding="gb18030")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_100000_rows_in_gb18030_with_one_percent_broken(
    sqlite_world: World, tmp_path: Path
) -> None:
    check_import(sqlite_world, tmp_path, 100_000, encoding="gb18030")


@pytest.mark.parametrize(
    ("encoding", "language"), [("utf-8", "zh"), ("utf-8-sig", "en"), ("gb18030", "en")]
)
def test_every_encoding_and_language(
    world: World, tmp_path: Path, encoding: str, language: str
) -> None:
    check_import(world, tmp_path, 400, encoding=encoding, language=language)


def test_every_way_of_breaking_a_row_is_recognised(world: World, tmp_path: Path) -> None:
    broken = write_csv(tmp_path / "l.csv", SYNTHETIC, 60, broken=1.0)
    assert {item.breakage for item in broken} == set(Breakage)
    result = importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert (result.created, result.rejected) == (0, 60)
    assert refused(tmp_path / "r.csv") == sorted((item.line, item.code.value) for item in broken)


def test_what_is_listed_afterwards_is_what_was_in_the_file(world: World, tmp_path: Path) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 200)
    importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    found = listed(world, "banking")
    rows = [
        row
        for row in SYNTHETIC.rows(200)
        if set(row.measures) & {"LOAN_PRICING", "LOAN_RESTRICTION", "INSURANCE_PREMIUM"}
    ]
    wanted = {row.subject.identifier for row in rows} | {
        row.representative.identifier for row in rows if row.representative
    }
    assert set(found) == wanted
    row = next(row for row in rows if row.representative)
    record = found[row.representative.identifier].restrictions[0]  # type: ignore[union-attr]
    assert (record.case_number, record.organisation_name, record.authority_name.zh) == (
        row.case_number,
        row.subject.name,
        row.court,
    )


def test_the_rejects_file_is_private_and_holds_no_personal_data(
    world: World, tmp_path: Path
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 60, broken=1.0)
    importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert (tmp_path / "r.csv").stat().st_mode & 0o777 == 0o600
    content = (tmp_path / "r.csv").read_text("utf-8-sig")
    for row in SYNTHETIC.rows(60):
        assert row.subject.name not in content
        assert row.subject.identifier.number not in content
        assert row.subject.identifier.number[:8] not in content
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "l.csv",
        "r.csv",
        "registry.db",
        "registry.key",
    ]


def test_without_refusals_there_is_no_rejects_file_and_an_old_one_goes(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "r.csv").write_text("old")
    write_csv(tmp_path / "l.csv", SYNTHETIC, 5)
    result = importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert result.rejects is None
    assert not (tmp_path / "r.csv").exists()


def test_an_import_that_is_cut_off_is_simply_run_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 100, broken=0.1)
    commit, calls = world.registry.restrictions.commit, iter(range(100))

    def fail(work: Any) -> Any:
        if next(calls) == 3:
            raise DatabaseUnavailableError("gone")
        return commit(work)

    monkeypatch.setattr(world.registry.restrictions, "commit", fail)
    with pytest.raises(DatabaseUnavailableError):
        importer(world, batch=10).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert not list(tmp_path.glob("*.part"))
    assert counts(world)[0] == 30
    result = importer(world, batch=10).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert (result.created, result.unchanged, result.rejected) == (60, 30, 10)
    with world.database.read() as session:
        runs = session.scalars(select(ImportRow)).all()
    assert sorted(run.finished_at is not None for run in runs) == [False, True]
    assert {run.file_digest for run in runs} == {runs[0].file_digest}


def test_progress_reaches_the_end(world: World, tmp_path: Path) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 100)
    told: list[tuple[int, int]] = []
    importer(world, batch=10).run(
        tmp_path / "l.csv", tmp_path / "r.csv", lambda done, size: told.append((done, size))
    )
    size = (tmp_path / "l.csv").stat().st_size
    assert told[-1] == (size, size)
    assert len(told) == 11


@pytest.mark.parametrize("text", ["", "\n\n", "x" * 70_000, "姓名,案号\n"])
def test_a_file_without_a_header_is_refused(world: World, tmp_path: Path, text: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(FileHeaderError):
        importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    assert not (tmp_path / "r.csv").exists()


def test_a_place_where_rejects_cannot_go_is_said_before_anything_is_entered(
    world: World, tmp_path: Path
) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 5)
    with pytest.raises(ImportFileError, match="--rejects"):
        importer(world).run(tmp_path / "l.csv", tmp_path / "none" / "r.csv")
    assert counts(world)[0] == 0


def test_unknown_lists_and_authorities_are_refused(world: World) -> None:
    with pytest.raises(NotFoundError, match="joint-discipline"):
        importer(world, list_id="no-such")
    with pytest.raises(PermissionDeniedError, match="no-such"):
        importer(world, authority="no-such")


def test_no_number_and_no_name_of_the_file_is_in_the_database(world: World, tmp_path: Path) -> None:
    write_csv(tmp_path / "l.csv", SYNTHETIC, 500)
    importer(world).run(tmp_path / "l.csv", tmp_path / "r.csv")
    world.registry.close()
    content = world.raw()
    subjects = [
        subject
        for row in SYNTHETIC.rows(500)
        for subject in (row.subject, row.representative)
        if subject is not None
    ]
    secrets = {subject.identifier.number.encode() for subject in subjects}
    secrets |= {subject.name.encode() for subject in subjects}
    assert occurring(secrets, content) == set()
    case_number = SYNTHETIC.row(0).case_number.encode()
    assert occurring({case_number}, content) == {case_number}
    assert SYNTHETIC.row(0).case_number.encode() in content
