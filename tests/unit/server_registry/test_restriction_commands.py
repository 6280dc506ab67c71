"""`tipstaff-server restriction` and `remedies`, run in this process on a real working folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.registry import COURT, entry, make_world, person, submit
from tipstaff_server.commands.registry import remedies, restriction
from tipstaff_server.config import CONFIG_NAME
from tipstaff_server.errors import InvalidRequestError, StaleVersionError

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry with its configuration and one restriction."""
    world = make_world(tmp_path)
    submit(world, entry(measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS"), case_number="case-1"))
    world.close()
    (tmp_path / CONFIG_NAME).write_text(
        '[database]\nurl = "sqlite:///registry.db"\n[stretch]\nthreads = 1\n'
    )
    return tmp_path


def run(*arguments: object, told: str | None = None, app: Any = restriction.app) -> str:
    result = RUN.invoke(
        app, [str(argument) for argument in arguments], input=told, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_found_by_case_or_number_corrected_and_told_about(folder: Path) -> None:
    where = ("--config", folder)
    (found,) = json.loads(run("search", "--case-number", "case-1", "--json", *where))
    number = person(0).identifiers[0].number
    by_number = run("search", "--by-number", *where, told=f"{number}\n")
    assert found["restriction_id"] in by_number
    assert number not in by_number
    assert (
        run("search", "--by-number", "--json", *where, told=f"{person(5).identifiers[0].number}\n")
        == "[]\n"
    )
    change = (
        "amend",
        found["restriction_id"],
        "--measure",
        "AIR_TRAVEL",
        "--reason",
        "rail was a mistake",
        "--version",
    )
    (amended,) = json.loads(run(*change, 1, "--json", *where))
    assert (amended["measures"], amended["version"]) == (["AIR_TRAVEL"], 2)
    with pytest.raises(StaleVersionError):
        run(*change, 1, *where)
    history = json.loads(run("history", found["restriction_id"], "--json", *where))
    assert [(item["act"], item["reason"]) for item in history] == [
        ("SUBMIT", ""),
        ("AMEND", "rail was a mistake"),
    ]
    assert str(COURT) in run("history", found["restriction_id"], *where)


def test_wrong_calls_say_what_to_do(folder: Path) -> None:
    for arguments in (
        ("search",),
        ("search", "--by-number", "--case-number", "x"),
        ("history", "xyz"),
    ):
        with pytest.raises(InvalidRequestError):
            run(*arguments, "--config", folder)


def test_no_remedies_are_an_empty_table(folder: Path) -> None:
    assert json.loads(run("--json", "--waiting", "--config", folder, app=remedies.app)) == []
    assert "0 overdue" in run("--config", folder, app=remedies.app)
