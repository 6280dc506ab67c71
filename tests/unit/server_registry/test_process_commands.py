"""Commands for drafts, disputes, members, administrations and who lags, run in this process on a
real working folder.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.support.registry import AIRLINE, COURT, entry, make_world, person, submit
from tipstaff_server.administration.document import Administration
from tipstaff_server.clock import utc_now
from tipstaff_server.commands.app import make
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import (
    AdministrationError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.registry import Registry
from tipstaff_server.registry.restrictions.transitions import EndKind

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()
CONFIGURATION = '[database]\nurl = "sqlite:///registry.db"\n[stretch]\nthreads = 1\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry with its configuration; its clock is the real one from here on."""
    make_world(tmp_path).close()
    (tmp_path / CONFIG_NAME).write_text(CONFIGURATION)
    return tmp_path


def run(folder: Path, *arguments: object, told: str | None = None, status: int = 0) -> str:
    words = [*map(str, arguments), "--config", str(folder)]
    result = RUN.invoke(make(words), words, input=told, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def enter(folder: Path, index: int = 0, actor: Actor = COURT, **changes: Any) -> str:
    """The id of a restriction of the court, in hexadecimal digits."""
    item = entry(
        person(index),
        effective_at=utc_now() - timedelta(days=1),
        expires_at=utc_now() + timedelta(days=90),
        **changes,
    )
    with Registry.open(Config.load(folder)) as registry:
        answer = registry.restrictions.submit(item, authority="court", actor=actor)
    assert not answer.detail
    return answer.restriction_id.hex()


def test_drafts_are_found_shown_and_approved_together(folder: Path) -> None:
    clerk = Actor.authority("court", "clerk-7")
    drafts = [enter(folder, index, clerk, list_id="exit-ban") for index in range(2)]
    assert {
        line.split()[0]
        for line in run(folder, "restriction", "search", "--state", "draft").splitlines()
    } == set(drafts)
    shown = json.loads(run(folder, "restriction", "draft", drafts[0]))
    assert (shown["entered_by"], shown["entry"]["list_id"]) == (str(clerk), "exit-ban")
    approve = ("restriction", "approve", "--reason", "checked", "--json")
    done = json.loads(run(folder, *approve, told="\n".join([*drafts, bytes(16).hex()]), status=3))
    assert [item["state"] for item in done] == ["ACTIVE", "ACTIVE", None]
    assert "no such restriction" in done[2]["detail"]
    assert "refused: this restriction is no draft" in run(
        folder, "restriction", "approve", "--reason", "x", drafts[0], status=3
    )
    assert "active" in run(folder, "restriction", "show", drafts[0])
    with pytest.raises(LifecycleError, match="no draft"):
        run(folder, "restriction", "draft", drafts[0])


def test_one_entry_from_standard_input_and_an_exemption_in_it(folder: Path) -> None:
    number, name = person(3).identifiers[0].number, person(3).names[0]
    document = {
        "subject": {
            "type": "SUBJECT_TYPE_PERSON",
            "identifiers": [{"kind": "IDENTIFIER_KIND_RESIDENT_ID", "number": number}],
            "names": [name],
        },
        "list_id": "joint-discipline",
        "measures": ["AIR_TRAVEL"],
        "legal_basis": "国发〔2016〕33号",
        "case_number": "one",
        "effective_at": "2026-01-01T00:00:00Z",
        "expires_at": f"{utc_now() + timedelta(days=90):%Y-%m-%dT%H:%M:%SZ}",
    }
    submit_one = ("restriction", "submit", "--authority", "court", "--key", "k", "--json")
    first = json.loads(run(folder, *submit_one, told=json.dumps(document)))
    assert first["status"] == "CREATED"
    assert json.loads(run(folder, *submit_one, told=json.dumps(document))) == first
    refused = run(
        folder,
        "restriction",
        "submit",
        "--authority",
        "court",
        told=json.dumps(document | {"measures": ["GREEN_CHANNEL"]}),
        status=3,
    )
    assert "MEASURE_NOT_ENTITLED" in refused
    for wrong in ("{", json.dumps({"name": name}), "5"):
        with pytest.raises(InvalidRequestError, match="RestrictionEntry") as error:
            run(folder, *submit_one, told=wrong)
        assert name not in str(error.value)
    exempt = (
        "restriction",
        "exempt",
        first["restriction_id"],
        "--from",
        "2026-06-01",
        "--until",
        "2099-07-01",
    )
    assert "with the next listing" in run(folder, *exempt, "--zh", "赴诊", "--en", "to the doctor")
    with pytest.raises(InvalidRequestError, match="does not hold"):
        run(folder, *exempt, "--zh", "x", "--en", "x", "--measure", "EXIT")


def test_a_dispute_is_opened_for_the_subject_listed_shown_followed_and_corrected(
    folder: Path,
) -> None:
    restriction = enter(folder, measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS"))
    opening = ("dispute", "open", restriction, "--ground", "facts", "--json")
    opened = json.loads(run(folder, *opening, told="only one of the two\n"))
    assert opened["suspended"]
    assert (
        json.loads(run(folder, *opening, told="only one of the two"))["case_number"]
        == opened["case_number"]
    )
    (listed,) = json.loads(run(folder, "dispute", "list", "--state", "open", "--json"))
    assert (listed["ground"], listed["restriction_id"], listed["overdue"]) == (
        "FACTS",
        restriction,
        False,
    )
    assert "statement" not in listed
    assert run(folder, "dispute", "list", "--overdue") == ""
    assert run(folder, "dispute", "show", opened["case_number"]).endswith("only one of the two\n")
    assert (
        json.loads(run(folder, "dispute", "show", opened["case_number"], "--json"))["statement"]
        == "only one of the two"
    )
    answering = (
        "dispute",
        "answer",
        opened["case_number"],
        "--reason",
        "rail was wrong",
        "--outcome",
        "corrected",
    )
    with pytest.raises(InvalidRequestError, match="say what is corrected"):
        run(folder, *answering)
    assert "corrected; the restriction is active" in run(
        folder, *answering, "--measure", "AIR_TRAVEL"
    )
    assert "The dispute was answered on" in run(
        folder, "dispute", "follow", opened["case_number"].lower()
    )
    with pytest.raises(NotFoundError):
        run(folder, "dispute", "follow", "YY-1")


def test_overdue_disputes_call_somebody_by_the_exit_status(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    (tmp_path / CONFIG_NAME).write_text(CONFIGURATION)
    world.clock.now = utc_now() - timedelta(days=20)
    restriction = submit(
        world, entry(effective_at=world.clock(), expires_at=utc_now() + timedelta(days=9))
    )
    number = world.registry.disputes.open(
        restriction, "x", request_id=bytes(16), actor=AIRLINE
    ).dispute.case_number
    world.close()
    assert number in run(tmp_path, "dispute", "list", "--overdue", status=4)
    assert json.loads(run(tmp_path, "stats", "--json"))["disputes"] == [
        {"authority_id": "court", "open": 1, "overdue": 1, "answered": 0}
    ]


def test_members_are_listed_removed_moved_and_remembered(folder: Path) -> None:
    assert "aviation/air-1  since" in run(folder, "provider", "list")
    assert "rotate-epoch" in run(folder, "provider", "remove", "air-1", "--reason", "licence ended")
    assert json.loads(run(folder, "provider", "list", "--json"))[0]["removed_at"] is not None
    assert "let in again" in run(folder, "provider", "restore", "air-1", "--reason", "renewed")
    assert "tipstaff://provider/rail/air-1" in run(
        folder, "provider", "move", "air-1", "rail", "--reason", "trains now"
    )
    acts = [
        item["act"] for item in json.loads(run(folder, "provider", "history", "air-1", "--json"))
    ]
    assert acts == ["ADD_PROVIDER", "REMOVE_PROVIDER", "RESTORE_PROVIDER", "MOVE_PROVIDER"]
    assert "trains now" in run(folder, "provider", "history", "air-1")


def test_administrations_are_shown_compared_and_loaded_again_from_what_was_shown(
    folder: Path,
) -> None:
    assert run(folder, "administration", "diff") == "no difference\n"
    document = yaml.safe_load(run(folder, "administration", "show"))
    assert (
        Administration.parse(run(folder, "administration", "show").encode())
        == Administration.load()
    )
    document["lists"][0]["answer_days"] = 20
    (folder / "changed.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    (folder / CONFIG_NAME).write_text(CONFIGURATION + '[administration]\nfile = "changed.yaml"\n')
    assert (
        run(folder, "administration", "diff", status=4)
        == "~ list joint-discipline: answer_days: 15 -> 20\n"
    )
    assert run(folder, "administration") == "administration version 2\n"
    assert json.loads(
        run(folder, "administration", "diff", "--from", 2, "--to", 1, "--json", status=4)
    ) == ["~ list joint-discipline: answer_days: 20 -> 15"]
    history = json.loads(run(folder, "administration", "history", "--json"))
    assert [item["version"] for item in history] == [1, 2]
    assert history[1]["digest"] in run(folder, "administration", "history")
    assert (
        json.loads(run(folder, "administration", "show", "--version", 1, "--json"))["lists"][0].get(
            "answer_days"
        )
        is None
    )
    enter(folder)
    document["lists"] = document["lists"][1:]
    (folder / "changed.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    with pytest.raises(AdministrationError, match="put it back"):
        run(folder, "administration")


def test_who_lags_is_said_by_the_exit_status(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    (tmp_path / CONFIG_NAME).write_text(CONFIGURATION)
    assert "0 lag" in run(tmp_path, "stats", "--lagging")
    restriction = submit(world, entry(measures=("AIR_TRAVEL",)))
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    world.close()
    assert "LAGS" in run(tmp_path, "stats", "--lagging", status=4)
    (late,) = json.loads(run(tmp_path, "stats", "--lagging", "--json", status=4))
    assert (late["provider_id"], late["relief_sequence"], late["lagging"]) == ("air-1", 1, True)
    shown = run(tmp_path, "stats")
    assert "LAGS" in shown
    assert "Disputes" in shown
