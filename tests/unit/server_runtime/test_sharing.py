"""Work that several processes share gives the same, in the same order, as in this one; their errors
are errors here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from tests.support.server import enter, entry, make
from tipstaff_server.deployment import Runtime
from tipstaff_server.errors import NotFoundError, ProcessEndedError, SignOffRefusedError
from tipstaff_server.listing.build import build
from tipstaff_server.processes import spans as sharing
from tipstaff_server.processes.spans import of_all
from tipstaff_server.signoff import reader as standing
from tipstaff_server.signoff.examine import examine
from tipstaff_server.signoff.findings import Findings
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_server.storage.models import RestrictionRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tipstaff_server.domain.spans import Span

PEOPLE = 40


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A registry that counts as large, on a machine with two cores."""
    monkeypatch.setattr(sharing, "LEAST_SUBJECTS", 10)
    monkeypatch.setattr(sharing, "SUBJECTS", 7)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    with Runtime(make(tmp_path / "operator")) as opened:
        enter(opened.registry, [entry(number) for number in range(PEOPLE)])
        yield opened


@contextmanager
def reading(
    runtime: Runtime, audience: str, ending: str = ""
) -> Iterator[Callable[[Span], Iterable[tuple[int, set[str]]]]]:
    """Who did it, and the names of everybody in a span. `ending`: before the first."""

    def work(span: Span) -> Iterable[tuple[int, set[str]]]:
        if ending == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if ending == "broken":
            raise AssertionError
        return [
            (os.getpid(), reached.names)
            for reached in standing.read(runtime.store, audience, None, span)
        ]

    yield work


def test_it_is_shared_and_comes_in_the_same_order(runtime: Runtime) -> None:
    found = list(of_all(runtime, reading, "aviation"))
    assert [names for _, names in found] == [
        reached.names for reached in standing.read(runtime.store, "aviation")
    ]
    assert len(found) == PEOPLE
    assert len({process for process, _ in found} - {os.getpid()}) == 2
    assert not [
        child for child in multiprocessing.active_children() if child.name in {"ahead", "share"}
    ]


@pytest.mark.usefixtures("prepared_processes")
def test_errors_are_errors_here(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError, match="no audience 'navy'"):
        list(of_all(runtime, reading, "navy"))
    assert not [
        child for child in multiprocessing.active_children() if child.name in {"ahead", "share"}
    ]


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.parametrize("ending", ["killed", "broken"])
def test_a_process_that_ends_ends_the_work_and_not_the_listing_early(
    runtime: Runtime, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProcessEndedError, match="was ended"):
        list(of_all(runtime, reading, "aviation", ending))
    assert ("AssertionError" in capfd.readouterr().err) == (ending == "broken")
    assert not [
        child for child in multiprocessing.active_children() if child.name in {"ahead", "share"}
    ]


@pytest.mark.usefixtures("prepared_processes")
def test_who_stops_listening_leaves_no_process_behind(runtime: Runtime) -> None:
    working = of_all(runtime, reading, "aviation")
    next(working)
    working.close()
    assert not [
        child for child in multiprocessing.active_children() if child.name in {"ahead", "share"}
    ]


@pytest.mark.usefixtures("prepared_processes")
def test_a_killed_build_leaves_no_proposal(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(sharing.Helper):
        def receive(self) -> Any:
            self._process.kill()
            self._process.join()
            return super().receive()

    monkeypatch.setattr(sharing, "Helper", Killed)
    with pytest.raises(ProcessEndedError):
        build(runtime, "aviation")
    assert runtime.repository.proposal("aviation") is None


@pytest.mark.usefixtures("prepared_processes")
def test_a_listing_built_and_signed_off_this_way_is_the_same_listing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = runtime.clock()
    monkeypatch.setattr(runtime, "clock", lambda: began)
    build(runtime, "aviation")
    sign_off(runtime, "aviation")
    first = runtime.repository.proposal("aviation")
    assert first is not None
    made = {
        path: file.read_bytes()
        for path, file in first.artefacts.items()
        if path.endswith(("filter", "pack"))
    }
    monkeypatch.setattr(sharing, "LEAST_SUBJECTS", PEOPLE + 1)
    build(runtime, "aviation", from_scratch=True)
    second = runtime.repository.proposal("aviation")
    assert second is not None
    assert second.version > first.version
    assert made == {
        path: file.read_bytes() for path, file in second.artefacts.items() if path in made
    }


@pytest.mark.usefixtures("prepared_processes")
def test_a_shared_sign_off_says_all_that_is_wrong(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(runtime, "aviation")
    enter(runtime.registry, [entry(PEOPLE)])
    # As if those entered since then had been there before, and the listing did not have them.
    with runtime.registry.store.database.write() as session:
        session.execute(
            update(RestrictionRow).values(
                entered_at=RestrictionRow.effective_at, legal_basis="another"
            )
        )
    proposal = runtime.repository.proposal("aviation")
    assert proposal is not None
    reasons = []
    for least in (10, PEOPLE + 2):
        monkeypatch.setattr(sharing, "LEAST_SUBJECTS", least)
        with pytest.raises(SignOffRefusedError) as refused:
            examine(runtime, proposal)
        reasons.append(refused.value.reasons)
    assert sorted(reasons[0]) == sorted(reasons[1])
    assert any(
        reason.startswith("somebody restricted has no record in the pack") for reason in reasons[0]
    )
    assert any(f"({PEOPLE} times; restriction " in reason for reason in reasons[0])


def test_findings_of_several_are_counted_together() -> None:
    all_of_it, one, other = Findings(), Findings(), Findings()
    for number in range(2):
        one.add("a", bytes([number] * 16))
        other.add("a", bytes([7 + number] * 16))
    other.add("b")
    all_of_it.absorb(one)
    all_of_it.absorb(other)
    assert all_of_it.reasons() == [
        f"a (4 times; restriction {'00' * 16}, {'01' * 16}, {'07' * 16})",
        "b",
    ]


@pytest.mark.parametrize("reason", ["few subjects", "one core"])
def test_where_it_does_not_pay_it_is_done_here(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda _method: pytest.fail("no process is wanted")
    )
    if reason == "few subjects":
        monkeypatch.setattr(sharing, "LEAST_SUBJECTS", PEOPLE + 1)
    else:
        monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    assert len(list(of_all(runtime, reading, "aviation"))) == PEOPLE
