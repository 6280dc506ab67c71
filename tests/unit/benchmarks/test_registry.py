"""The registry's benchmark runs at a tiny size, from the list to the last look-up, and leaves what
others measured where it was.
"""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import __main__ as main
from benchmarks import registry
from benchmarks.suites import LONG, SUITES
from benchmarks.support.big_list import case_number, write_list
from benchmarks.support.plan import Figures, Plan
from tests.support.identities import is_resident_id
from tipstaff_sdk.identity.identifier import Identifier

if TYPE_CHECKING:
    from pathlib import Path

FLAT = {
    "registry_subjects",
    "registry_import_rows_per_s",
    "registry_import_rss_mb",
    "registry_stretch_cheapest_ms",
    "registry_stretch_ms",
    "registry_build_seconds",
    "registry_build_rss_mb",
    "registry_signoff_seconds",
    "registry_signoff_rss_mb",
    "registry_database_mb",
    "registry_release_p50_ms",
    "registry_release_p99_ms",
    "registry_lookup_p50_ms",
    "registry_lookup_p99_ms",
    "registry_case_lookup_p50_ms",
    "registry_case_lookup_p99_ms",
}


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tiny_run_gives_every_key_beside_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "Plan", lambda: Plan(registry_subjects=300, registry_acts=5))
    output = tmp_path / "bench.json"
    output.write_text(
        json.dumps(
            {"batch_check_ns": 40.0, "machine": {"quick": False}, "suites": {"filter": {"k": 8}}}
        ),
        "utf-8",
    )
    before = dict(os.environ)
    assert main.main(["registry", "--output", str(output)]) == 0
    found: dict[str, Any] = json.loads(output.read_text("utf-8"))
    assert {key for key, value in found.items() if not isinstance(value, dict)} == FLAT | {
        "batch_check_ns"
    }
    assert all(found[key] > 0 for key in FLAT)
    assert (found["batch_check_ns"], found["suites"]["filter"], found["machine"]) == (
        40.0,
        {"k": 8},
        {"quick": False},
    )
    assert found["suites"]["registry"]["import"]["created"] == 300
    assert {"processor", "cores", "when"} <= set(found["suites"]["registry"]["machine"])
    assert dict(os.environ) == before


def test_it_is_kept_in_no_folder_that_holds_other_things(tmp_path: Path) -> None:
    (tmp_path / "operator").mkdir()
    with pytest.raises(FileExistsError, match="name an empty or a new one"):
        registry.run(Plan(registry_subjects=300, keep=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["operator"]


def test_a_whole_run_of_the_others_keeps_the_registry_s_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SUITES", {"mine": lambda plan: Figures({"mine_ns": 2.0})})
    output = tmp_path / "bench.json"
    output.write_text(
        json.dumps(
            {
                "registry_subjects": 7,
                "mine_ns": 1.0,
                "machine": {},
                "suites": {"registry": {"x": 1}},
            }
        ),
        "utf-8",
    )
    assert main.main(["--quick", "--output", str(output)]) == 0
    found = json.loads(output.read_text("utf-8"))
    assert (found["registry_subjects"], found["mine_ns"], found["suites"]["registry"]) == (
        7,
        2.0,
        {"x": 1},
    )
    assert "cores" in found["machine"]


@pytest.mark.parametrize("broken", ["", "[]", "{}", "null", "{"])
def test_a_file_of_results_that_is_none_is_written_anew(tmp_path: Path, broken: str) -> None:
    output = tmp_path / "bench.json"
    output.write_text(broken, "utf-8")
    found = {"mine_ns": 1.0, "machine": {}, "suites": {"mine": {}}}
    assert main.merged(output, found) == found


def test_long_suites_run_only_when_they_are_named() -> None:
    assert set(LONG).isdisjoint(SUITES)


def test_the_list_is_one_of_valid_numbers_and_different_subjects(tmp_path: Path) -> None:
    people = write_list(tmp_path / "list.csv", 400, 3)
    with (tmp_path / "list.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    assert len({row["证件号码"] for row in rows}) == 400
    organisations = [row for row in rows if row["证件类型"] == "统一社会信用代码"]
    assert len(organisations) == 50
    for row in organisations:
        assert Identifier.organisation(row["证件号码"]).number == row["证件号码"]
        assert is_resident_id(row["法定代表人证件号码"])
    assert [row["证件号码"] for row in rows if row["证件类型"] == "居民身份证"] == people
    assert [row["案号"] for row in rows] == [case_number(number) for number in range(400)]
