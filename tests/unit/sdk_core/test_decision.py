"""The decision, step by step; each test named after what it shows."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.support import identities
from tests.support.sealed_world import (
    AIR,
    DAY,
    DROPPED,
    EPOCH,
    GREEN,
    HOTEL,
    HOUR,
    LOAN,
    MASTER,
    NOW,
    RAIL,
    SealedWorld,
    exemption,
    record,
    restriction,
)  # fmt: skip
from tipstaff.v1 import catalogue_pb2, enforcement_pb2, identity_pb2
from tipstaff_sdk.decision.decide import (
    Decision,
    DecisionState,
    Outcome,
    Question,
    Reason,
    Verdict,
    decide,
    decide_hit,
)
from tipstaff_sdk.errors import (
    InvalidIdentifierError,
    InvalidNameError,
    InvalidServiceError,
    MeasureNotCoveredError,
    PackFormatError,
    ParametersError,
    SealError,
    UnavailableError,
    UnknownMeasureError,
)  # fmt: skip
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.listing.catalogue import Force, Nature
from tipstaff_sdk.listing.records import Capacity
from tipstaff_sdk.listing.relief import Segment
from tipstaff_sdk.listing.sealing import EpochKey, seal
from tipstaff_sdk.packs.pack import Pack

PERSON = Identifier.resident_id(identities.resident_id(1))
OTHER = Identifier.resident_id(identities.resident_id(2))
NAME = "张三"
G_SECOND = {"train_class": "G", "seat": "SECOND"}
D_SECOND = {"train_class": "D", "seat": "SECOND"}
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def world() -> SealedWorld:
    return SealedWorld()


def ask(
    state: DecisionState | None,
    *,
    now: Any = NOW,
    person: Any = PERSON,
    name: str = NAME,
    measure: str = AIR,
    service: Any = None,
) -> Decision:
    return decide(state, now, person, name, measure, service)


def answer(state: DecisionState | None, **how: Any) -> tuple[Verdict, Reason]:
    decision = ask(state, **how)
    return decision.verdict, decision.reason


RESTRICTED = (Verdict.RESTRICTED, Reason.IN_FORCE)
UNCONFIRMED = (Verdict.REVIEW, Reason.UNCONFIRMED)


# Step 1


def test_1_a_bad_identifier_or_name_raises_whoever_is_listed(world: SealedWorld) -> None:
    for state in (None, world.state()):
        with pytest.raises(InvalidIdentifierError):
            ask(state, person="110105194912310021")
        with pytest.raises(InvalidNameError):
            ask(state, name="")
        with pytest.raises(InvalidNameError):
            ask(state, name="张" * 201)


def test_1_a_text_is_a_resident_id_in_any_writing(world: SealedWorld) -> None:
    number = "11010519491231002X"
    world.list(Identifier.resident_id(number), "O'Brien", restriction())
    state = world.state()
    for written in (
        number,
        number.lower(),
        "110105491231002",
        "１１０１０５１９４９１２３１００２ｘ",
        " 110105 19491231 002X",
    ):
        assert answer(state, person=written, name="O’BRIEN") == RESTRICTED


# Step 2


def test_2_a_measure_of_another_audience_raises(world: SealedWorld) -> None:
    world.measures = [AIR]
    with pytest.raises(MeasureNotCoveredError, match=RAIL):
        ask(world.state(), measure=RAIL, service=G_SECOND)


def test_2_an_unknown_measure_raises_and_is_not_repeated(world: SealedWorld) -> None:
    with pytest.raises(UnknownMeasureError) as caught:
        ask(world.state(), measure="11010519491231002X")
    assert "11010519491231002X" not in str(caught.value)


@pytest.mark.parametrize(
    "service",
    [None, {}, {"train_class": "G"}, G_SECOND | {"coach": "7"}, G_SECOND | {"seat": "second"}],
)
def test_2_a_service_described_wrongly_raises_even_for_those_not_listed(
    world: SealedWorld, service: Any
) -> None:
    with pytest.raises(InvalidServiceError):
        ask(world.state(), measure=RAIL, service=service)
    with pytest.raises(InvalidServiceError):
        ask(world.state(), service={"seat": "FIRST"})


def test_2_wrong_calls_raise_also_when_the_data_is_old_or_the_key_is_missing(
    world: SealedWorld,
) -> None:
    for state in (
        world.state(epoch_keys={}),
        world.state(parameters=world.parameters(expires_at=NOW)),
    ):
        with pytest.raises(UnknownMeasureError):
            ask(state, measure="NO_SUCH")
        with pytest.raises(InvalidServiceError):
            ask(state, measure=RAIL)


# Step 3


def test_3_without_a_listing_nothing_is_known() -> None:
    decision = ask(None, measure="ANY")
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.NO_DATA)
    assert (
        decision.measure,
        decision.as_of,
        decision.listing_version,
        decision.relief_sequence,
    ) == ("ANY", None, 0, 0)
    assert (decision.force, decision.nature, decision.still_allowed) == (None, None, None)


def test_3_without_the_epochs_key_nothing_is_known(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    other = EpochKey("aviation", EPOCH + 1, MASTER)
    for keys in ({}, {EPOCH + 1: other}):
        assert answer(world.state(epoch_keys=keys)) == (Verdict.UNKNOWN, Reason.NO_DATA)
        assert answer(world.state(epoch_keys=keys), person=OTHER) == (
            Verdict.UNKNOWN,
            Reason.NO_DATA,
        )


def test_3_an_expired_listing_answers_unknown_for_everyone_to_the_microsecond(
    world: SealedWorld,
) -> None:
    world.list(PERSON, NAME, restriction())
    state = world.state(parameters=world.parameters(expires_at=NOW))
    for person in (PERSON, OTHER):
        assert answer(state, person=person) == (Verdict.UNKNOWN, Reason.EXPIRED)
        assert answer(state, person=person, now=NOW + 300 * DAY) == (
            Verdict.UNKNOWN,
            Reason.EXPIRED,
        )
    assert answer(state, now=NOW - MICROSECOND) == RESTRICTED
    assert answer(state, now=NOW - MICROSECOND, person=OTHER) == (Verdict.CLEAR, Reason.NOT_LISTED)
    assert ask(state).as_of == NOW - 6 * HOUR


# Step 4


def test_4_who_is_not_in_the_filter_is_clear_and_learns_how_old_the_data_is(
    world: SealedWorld,
) -> None:
    world.list(PERSON, NAME, restriction())
    decision = ask(world.state(), person=OTHER)
    assert (decision.verdict, decision.reason) == (Verdict.CLEAR, Reason.NOT_LISTED)
    assert (decision.as_of, decision.listing_version, decision.relief_sequence) == (
        NOW - 6 * HOUR,
        7,
        10,
    )
    assert (decision.force, decision.nature, decision.restrictions) == (
        Force.MANDATORY,
        Nature.RESTRICTION,
        (),
    )


def test_4_the_same_digits_of_another_kind_are_not_listed(world: SealedWorld) -> None:
    passport = Identifier(IdentifierKind.PASSPORT, "12345678")
    world.list(passport, NAME, restriction())
    state = world.state()
    assert answer(state, person=passport) == RESTRICTED
    assert answer(state, person=Identifier(IdentifierKind.TAIWAN_PERMIT, "12345678")) == (
        Verdict.CLEAR,
        Reason.NOT_LISTED,
    )


def test_4_being_clear_takes_no_stretching_and_no_pack(world: SealedWorld) -> None:
    state = world.state(stretch=Failing(AssertionError()), pack=Failing(AssertionError()))
    assert answer(state) == (Verdict.CLEAR, Reason.NOT_LISTED)


# Step 5


class Failing:
    """A source that is out of reach."""

    epoch = EPOCH

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def find(self, locator: bytes) -> Any:
        raise self.error

    def stretch(self, identifier: Identifier) -> bytes:
        raise self.error


def test_5_a_filter_hit_without_a_record_is_clear(world: SealedWorld) -> None:
    world.list(OTHER, NAME, restriction())
    world.only_in_filter(PERSON)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.FALSE_POSITIVE)


@pytest.mark.parametrize(
    "error", [UnavailableError("no network"), PackFormatError("damaged"), SealError("no memory")]
)
def test_5_a_record_that_cannot_be_had_asks_for_a_person(
    world: SealedWorld, error: Exception
) -> None:
    world.list(PERSON, NAME, restriction())
    assert answer(world.state(pack=Failing(error))) == UNCONFIRMED
    assert answer(world.state(stretch=Failing(error))) == UNCONFIRMED
    assert answer(world.state(pack=None)) == UNCONFIRMED
    assert ask(world.state(pack=None)).restrictions == ()


def test_5_a_damaged_bucket_asks_for_a_person_and_never_clears(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    pack = world.pack()
    whole = bytearray(pack._buffer)  # type: ignore[arg-type]
    whole[-5] ^= 1
    assert answer(world.state(pack=Pack.from_buffer(bytes(whole)))) == UNCONFIRMED


def test_5_a_mistake_of_ours_is_not_hidden_as_a_review(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    with pytest.raises(ZeroDivisionError):
        ask(world.state(pack=Failing(ZeroDivisionError())))


# Step 6


def test_6_another_name_on_this_number_asks_for_a_person(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    decision = ask(world.state(), name="李四")
    assert (decision.verdict, decision.reason) == (Verdict.REVIEW, Reason.NAME_MISMATCH)
    assert decision.restrictions == ()


@pytest.mark.parametrize("name", ["张三", "ZHANG  San", "张 三", "ｚｈａｎｇ ｓａｎ"])
def test_6_each_known_name_opens_the_record(world: SealedWorld, name: str) -> None:
    for known in ("张三", "Zhang San", "张叁", "買買提·艾力", "Former Name"):
        world.list(PERSON, known, restriction())
    assert answer(world.state(), name=name) == RESTRICTED


def test_6_two_subjects_of_one_number_are_told_apart_by_name(world: SealedWorld) -> None:
    world.list(PERSON, "张三", restriction(1, [AIR]))
    world.list(PERSON, "李四", restriction(2, [GREEN]))
    state = world.state()
    assert answer(state, name="张三") == RESTRICTED
    assert answer(state, name="李四") == (Verdict.CLEAR, Reason.NOT_COVERED)
    assert answer(state, name="王五") == (Verdict.REVIEW, Reason.NAME_MISMATCH)


def test_6_a_right_commitment_with_a_wrong_body_asks_for_a_person(world: SealedWorld) -> None:
    keys = world.key.derive(world.stretch.stretch(PERSON)).name_keys(NAME)
    world.list_sealed(PERSON, keys.commitment, bytes(272))
    assert answer(world.state()) == UNCONFIRMED


def test_6_a_record_sealed_for_another_name_does_not_count_under_this_ones_commitment(
    world: SealedWorld,
) -> None:
    keys = world.key.derive(world.stretch.stretch(PERSON))
    sealed = seal(keys.name_keys("李四"), record(restriction()))
    world.list_sealed(PERSON, keys.name_keys(NAME).commitment, sealed)
    assert answer(world.state()) == UNCONFIRMED


def malformed(**changes: Any) -> Any:
    made = restriction()
    for name, value in changes.items():
        made.ClearField(name) if value is None else setattr(made, name, value)
    return made


def through_posts(*numbers: int, **options: Any) -> Any:
    """A record of version 2: an organisation's restriction that reaches a person through these
    posts.
    """
    made = restriction(capacity=1, **options)
    made.post_ids[:] = [bytes([number]) * 16 for number in numbers]
    found = record(made)
    found.version = 2
    return found


def test_9_whoever_has_left_every_post_is_not_reached_and_the_restriction_stands(
    world: SealedWorld,
) -> None:
    world.list_record(PERSON, NAME, through_posts(7, 8))
    other = Identifier.resident_id(identities.resident_id(200))
    world.list(other, NAME, restriction())
    assert answer(world.state()) == RESTRICTED
    world.lift(7)
    assert answer(world.state()) == RESTRICTED, "the second post is held"
    world.lift(8)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LIFTED)
    assert answer(world.state(), person=other) == RESTRICTED


def test_9_a_floor_does_not_bring_a_post_back(world: SealedWorld) -> None:
    world.list_record(PERSON, NAME, through_posts(7, floor=1 << 40))
    world.lift(7)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LIFTED)


def test_6_a_record_that_opens_and_is_malformed_asks_for_a_person(world: SealedWorld) -> None:
    for number, name in enumerate(
        (
            "expires_at",
            "effective_at",
            "legal_basis",
            "case_number",
            "dispute",
            "authority_name",
            "measures",
        )
    ):
        world.list(
            Identifier.resident_id(identities.resident_id(100 + number)),
            NAME,
            malformed(**{name: None}),
        )
    newer = record(restriction())
    newer.version = 3
    world.list_record(PERSON, NAME, newer)
    state = world.state()
    assert answer(state) == UNCONFIRMED
    for number in range(7):
        assert (
            answer(state, person=Identifier.resident_id(identities.resident_id(100 + number)))
            == UNCONFIRMED
        )


# Step 7


def test_7_another_measures_restriction_does_not_cover(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(measures=[LOAN]))
    decision = ask(world.state())
    assert (decision.verdict, decision.reason, decision.restrictions) == (
        Verdict.CLEAR,
        Reason.NOT_COVERED,
        (),
    )


def test_7_an_empty_record_covers_nothing(world: SealedWorld) -> None:
    world.list(PERSON, NAME)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.NOT_COVERED)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (G_SECOND, RESTRICTED),
        ({"train_class": "D", "seat": "FIRST"}, RESTRICTED),
        (D_SECOND, (Verdict.CLEAR, Reason.NOT_COVERED)),
        ({"train_class": "OTHER", "seat": "FIRST"}, (Verdict.CLEAR, Reason.NOT_COVERED)),
    ],
)
def test_7_the_class_of_service_decides(world: SealedWorld, service: Any, expected: Any) -> None:
    world.list(PERSON, NAME, restriction(measures=[RAIL]))
    assert answer(world.state(), measure=RAIL, service=service) == expected


@pytest.mark.parametrize(
    ("stars", "expected"),
    [(5, RESTRICTED), (3.0, RESTRICTED), (2.999, (Verdict.CLEAR, Reason.NOT_COVERED))],
)
def test_7_numbers_decide_too(world: SealedWorld, stars: float, expected: Any) -> None:
    world.list(PERSON, NAME, restriction(measures=[HOTEL]))
    assert answer(world.state(), measure=HOTEL, service={"stars": stars}) == expected


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (-MICROSECOND, (Verdict.CLEAR, Reason.NOT_YET_EFFECTIVE)),
        (timedelta(), RESTRICTED),
        (DAY - MICROSECOND, RESTRICTED),
        (DAY, (Verdict.CLEAR, Reason.LAPSED)),
    ],
)
def test_7_a_term_begins_and_ends_to_the_microsecond(
    world: SealedWorld, offset: timedelta, expected: Any
) -> None:
    world.list(PERSON, NAME, restriction(first=NOW, end=NOW + DAY))
    now = NOW + offset
    assert answer(world.state(relief=world.relief(now)), now=now) == expected


def test_7_what_is_not_in_force_is_clear_without_fresh_relief(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(end=NOW))
    world.list(OTHER, NAME, restriction(first=NOW + DAY))
    world.segments = [Segment(20, 20, ())]
    for relief in (None, world.relief(NOW - 10 * DAY)):
        state = world.state(relief=relief)
        assert answer(state) == (Verdict.CLEAR, Reason.LAPSED)
        assert answer(state, person=OTHER) == (Verdict.CLEAR, Reason.NOT_YET_EFFECTIVE)


def test_7_of_a_past_and_a_coming_restriction_the_coming_one_is_told(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1, end=NOW), restriction(2, first=NOW + DAY))
    assert answer(world.state()) == (Verdict.CLEAR, Reason.NOT_YET_EFFECTIVE)


def test_7_a_measure_that_the_catalogue_dropped_can_clear_but_not_deny(world: SealedWorld) -> None:
    world.measures = [AIR, DROPPED]
    world.list(PERSON, NAME, restriction(measures=[DROPPED]))
    state = world.state()
    assert answer(state, measure=DROPPED) == UNCONFIRMED
    assert answer(state, measure=DROPPED, service={"any": 1}) == UNCONFIRMED
    assert answer(state, measure=DROPPED, person=OTHER) == (Verdict.CLEAR, Reason.NOT_LISTED)
    world.list(OTHER, NAME, restriction(measures=[AIR]))
    assert answer(world.state(), measure=DROPPED, person=OTHER) == (
        Verdict.CLEAR,
        Reason.NOT_COVERED,
    )


# Step 8


def test_8_an_exemption_clears_and_is_told(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(exemptions=[exemption()]))
    decision = ask(world.state())
    assert (decision.verdict, decision.reason, decision.restrictions) == (
        Verdict.CLEAR,
        Reason.EXEMPT,
        (),
    )
    (told,) = decision.exemptions
    assert (told.exemption_id, told.restriction_id, told.reason.en) == (
        b"e" * 16,
        b"\1" * 16,
        "one journey to a funeral",
    )


@pytest.mark.parametrize(
    "narrow",
    [
        exemption(end=NOW),
        exemption(first=NOW + MICROSECOND),
        exemption(measures=[LOAN]),
    ],
    ids=["over", "not yet", "another measure"],
)
def test_8_an_exemption_is_no_wider_than_it_says(world: SealedWorld, narrow: Any) -> None:
    world.list(PERSON, NAME, restriction(measures=[AIR, LOAN], exemptions=[narrow]))
    decision = ask(world.state())
    assert (decision.verdict, decision.exemptions) == (Verdict.RESTRICTED, ())


@pytest.mark.parametrize(
    "wide",
    [exemption(first=NOW), exemption(end=NOW + MICROSECOND), exemption(measures=[AIR, LOAN])],
)
def test_8_an_exemption_reaches_to_its_edges(world: SealedWorld, wide: Any) -> None:
    world.list(PERSON, NAME, restriction(exemptions=[wide]))
    assert answer(world.state()) == (Verdict.CLEAR, Reason.EXEMPT)


def test_8_an_exemption_holds_inside_its_own_restriction_only(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1, exemptions=[exemption()]), restriction(2))
    decision = ask(world.state())
    assert decision.verdict is Verdict.RESTRICTED
    assert [r.restriction_id for r in decision.restrictions] == [b"\2" * 16]
    assert decision.exemptions == ()


def test_8_an_exemption_clears_without_fresh_relief(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(exemptions=[exemption()]))
    assert answer(world.state(relief=None)) == (Verdict.CLEAR, Reason.EXEMPT)


def test_8_an_exemption_in_a_lapsed_restriction_is_not_told(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(end=NOW, exemptions=[exemption()]))
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LAPSED)


# Step 9


def test_9_lifted_is_clear(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1))
    world.lift(1)
    decision = ask(world.state())
    assert (decision.verdict, decision.reason, decision.restrictions) == (
        Verdict.CLEAR,
        Reason.LIFTED,
        (),
    )
    assert decision.relief_sequence == 11


def test_9_lifted_is_clear_even_when_relief_is_old_or_has_gaps(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1))
    world.segments = [Segment(20, 20, ((20, b"\1" * 16),))]
    assert answer(world.state(relief=world.relief(NOW - 30 * DAY))) == (
        Verdict.CLEAR,
        Reason.LIFTED,
    )


def test_9_all_have_to_be_lifted(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1), restriction(2), restriction(3))
    world.lift(1, 3)
    decision = ask(world.state())
    assert decision.verdict is Verdict.RESTRICTED
    assert [r.restriction_id for r in decision.restrictions] == [b"\2" * 16]
    world.lift(2)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LIFTED)


def test_9_a_lift_before_the_floor_does_not_count(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1, floor=11))
    world.lift(1, sequence=11)
    assert answer(world.state()) == RESTRICTED
    world.lift(1, sequence=12)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LIFTED)


def test_9_lifting_someone_elses_changes_nothing(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1))
    world.lift(2)
    assert answer(world.state()) == RESTRICTED


def test_9_exempt_and_lifted_says_exempt_because_that_ends(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1, exemptions=[exemption()]), restriction(2))
    world.lift(2)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.EXEMPT)
    world.lift(1)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.EXEMPT)


def test_9_lifted_and_lapsed_says_lifted(world: SealedWorld) -> None:
    world.list(
        PERSON, NAME, restriction(1), restriction(2, end=NOW), restriction(3, measures=[LOAN])
    )
    world.lift(1)
    assert answer(world.state()) == (Verdict.CLEAR, Reason.LIFTED)


# Step 10

AGES = [
    (timedelta(), RESTRICTED),
    (timedelta(minutes=30), RESTRICTED),
    (timedelta(minutes=30) + MICROSECOND, (Verdict.REVIEW, Reason.STALE_RELIEF)),
    (DAY, (Verdict.REVIEW, Reason.STALE_RELIEF)),
    (-timedelta(minutes=30), RESTRICTED),
    (-HOUR, (Verdict.REVIEW, Reason.STALE_RELIEF)),
]


@pytest.mark.parametrize(("age", "expected"), AGES)
def test_10_old_relief_cannot_deny_nor_can_a_clock_that_is_wrong(
    world: SealedWorld, age: timedelta, expected: Any
) -> None:
    world.list(PERSON, NAME, restriction())
    assert answer(world.state(relief=world.relief(NOW - age))) == expected


def test_10_relief_with_a_gap_cannot_deny(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1))
    world.segments = [Segment(11, 12, ()), Segment(14, 20, ())]
    decision = ask(world.state())
    assert (decision.verdict, decision.reason) == (Verdict.REVIEW, Reason.STALE_RELIEF)
    assert [r.restriction_id for r in decision.restrictions] == [b"\1" * 16]


def test_10_no_relief_at_all_cannot_deny(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    assert answer(world.state(relief=None)) == (Verdict.REVIEW, Reason.STALE_RELIEF)
    assert ask(world.state(relief=None)).relief_sequence == 10


def test_10_a_maximum_age_of_nothing_denies_nobody(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    state = world.state(parameters=world.parameters(relief_max_age_seconds=0))
    assert answer(state) == (Verdict.REVIEW, Reason.STALE_RELIEF)


# Step 11


def test_11_a_restriction_carries_what_the_person_is_owed(world: SealedWorld) -> None:
    world.list(
        PERSON, NAME, restriction(1, [AIR, LOAN]), restriction(2, [AIR]), restriction(3, [LOAN])
    )
    decision = ask(world.state())
    assert (decision.verdict, decision.reason) == RESTRICTED
    assert [r.case_number for r in decision.restrictions] == ["（2026）示执1号", "（2026）示执2号"]
    first = decision.restrictions[0]
    assert (first.authority_name.en, first.legal_basis, first.dispute.en) == (
        "Example Court",
        "示例规定第三条",
        "Ask the court",
    )
    assert (first.effective_at, first.expires_at) == (NOW - 100 * DAY, NOW + 100 * DAY)
    assert decision.still_allowed is not None
    assert decision.still_allowed.en == "All else"
    assert (decision.measure, decision.decided_at, decision.listing_version) == (AIR, NOW, 7)


def test_11_a_recommended_measure_says_so(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(1, [LOAN, GREEN]))
    assert ask(world.state(), measure=LOAN).force is Force.RECOMMENDED
    assert ask(world.state(), measure=GREEN).nature is Nature.INCENTIVE


# Beyond the steps


def test_a_known_hit_is_decided_like_any_other(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    world.only_in_filter(OTHER)
    state = world.state()
    assert decide_hit(state, Question(NOW, PERSON, NAME, AIR)).reason is Reason.IN_FORCE
    assert decide_hit(state, Question(NOW, OTHER, NAME, AIR)).reason is Reason.FALSE_POSITIVE
    without_key = decide_hit(world.state(epoch_keys={}), Question(NOW, PERSON, NAME, AIR))
    assert without_key.reason is Reason.NO_DATA
    with pytest.raises(InvalidServiceError):
        decide_hit(state, Question(NOW, PERSON, NAME, RAIL))


def test_ids_are_random_and_stay(world: SealedWorld) -> None:
    state = world.state()
    decisions = [ask(state) for _ in range(100)]
    assert len({decision.decision_id for decision in decisions}) == 100
    assert all(len(decision.decision_id) == 16 for decision in decisions)
    with ThreadPoolExecutor(8) as pool:
        for decision in (ask(state) for _ in range(50)):
            assert len(set(pool.map(lambda d: d.decision_id, [decision] * 8))) == 1


def test_a_decision_does_not_change_and_copies_keep_its_id(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    decision = ask(world.state())
    for name in ("decision_id", "measure", "restrictions", "as_of"):
        with pytest.raises(AttributeError):
            setattr(decision, name, None)
    for same in (
        copy.copy(decision),
        copy.deepcopy(decision),
        pickle.loads(pickle.dumps(decision)),
    ):
        assert (same.decision_id, same.verdict, same.reason) == (
            decision.decision_id,
            decision.verdict,
            decision.reason,
        )
        assert (same.decided_at, same.restrictions) == (decision.decided_at, decision.restrictions)


def test_nothing_shows_who_it_was_about(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction(capacity=1))
    state = world.state()
    decision = ask(state)
    shown = "\n".join(
        [
            repr(decision),
            str(decision),
            repr(decision.restrictions),
            decision.explain("zh"),
            decision.explain("en"),
            repr(state),
        ]
    )
    for secret in (PERSON.number, NAME, PERSON.number[:14], "示例有限公司", MASTER.hex()):
        assert secret not in shown
    assert repr(decision) == "Decision(RESTRICTED, IN_FORCE, measure='AIR_TRAVEL')"


def test_state_refuses_parts_that_do_not_belong_together(world: SealedWorld) -> None:
    world.list(PERSON, NAME, restriction())
    with pytest.raises(ParametersError, match="different epochs"):
        world.state(filter=world.filter(epoch=EPOCH + 1))
    with pytest.raises(ParametersError, match="different epochs"):
        world.state(
            parameters=world.parameters(epoch=EPOCH + 1),
            epoch_keys={},
            filter=world.filter(epoch=EPOCH + 1),
        )
    with pytest.raises(ParametersError, match="another audience"):
        world.state(epoch_keys={EPOCH: EpochKey("rail", EPOCH, MASTER)})
    with pytest.raises(ParametersError, match="another audience or epoch"):
        world.state(epoch_keys={EPOCH: EpochKey("aviation", EPOCH + 1, MASTER)})


@pytest.mark.parametrize("field", ["built_at", "expires_at"])
def test_state_refuses_parameters_without_times(world: SealedWorld, field: str) -> None:
    with pytest.raises(ParametersError, match="lack when"):
        world.state(parameters=world.parameters(**{field: None}))
    broken = world.parameters()
    getattr(broken, field).seconds = 1 << 60
    with pytest.raises(ParametersError, match="beyond the calendar"):
        world.state(parameters=broken)


def test_the_enums_are_the_contracts() -> None:
    pairs: list[tuple[Any, Any, str]] = [
        (Verdict, enforcement_pb2.Verdict, "VERDICT_"),
        (Reason, enforcement_pb2.Reason, "REASON_"),
        (Outcome, enforcement_pb2.Outcome, "OUTCOME_"),
        (Force, catalogue_pb2.MeasureForce, "MEASURE_FORCE_"),
        (Nature, catalogue_pb2.MeasureNature, "MEASURE_NATURE_"),
        (IdentifierKind, identity_pb2.IdentifierKind, "IDENTIFIER_KIND_"),
        (Capacity, identity_pb2.Capacity, "CAPACITY_"),
    ]
    for ours, contract, prefix in pairs:
        theirs = {name.removeprefix(prefix): number for name, number in contract.items() if number}
        assert {member.name: member.value for member in ours} == theirs


def test_each_reason_belongs_to_the_verdict_that_the_contract_says() -> None:
    verdicts = {
        Verdict.UNKNOWN: {Reason.NO_DATA, Reason.EXPIRED},
        Verdict.REVIEW: {Reason.UNCONFIRMED, Reason.NAME_MISMATCH, Reason.STALE_RELIEF},
        Verdict.RESTRICTED: {Reason.IN_FORCE},
    }
    for reason in Reason:
        expected = next(
            (verdict for verdict, reasons in verdicts.items() if reason in reasons), Verdict.CLEAR
        )
        assert reason.verdict is expected
