"""Reading in another process gives the same as reading in this one, in the same order, and its errors are errors here."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.server import enter, entry, make
from tipstaff_server import ahead, publishing, standing
from tipstaff_server.ahead import read_ahead
from tipstaff_server.builder import build
from tipstaff_server.errors import NotFoundError, PublicationError
from tipstaff_server.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE = 40


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A registry that counts as large, on a machine with two cores."""
    monkeypatch.setattr(ahead, "LEAST_SUBJECTS", 10)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    with Runtime(make(tmp_path / "operator")) as opened:
        enter(opened.registry, [entry(number) for number in range(PEOPLE)])
        yield opened


def test_a_process_of_its_own_gives_the_same_in_the_same_order(runtime: Runtime) -> None:
    found = []
    for reached in read_ahead(runtime, standing.read, "aviation"):
        assert [child.name for child in multiprocessing.active_children()] in (["read-ahead"], [])
        found.append(reached)
    assert found == list(standing.read(runtime.registry, "aviation"))
    assert len(found) == PEOPLE
    assert multiprocessing.active_children() == []


def test_its_errors_are_errors_here(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError, match="no audience 'navy'"):
        list(read_ahead(runtime, standing.read, "navy"))
    assert multiprocessing.active_children() == []


def test_a_reader_that_is_killed_ends_the_build_and_not_the_listing_early(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    received = ahead._received

    def killed(receiver: Any) -> Iterator[Any]:
        multiprocessing.active_children()[0].kill()
        yield from received(receiver)

    monkeypatch.setattr(ahead, "_received", killed)
    with pytest.raises(PublicationError, match="was ended"):
        build(runtime, "aviation")
    assert runtime.repository.proposal("aviation") is None


def test_who_stops_listening_leaves_no_process_behind(runtime: Runtime) -> None:
    reading = read_ahead(runtime, standing.read, "aviation")
    next(reading)
    reading.close()
    assert multiprocessing.active_children() == []


def test_a_listing_built_and_signed_off_this_way_is_the_same_listing(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    began = runtime.clock()
    monkeypatch.setattr(runtime, "clock", lambda: began)
    build(runtime, "aviation")
    publishing.sign_off(runtime, "aviation")
    first = runtime.repository.proposal("aviation")
    assert first is not None
    made = {path: file.read_bytes() for path, file in first.artefacts.items() if path.endswith(("filter", "pack"))}
    monkeypatch.setattr(ahead, "LEAST_SUBJECTS", PEOPLE + 1)
    build(runtime, "aviation")
    second = runtime.repository.proposal("aviation")
    assert second is not None
    assert second.version > first.version
    assert made == {path: file.read_bytes() for path, file in second.artefacts.items() if path in made}


@pytest.mark.parametrize("reason", ["few subjects", "one core"])
def test_where_it_does_not_pay_it_just_reads(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda _method: pytest.fail("no process is wanted"))
    if reason == "few subjects":
        monkeypatch.setattr(ahead, "LEAST_SUBJECTS", PEOPLE + 1)
    else:
        monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    assert len(list(read_ahead(runtime, standing.read, "aviation"))) == PEOPLE
