"""Made-up lists: valid, repeatable, never twice the same number, in any encoding."""

from __future__ import annotations

from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.support.identities import with_organisation_check, with_resident_check
from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.errors import ImportFileError
from tipstaff_server.importing.synthetic.files import ENCODINGS, Breakage, write_csv
from tipstaff_server.importing.synthetic.lists import PEOPLE, Synthetic, _Permutation

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 5, 4)


def test_numbers_are_valid_by_another_s_rules_and_never_repeat() -> None:
    made = Synthetic(5, TODAY)
    subjects = [
        subject
        for row in made.rows(3_000)
        for subject in (row.subject, row.representative)
        if subject
    ]
    subjects += [made.clear(index) for index in range(1_000)]
    assert len({subject.identifier for subject in subjects}) == len(subjects)
    for subject in subjects:
        if subject.identifier.kind is IdentifierKind.RESIDENT_ID:
            assert subject.identifier.number == with_resident_check(subject.identifier.number[:17])
            assert (
                date(1950, 1, 1)
                <= date.fromisoformat(subject.identifier.number[6:14])
                < date(2000, 1, 1)
            )
        elif subject.identifier.kind is IdentifierKind.ORGANISATION_CODE:
            assert subject.identifier.number == with_organisation_check(
                subject.identifier.number[:17]
            )
        assert canonical_name(subject.name)


def test_there_are_people_of_several_origins_organisations_and_their_people() -> None:
    rows = list(Synthetic(5, TODAY).rows(2_000))
    kinds = [row.subject.identifier.kind for row in rows]
    assert {
        IdentifierKind.RESIDENT_ID,
        IdentifierKind.ORGANISATION_CODE,
        IdentifierKind.PASSPORT,
    } == set(kinds)
    organisations = [
        row for row in rows if row.subject.identifier.kind is IdentifierKind.ORGANISATION_CODE
    ]
    assert 150 < len(organisations) < 350
    assert sum(row.representative is not None for row in organisations) > 100
    assert all(row.representative is None for row in rows if row not in organisations)
    assert sum("·" in row.subject.name for row in rows) > 100
    assert sum(row.subject.name.isascii() for row in rows) > 5


def test_a_row_follows_from_seed_day_and_index_alone() -> None:
    one, two = Synthetic(5, TODAY), Synthetic(5, TODAY)
    assert one.row(123_456) == two.row(123_456)
    assert list(islice(one.rows(10**12), 50)) == [two.row(index) for index in range(50)]
    assert Synthetic(6, TODAY).row(0) != one.row(0)


def test_terms_run_on_the_day_given() -> None:
    for row in Synthetic(5, TODAY).rows(200):
        assert row.opened < row.published < TODAY


def test_a_permutation_hits_everything_once_and_nothing_outside() -> None:
    permutation = _Permutation(1_000, "seed")
    assert sorted(permutation(index) for index in range(1_000)) == list(range(1_000))
    with pytest.raises(ValueError, match="999"):
        permutation(1_000)
    with pytest.raises(ValueError, match=str(PEOPLE - 1)):
        Synthetic(5, TODAY).clear(PEOPLE)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_same_seed_gives_the_same_file(tmp_path: Path, encoding: str) -> None:
    told = [
        write_csv(tmp_path / name, Synthetic(5, TODAY), 100, encoding=encoding, broken=0.1)
        for name in ("a", "b")
    ]
    assert told[0] == told[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(told[0]) == 10
    lines = (tmp_path / "a").read_text(encoding).split("\n")
    assert lines[0].startswith("姓名/名称,")
    marks = {
        Breakage.MASKED_NUMBER: "******",
        Breakage.UNKNOWN_MEASURE: "禁止呼吸",
        Breakage.OPEN_ENDED: "长期",
    }
    shown = {item.breakage: lines[item.line - 1] for item in told[0]}
    assert all(mark in shown[breakage] for breakage, mark in marks.items())


@pytest.mark.parametrize("options", [{"encoding": "utf-16"}, {"broken": 1.5}, {"rows": -1}])
def test_what_cannot_be_written_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    full = {"rows": 1} | options
    with pytest.raises(ImportFileError):
        write_csv(tmp_path / "a", Synthetic(5, TODAY), **full)  # type: ignore[arg-type]
    with pytest.raises(ImportFileError, match="cannot be written"):
        write_csv(tmp_path / "none" / "a", Synthetic(5, TODAY), 1)
