"""The engine of checks of many: the same answers as one by one, and nobody stretched for twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import identities
from tests.support.books import GHOST, HOTEL, HOTEL_LISTED, LISTED, NAME, world
from tests.support.sealed_world import AIR, DAY, MASTER, NOW, Stretch
from tipstaff_sdk.decision.decide import Decision, Reason, decide
from tipstaff_sdk.enforcement.coverage import Coverage
from tipstaff_sdk.errors import (
    InvalidColumnError,
    InvalidServiceError,
    MeasureNotCoveredError,
    SealError,
    TipstaffError,
)
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.listing.sealing import EpochKey
from tipstaff_sdk.screening.bulk import check_columns, check_rows
from tipstaff_sdk.screening.engine import FalsePositives, People, Screening

CLEAR = identities.resident_id(77)
WORLD = world()
STATE = WORLD.state()
PASSPORT = Identifier(IdentifierKind.PASSPORT, "E12345678")

somebody = st.sampled_from(
    [
        LISTED,
        HOTEL_LISTED,
        GHOST,
        CLEAR,
        CLEAR.lower(),
        "wrong",
        "",
        PASSPORT,
        Identifier.parse(LISTED),
    ]
)
somename = st.sampled_from([NAME, "张 三", "李四", "", "Zhang San", "a\tb"])


class Counting:
    """A stretcher that keeps count."""

    def __init__(self) -> None:
        self.times = 0

    def stretch(self, identifier: Identifier) -> bytes:
        self.times += 1
        return WORLD.stretch.stretch(identifier)


def alone(state: Any, row: tuple[Identifier | str, str], service: Any, measure: str) -> object:
    try:
        return decide(state, NOW, row[0], row[1], measure, service).reason
    except TipstaffError as error:
        return str(error)


def shown(entry: Decision | TipstaffError) -> object:
    return entry.reason if isinstance(entry, Decision) else str(entry)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(somebody, somename), max_size=25),
    st.sampled_from(["fresh", "none", "keyless", "expired", "packless"]),
)
def test_many_are_answered_as_one_by_one(
    rows: list[tuple[Identifier | str, str]], kind: str
) -> None:
    states = {
        "fresh": STATE,
        "none": None,
        "keyless": WORLD.state(epoch_keys={}),
        "expired": WORLD.state(parameters=WORLD.parameters(expires_at=NOW - DAY)),
        "packless": WORLD.state(pack=None),
    }
    state, coverage = states[kind], Coverage()
    for measure, service in ((AIR, None), (HOTEL, {"stars": 4.0})):
        entries = check_rows(Screening(state, NOW, measure), rows, service, coverage)
        assert [shown(entry) for entry in entries] == [
            alone(state, row, service, measure) for row in rows
        ]
    counted = sum(coverage.collect().values())
    assert counted == 2 * sum(isinstance(entry, Decision) for entry in entries)


def test_columns_of_every_form_and_what_they_come_to() -> None:
    numbers, names = (
        [CLEAR, LISTED, LISTED, GHOST, "wrong", CLEAR],
        [NAME, NAME, "李四", NAME, NAME, ""],
    )
    for first in (
        numbers,
        np.array(numbers),
        np.array(numbers, "S18"),
        pa.array(numbers),
        pa.chunked_array([numbers[:2], numbers[2:]]),
    ):
        for second in (names, np.array(names), pa.array(names, pa.string_view())):
            checked = check_columns(Screening(STATE, NOW, AIR), first, second, None, Coverage())
            assert checked.reasons.tolist() == [
                Reason.NOT_LISTED,
                Reason.IN_FORCE,
                Reason.NAME_MISMATCH,
                Reason.FALSE_POSITIVE,
                0,
                0,
            ]
            assert checked.reasons.dtype == np.uint8
            assert list(checked.decisions) == [1, 2, 3]
            assert sorted(checked.errors) == [4, 5]
            assert checked.decisions[1].restrictions


@pytest.mark.parametrize(
    ("numbers", "names"),
    [([CLEAR], []), ([], [NAME]), ([CLEAR], NAME), (CLEAR, [NAME]), (7, [NAME]), ([CLEAR], None)],
)
def test_columns_that_do_not_fit_are_refused(numbers: Any, names: Any) -> None:
    with pytest.raises(InvalidColumnError):
        check_columns(Screening(STATE, NOW, AIR), numbers, names, None, Coverage())


def test_wrong_calls_raise_whoever_is_asked_about() -> None:
    for rows in ([], [(CLEAR, NAME)], [("wrong", "")]):
        with pytest.raises(InvalidServiceError):
            check_rows(Screening(STATE, NOW, HOTEL), rows, None, Coverage())
        with pytest.raises(MeasureNotCoveredError):
            check_rows(
                Screening(WORLD.state(parameters=WORLD.parameters(measures=[AIR])), NOW, HOTEL),
                rows,
                {"stars": 4.0},
                Coverage(),
            )


def test_each_row_may_buy_something_else() -> None:
    everybody = People(
        4,
        [HOTEL_LISTED] * 4,
        [NAME] * 4,
        services=[{"stars": 2.0}, {"stars": 5.0}, {"stars": "many"}],
        service_of=np.array([0, 1, 2, 0]),
    )
    screening = Screening(STATE, NOW, HOTEL)
    settled = screening.settle(everybody)
    assert list(settled.errors) == [2]
    assert [decision.reason for decision in screening.prove(settled.hits)] == [
        Reason.NOT_COVERED,
        Reason.IN_FORCE,
        Reason.NOT_COVERED,
    ]


def test_false_positives_are_stretched_for_once_in_an_epoch() -> None:
    known, stretcher = FalsePositives(), Counting()
    state = WORLD.state(stretch=stretcher)
    for _ in range(3):
        entries = check_rows(
            Screening(state, NOW, AIR, known), [(GHOST, NAME), (GHOST, "李四")], None, Coverage()
        )
        assert [shown(entry) for entry in entries] == [Reason.FALSE_POSITIVE] * 2
    assert stretcher.times == 1
    assert len(known) == 1
    newer = WORLD.state(
        stretch=stretcher, parameters=WORLD.parameters(version=8), pack=WORLD.pack()
    )
    check_rows(Screening(newer, NOW, AIR, known), [(GHOST, NAME)], None, Coverage())
    assert stretcher.times == 1, "another listing of the same epoch"


def test_who_was_a_false_positive_and_is_listed_now_is_found() -> None:
    made, known = world(), FalsePositives()
    assert (
        shown(
            check_rows(Screening(made.state(), NOW, AIR, known), [(GHOST, NAME)], None, Coverage())[
                0
            ]
        )
        is Reason.FALSE_POSITIVE
    )
    assert len(known) == 1
    from tests.support.sealed_world import restriction  # noqa: PLC0415  for this test only

    made.list(Identifier.parse(GHOST), NAME, restriction(5))
    assert (
        shown(
            check_rows(Screening(made.state(), NOW, AIR, known), [(GHOST, NAME)], None, Coverage())[
                0
            ]
        )
        is Reason.IN_FORCE
    )


def test_another_epoch_or_cost_of_stretching_forgets_them() -> None:
    known = FalsePositives()
    token = STATE.key.tokeniser.token(Identifier.parse(GHOST)) if STATE.key else b""
    known.remember(STATE, token, b"locator!")
    assert known.locator(STATE, token) == b"locator!"
    dearer = WORLD.state(stretch=Stretch(bytes(16), 4, 1, 1))
    epoch = WORLD.state(
        parameters=WORLD.parameters(epoch=4),
        filter=WORLD.filter(4),
        pack=None,
        epoch_keys={4: EpochKey("aviation", 4, MASTER)},
    )
    for other in (dearer, epoch):
        assert known.locator(other, token) is None
    known.remember(epoch, token, b"another!")
    assert known.locator(STATE, token) is None
    assert "remembered" in repr(known)


def test_they_are_bounded() -> None:
    known = FalsePositives(limit=3)
    for number in range(5):
        known.remember(STATE, bytes([number]), b"locator!")
    assert len(known) == 3
    assert known.locator(STATE, bytes([4])) is not None
    assert known.locator(STATE, bytes([0])) is None


def test_trouble_while_proving_is_a_review_and_is_not_remembered() -> None:
    class Fails:
        def stretch(self, identifier: Identifier) -> bytes:
            raise SealError("no memory")

    known = FalsePositives()
    entries = check_rows(
        Screening(WORLD.state(stretch=Fails()), NOW, AIR, known),
        [(GHOST, NAME), (LISTED, NAME)],
        None,
        Coverage(),
    )
    assert [shown(entry) for entry in entries] == [Reason.UNCONFIRMED] * 2
    assert not len(known)


def test_a_screening_keeps_its_moment_and_may_be_asked_for_another() -> None:
    screening = Screening(STATE, NOW, AIR)
    assert screening.decision(Reason.NOT_LISTED).decided_at == NOW
    assert screening.at(NOW + timedelta(days=30)).settled is Reason.EXPIRED


def test_threads_share_an_engine() -> None:
    random = Random(7)
    rows = [(identities.random_resident_id(random), NAME) for _ in range(300)] + [
        (LISTED, NAME),
        (GHOST, NAME),
    ]
    screening, answers = Screening(STATE, NOW, AIR), []

    def work() -> None:
        answers.append([shown(entry) for entry in check_rows(screening, rows, None, Coverage())])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)


def test_nothing_shows_whom_it_is_about() -> None:
    settled = Screening(STATE, NOW, AIR).settle(People(1, [LISTED], [NAME]))
    assert LISTED not in repr(settled)
    assert NAME not in repr(settled)
