"""People and organisations as they are, through the real builder: names, exemptions, authorities,
who answers for whom; bad input.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support import identities
from tests.support.deployment import Deployment
from tests.support.registry import COURT, OPERATOR, TAX, organisation, person
from tests.support.sealed_world import AIR, EPOCH, SealedWorld, restriction
from tipstaff_bloom import BloomFilter
from tipstaff_sdk import (
    Capacity,
    Identifier,
    IdentifierKind,
    InvalidIdentifierError,
    InvalidNameError,
    Reason,
    Verdict,
)
from tipstaff_sdk.decision.decide import decide
from tipstaff_sdk.screening.engine import People, Screening, by_person
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.restrictions.transitions import EndKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tipstaff_sdk import Decision

ANNA = person(3, "安娜·穆勒", "Anna Müller", "安娜•米勒", "MUELLER ANNA", "穆 安 娜")


@pytest.fixture
def real() -> Iterator[Deployment]:
    with Deployment("aviation") as made:
        yield made


def enter(
    real: Deployment, party: Party, case: str = "1", *, by: Any = COURT, **changes: Any
) -> bytes:
    fields: dict[str, Any] = {
        "party": party,
        "list_id": "joint-discipline",
        "measures": ("AIR_TRAVEL",),
        "legal_basis": "示例规定",
        "case_number": f"（2026）示{case}号",
        "effective_at": real.clock.now - timedelta(days=1),
        "expires_at": real.clock.now + timedelta(days=300),
    }
    answer = real.runtime.registry.restrictions.submit(
        Entry(**(fields | changes)), authority=by.id, actor=by
    )
    assert not answer.detail, answer.detail
    return answer.restriction_id


def list_all(real: Deployment) -> None:
    real.publish()
    real.screener.sync()


def ask(real: Deployment, number: Any, name: str) -> Decision:
    return real.screener.check(number, name=name, measure="AIR_TRAVEL")


@pytest.mark.parametrize(
    "name",
    [
        "安娜·穆勒",
        "安娜.穆勒",
        "安娜 ・ 穆勒",
        "anna müller",
        "ANNA  MÜLLER",
        "Ａｎｎａ Müller",
        "安娜·米勒",
        "Mueller Anna",
        "穆安娜",
        "安娜｡穆勒",
    ],
)
def test_each_of_five_names_opens_the_record_in_any_writing(real: Deployment, name: str) -> None:
    enter(real, ANNA)
    list_all(real)
    assert ask(real, ANNA.identifiers[0], name).verdict is Verdict.RESTRICTED


@pytest.mark.parametrize(
    "name", ["Анна Мюллер", "安娜", "Anna Muller", "Anna", "アンナ・ミュラー", "穆勒·安娜"]
)
def test_a_name_in_the_wrong_script_or_order_asks_for_a_person(real: Deployment, name: str) -> None:
    enter(real, ANNA)
    list_all(real)
    assert ask(real, ANNA.identifiers[0], name).reason is Reason.NAME_MISMATCH


def test_a_former_name_that_comes_later_counts_for_what_was_there_before(real: Deployment) -> None:
    enter(real, person(4), "1")
    enter(real, person(4, person(4).names[0], "曾用名"), "2")
    list_all(real)
    assert len(ask(real, person(4).identifiers[0], "曾用名").restrictions) == 2


def test_several_restrictions_of_several_authorities_stand_and_fall_one_by_one(
    real: Deployment,
) -> None:
    subject = person(5)
    by_court, by_tax = enter(real, subject, "1"), enter(real, subject, "1", by=TAX)
    list_all(real)
    decision = ask(real, subject.identifiers[0], subject.names[0])
    assert {restriction.authority_id for restriction in decision.restrictions} == {"court", "tax"}
    assert "法院" in decision.explain("zh")
    assert "Tax Bureau" in decision.explain("en")
    real.runtime.registry.restrictions.end(by_court, EndKind.RELEASE, "示例", actor=COURT)
    real.relieve()
    real.screener.sync()
    (left,) = ask(real, subject.identifiers[0], subject.names[0]).restrictions
    assert left.restriction_id == by_tax
    real.runtime.registry.restrictions.end(by_tax, EndKind.REVOKE, "示例", actor=TAX)
    real.relieve()
    real.screener.sync()
    assert ask(real, subject.identifiers[0], subject.names[0]).reason is Reason.LIFTED


def test_an_exemption_permits_one_journey_and_no_other(real: Deployment) -> None:
    subject = person(6)
    which = enter(real, subject)
    begins = real.clock.now + timedelta(hours=2)
    valid = begins, begins + timedelta(hours=8)
    real.runtime.registry.restrictions.exempt(
        which,
        measures=["AIR_TRAVEL"],
        valid=valid,
        why=("奔丧一次", "one journey to a funeral"),
        actor=OPERATOR,
    )
    list_all(real)
    assert ask(real, subject.identifiers[0], subject.names[0]).verdict is Verdict.RESTRICTED
    for moment, reason in (
        (valid[0], Reason.EXEMPT),
        (valid[1] - timedelta(seconds=1), Reason.EXEMPT),
        (valid[1], Reason.IN_FORCE),
    ):
        real.clock.now = moment
        real.sign_again()
        real.screener.sync()
        decision = ask(real, subject.identifiers[0], subject.names[0])
        assert decision.reason is reason
        assert ("奔丧一次" in decision.explain("zh"), "funeral" in decision.explain("en")) == (
            reason is Reason.EXEMPT,
        ) * 2


def test_an_organisation_and_those_who_answer_for_it_each_in_their_capacity(
    real: Deployment,
) -> None:
    firm, chief, clerk = organisation(0), person(7), person(8)
    enter(real, firm, responsible=(Responsible(1, chief), Responsible(3, clerk)))
    list_all(real)
    own = ask(real, firm.identifiers[0], firm.names[0])
    assert (own.verdict, own.restrictions[0].capacity) == (Verdict.RESTRICTED, None)
    for who, capacity, word in (
        (chief, Capacity.LEGAL_REPRESENTATIVE, "法定代表人"),
        (clerk, Capacity.DIRECTLY_RESPONSIBLE, "直接责任人员"),
    ):
        decision = ask(real, who.identifiers[0], who.names[0])
        assert (decision.verdict, decision.restrictions[0].capacity) == (
            Verdict.RESTRICTED,
            capacity,
        )
        assert decision.restrictions[0].organisation_name == firm.names[0]
        assert word in decision.explain("zh")
    assert ask(real, chief.identifiers[0], firm.names[0]).reason is Reason.NAME_MISMATCH


def test_every_number_of_a_person_leads_to_the_same_restriction(real: Deployment) -> None:
    passport = Identifier(IdentifierKind.PASSPORT, "E00000019")
    subject = person(9)
    enter(real, Party(subject.type, (*subject.identifiers, passport), subject.names))
    list_all(real)
    found = [
        ask(real, number, subject.names[0]).restrictions[0].restriction_id
        for number in (*subject.identifiers, passport)
    ]
    assert found[0] == found[1]


# ---- Bad input, by name
# ---------------------------------------------------------------------------------------------------------------

LISTED = identities.resident_id(
    2
)  # "110105198005170021": its check digit stands at the end, and the same number has a 15-digit form
WRITINGS = {
    "full-width digits": "".join(chr(ord(digit) + 0xFEE0) for digit in LISTED),
    "spaces and hyphens": f" {LISTED[:6]}-{LISTED[6:14]} {LISTED[14:]} ",
    "15 digits": LISTED[:6] + LISTED[8:17],
}
REFUSED = {
    "a digit too few": LISTED[:-1],
    "a wrong check character": LISTED[:-1] + ("1" if LISTED[-1] != "1" else "2"),
    "letters in it": "1101051980O5170021",
    "no date": identities.with_resident_check("11010519801317002"),
    "nothing": "",
}


@pytest.fixture(scope="module")
def world() -> SealedWorld:
    made = SealedWorld()
    made.list(Identifier.resident_id(LISTED), "张三", restriction(1))
    return made


def decide_here(world: SealedWorld, number: str, name: str = "张三") -> Decision:
    state = world.state()
    return decide(
        state,
        state.parameters.built_at.ToDatetime(tzinfo=state.floor.tzinfo) + timedelta(hours=6),
        number,
        name,
        AIR,
    )


@pytest.mark.parametrize("writing", WRITINGS)
def test_a_number_is_the_same_in_any_writing(world: SealedWorld, writing: str) -> None:
    decision = decide_here(world, WRITINGS[writing])
    assert decision.verdict is Verdict.RESTRICTED


def test_a_small_x_is_a_capital_one() -> None:
    with_x = next(
        number
        for sequence in range(1000)
        if (number := identities.resident_id(sequence)).endswith("X")
    )
    world = SealedWorld()
    world.list(Identifier.resident_id(with_x), "张三", restriction(1))
    assert decide_here(world, with_x.lower()).verdict is Verdict.RESTRICTED


@pytest.mark.parametrize("what", REFUSED)
def test_a_number_that_is_none_is_an_error_and_not_a_miss(world: SealedWorld, what: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        decide_here(world, REFUSED[what])


@pytest.mark.parametrize("name", ["", "  ", "张\t三", "张" * 201])
def test_a_name_that_is_none_is_an_error(world: SealedWorld, name: str) -> None:
    with pytest.raises(InvalidNameError):
        decide_here(world, LISTED, name)


def test_swapped_digits_that_still_pass_the_check_deny_nobody() -> None:
    """A clear person's number, typed with two digits swapped so that it is a listed one's: the name
    stands in the way.
    """
    random = Random(20260504)
    swaps = 0
    while swaps < 20:
        mine = identities.random_resident_id(random)
        i, j = sorted(random.sample(range(17), 2))
        typed = mine[:i] + mine[j] + mine[i + 1 : j] + mine[i] + mine[j + 1 :]
        if typed == mine or not identities.is_resident_id(typed):
            continue
        swaps += 1
        world = SealedWorld()
        world.list(Identifier.resident_id(typed), "李四", restriction(1))
        assert decide_here(world, typed, "张三").reason is Reason.NAME_MISMATCH
        assert decide_here(world, mine, "张三").verdict is Verdict.CLEAR


def test_two_subjects_of_one_number_are_each_their_own() -> None:
    world = SealedWorld()
    world.list(Identifier.resident_id(LISTED), "张三", restriction(1))
    world.list(Identifier.resident_id(LISTED), "李四", restriction(2))
    for name, number in (("张三", 1), ("李四", 2)):
        assert [r.restriction_id for r in decide_here(world, LISTED, name).restrictions] == [
            bytes([number]) * 16
        ]
    assert decide_here(world, LISTED, "王五").reason is Reason.NAME_MISMATCH


# ---- Large counts
# ---------------------------------------------------------------------------------------------------------------------


def many(listed: int, clear: int, wrong: int) -> None:
    """Nobody who is not listed is stopped, and nobody is denied under another's number."""
    random = Random(listed)
    numbers: dict[str, None] = {}
    while len(numbers) < listed + clear:
        numbers[identities.random_resident_id(random)] = None
    everybody = list(numbers)
    world = SealedWorld()
    content = restriction(1)
    for number in everybody[:listed]:
        world.list(Identifier.resident_id(number), "李四", content)
    tokens = np.frombuffer(b"".join(world.tokens), np.uint8).reshape(-1, 16)
    state = world.state(filter=BloomFilter.build(tokens, epoch=EPOCH))
    now = state.parameters.built_at.ToDatetime(tzinfo=state.floor.tzinfo) + timedelta(hours=6)
    screening = Screening(state, now, AIR)

    def verdicts(some: list[str], name: str) -> dict[Verdict, int]:
        settled = screening.settle(People(len(some), some, [name] * len(some)))
        proved = [
            decision.verdict
            for group in by_person(settled.hits)
            for decision in screening.prove(group)
        ]
        at_once = len(some) - len(proved)
        assert not settled.errors
        assert np.count_nonzero(settled.reasons == Reason.NOT_LISTED) == at_once
        found = {verdict: proved.count(verdict) for verdict in set(proved)}
        return found | {Verdict.CLEAR: found.get(Verdict.CLEAR, 0) + at_once}

    assert verdicts(everybody[listed:], "张三") == {Verdict.CLEAR: clear}
    assert screening.settle(
        People(clear, everybody[listed:], ["张三"] * clear)
    ).hits  # the filter asked, and proof was there
    of_others = random.sample(everybody[:listed], wrong)
    assert verdicts(of_others, "张三") == {Verdict.REVIEW: wrong, Verdict.CLEAR: 0}
    assert verdicts(of_others, "李四") == {Verdict.RESTRICTED: wrong, Verdict.CLEAR: 0}


def test_a_hundred_thousand_clear_people_are_clear_and_ten_thousand_listed_numbers_with_wrong_names_are_reviews() -> (
    None
):
    many(listed=10_000, clear=100_000, wrong=10_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_clear_people_are_clear_and_ten_thousand_listed_numbers_with_wrong_names_are_reviews() -> (
    None
):
    many(listed=1_000_000, clear=1_000_000, wrong=10_000)
