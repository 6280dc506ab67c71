"""`tipstaff-server subject`, run in this process on a real working folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.registry import entry, make_world, organisation, person, responsible, submit
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_server.commands.registry import subject
from tipstaff_server.config import CONFIG_NAME
from tipstaff_server.errors import InvalidRequestError, LifecycleError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()
FIRM, CHIEF, CLERK = organisation(0), person(1), person(2)
CODE = json.dumps({"kind": "ORGANISATION_CODE", "number": FIRM.identifiers[0].number})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry with its configuration, and a restricted firm with a chief."""
    world = make_world(tmp_path)
    submit(world, entry(FIRM, responsible=(responsible(1, 1),)))
    world.close()
    (tmp_path / CONFIG_NAME).write_text(
        '[database]\nurl = "sqlite:///registry.db"\n[stretch]\nthreads = 1\n'
    )
    return tmp_path


def run(folder: Path, *arguments: object, told: object = None) -> str:
    text = told if isinstance(told, str) or told is None else json.dumps(told, ensure_ascii=False)
    result = RUN.invoke(
        subject.app,
        [*map(str, arguments), "--config", str(folder)],
        input=text,
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return result.output


def told(folder: Path, *arguments: object, told: object = None) -> Any:
    return json.loads(run(folder, *arguments, "--json", told=told))


def party(index: int) -> dict[str, list[str]]:
    return {
        "identifiers": [item.number for item in person(index).identifiers],
        "names": list(person(index).names),
    }


def test_shown_without_numbers_and_names_and_revealed_with_a_reason(folder: Path) -> None:
    found = told(folder, "show", "--by-number", told=CODE)
    assert (found["type"], found["identifiers"], found["names"]) == (
        "organisation",
        {"ORGANISATION_CODE": 1},
        1,
    )
    assert [(post["capacity"], post["state"]) for post in found["posts"]] == [
        ("legal-representative", "held")
    ]
    text = run(folder, "show", "--restriction", found["restrictions"][0])
    assert found["subject_id"] in text
    for secret in (FIRM.identifiers[0].number, FIRM.names[0], CHIEF.names[0]):
        assert secret not in text
    revealed = told(
        folder, "show", "--subject", found["subject_id"], "--reveal", "--reason", "a letter"
    )["revealed"]
    assert revealed == {"identifiers": [json.loads(CODE)], "names": list(FIRM.names)}
    with pytest.raises(InvalidRequestError, match="reason"):
        run(folder, "show", "--subject", found["subject_id"], "--reveal")


def test_somebody_joins_and_somebody_leaves(folder: Path) -> None:
    restriction = told(folder, "show", "--by-number", told=CODE)["restrictions"][0]
    post = told(
        folder,
        "join",
        "--restriction",
        restriction,
        "--capacity",
        "principal",
        "--reason",
        "appointed",
        told=party(2),
    )
    assert (post["capacity"], post["state"], post["valid_until"]) == ("principal", "held", None)
    later = told(folder, "dates", post["post_id"], "--until", "2100-01-01", "--reason", "term")
    assert later["valid_until"] == "2100-01-01T00:00:00+00:00"
    exempt = (
        "exempt",
        restriction,
        "--from",
        "2026-01-01",
        "--until",
        "2099-01-01",
        "--measure",
        "AIR_TRAVEL",
    )
    assert len(told(folder, *exempt, told=CLERK.identifiers[0].number)["exemption_id"]) == 32
    left = told(folder, "leave", post["post_id"], "--reason", "resigned")
    assert left["state"] == "left"
    assert f"left, relief sequence {left['relief_sequence']}" in run(
        folder, "leave", post["post_id"], "--reason", "resigned"
    )


def test_corrected_split_and_merged(folder: Path) -> None:
    chief = told(folder, "show", "--by-number", told=CHIEF.identifiers[0].number)["subject_id"]
    changes = {
        "add_identifiers": [{"kind": "PASSPORT", "number": "E00000019"}],
        "add_names": ["曾用名"],
    }
    assert told(folder, "correct", chief, "--reason", "also", told=changes)["identifiers"] == {
        "RESIDENT_ID": 1,
        "PASSPORT": 1,
    }
    parts = {"identifiers": [{"kind": "PASSPORT", "number": "E00000019"}], "names": ["曾用名"]}
    done = told(folder, "split", chief, "--reason", "not", told=parts)
    assert (done["names"], done["split_off"]["names"]) == (1, 1)
    merged = told(folder, "merge", chief, done["split_off"]["subject_id"], "--reason", "after all")
    assert merged["names"] == 2
    assert "subject_id" in run(folder, "show", "--subject", chief)
    with pytest.raises(LifecycleError):
        run(
            folder,
            "merge",
            chief,
            told(folder, "show", "--by-number", told=CODE)["subject_id"],
            "--reason",
            "x",
        )


@pytest.mark.parametrize(
    ("arguments", "given", "error"),
    [
        (("show",), None, InvalidRequestError),
        (("show", "--subject", "xyz"), None, InvalidRequestError),
        (("show", "--subject", "00" * 16), None, NotFoundError),
        (("show", "--by-number"), "", InvalidRequestError),
        (("show", "--by-number"), "123", InvalidIdentifierError),
        (("show", "--by-number"), "{", InvalidRequestError),
        (("show", "--by-number"), "[" * 100_000, InvalidRequestError),
        (("show", "--by-number"), {"kind": "NONE", "number": "1"}, InvalidRequestError),
        (("show", "--by-number"), ["1"], InvalidRequestError),
        (
            ("join", "--subject", "00" * 16, "--capacity", "king", "--reason", "x"),
            {},
            InvalidRequestError,
        ),
        (("correct", "00" * 16, "--reason", "x"), {"unknown": []}, InvalidRequestError),
        (("correct", "00" * 16, "--reason", "x"), {"add_names": "x"}, InvalidRequestError),
        (("correct", "00" * 16, "--reason", "x"), {"add_names": [1]}, InvalidRequestError),
        (("correct", "00" * 16, "--reason", "x"), "[]", InvalidRequestError),
        (("leave", "00" * 16, "--reason", "x"), None, NotFoundError),
    ],
)
def test_wrong_calls_say_what_to_do(
    folder: Path, arguments: tuple[str, ...], given: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(folder, *arguments, told=given)
