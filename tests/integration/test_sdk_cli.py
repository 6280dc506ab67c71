"""The `tipstaff` command over a real server: answers, exit statuses, and no number or name in
anything it says.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.provider_fixtures import NAME, operator, people, server
from tests.support.provider_world import HOTEL, MEASURE, Operator, resident_id
from tipstaff.v1 import dispute_pb2
from tipstaff_sdk.cli.app import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.provider_server import ProviderServer

__all__ = ["operator", "server"]

LISTED_ID, CLEAR_ID = resident_id(0), resident_id(500)


class Command:
    """Runs the command line in this process."""

    def __init__(
        self, kit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._kit = kit
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: str, stdin: str = "") -> int:
        import io  # noqa: PLC0415  for this only

        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exit_:
            run([command, "--config", str(self._kit), *arguments])
        self.out, self.err = self._capsys.readouterr()
        said = self.out + self.err
        assert LISTED_ID not in said
        assert CLEAR_ID not in said
        assert NAME not in said
        return int(exit_.value.code or 0)

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tipstaff(
    operator: Operator,
    server: ProviderServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    for variable in ("LANG", "LC_ALL", "LC_MESSAGES", "TIPSTAFF_LANG"):
        monkeypatch.delenv(variable, raising=False)
    return Command(operator.kit(tmp_path / "kit", server=server.address), capsys, monkeypatch)


def test_check_answers_by_words_and_by_exit_status(tipstaff: Command) -> None:
    assert tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", MEASURE) == 0
    assert tipstaff("check", LISTED_ID, "--name", NAME, "--measure", MEASURE) == 10
    assert "Example Court" in tipstaff.out
    assert (
        tipstaff("check", LISTED_ID, "--name", "李四", "--measure", MEASURE, "--lang", "zh") == 11
    )
    assert "姓名不符" in tipstaff.out


def test_number_and_name_come_over_standard_input(tipstaff: Command) -> None:
    assert tipstaff("check", "--measure", MEASURE, "--json", stdin=f"{LISTED_ID}\n{NAME}\n") == 10
    answer = tipstaff.json()
    assert (answer["verdict"], answer["reason"]) == ("RESTRICTED", "IN_FORCE")
    assert answer["restrictions"][0]["restriction_id"] == people()[0].restriction_ids[0].hex()
    assert tipstaff("check", "-", "--name", NAME, "--measure", MEASURE, stdin=f"{CLEAR_ID}\n") == 0


def test_a_dispute_is_followed_by_its_case_number(
    tipstaff: Command, server: ProviderServer
) -> None:
    opened = datetime(2026, 5, 4, tzinfo=UTC)
    known = dispute_pb2.Dispute(case_number="D-9", state=dispute_pb2.DISPUTE_STATE_OPEN)
    known.opened_at.FromDatetime(opened)
    known.answer_due_at.FromDatetime(opened + timedelta(days=15))
    server.disputes[bytes(16)] = known
    assert tipstaff("dispute", "D-9", "--lang", "en") == 0
    assert tipstaff.out == "The dispute is being examined.\n"
    assert tipstaff("dispute", "--json", stdin="D-9\n") == 0
    assert (tipstaff.json()["state"], tipstaff.json()["due"]) == (
        "OPEN",
        "2026-05-19T00:00:00+00:00",
    )
    assert tipstaff("dispute", "D-10") == 1
    assert "check the case number" in tipstaff.err


def test_service_is_typed_by_the_catalogue(tipstaff: Command) -> None:
    assert (
        tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", HOTEL, "--service", "stars=5") == 0
    )
    assert (
        tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", HOTEL, "--service", "stars=five")
        == 2
    )
    assert "stars is a number" in tipstaff.err
    assert (
        tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", HOTEL, "--service", "stars") == 2
    )


def test_offline_and_unreachable_answer_from_what_is_here(
    tipstaff: Command, server: ProviderServer
) -> None:
    assert tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", MEASURE, "--offline") == 12
    server.stop()
    assert tipstaff("check", CLEAR_ID, "--name", NAME, "--measure", MEASURE) == 12
    assert "Synchronising failed" in tipstaff.err
    assert tipstaff("sync") == 1
    assert "cannot be reached" in tipstaff.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", LISTED_ID[:-1] + "0", "--name", NAME, "--measure", MEASURE), "tipstaff: "),
        (("check", CLEAR_ID, "--name", "", "--measure", MEASURE), "tipstaff: "),
        (("check", CLEAR_ID, "--name", NAME, "--measure", "TELEPORT"), "no such measure"),
        (
            ("check", CLEAR_ID, "--name", NAME, "--measure", MEASURE, "--kind", "LIBRARY_CARD"),
            "--kind",
        ),
        (("check", CLEAR_ID, "--name", NAME, "--measure", MEASURE, "--lang", "fr"), "--lang"),
        (("check", CLEAR_ID, "--name", NAME), "--measure"),
        (("screen", "/nowhere.csv", "--measure", MEASURE), "nowhere"),
    ],
)
def test_wrong_use_is_two_and_says_what_to_do(
    tipstaff: Command, arguments: tuple[str, ...], says: str
) -> None:
    assert tipstaff(*arguments) == 2
    assert says in tipstaff.err


def test_sync_and_status_as_table_and_as_json(tipstaff: Command) -> None:
    assert tipstaff("status") == 0
    assert "NONE" in tipstaff.out
    assert tipstaff("sync", "--json") == 0
    assert tipstaff.json()["ready"] is True
    assert tipstaff("status", "--json") == 0
    status = tipstaff.json()
    assert (status["listing_version"], status["relief_complete"], status["key_present"]) == (
        1,
        True,
        False,
    )
    assert tipstaff("status", "--lang", "zh") == 0
    assert "名单版本" in tipstaff.out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_screening_a_file(tipstaff: Command, tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "bookings.csv"
    rows = [
        (CLEAR_ID, NAME),
        (LISTED_ID, NAME),
        (LISTED_ID, "李四"),
        ("wrong", NAME),
        (CLEAR_ID, ""),
    ]
    lines = ["Identifier,name,remark", *(f"{number},{name},x" for number, name in rows)]
    source.write_text("\n".join(lines) + "\n", encoding=encoding)
    assert tipstaff("screen", str(source), "--measure", MEASURE, "--json") == 10
    summary = tipstaff.json()
    assert (summary["rows"], summary["bad_rows"]) == (5, 2)
    assert summary["verdicts"] == {"CLEAR": 1, "RESTRICTED": 1, "REVIEW": 1}
    result = (tmp_path / "bookings.screened.csv").read_text(encoding="utf-8")
    rejects = (tmp_path / "bookings.screened.rejects.csv").read_text(encoding="utf-8")
    for written in (result, rejects):
        assert LISTED_ID not in written
        assert NAME not in written
    found = list(csv.DictReader(result.splitlines()))
    assert [(row["row"], row["verdict"]) for row in found] == [
        ("1", "CLEAR"),
        ("2", "RESTRICTED"),
        ("3", "REVIEW"),
    ]
    assert found[1]["restriction_ids"] == people()[0].restriction_ids[0].hex()
    assert [row["row"] for row in csv.DictReader(rejects.splitlines())] == ["4", "5"]


def test_screening_with_columns_by_option(
    tipstaff: Command, operator: Operator, tmp_path: Path
) -> None:
    listed = people(1)
    listed[0].measures = (HOTEL,)
    operator.publish(listed)
    source, target = tmp_path / "stays.csv", tmp_path / "out.csv"
    source.write_text(
        f"ref,doc,type,guest,class\nA,{LISTED_ID},RESIDENT_ID,{NAME},5\nB,{CLEAR_ID},,{NAME},5\nC,E1234567,护照,{NAME},5\n",
        encoding="utf-8",
    )
    options = [
        "--identifier-column",
        "doc",
        "--name-column",
        "guest",
        "--kind-column",
        "type",
        "--key-column",
        "ref",
    ]
    assert (
        tipstaff(
            "screen",
            str(source),
            "-m",
            HOTEL,
            "-o",
            str(target),
            *options,
            "--service-column",
            "stars=class",
        )
        == 10
    )
    found = list(csv.DictReader(target.read_text(encoding="utf-8").splitlines()))
    assert [(row["ref"], row["verdict"]) for row in found] == [
        ("A", "RESTRICTED"),
        ("B", "CLEAR"),
        ("C", "CLEAR"),
    ]
    assert (
        tipstaff(
            "screen",
            str(source),
            "-m",
            HOTEL,
            "-o",
            str(target),
            *options,
            "-s",
            "stars=2",
            "--lang",
            "zh",
        )
        == 0
    )
    assert "无限制" in tipstaff.out
    assert (
        tipstaff(
            "screen",
            str(source),
            "-m",
            HOTEL,
            "-o",
            str(target),
            *options,
            "-s",
            "stars=5",
            "--only-hits",
        )
        == 10
    )
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2
    assert tipstaff("screen", str(source), "-m", HOTEL, *options, "--service-column", "stars") == 2
    assert tipstaff("screen", str(source), "-m", HOTEL, *options, "--encoding", "latin-1") == 2


def test_screened_rows_are_counted_for_the_operator(
    tipstaff: Command, server: ProviderServer, tmp_path: Path
) -> None:
    source = tmp_path / "bookings.csv"
    source.write_text(
        "identifier,name\n" + f"{CLEAR_ID},{NAME}\n" * 30 + f"{LISTED_ID},{NAME}\n",
        encoding="utf-8",
    )
    assert tipstaff("screen", str(source), "--measure", MEASURE) == 10
    assert tipstaff("sync") == 0
    counts = list(server.counts.values())
    assert [(count.measure, count.checked, count.clear, count.restricted) for count in counts] == [
        (MEASURE, 31, 30, 1)
    ]


def test_screening_goes_by_each_rows_service(
    tipstaff: Command, operator: Operator, tmp_path: Path
) -> None:
    listed = people(1)
    listed[0].measures = (HOTEL,)
    operator.publish(listed)
    source, target = tmp_path / "stays.csv", tmp_path / "out.csv"
    source.write_text(
        "identifier,name,stars\n"
        + "".join(f"{LISTED_ID},{NAME},{stars}\n" for stars in ("2", "4", "x", "4")),
        encoding="utf-8",
    )
    assert tipstaff("screen", str(source), "--measure", HOTEL, "--output", str(target)) == 10
    assert "out.csv" in tipstaff.out
    found = list(csv.DictReader(target.read_text(encoding="utf-8").splitlines()))
    assert [(row["verdict"], row["reason"]) for row in found] == [
        ("CLEAR", "NOT_COVERED"),
        ("RESTRICTED", "IN_FORCE"),
        ("RESTRICTED", "IN_FORCE"),
    ]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 1),
        (b"a,b\n1,2\n", 1),
        (b"identifier,n\xff\xff\n", 1),
        (b"identifier,name\n\xff\xff\xff\xff,x\n", 2),
        (b"identifier,name\n", 0),
    ],
)
def test_file_that_is_no_list_is_refused_and_leaves_no_result(
    tipstaff: Command, tmp_path: Path, content: bytes, status: int
) -> None:
    source = tmp_path / "list.csv"
    source.write_bytes(content)
    assert tipstaff("screen", str(source), "--measure", MEASURE) == status
    assert (tmp_path / "list.screened.csv").exists() is (status != 1)
    assert list(tmp_path.glob(".*")) == []


def test_result_that_cannot_be_written_is_trouble(tipstaff: Command, tmp_path: Path) -> None:
    source = tmp_path / "list.csv"
    source.write_text("identifier,name\n", encoding="utf-8")
    assert (
        tipstaff(
            "screen",
            str(source),
            "--measure",
            MEASURE,
            "--output",
            str(tmp_path / "no" / "out.csv"),
        )
        == 1
    )


def test_without_the_extra_one_line_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['typer'] = None; from tipstaff_sdk.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "tipstaff: the command line is an extra; install it with: pip install 'tipstaff[cli]'\n"
    )


def test_help_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tipstaff_sdk.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("check", "screen", "sync", "status"))
