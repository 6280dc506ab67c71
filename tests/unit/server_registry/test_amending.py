"""Corrections, searches, histories; acts that are sent twice, and acts on what somebody else has
changed meanwhile.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.messages import denial
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
from tipstaff.v1 import enforcement_pb2
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    StaleVersionError,
)
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.search import Wanted
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage import migrations
from tipstaff_server.storage.models import AuditRow, DisputeState

BOTH = ("AIR_TRAVEL", "RAIL_HIGH_CLASS")
WHY = ("赴诊", "to the doctor")


def restricted(world: World, index: int = 0, **changes: Any) -> bytes:
    return submit(world, entry(person(index), **({"measures": BOTH} | changes)))


def amend(
    world: World,
    restriction: bytes,
    given: Precondition = Precondition(),  # noqa: B008  frozen
    **changes: Any,
) -> Any:
    return world.registry.restrictions.amend(
        restriction, Amendment(**changes), "corrected", COURT, given
    )


def sequences(world: World, audience: str) -> list[int]:
    return [lift.sequence for lift in world.registry.relief.since(audience, 0)]


def test_a_measure_that_goes_is_lifted_for_those_who_enforced_it_and_the_rest_comes_back(
    world: World,
) -> None:
    restriction = restricted(world)
    done = amend(world, restriction, measures=("RAIL_HIGH_CLASS",))
    assert done.relief_sequence == 1
    assert done.restriction.measures == ("RAIL_HIGH_CLASS",)
    assert done.restriction.version == 2
    # Also for the audience that no longer sees the restriction: its listing still has it.
    assert sequences(world, "aviation") == sequences(world, "rail") == [1]
    assert listed(world, "aviation") == {}
    ((record,),) = [subject.restrictions for subject in listed(world, "rail").values()]
    assert (list(record.measures), record.relief_floor) == (["RAIL_HIGH_CLASS"], 1)
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    assert (sequences(world, "aviation"), sequences(world, "rail")) == ([1], [1, 2])


def test_a_term_that_is_over_is_not_made_longer_even_before_the_scheduler_looked(
    world: World,
) -> None:
    restriction = restricted(world, expires_at=NOW + timedelta(days=1))
    world.clock.turn(days=1)
    with pytest.raises(LifecycleError, match="its term ended"):
        amend(world, restriction, expires_at=NOW + timedelta(days=30))
    assert world.registry.restrictions.get(restriction, actor=COURT).version == 1
    world.registry.expire_due(world.clock())
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.EXPIRED


def test_a_shorter_term_is_lifted_and_a_longer_one_waits_for_the_listing(world: World) -> None:
    restriction = restricted(world)
    assert amend(world, restriction, expires_at=NOW + timedelta(days=400)).relief_sequence == 0
    assert sequences(world, "aviation") == []
    assert amend(world, restriction, expires_at=NOW + timedelta(days=20)).relief_sequence == 1
    ((record,),) = [subject.restrictions for subject in listed(world).values()]
    assert record.expires_at.ToSeconds() == int((NOW + timedelta(days=20)).timestamp())


def test_another_legal_basis_and_more_measures_lift_nothing(world: World) -> None:
    restriction = restricted(world, measures=("AIR_TRAVEL",))
    assert amend(world, restriction, measures=BOTH, legal_basis="第三条").relief_sequence == 0
    ((record,),) = [subject.restrictions for subject in listed(world, "rail").values()]
    assert (record.legal_basis, list(record.measures)) == ("第三条", ["RAIL_HIGH_CLASS"])


def test_a_correction_that_changes_nothing_is_no_act(world: World) -> None:
    restriction = restricted(world)
    before = verify(world.registry.store)
    assert amend(world, restriction, measures=BOTH).restriction.version == 1
    assert verify(world.registry.store) == before


def test_what_is_suspended_is_corrected_without_another_lift(world: World) -> None:
    restriction = restricted(world)
    number = world.registry.disputes.open(
        restriction, "x", request_id=bytes(16), actor=AIRLINE
    ).dispute.case_number
    assert amend(world, restriction, measures=("AIR_TRAVEL",)).relief_sequence == 0
    world.registry.disputes.answer(number, DisputeState.REJECTED, "x", actor=COURT)
    ((record,),) = [subject.restrictions for subject in listed(world).values()]
    assert record.relief_floor == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"measures": ("NO_SUCH",)}, EntryCode.MEASURE_UNKNOWN),
        ({"expires_at": NOW}, EntryCode.TERM_OVER),
        ({"expires_at": NOW - timedelta(days=3)}, EntryCode.TERM_INVERTED),
        ({"expires_at": NOW + timedelta(days=200 * 366)}, EntryCode.DATE_INVALID),
        ({"expires_at": NOW + timedelta(days=50 * 366)}, EntryCode.TERM_TOO_LONG),
        ({"legal_basis": "x" * 501}, EntryCode.LEGAL_BASIS),
    ],
)
def test_the_rules_of_entering_hold_for_correcting(
    world: World, changes: dict[str, Any], code: EntryCode
) -> None:
    restriction = restricted(world)
    with pytest.raises(EntryError) as refused:
        amend(world, restriction, **changes)
    assert refused.value.code is code
    assert world.registry.restrictions.get(restriction, actor=COURT).version == 1


def test_what_has_ended_is_neither_corrected_nor_exempted_from(world: World) -> None:
    restriction = restricted(world)
    world.registry.restrictions.end(restriction, EndKind.REVOKE, "x", actor=COURT)
    with pytest.raises(LifecycleError, match="REVOKED"):
        amend(world, restriction, legal_basis="other")
    with pytest.raises(LifecycleError, match="REVOKED"):
        world.registry.restrictions.exempt(
            restriction, measures=[], valid=(NOW, NOW + timedelta(days=1)), why=WHY, actor=COURT
        )


def test_a_version_that_is_no_longer_true_stops_each_act(world: World) -> None:
    restriction = restricted(world)
    amend(world, restriction, legal_basis="other")
    old, now = Precondition(version=1), Precondition(version=2)
    acts = (
        lambda given: amend(world, restriction, given, legal_basis="third"),
        lambda given: world.registry.restrictions.exempt(
            restriction,
            measures=[],
            valid=(NOW, NOW + timedelta(days=1)),
            why=WHY,
            actor=COURT,
            given=given,
        ),
        lambda given: world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=COURT, given=given
        ),
    )
    for act in acts:
        with pytest.raises(StaleVersionError, match="version 2"):
            act(old)
    acts[2](now)


def test_an_act_that_is_sent_twice_happens_once(world: World) -> None:
    restriction = restricted(world)
    given = [Precondition(key=str(number)) for number in range(3)]
    first = amend(world, restriction, given[0], measures=("AIR_TRAVEL",))
    assert amend(world, restriction, given[0], measures=("AIR_TRAVEL",)) == first
    days = (NOW, NOW + timedelta(days=1))
    exemptions = {
        world.registry.restrictions.exempt(
            restriction, measures=[], valid=days, why=WHY, actor=COURT, given=given[1]
        )
        for _ in range(2)
    }
    assert len(exemptions) == 1
    ends = [
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=COURT, given=given[2]
        )
        for _ in range(2)
    ]
    assert ends[0] == ends[1]
    assert sequences(world, "aviation") == [1, 2]
    with pytest.raises(InvalidRequestError, match="another request"):
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "another reason", actor=COURT, given=given[2]
        )
    with pytest.raises(InvalidRequestError, match="64"):
        world.registry.restrictions.end(
            restriction, EndKind.RELEASE, "x", actor=COURT, given=Precondition(key="x" * 65)
        )


def test_a_report_on_a_measure_that_was_taken_away_is_still_taken(world: World) -> None:
    restriction = restricted(world)
    amend(world, restriction, measures=("RAIL_HIGH_CLASS",))
    report = denial(restriction, NOW)
    (result,) = Feedback(world.store).submit_reports("air-1", [report])
    assert result.status == enforcement_pb2.EVENT_STATUS_ACCEPTED


def test_searching_finds_ones_own_by_number_case_and_state(world: World) -> None:
    mine = [restricted(world, index, case_number=f"case-{index}") for index in range(3)]
    theirs = submit(
        world,
        entry(person(0), measures=("LOAN_PRICING",), case_number="tax-1"),
        authority="tax",
        actor=TAX,
    )
    world.registry.restrictions.end(mine[1], EndKind.RELEASE, "x", actor=COURT)
    number = person(0).identifiers[0]
    search = world.registry.restrictions.search
    assert {item.restriction_id for item in search(Wanted(), COURT)} == set(mine)
    assert [item.restriction_id for item in search(Wanted(identifier=number), COURT)] == [mine[0]]
    assert {item.restriction_id for item in search(Wanted(identifier=number), OPERATOR)} == {
        mine[0],
        theirs,
    }
    assert search(Wanted(identifier=person(9).identifiers[0]), COURT) == []
    assert [item.restriction_id for item in search(Wanted(case_number="case-2"), COURT)] == [
        mine[2]
    ]
    assert [item.restriction_id for item in search(Wanted(state=State.RELEASED), COURT)] == [
        mine[1]
    ]
    found, after = [], b""
    while page := search(Wanted(after=after, limit=2), COURT):
        found += [item.restriction_id for item in page]
        after = found[-1]
    assert found == sorted(mine)
    for actor in (AIRLINE, RAILWAY):
        with pytest.raises(PermissionDeniedError):
            search(Wanted(), actor)
    with world.database.read() as session:
        searches = session.scalars(select(AuditRow).where(AuditRow.act == "SEARCH")).all()
    assert [(row.actor, row.detail) for row in searches] == [
        ("authority:court", '{"found":1}'),
        ("operator:test", '{"found":2}'),
        ("authority:court", '{"found":0}'),
    ]
    verify(world.registry.store)


def test_a_history_has_every_act_with_its_reason_and_is_ones_own(world: World) -> None:
    restriction = restricted(world)
    amend(world, restriction, measures=("AIR_TRAVEL",))
    world.registry.restrictions.exempt(
        restriction, measures=[], valid=(NOW, NOW + timedelta(days=1)), why=WHY, actor=COURT
    )
    world.registry.restrictions.end(
        restriction, EndKind.REVOKE, "张三 was somebody else", actor=OPERATOR
    )
    found = world.registry.restrictions.history(restriction, COURT)
    assert [(item.act, item.actor, item.reason) for item in found] == [
        ("SUBMIT", "authority:court", ""),
        ("AMEND", "authority:court", "corrected"),
        ("EXEMPT", "authority:court", "赴诊"),
        ("REVOKE", "operator:test", "张三 was somebody else"),
    ]
    with pytest.raises(NotFoundError):
        world.registry.restrictions.history(restriction, TAX)
    with pytest.raises(PermissionDeniedError):
        world.registry.restrictions.history(restriction, AIRLINE)


def test_migrations_down_and_up_keep_lifts_and_their_audiences(world: World) -> None:
    lifted = [restricted(world, index) for index in range(2)]
    rail = restricted(world, 2, measures=("RAIL_HIGH_CLASS",))
    for restriction in (*lifted, rail):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    entries = verify(world.registry.store)
    migrations.downgrade(world.database, "0002")
    migrations.upgrade(world.database)
    assert (sequences(world, "aviation"), sequences(world, "rail")) == ([1, 2], [1, 2, 3])
    assert verify(world.registry.store) == entries
