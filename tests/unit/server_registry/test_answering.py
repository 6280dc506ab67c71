"""Disputes are answered (upheld, corrected, revoked), listed to whoever answers them, and followed
by whoever holds the number.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    RAILWAY,
    TAX,
    World,
    entry,
    listed,
    person,
    submit,
)
from tipstaff_sdk.texts import LANGUAGES
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import (
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    StaleVersionError,
)
from tipstaff_server.registry.disputes.cases import DisputeCounts, WantedDisputes, dispute_counts
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import AuditRow, DisputeGround, DisputeState

if TYPE_CHECKING:
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.disputes.answer import AnsweredDispute

CORRECTED, REJECTED, REVOKED = DisputeState.CORRECTED, DisputeState.REJECTED, DisputeState.REVOKED
LESS = Amendment(("AIR_TRAVEL",))


def dispute(
    world: World, restriction: bytes, number: int = 1, actor: Actor = AIRLINE, **options: Any
) -> str:
    opened = world.registry.disputes.open(
        restriction, "不是我", request_id=number.to_bytes(16, "big"), actor=actor, **options
    )
    return opened.dispute.case_number


def answer(
    world: World, number: str, outcome: Any, actor: Actor = COURT, **options: Any
) -> AnsweredDispute:
    return world.registry.disputes.answer(number, outcome, "looked into", actor, **options)


def test_corrected_puts_back_in_force_as_amended(world: World) -> None:
    restriction = submit(world, entry(measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS")))
    number = dispute(world, restriction)
    done = answer(world, number, CORRECTED, correction=LESS)
    assert (done.dispute.state, done.dispute.suspended) == (CORRECTED, False)
    assert (done.restriction.state, done.restriction.measures) == (State.ACTIVE, ("AIR_TRAVEL",))
    # The suspension lifted it for both audiences already; only the airlines' next listing has it
    # again, above that lift.
    assert [lift.sequence for lift in world.registry.relief.since("rail", 0)] == [1]
    assert listed(world, "rail") == {}
    assert listed(world)[person(0).identifiers[0]].restrictions[0].relief_floor == 1
    history = [item.act for item in world.registry.restrictions.history(restriction, COURT)]
    assert history == ["SUBMIT", "SUSPEND", "AMEND", "REINSTATE"]
    verify(world.registry.store)


def test_corrected_is_relief_where_a_dispute_does_not_suspend(world: World) -> None:
    restriction = submit(
        world, entry(list_id="court-high-consumption", measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS"))
    )
    done = answer(world, dispute(world, restriction), CORRECTED, correction=LESS)
    assert done.relief_sequence == 1
    assert [lift.restriction_id for lift in world.registry.relief.since("rail", 0)] == [restriction]
    assert listed(world)[person(0).identifiers[0]].restrictions[0].relief_floor == 1


def test_a_correction_that_is_refused_answers_nothing(world: World) -> None:
    restriction = submit(world, entry())
    number = dispute(world, restriction)
    before = verify(world.registry.store)
    for correction, kind, hint in (
        (Amendment(), InvalidRequestError, "say what is corrected"),
        (Amendment(("AIR_TRAVEL", "LOAN_PRICING")), InvalidRequestError, "changes nothing"),
        (Amendment(("GREEN_CHANNEL",)), EntryError, "not entitled"),
        (Amendment(expires_at=NOW - timedelta(hours=1)), EntryError, "over already"),
        (Amendment(expires_at=NOW + timedelta(days=365 * 200)), EntryError, "between"),
    ):
        with pytest.raises(kind, match=hint):
            answer(world, number, CORRECTED, correction=correction)
    for outcome in (REJECTED, REVOKED):
        with pytest.raises(InvalidRequestError, match="only with that"):
            answer(world, number, outcome, correction=LESS)
    assert world.registry.disputes.get(number, actor=COURT).state is DisputeState.OPEN
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.SUSPENDED
    assert verify(world.registry.store) == before


def test_a_ground_that_was_corrected_does_not_suspend_again_another_does(world: World) -> None:
    restriction = submit(world, entry())
    answer(
        world, dispute(world, restriction, ground=DisputeGround.FACTS), CORRECTED, correction=LESS
    )
    dispute(world, restriction, 2, ground=DisputeGround.FACTS)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.ACTIVE
    dispute(world, restriction, 3, ground=DisputeGround.IDENTITY)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.SUSPENDED


def test_a_correction_leaves_it_suspended_while_another_dispute_does(world: World) -> None:
    restriction = submit(world, entry())
    one, two = (
        dispute(world, restriction, 1),
        dispute(world, restriction, 2, ground=DisputeGround.IDENTITY),
    )
    assert answer(world, one, CORRECTED, correction=LESS).restriction.state is State.SUSPENDED
    assert answer(world, two, REJECTED).restriction.state is State.ACTIVE


def test_answers_are_versioned_and_may_be_repeated(world: World) -> None:
    restriction = submit(world, entry())
    number = dispute(world, restriction)
    with pytest.raises(StaleVersionError):
        answer(world, number, REVOKED, given=Precondition(1))
    first = answer(world, number, REVOKED, given=Precondition(2, "key"))
    assert answer(world, number, REVOKED, given=Precondition(2, "key")) == first
    assert first.relief_sequence == 2
    with pytest.raises(LifecycleError, match="REVOKED already"):
        answer(world, number, REJECTED)
    with pytest.raises(InvalidRequestError, match="another request"):
        answer(world, number, REJECTED, given=Precondition(0, "key"))


def test_only_who_decided_and_the_operator_answer(world: World) -> None:
    number = dispute(world, submit(world, entry()))
    with pytest.raises(PermissionDeniedError, match="answers a dispute"):
        answer(world, number, REJECTED, AIRLINE)
    for actor, wanted in ((TAX, number), (COURT, "YY-AAAA-AAAA-AAAA-AAAA")):
        with pytest.raises(NotFoundError):
            answer(world, wanted, REJECTED, actor)
    assert answer(world, number, REJECTED, OPERATOR).dispute.state is REJECTED


def test_an_authority_and_the_operator_open_disputes_and_a_ground_is_kept(world: World) -> None:
    restriction = submit(world, entry())
    number = dispute(world, restriction, actor=COURT, ground=DisputeGround.PERFORMED)
    other = dispute(world, restriction, actor=OPERATOR)
    with pytest.raises(NotFoundError):
        dispute(world, restriction, 3, TAX)
    found = world.registry.disputes.case(number, COURT)
    assert (found.ground, found.statement, found.restriction_id) == (
        DisputeGround.PERFORMED,
        "不是我",
        restriction,
    )
    assert world.registry.disputes.case(other, OPERATOR).ground is DisputeGround.OTHER
    assert "不是我" not in repr(found)


def test_disputes_are_listed_by_their_deadline_each_once_to_who_answers(world: World) -> None:
    numbers = []
    for index in range(5):
        numbers.append(dispute(world, submit(world, entry(person(index))), index))
        world.clock.turn(hours=index % 2)  # some are due at the same moment
    theirs = dispute(
        world,
        submit(world, entry(person(9), measures=("EXIT",)), authority="tax", actor=TAX),
        9,
        TAX,
    )
    answer(world, numbers[0], REJECTED)
    found, after = [], b""
    while True:
        page, after = world.registry.disputes.page(WantedDisputes(after=after, limit=2), COURT)
        found += [item.dispute.case_number for item in page]
        assert all(not item.statement for item in page)
        if not after:
            break
    assert sorted(found) == sorted(numbers)
    everything, _ = world.registry.disputes.page(WantedDisputes(state=DisputeState.OPEN), OPERATOR)
    assert {item.dispute.case_number for item in everything} == {*numbers[1:], theirs}
    with pytest.raises(PermissionDeniedError):
        world.registry.disputes.page(WantedDisputes(), AIRLINE)
    for token in (b"x", b"\xff", b"2026-01-01 x y"):
        with pytest.raises(InvalidRequestError, match="page token"):
            world.registry.disputes.page(WantedDisputes(after=token), COURT)


def test_what_is_overdue_is_the_operators_to_follow_who_may_answer(world: World) -> None:
    late = dispute(world, submit(world, entry()))
    world.clock.turn(days=10)
    dispute(world, submit(world, entry(person(1))), 2)
    world.clock.turn(days=5)
    (found,), _ = world.registry.disputes.page(WantedDisputes(overdue=True), OPERATOR)
    assert (found.dispute.case_number, found.overdue) == (late, True)
    assert dispute_counts(world.store) == [DisputeCounts("court", 2, 1, 0)]
    answer(world, late, REJECTED, OPERATOR)
    assert world.registry.disputes.page(WantedDisputes(overdue=True), OPERATOR) == ([], b"")
    assert dispute_counts(world.store) == [DisputeCounts("court", 1, 0, 1)]


@pytest.mark.parametrize("written", ["{}", " {} ", "lower", "bare", "{}\n", "dashes", "misread"])
def test_a_number_is_found_however_it_is_written(world: World, written: str) -> None:
    number = dispute(world, submit(world, entry()))
    forms = {
        "lower": number.lower(),
        "bare": number.replace("-", ""),
        "dashes": number.replace("-", "–"),
    }
    forms["misread"] = number.replace("O", "0").replace("I", "1").replace("B", "8")
    assert (
        world.registry.disputes.follow(forms.get(written, written.format(number))).state
        is DisputeState.OPEN
    )


@pytest.mark.parametrize(
    "number",
    [
        "",
        "YY-AAAA-AAAA-AAAA-AAAA",
        "XX",
        "YY" + "A" * 400,
        "YY-AAAA-AAAA-AAAA-AAA",
        "\0",
        "'; DROP",
        "异议",
    ],
)
def test_whatever_is_wrong_with_a_number_the_words_are_the_same(world: World, number: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        world.registry.disputes.follow(number)
    assert str(refused.value) == "there is no such dispute here; check the case number"


def test_where_it_stands_is_said_in_words_of_both_languages_at_every_stage(world: World) -> None:
    texts: dict[str, set[str]] = {lang: set() for lang in LANGUAGES}
    restrictions = [submit(world, entry(person(index))) for index in range(5)]
    numbers = [dispute(world, restriction, index) for index, restriction in enumerate(restrictions)]
    answer(world, numbers[1], REJECTED)
    answer(world, numbers[2], CORRECTED, correction=LESS)
    answer(world, numbers[3], REVOKED)
    world.registry.restrictions.end(restrictions[4], EndKind.RELEASE, "x", actor=COURT)
    found = [world.registry.disputes.follow(number) for number in numbers]
    world.clock.turn(days=15)
    found.append(world.registry.disputes.follow(numbers[0]))
    for item in found:
        for lang, said in texts.items():
            said.add(item.text(lang))
            moment = item.answered_at or item.answer_due_at
            assert f"{moment:%Y-%m-%d}" in item.text(lang)
    assert [len(said) for said in texts.values()] == [6, 6]
    assert [item.overdue for item in found] == [False] * 5 + [True]


def test_the_audit_log_names_the_restriction_of_every_act_on_a_dispute(world: World) -> None:
    restriction = submit(world, entry())
    number = dispute(world, restriction)
    answer(world, number, REJECTED)
    with world.database.read() as session:
        details = session.scalars(
            select(AuditRow.detail).where(AuditRow.object_kind == "dispute")
        ).all()
    assert len(details) == 2
    assert all(restriction.hex() in detail for detail in details)


def test_disputes_of_another_audience_s_restriction_are_of_nothing_that_is_known(
    world: World,
) -> None:
    restriction = submit(world, entry(measures=("AIR_TRAVEL",)))
    with pytest.raises(NotFoundError, match="no such restriction here"):
        dispute(world, restriction, actor=RAILWAY)
    assert world.registry.relief.head() == 0
