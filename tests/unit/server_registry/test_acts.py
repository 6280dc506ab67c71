"""What happens to restrictions: ends, time, exemptions, disputes; and the relief that follows."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from typing import Any

import pytest

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
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.actors import SYSTEM
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import (
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
)
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import DisputeGround, DisputeState


def dispute(world: World, restriction: bytes, **options: Any) -> Any:
    return world.registry.disputes.open(
        restriction,
        "不是我",
        **({"request_id": secrets.token_bytes(16), "actor": AIRLINE} | options),
    )


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EndKind.RELEASE, State.RELEASED),
        (EndKind.REPAIR, State.REPAIRED),
        (EndKind.REVOKE, State.REVOKED),
    ],
)
def test_an_end_is_relief_at_once_for_the_audiences_concerned(
    world: World, kind: EndKind, state: State
) -> None:
    restriction = submit(world, entry())
    ended = world.registry.restrictions.end(restriction, kind, "performed", actor=COURT)
    assert (ended.restriction.state, ended.restriction.version, ended.relief_sequence) == (
        state,
        2,
        1,
    )
    assert [
        (lift.sequence, lift.restriction_id) for lift in world.registry.relief.since("aviation", 0)
    ] == [(1, restriction)]
    assert world.registry.relief.since("banking", 0)
    assert world.registry.relief.since("rail", 0) == []
    assert world.registry.relief.since("aviation", 1) == []
    assert world.registry.relief.head() == 1
    assert listed(world) == {}
    with pytest.raises(LifecycleError):
        world.registry.restrictions.end(restriction, kind, "again", actor=COURT)
    assert world.registry.relief.head() == 1


@pytest.mark.parametrize("actor", [TAX, AIRLINE, RAILWAY, SYSTEM], ids=str)
def test_only_its_authority_or_the_operator_ends_a_restriction(world: World, actor: Any) -> None:
    restriction = submit(world, entry())
    with pytest.raises((NotFoundError, PermissionDeniedError)):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=actor)
    assert (
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=OPERATOR
        ).relief_sequence
        == 1
    )


def test_what_is_not_there_and_what_is_others_look_the_same(world: World) -> None:
    restriction = submit(world, entry())
    messages = set()
    for identity, actor in (
        (restriction, TAX),
        (bytes(16), TAX),
        (restriction, RAILWAY),
        (bytes(16), AIRLINE),
    ):
        with pytest.raises(NotFoundError) as caught:
            world.registry.restrictions.get(identity, actor=actor)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert world.registry.restrictions.get(restriction, actor=AIRLINE).restriction_id == restriction


@pytest.mark.parametrize("reason", ["", " ", "x" * 501])
def test_an_end_needs_a_reason(world: World, reason: str) -> None:
    restriction = submit(world, entry())
    with pytest.raises(InvalidRequestError, match="reason"):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, reason, actor=COURT)
    with pytest.raises(InvalidRequestError, match="16 bytes"):
        world.registry.restrictions.end(b"short", EndKind.RELEASE, "x", actor=COURT)


def test_what_was_never_in_force_is_not_released(world: World) -> None:
    restriction = submit(world, entry(effective_at=NOW + timedelta(days=2)))
    with pytest.raises(LifecycleError, match="not possible in state NOTICED"):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    dispute(world, restriction)
    with pytest.raises(LifecycleError, match="never been in force"):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    assert (
        world.registry.restrictions.end(
            restriction, EndKind.REPAIR, "paid within the notice", actor=COURT
        ).relief_sequence
        == 2
    )


def test_time_puts_in_force_and_ends_and_needs_no_relief(world: World) -> None:
    soon = submit(world, entry(effective_at=NOW + timedelta(days=2)))
    short = submit(world, entry(person(1), expires_at=NOW + timedelta(days=1)))
    assert world.registry.expire_due(NOW) == type(world.registry.expire_due(NOW))(0, 0)
    due = world.registry.expire_due(NOW + timedelta(days=2))
    assert (due.activated, due.expired) == (1, 1)
    assert world.registry.restrictions.get(soon, actor=COURT).state is State.ACTIVE
    assert world.registry.restrictions.get(short, actor=COURT).state is State.EXPIRED
    due = world.registry.expire_due(NOW + timedelta(days=400))
    assert (due.activated, due.expired) == (0, 1)
    assert world.registry.relief.head() == 0
    assert verify(world.registry.store) > 0


def test_a_notice_that_ran_out_unseen_expires_without_ever_being_in_force(world: World) -> None:
    restriction = submit(
        world, entry(effective_at=NOW + timedelta(days=2), expires_at=NOW + timedelta(days=3))
    )
    due = world.registry.expire_due(NOW + timedelta(days=9))
    assert (due.activated, due.expired) == (0, 1)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.EXPIRED


def test_many_due_at_once_are_worked_off_in_batches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tipstaff_server.registry.restrictions.transitions.DUE_BATCH", 7)
    for index in range(20):
        submit(world, entry(person(index)))
    assert world.registry.expire_due(NOW + timedelta(days=400)).expired == 20


def test_a_dispute_suspends_at_once_and_rejection_puts_back_in_force(world: World) -> None:
    restriction = submit(world, entry())
    opened = dispute(world, restriction)
    assert (opened.dispute.state, opened.dispute.suspended, opened.relief_sequence) == (
        DisputeState.OPEN,
        True,
        1,
    )
    assert opened.dispute.answer_due_at == NOW + timedelta(days=15)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.SUSPENDED
    assert listed(world) == {}
    answered = world.registry.disputes.answer(
        opened.dispute.case_number, DisputeState.REJECTED, "identity confirmed", actor=COURT
    ).dispute
    assert (answered.state, answered.suspended) == (DisputeState.REJECTED, False)
    record = listed(world)[person(0).identifiers[0]].restrictions[0]
    assert record.relief_floor == 1
    assert (
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=COURT
        ).relief_sequence
        == 2
    )


def test_a_ground_that_was_rejected_does_not_suspend_again_another_does(world: World) -> None:
    restriction = submit(world, entry())
    first = dispute(world, restriction)
    world.registry.disputes.answer(
        first.dispute.case_number, DisputeState.REJECTED, "x", actor=COURT
    )
    again = dispute(world, restriction)
    assert (again.dispute.suspended, again.relief_sequence) == (False, 0)
    other = dispute(world, restriction, ground=DisputeGround.PERFORMED)
    assert (other.dispute.suspended, other.relief_sequence) == (True, 2)


def test_of_two_disputes_the_last_answer_puts_back_in_force(world: World) -> None:
    restriction = submit(world, entry())
    one, two = (
        dispute(world, restriction),
        dispute(world, restriction, ground=DisputeGround.PERFORMED),
    )
    assert one.relief_sequence == two.relief_sequence == 1
    assert world.registry.disputes.answer(
        one.dispute.case_number, DisputeState.REJECTED, "x", actor=COURT
    ).dispute.suspended
    assert not world.registry.disputes.answer(
        two.dispute.case_number, DisputeState.REJECTED, "x", actor=COURT
    ).dispute.suspended
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.ACTIVE


def test_revoking_answers_every_open_dispute(world: World) -> None:
    restriction = submit(world, entry())
    one, two = (
        dispute(world, restriction),
        dispute(world, restriction, ground=DisputeGround.PERFORMED),
    )
    answered = world.registry.disputes.answer(
        one.dispute.case_number, DisputeState.REVOKED, "wrong person", actor=COURT
    ).dispute
    assert answered.state is DisputeState.REVOKED
    assert (
        world.registry.disputes.get(two.dispute.case_number, actor=AIRLINE).state
        is DisputeState.REVOKED
    )
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.REVOKED
    with pytest.raises(LifecycleError, match="REVOKED already"):
        world.registry.disputes.answer(
            two.dispute.case_number, DisputeState.REJECTED, "x", actor=COURT
        )
    with pytest.raises(LifecycleError, match="REVOKED already"):
        dispute(world, restriction)


def test_a_release_closes_open_disputes(world: World) -> None:
    restriction = submit(world, entry())
    opened = dispute(world, restriction)
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    assert (
        world.registry.disputes.get(opened.dispute.case_number, actor=COURT).state
        is DisputeState.CLOSED
    )


def test_a_list_whose_policy_is_to_continue_continues(world: World) -> None:
    restriction = submit(world, entry(list_id="court-high-consumption"))
    opened = dispute(world, restriction)
    assert (opened.dispute.suspended, opened.relief_sequence) == (False, 0)
    assert world.registry.relief.head() == 0
    record = listed(world)[person(0).identifiers[0]].restrictions[0]
    assert not record.dispute.suspends
    assert record.dispute.text.zh
    assert record.dispute.text.en


def test_opening_again_with_the_same_request_gives_the_first_answer(world: World) -> None:
    restriction, other = submit(world, entry()), submit(world, entry(person(1)))
    request = secrets.token_bytes(16)
    first = dispute(world, restriction, request_id=request)
    assert dispute(world, restriction, request_id=request) == first
    with pytest.raises(InvalidRequestError, match="another restriction"):
        dispute(world, other, request_id=request)
    assert world.registry.relief.head() == 1


def test_a_dispute_is_followed_by_those_concerned_only(world: World) -> None:
    opened = dispute(world, submit(world, entry()))
    number = opened.dispute.case_number
    for actor in (AIRLINE, COURT, OPERATOR):
        assert world.registry.disputes.get(number, actor=actor).case_number == number
    for actor in (RAILWAY, TAX):
        with pytest.raises(NotFoundError):
            world.registry.disputes.get(number, actor=actor)
    with pytest.raises(NotFoundError):
        world.registry.disputes.get("YY-NONE", actor=OPERATOR)
    for actor in (AIRLINE, RAILWAY):
        with pytest.raises(PermissionDeniedError):
            world.registry.disputes.answer(number, DisputeState.REJECTED, "x", actor=actor)


@pytest.mark.parametrize(
    "options",
    [
        {"actor": RAILWAY},
        {"actor": TAX},
        {"request_id": b"1"},
        {"decision_id": b"1"},
        {"statement": ""},
        {"statement": "x" * 2001},
    ],
)
def test_disputes_that_are_not_taken(world: World, options: dict[str, Any]) -> None:
    restriction = submit(world, entry())
    full = {"statement": "不是我", "request_id": bytes(16), "actor": AIRLINE} | options
    with pytest.raises((NotFoundError, InvalidRequestError)):
        world.registry.disputes.open(restriction, **full)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.ACTIVE


def test_a_statement_is_kept_encrypted(world: World) -> None:
    world.registry.disputes.open(
        submit(world, entry()), "我从未收到判决书", request_id=bytes(16), actor=AIRLINE
    )
    assert "我从未收到判决书".encode() not in world.raw()


def test_lifts_of_many_threads_have_distinct_sequences_without_holes(world: World) -> None:
    ids = [submit(world, entry(person(index))) for index in range(12)]
    sequences: list[int] = []

    def end(some: list[bytes]) -> None:
        sequences.extend(
            world.registry.restrictions.end(item, EndKind.RELEASE, "x", actor=COURT).relief_sequence
            for item in some
        )

    threads = [threading.Thread(target=end, args=(ids[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sequences) == list(range(1, 13))
    assert verify(world.registry.store) > 24


def test_an_exemption_is_in_the_record_as_far_as_the_audience_may_see_it(world: World) -> None:
    restriction = submit(world, entry())
    valid = (NOW, NOW + timedelta(days=1))
    why = ("奔丧往返一次", "one journey to a funeral")
    exempt = world.registry.restrictions.exempt
    air = exempt(restriction, measures=["AIR_TRAVEL"], valid=valid, why=why, actor=COURT)
    exempt(restriction, measures=["LOAN_PRICING"], valid=valid, why=why, actor=COURT)
    everything = exempt(restriction, measures=[], valid=valid, why=why, actor=COURT)
    found = listed(world)[person(0).identifiers[0]].restrictions[0].exemptions
    assert {item.exemption_id: list(item.measures) for item in found} == {
        air: ["AIR_TRAVEL"],
        everything: [],
    }
    assert (found[0].reason.zh, found[0].reason.en) == why
    world.clock.turn(days=1)
    assert not listed(world)[person(0).identifiers[0]].restrictions[0].exemptions


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"measures": ["EXIT"]}, InvalidRequestError),
        ({"valid": (NOW, NOW)}, InvalidRequestError),
        ({"why": ("", "x")}, InvalidRequestError),
        ({"actor": AIRLINE}, PermissionDeniedError),
        ({"actor": TAX}, NotFoundError),
    ],
)
def test_exemptions_that_are_not_given(
    world: World, options: dict[str, Any], error: type[Exception]
) -> None:
    restriction = submit(world, entry())
    full = {
        "measures": [],
        "valid": (NOW, NOW + timedelta(days=1)),
        "why": ("事", "why"),
        "actor": COURT,
    } | options
    with pytest.raises(error):
        world.registry.restrictions.exempt(restriction, **full)


def test_what_a_provider_enforces_is_kept(world: World) -> None:
    world.registry.providers.acknowledge("air-1", listing_version=3, relief_sequence=9)
    with pytest.raises(NotFoundError):
        world.registry.providers.acknowledge("nobody", listing_version=3, relief_sequence=9)
