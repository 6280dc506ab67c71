"""Work that several processes share gives the same, in the same order, as in this one; their errors
are errors here.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from tests.support.server import enter, entry, make
from tipstaff_server.deployment import Deployment
from tipstaff_server.errors import NotFoundError, ProcessEndedError, SignOffRefusedError
from tipstaff_server.listing import build as building
from tipstaff_server.listing.build import build
from tipstaff_server.processes import spans as sharing
from tipstaff_server.processes.executor import map_in_order, open_executor
from tipstaff_server.processes.per_audience import for_each_audience
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
SECONDS = 30.0


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A registry that counts as large, on a machine with two cores."""
    monkeypatch.setattr(sharing, "LEAST_SUBJECTS", 10)
    monkeypatch.setattr(sharing, "SUBJECTS", 7)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    with Deployment(make(tmp_path / "operator")) as opened:
        enter(opened.registry, [entry(number) for number in range(PEOPLE)])
        yield opened


def workers() -> list[str]:
    """Processes of an executor that have not ended."""
    return [
        child.name
        for child in multiprocessing.active_children()
        if child.name.startswith(("SpawnProcess", "ForkProcess"))
    ]


@contextmanager
def reading(
    runtime: Deployment, audience: str, ending: str = ""
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


@contextmanager
def dying(_runtime: Deployment, *_arguments: object) -> Iterator[Callable[[Span], Iterable[Any]]]:
    """Work of a process that is killed at its first span."""

    def work(_span: Span) -> Iterable[Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    yield work


def saying(number: int) -> int:
    """Says who works, and works for long."""
    print(os.getpid(), flush=True)
    time.sleep(100 * SECONDS)
    return number


def square(number: int) -> int:
    """Later numbers are ready first."""
    time.sleep(0.05 / (number + 1))
    return number * number


def naming(runtime: Deployment, audience: str) -> tuple[int, list[str]]:
    """Work for an audience; that for "navy" is killed."""
    if audience == "navy":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), sorted(runtime.registry.policies().audience(audience))


def two_workers() -> None:
    """What a program does that is killed while its workers work."""
    with open_executor(2) as executor:
        list(map_in_order(executor, saying, range(4), in_flight=4))


def test_it_is_shared_and_comes_in_the_same_order(runtime: Deployment) -> None:
    found = list(runtime.over_all_subjects(reading, "aviation"))
    assert [names for _, names in found] == [
        reached.names for reached in standing.read(runtime.store, "aviation")
    ]
    assert len(found) == PEOPLE
    assert len({process for process, _ in found} - {os.getpid()}) == 2
    assert not workers()


@pytest.mark.usefixtures("prepared_processes")
def test_errors_are_errors_here(runtime: Deployment) -> None:
    with pytest.raises(NotFoundError, match="no audience 'navy'"):
        list(runtime.over_all_subjects(reading, "navy"))
    assert not workers()


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.parametrize("ending", ["killed", "broken"])
def test_a_process_that_ends_ends_the_work_and_not_the_listing_early(
    runtime: Deployment, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProcessEndedError, match="was ended"):
        list(runtime.over_all_subjects(reading, "aviation", ending))
    assert ("AssertionError" in capfd.readouterr().err) == (ending == "broken")
    assert not workers()


@pytest.mark.usefixtures("prepared_processes")
def test_who_stops_listening_leaves_no_process_behind(runtime: Deployment) -> None:
    working = runtime.over_all_subjects(reading, "aviation")
    next(working)
    working.close()
    assert not workers()


@pytest.mark.usefixtures("prepared_processes")
def test_a_killed_build_leaves_no_proposal(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "sealing", dying)
    with pytest.raises(ProcessEndedError):
        build(runtime, "aviation")
    assert runtime.repository.proposal("aviation") is None


@pytest.mark.usefixtures("prepared_processes")
def test_a_listing_built_and_signed_off_this_way_is_the_same_listing(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
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
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.usefixtures("prepared_processes")
def test_results_come_in_order_and_no_more_than_asked_for_are_in_flight() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    with open_executor(2) as executor:
        for number, result in enumerate(map_in_order(executor, square, numbers(), in_flight=3)):
            assert result == number * number
            assert len(taken) <= number + 4
    assert taken == list(range(9))
    assert not workers()


def test_a_killed_program_leaves_no_worker_behind() -> None:
    program = f"from {__name__} import two_workers; two_workers()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline() for _ in range(2)}
        assert len(said - {b""}) == 2
        parent.kill()
        # Workers hold the pipe's other end: it closes with the last of them.
        assert select.select([parent.stdout], [], [], SECONDS)[0]
        assert parent.stdout.read() == b""


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_audiences_are_worked_for_in_processes(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    allowed = {
        audience: sorted(runtime.registry.policies().audience(audience))
        for audience in ("rail", "aviation")
    }
    runtime.close()
    monkeypatch.setattr("threading.active_count", lambda: 1 if method == "fork" else 2)
    reopen = partial(Deployment, runtime.config)
    outcomes = for_each_audience(reopen, ["rail", "aviation", "none"], naming)
    assert [outcome.audience for outcome in outcomes] == ["rail", "aviation", "none"]
    results = [outcome.result for outcome in outcomes if outcome.result]
    assert [measures for _, measures in results] == [allowed["rail"], allowed["aviation"]]
    assert os.getpid() not in {process for process, _ in results}
    assert "no audience 'none'" in outcomes[2].error
    with pytest.raises(ProcessEndedError, match="was ended"):
        for_each_audience(reopen, ["rail", "navy"], naming)
    assert not workers()


@pytest.mark.parametrize("reason", ["few subjects", "one core"])
def test_where_it_does_not_pay_it_is_done_here(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda _method: pytest.fail("no process is wanted")
    )
    if reason == "few subjects":
        monkeypatch.setattr(sharing, "LEAST_SUBJECTS", PEOPLE + 1)
    else:
        monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    assert len(list(runtime.over_all_subjects(reading, "aviation"))) == PEOPLE
