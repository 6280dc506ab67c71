"""Entering restrictions: what goes in, what changes nothing, what is refused and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    TAX,
    World,
    entry,
    listed,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff.v1 import identity_pb2, registry_pb2
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.errors import (
    DatabaseUnavailableError,
    EntryCode,
    EntryError,
    PermissionDeniedError,
)
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import (
    AuditHeadRow,
    IdentifierRow,
    NameRow,
    RestrictionRow,
    SubjectRow,
)


def count(world: World, table: type) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def refusal(world: World, item: Entry, **options: Any) -> EntryCode | None:
    answer = world.registry.restrictions.submit(
        item, **({"authority": "court", "actor": COURT} | options)
    )
    assert answer.status is SubmitStatus.REJECTED
    assert not answer.restriction_id
    for party in (item.party, *(one.party for one in item.responsible)):
        assert not [number for number in party.identifiers if number.number in answer.detail]
        assert not [name for name in party.names if name.strip() and name in answer.detail]
    return answer.code


def test_a_new_entry_is_in_force(world: World) -> None:
    restriction = submit(world, entry())
    summary = world.registry.restrictions.get(restriction, actor=COURT)
    assert len(restriction) == 16
    assert (summary.state, summary.authority_id, summary.list_id, summary.version) == (
        State.ACTIVE,
        "court",
        "joint-discipline",
        1,
    )
    assert summary.measures == ("AIR_TRAVEL", "LOAN_PRICING")


def test_the_same_entry_again_changes_nothing_however_it_ended_meanwhile(world: World) -> None:
    first = submit(world, entry())
    world.registry.restrictions.end(first, EndKind.RELEASE, "performed", actor=COURT)
    world.clock.turn(days=1_000)
    again = world.registry.restrictions.submit(entry(), authority="court", actor=COURT)
    assert (again.status, again.restriction_id) == (SubmitStatus.UNCHANGED, first)
    assert world.registry.restrictions.get(first, actor=COURT).state is State.RELEASED
    assert count(world, RestrictionRow) == 1


def test_an_idempotency_key_gives_the_first_answer(world: World) -> None:
    answers = [
        world.registry.restrictions.submit(
            entry(), authority="court", actor=COURT, idempotency_key="a"
        )
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert answers[0].status is SubmitStatus.CREATED
    assert refusal(world, entry(case_number="2"), idempotency_key="a") is EntryCode.IDEMPOTENCY_KEY
    assert (
        refusal(world, entry(case_number="2"), idempotency_key="a" * 65)
        is EntryCode.IDEMPOTENCY_KEY
    )
    assert refusal(world, entry(case_number="2"), idempotency_key="") is EntryCode.IDEMPOTENCY_KEY
    other = world.registry.restrictions.submit(
        entry(case_number="2"), authority="court", actor=OPERATOR, idempotency_key="a"
    )
    assert other.status is SubmitStatus.CREATED


def test_one_refused_entry_does_not_hold_up_the_others(world: World) -> None:
    items = [entry(person(0)), entry(person(1), measures=("NO_SUCH",)), entry(person(2))]
    answers = world.registry.restrictions.submit_many(items, authority="court", actor=COURT)
    assert [answer.status.value for answer in answers] == ["CREATED", "REJECTED", "CREATED"]
    assert count(world, SubjectRow) == 2


def test_twins_in_one_batch_count_once(world: World) -> None:
    answers = world.registry.restrictions.submit_many(
        [entry(), entry(), entry(measures=("EXIT",))], authority="court", actor=COURT
    )
    assert [answer.status.value for answer in answers] == ["CREATED", "UNCHANGED", "REJECTED"]
    assert answers[0].restriction_id == answers[1].restriction_id
    assert answers[2].code is EntryCode.CASE_CONFLICT


def test_one_subject_has_several_restrictions_of_several_authorities(world: World) -> None:
    submit(world, entry())
    submit(world, entry(case_number="2"))
    submit(world, entry(measures=("AIR_TRAVEL",)), authority="tax", actor=TAX)
    subject = listed(world)[person(0).identifiers[0]]
    assert len(subject.restrictions) == 3
    assert count(world, SubjectRow) == 1


def test_a_known_number_with_another_name_is_refused(world: World) -> None:
    submit(world, entry())
    assert refusal(world, entry(person(0, "无关之人"), case_number="2")) is EntryCode.NAME_CONFLICT
    assert count(world, NameRow) == 1


def test_a_known_name_brings_a_new_one_with_it(world: World) -> None:
    known = person(0).names[0]
    submit(world, entry())
    submit(world, entry(person(0, "曾用名甲", known), case_number="2"))
    submit(world, entry(person(0, "曾用名甲"), case_number="3"))
    assert set(listed(world)[person(0).identifiers[0]].names) == {known, "曾用名甲"}


def test_names_that_differ_only_in_writing_are_one(world: World) -> None:
    submit(world, entry(person(0, "买买提·吐尔逊")))
    submit(world, entry(person(0, "买买提•吐尔逊 "), case_number="2"))
    assert count(world, NameRow) == 1


def test_a_second_number_joins_the_subject_of_the_first(world: World) -> None:
    one, passport = person(0), Identifier(IdentifierKind.PASSPORT, "E12345678")
    submit(world, entry(one))
    submit(world, entry(replace(one, identifiers=(*one.identifiers, passport)), case_number="2"))
    submit(world, entry(Party(1, (passport,), one.names), case_number="3"))
    assert len(listed(world)[passport].restrictions) == 3
    assert (count(world, SubjectRow), count(world, IdentifierRow)) == (1, 2)


def test_numbers_of_two_subjects_in_one_entry_are_refused(world: World) -> None:
    submit(world, entry(person(0)))
    submit(world, entry(person(1)))
    both = Party(
        1, person(0).identifiers + person(1).identifiers, person(0).names + person(1).names
    )
    assert refusal(world, entry(both, case_number="2")) is EntryCode.IDENTIFIER_CONFLICT


def test_a_refused_entry_leaves_no_trace_of_its_people(world: World) -> None:
    org = organisation(0)
    item = entry(org, responsible=(responsible(1), Responsible(1, person(2, "\x07"))))
    assert refusal(world, item) is EntryCode.NAME_INVALID
    taken = person(5)
    submit(world, entry(taken))
    wrong = Responsible(2, Party(1, taken.identifiers, ("不是本人",)))
    assert (
        refusal(world, entry(org, case_number="2", responsible=(responsible(1), wrong)))
        is EntryCode.NAME_CONFLICT
    )
    assert (count(world, SubjectRow), count(world, IdentifierRow)) == (1, 1)


def test_one_person_in_two_capacities_is_one_subject(world: World) -> None:
    submit(world, entry(organisation(0), responsible=(responsible(1, 1), responsible(1, 4))))
    assert count(world, SubjectRow) == 2
    assert (
        listed(world)[person(1).identifiers[0]].restrictions[0].capacity
        == identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE
    )


REFUSALS = {
    "no identifier": (lambda: entry(Party(1, (), ("张三",))), EntryCode.IDENTIFIER_MISSING),
    "no name": (lambda: entry(Party(1, person(0).identifiers, ())), EntryCode.NAME_MISSING),
    "empty name": (lambda: entry(person(0, "  ")), EntryCode.NAME_INVALID),
    "name of 201 characters": (lambda: entry(person(0, "a" * 201)), EntryCode.NAME_INVALID),
    "no type": (lambda: entry(Party(0, person(0).identifiers, ("张三",))), EntryCode.SUBJECT_TYPE),
    "a person with a company's code": (
        lambda: entry(Party(1, organisation(0).identifiers, ("张三",))),
        EntryCode.SUBJECT_TYPE,
    ),
    "a company with a person's number": (
        lambda: entry(Party(2, person(0).identifiers, ("公司",))),
        EntryCode.SUBJECT_TYPE,
    ),
    "a person with responsible persons": (
        lambda: entry(responsible=(responsible(1),)),
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "no capacity": (
        lambda: entry(organisation(0), responsible=(responsible(1, 0),)),
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "unknown capacity": (
        lambda: entry(organisation(0), responsible=(responsible(1, 9),)),
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "too many responsible": (
        lambda: entry(organisation(0), responsible=tuple(responsible(i) for i in range(33))),
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "unknown list": (lambda: entry(list_id="no-such"), EntryCode.LIST_UNKNOWN),
    "no measures": (lambda: entry(measures=()), EntryCode.MEASURE_MISSING),
    "unknown measure": (
        lambda: entry(measures=("AIR_TRAVEL", "NO_SUCH")),
        EntryCode.MEASURE_UNKNOWN,
    ),
    "a measure of others": (
        lambda: entry(measures=("GREEN_CHANNEL",)),
        EntryCode.MEASURE_NOT_ENTITLED,
    ),
    "no legal basis": (lambda: entry(legal_basis=" "), EntryCode.LEGAL_BASIS),
    "an endless legal basis": (lambda: entry(legal_basis="x" * 501), EntryCode.LEGAL_BASIS),
    "no case number": (lambda: entry(case_number=""), EntryCode.CASE_NUMBER),
    "an endless case number": (lambda: entry(case_number="x" * 101), EntryCode.CASE_NUMBER),
    "a line break in the case number": (lambda: entry(case_number="1\n2"), EntryCode.CASE_NUMBER),
    "an inverted term": (
        lambda: entry(expires_at=NOW - timedelta(days=2)),
        EntryCode.TERM_INVERTED,
    ),
    "an empty term": (lambda: entry(expires_at=NOW - timedelta(days=1)), EntryCode.TERM_INVERTED),
    "a term of 100 years": (
        lambda: entry(expires_at=NOW + timedelta(days=36_500)),
        EntryCode.TERM_TOO_LONG,
    ),
    "a term that is over": (
        lambda: entry(effective_at=NOW - timedelta(days=9), expires_at=NOW),
        EntryCode.TERM_OVER,
    ),
    "a date in 1900": (lambda: entry(published_at=NOW.replace(year=1900)), EntryCode.DATE_INVALID),
    "a term until 2300": (lambda: entry(expires_at=NOW.replace(year=2300)), EntryCode.DATE_INVALID),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_say_why_in_a_fixed_word(world: World, case: str) -> None:
    make, code = REFUSALS[case]
    assert refusal(world, make()) is code
    assert (count(world, RestrictionRow), count(world, SubjectRow)) == (0, 0)


def test_another_content_under_a_known_case_number_is_refused(world: World) -> None:
    submit(world, entry())
    assert refusal(world, entry(expires_at=NOW + timedelta(days=301))) is EntryCode.CASE_CONFLICT


@pytest.mark.parametrize(
    ("authority", "actor"), [("tax", COURT), ("court", AIRLINE), ("no-such", OPERATOR)]
)
def test_nobody_enters_for_others(world: World, authority: str, actor: Any) -> None:
    with pytest.raises(PermissionDeniedError):
        world.registry.restrictions.submit(entry(), authority=authority, actor=actor)


def test_the_notice_period_of_a_list_puts_off_the_beginning(world: World) -> None:
    item = entry(list_id="tax-violation", measures=("EXIT",))
    waiting = submit(world, item)
    summary = world.registry.restrictions.get(waiting, actor=COURT)
    assert (summary.state, summary.effective_at) == (State.NOTICED, NOW + timedelta(days=7))
    published = replace(item, case_number="2", published_at=NOW - timedelta(days=5))
    assert world.registry.restrictions.get(
        submit(world, published), actor=COURT
    ).effective_at == NOW + timedelta(days=2)
    long_ago = replace(item, case_number="3", published_at=NOW - timedelta(days=50))
    assert (
        world.registry.restrictions.get(submit(world, long_ago), actor=COURT).state is State.ACTIVE
    )
    ahead = replace(item, case_number="4", published_at=NOW + timedelta(days=50))
    assert world.registry.restrictions.get(
        submit(world, ahead), actor=COURT
    ).effective_at == NOW + timedelta(days=7)
    short = replace(item, case_number="5", expires_at=NOW + timedelta(days=3))
    assert refusal(world, short) is EntryCode.TERM_OVER
    again = world.registry.restrictions.submit(item, authority="court", actor=COURT)
    assert (again.status, again.restriction_id) == (SubmitStatus.UNCHANGED, waiting)


def test_a_locked_database_enters_nothing_and_the_same_call_works_later(world: World) -> None:
    impatient = world.replica(busy_timeout_seconds=0.1)
    with world.database.write() as session:
        session.execute(select(AuditHeadRow).with_for_update())
        work = impatient.restrictions.prepare([entry()], authority="court", actor=COURT)
        with pytest.raises(DatabaseUnavailableError, match="try again"):
            impatient.restrictions.commit(work)
    assert count(world, RestrictionRow) == 0
    assert impatient.restrictions.commit(work)[0].status is SubmitStatus.CREATED


def message(**changes: Any) -> registry_pb2.RestrictionEntry:
    one = person(0)
    made = registry_pb2.RestrictionEntry(
        subject=registry_pb2.Subject(
            type=identity_pb2.SUBJECT_TYPE_PERSON,
            identifiers=[item.to_proto() for item in one.identifiers],
            names=one.names,
        ),
        list_id="joint-discipline",
        measures=["LOAN_PRICING", "AIR_TRAVEL", "AIR_TRAVEL"],
        legal_basis="国发〔2016〕33号",
        case_number="（2026）虚01执1号",
    )
    made.effective_at.FromDatetime(NOW - timedelta(days=1))
    made.expires_at.FromDatetime(NOW + timedelta(days=300))
    for name, value in changes.items():
        if value is None:
            made.ClearField(name)  # type: ignore[arg-type]
        else:
            getattr(made, name).CopyFrom(value)
    return made


def test_the_contract_s_message_and_the_entry_are_the_same(world: World) -> None:
    assert Entry.from_proto(message()) == entry()
    submit(world, entry())
    answer = world.registry.restrictions.submit(
        Entry.from_proto(message()), authority="court", actor=COURT
    )
    assert answer.status is SubmitStatus.UNCHANGED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"effective_at": None}, EntryCode.DATE_MISSING),
        ({"expires_at": None}, EntryCode.TERM_MISSING),
        (
            {"subject": registry_pb2.Subject(identifiers=[identity_pb2.Identifier(number="1")])},
            EntryCode.IDENTIFIER_INVALID,
        ),
        (
            {
                "subject": registry_pb2.Subject(
                    identifiers=[identity_pb2.Identifier(kind=1, number="11010119900101001x")]
                )
            },
            EntryCode.IDENTIFIER_INVALID,
        ),  # type: ignore[arg-type]
    ],
)
def test_a_message_that_is_no_entry_is_refused(changes: dict[str, Any], code: EntryCode) -> None:
    with pytest.raises(EntryError) as caught:
        Entry.from_proto(message(**changes))
    assert caught.value.code is code
