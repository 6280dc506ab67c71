"""The fake is as the real one is, as far as a caller can see."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from tipstaff_sdk.decision.decide import Outcome, Reason, Verdict
from tipstaff_sdk.enforcement.disputes import DisputeGround, DisputeState
from tipstaff_sdk.enforcement.remedies import Remedy, RemedyOutcome
from tipstaff_sdk.errors import (
    ClosedError,
    InvalidColumnError,
    InvalidIdentifierError,
    InvalidNameError,
    NotDisputableError,
    NotFoundError,
    RequestRefusedError,
    UnavailableError,
)
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.sync.status import Availability, SyncState
from tipstaff_sdk.testing import FakeScreener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBER = "11010519491231002X"
OTHER = "110105194912310097"
ONLY_FAKE = {"announce", "restriction", "set_answer"}
ONLY_REAL = {
    "screening",
    "checked",
}  # what `tipstaff screen` stands on, which has the real one always


def surface(kind: type) -> dict[str, object]:
    names = [
        name
        for name in dir(kind)
        if not name.startswith("_") or name in {"__enter__", "__exit__", "__aenter__", "__aexit__"}
    ]
    return {name: inspect.getattr_static(kind, name) for name in names}


def test_fake_has_the_surface_of_the_real_one() -> None:
    real, fake = surface(Screener), surface(FakeScreener)
    assert set(real) - ONLY_REAL == set(fake) - ONLY_FAKE
    for name in set(real) - ONLY_REAL:
        member = real[name]
        assert type(member) is type(fake[name]), name
        if callable(getattr(Screener, name)):
            assert inspect.signature(getattr(Screener, name)) == inspect.signature(
                getattr(FakeScreener, name)
            ), name


def test_narrowest_answer_wins() -> None:
    with FakeScreener() as fake:
        fake.set_answer(Verdict.UNKNOWN)
        fake.set_answer(Verdict.REVIEW, measure="A")
        fake.set_answer(Verdict.CLEAR, identifier=NUMBER)
        fake.set_answer(Verdict.RESTRICTED, identifier=Identifier.resident_id(NUMBER), measure="A")
        asked = [(NUMBER, "A"), (NUMBER, "B"), (OTHER, "A"), (OTHER, "B")]
        verdicts = [
            fake.check(number, name="张三", measure=measure).verdict for number, measure in asked
        ]
    assert verdicts == [Verdict.RESTRICTED, Verdict.CLEAR, Verdict.REVIEW, Verdict.UNKNOWN]


def test_clear_by_default_and_reasons_are_the_usual_ones() -> None:
    fake = FakeScreener.open("anything.toml", server="x")
    assert fake.check(NUMBER, name="张三", measure="A").reason is Reason.NOT_LISTED
    fake.set_answer(Verdict.CLEAR, reason=Reason.LIFTED)
    assert fake.check(NUMBER, name="张三", measure="A").reason is Reason.LIFTED


def test_wrong_input_raises_as_in_the_real_one() -> None:
    fake = FakeScreener()
    with pytest.raises(InvalidIdentifierError):
        fake.check("1", name="张三", measure="A")
    with pytest.raises(InvalidNameError):
        fake.check(NUMBER, name="", measure="A")
    entries = fake.check_many([(NUMBER, "张三"), ("1", "张三"), (NUMBER, "")], measure="A")
    assert [type(entry).__name__ for entry in entries] == [
        "Decision",
        "InvalidIdentifierError",
        "InvalidNameError",
    ]


def test_counter_can_be_tested_with_reports_disputes_and_failures() -> None:
    fake = FakeScreener()
    fake.set_answer(Verdict.RESTRICTED, measure="A")
    decision = fake.check(NUMBER, name="张三", measure="A")
    assert "Test Court" in decision.explain("en")
    report_id = fake.report(decision, Outcome.DENIED)
    assert [(report.report_id, report.outcome) for report in fake.reports] == [
        (report_id, Outcome.DENIED)
    ]
    dispute = fake.dispute(decision, "no", ground=DisputeGround.IDENTITY)
    assert [dispute] == fake.disputes
    assert fake.follow_dispute(dispute.case_number).due == dispute.due
    assert fake.follow_dispute(dispute.case_number).state is DisputeState.OPEN
    with pytest.raises(NotFoundError):
        fake.follow_dispute("TEST-2")
    with pytest.raises(NotDisputableError):
        fake.dispute(fake.check(NUMBER, name="张三", measure="B"), "no")
    fake.failure = UnavailableError("down")
    for call in (
        lambda: fake.dispute(decision, "no"),
        lambda: fake.follow_dispute("TEST-1"),
        fake.sync,
    ):
        with pytest.raises(UnavailableError):
            call()
    assert fake.status().last_error == "down"


def test_remedies_are_those_that_the_test_puts_in() -> None:
    fake = FakeScreener()
    now = datetime.now(UTC)
    fake.owed.append(Remedy(bytes(16), bytes(16), (), 1, now, now, None))
    (owed,) = fake.remedies()
    answered = fake.answer_remedy(owed, RemedyOutcome.RESTORED, "rebooked")
    assert fake.answer_remedy(owed.remedy_id, RemedyOutcome.RESTORED) == answered
    assert fake.remedies() == []
    assert fake.remedies(include_answered=True) == [answered]
    with pytest.raises(RequestRefusedError):
        fake.answer_remedy(owed, RemedyOutcome.DECLINED)
    with pytest.raises(NotFoundError):
        fake.answer_remedy(b"another", RemedyOutcome.DECLINED)
    fake.failure = UnavailableError("down")
    for call in (fake.remedies, lambda: fake.answer_remedy(owed, RemedyOutcome.RESTORED)):
        with pytest.raises(UnavailableError):
            call()


def test_status_follows_availability_and_listeners_hear_announcements() -> None:
    fake, heard = FakeScreener(), list[Availability]()
    stop = fake.on_change(lambda status: heard.append(status.availability))
    assert fake.wait_ready(0)
    fake.availability = Availability.CACHED
    fake.announce()
    assert not fake.wait_ready()
    stop()
    stop()
    fake.announce()
    assert heard == [Availability.CACHED]


def test_closed_is_closed() -> None:
    fake = FakeScreener()
    decision = fake.check(NUMBER, name="张三", measure="A")
    fake.close()
    fake.close()
    assert fake.status().sync_state is SyncState.CLOSED
    calls: list[Callable[[], object]] = [
        fake.sync,
        lambda: fake.report(decision, Outcome.NOTED),
        lambda: fake.check(NUMBER, name="张", measure="A"),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()


def test_fixture_is_there_for_a_project_that_names_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tipstaff_sdk.testing"]\n')
    (tmp_path / "test_counter.py").write_text(
        "from tipstaff_sdk.decision.decide import Verdict\ndef test_it(fake_screener):\n    assert"
        f" fake_screener.check('{NUMBER}', name='A', measure='M').verdict is Verdict.CLEAR\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "column", [list, np.array, lambda values: np.array(values, dtype="S18"), pa.array]
)
def test_columns_are_answered_row_by_row(column: Callable[[list[str]], object]) -> None:
    screener = FakeScreener()
    screener.set_answer(Verdict.RESTRICTED, identifier=OTHER)
    checked = screener.check_columns(
        column([NUMBER, OTHER, "1"]), ["张三", "李四", "王五"], measure="AIR_TRAVEL"
    )
    assert checked.reasons.tolist() == [Reason.NOT_LISTED, Reason.IN_FORCE, 0]
    assert checked.decisions[1].verdict is Verdict.RESTRICTED
    assert isinstance(checked.errors[2], InvalidIdentifierError)
    with pytest.raises(InvalidColumnError):
        screener.check_columns(column([NUMBER]), ["张三", "李四"], measure="AIR_TRAVEL")
