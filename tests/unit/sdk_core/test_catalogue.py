"""The catalogue: which services a measure covers; a catalogue that contradicts itself is refused
whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.sealed_world import (
    AIR,
    GREEN,
    HOTEL,
    RAIL,
    bilingual,
    catalogue_message,
    hotel,
    measure,
    rail,
)
from tipstaff.v1 import catalogue_pb2
from tipstaff_sdk.errors import CatalogueError, InvalidServiceError, UnknownMeasureError
from tipstaff_sdk.listing.catalogue import Catalogue, Force, Nature

if TYPE_CHECKING:
    from collections.abc import Callable

CATALOGUE = Catalogue(catalogue_message())


def test_it_goes_there_and_back_with_the_same_bytes() -> None:
    data = CATALOGUE.to_bytes()
    again = Catalogue.from_bytes(data)
    assert again.to_bytes() == data
    assert again.to_proto() == catalogue_message()
    assert again.version == 1
    assert again.measures == CATALOGUE.measures
    assert repr(again) == "Catalogue(version=1, measures=5)"


def test_later_changes_to_a_message_do_not_reach_it() -> None:
    message = catalogue_message()
    catalogue = Catalogue(message)
    message.measures[0].title.zh = "改"
    catalogue.to_proto().measures[0].title.zh = "改"
    assert catalogue.to_bytes() == CATALOGUE.to_bytes()


def test_measures_are_found_by_code() -> None:
    green = CATALOGUE.measure(GREEN)
    assert (green.code, green.force, green.nature) == (GREEN, Force.RECOMMENDED, Nature.INCENTIVE)
    assert green.still_allowed is not None
    with pytest.raises(UnknownMeasureError):
        CATALOGUE.measure("NO_SUCH")


@pytest.mark.parametrize(
    ("train", "seat", "covered"),
    [
        ("G", "FIRST", True),
        ("G", "SECOND", True),
        ("D", "FIRST", True),
        ("D", "SECOND", False),
        ("OTHER", "FIRST", False),
    ],
)
def test_the_first_rule_that_matches_decides(train: str, seat: str, covered: bool) -> None:
    assert CATALOGUE.measure(RAIL).covers({"train_class": train, "seat": seat}) is covered


@pytest.mark.parametrize(
    ("stars", "covered"),
    [(0, False), (2, False), (2.99, False), (3, True), (3.0, True), (5, True), (-1, False)],
)
def test_bounds_decide(stars: float, covered: bool) -> None:
    assert CATALOGUE.measure(HOTEL).covers({"stars": stars}) is covered


def test_upper_bounds_are_exclusive() -> None:
    small = hotel()
    small.rules[0].all_of[0].ClearField("at_least")
    small.rules[0].all_of[0].below = 3
    covers = Catalogue(catalogue_pb2.Catalogue(measures=[small])).measure(HOTEL).covers
    assert [covers({"stars": stars}) for stars in (2.99, 3)] == [True, False]


def test_a_measure_without_attributes_covers_everything() -> None:
    assert CATALOGUE.measure(AIR).covers(None) is True
    assert CATALOGUE.measure(AIR).covers({}) is True


@pytest.mark.parametrize(
    ("code", "service", "message"),
    [
        (RAIL, None, "train_class: pass it"),
        (RAIL, {}, "train_class: pass it"),
        (RAIL, {"train_class": "G"}, "depends on seat"),
        (RAIL, {"train_class": "G", "seat": "THIRD"}, "one of FIRST, SECOND"),
        (RAIL, {"train_class": "g", "seat": "FIRST"}, "one of G, D, OTHER"),
        (RAIL, {"train_class": 1, "seat": "FIRST"}, "one of G, D, OTHER"),
        (RAIL, {"train_class": None, "seat": "FIRST"}, "one of G, D, OTHER"),
        (RAIL, {"train_class": "G", "seat": "FIRST", "coach": "1"}, "no attribute coach"),
        (HOTEL, {"stars": "5"}, "is a number"),
        (HOTEL, {"stars": True}, "is a number"),
        (HOTEL, {"stars": None}, "is a number"),
        (HOTEL, {"stars": math.nan}, "is a number"),
        (HOTEL, {"stars": math.inf}, "is a number"),
        (AIR, {"seat": "FIRST"}, "no attribute seat"),
    ],
)
def test_a_service_that_is_described_wrongly_is_an_error(
    code: str, service: Any, message: str
) -> None:
    with pytest.raises(InvalidServiceError, match=message):
        CATALOGUE.measure(code).covers(service)


def changed(
    make: Callable[[], catalogue_pb2.Measure], change: Callable[[catalogue_pb2.Measure], object]
) -> catalogue_pb2.Catalogue:
    made = make()
    change(made)
    return catalogue_pb2.Catalogue(version=1, measures=[made])


def clear(*path: Any) -> Callable[[Any], None]:
    def do(message: Any) -> None:
        for step in path[:-1]:
            message = message[step] if isinstance(step, int) else getattr(message, step)
        message.ClearField(path[-1])

    return do


def put(value: Any, *path: Any) -> Callable[[Any], None]:
    def do(message: Any) -> None:
        for step in path[:-1]:
            message = message[step] if isinstance(step, int) else getattr(message, step)
        setattr(message, path[-1], value)

    return do


def air() -> catalogue_pb2.Measure:
    return measure(AIR)


def condition(**fields: Any) -> catalogue_pb2.ServiceCondition:
    return catalogue_pb2.ServiceCondition(**fields)


BAD = {
    "no code": (air, clear("code"), "capital letters"),
    "code in small letters": (air, put("air", "code"), "capital letters"),
    "code of 65": (air, put("A" * 65, "code"), "capital letters"),
    "no force": (air, clear("force"), "no force or nature"),
    "unknown force": (air, put(9, "force"), "no force or nature"),
    "no nature": (air, clear("nature"), "no force or nature"),
    "no Chinese title": (air, clear("title", "zh"), "title lacks"),
    "no English title": (air, clear("title", "en"), "title lacks"),
    "no legal basis": (air, clear("legal_basis"), "legal basis lacks"),
    "what is allowed in one language": (air, clear("still_allowed", "en"), "still allows lacks"),
    "attribute without a name": (rail, clear("attributes", 0, "name"), "small letters"),
    "attribute without a title": (rail, clear("attributes", 0, "title"), "title of"),
    "attribute twice": (rail, put("seat", "attributes", 0, "name"), "twice"),
    "attribute with choices and numeric": (
        rail,
        put(True, "attributes", 0, "numeric"),
        "and not both",
    ),
    "attribute with neither": (hotel, put(False, "attributes", 0, "numeric"), "and not both"),
    "a choice twice": (rail, lambda m: m.attributes[0].choices.append("G"), "different choices"),
    "an empty choice": (rail, lambda m: m.attributes[0].choices.append(""), "different choices"),
    "rule without a title": (rail, clear("rules", 0, "title"), "title of a rule"),
    "rule on an attribute that is not there": (
        rail,
        put("car", "rules", 0, "all_of", 0, "attribute"),
        "has not",
    ),
    "rule on a choice that is not there": (
        rail,
        lambda m: m.rules[0].all_of[0].any_of.append("Z"),
        "some of its choices",
    ),
    "rule on no choice": (
        rail,
        lambda m: m.rules[0].all_of[0].ClearField("any_of"),
        "some of its choices",
    ),
    "bounds on choices": (rail, put(1.0, "rules", 0, "all_of", 0, "below"), "and no bounds"),
    "choices on a number": (
        hotel,
        lambda m: m.rules[0].all_of[0].any_of.append("3"),
        "bounds that some number",
    ),
    "no bounds on a number": (
        hotel,
        clear("rules", 0, "all_of", 0, "at_least"),
        "bounds that some number",
    ),
    "bounds that nothing meets": (
        hotel,
        put(3.0, "rules", 0, "all_of", 0, "below"),
        "bounds that some number",
    ),
    "a bound that is no number": (
        hotel,
        put(math.nan, "rules", 0, "all_of", 0, "at_least"),
        "bounds that some number",
    ),
    "last rule with a condition": (
        rail,
        lambda m: m.rules[2].all_of.append(condition(attribute="seat", any_of=["FIRST"])),
        "last rule",
    ),
    "a rule behind one that decides all": (
        rail,
        lambda m: m.rules[0].ClearField("all_of"),
        "last rule",
    ),
    "an attribute that no rule looks at": (
        rail,
        lambda m: [m.rules.pop(1), m.rules.pop(0), m.attributes.pop(1)],
        "no rule looks",
    ),
    "attributes without rules": (rail, lambda m: m.ClearField("rules"), "no rule looks at it"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_catalogue_that_contradicts_itself_is_refused(case: str) -> None:
    make, change, message = BAD[case]
    with pytest.raises(CatalogueError, match=message):
        Catalogue(changed(make, change))


def test_measures_are_in_order_and_each_there_once() -> None:
    for codes in (["B", "A"], ["A", "A"]):
        with pytest.raises(CatalogueError, match="order of their codes"):
            Catalogue(catalogue_pb2.Catalogue(measures=[measure(code) for code in codes]))


def test_a_measure_may_have_one_rule_for_everything() -> None:
    rule = catalogue_pb2.ServiceRule(covered=False, title=bilingual("无", "None"))
    made = measure("NONE", rules=[rule])
    assert Catalogue(catalogue_pb2.Catalogue(measures=[made])).measure("NONE").covers(None) is False


@pytest.mark.parametrize(
    ("data", "message"), [(b"\xff\xff\xff", "does not parse"), (bytes((4 << 20) + 1), "over 4 MiB")]
)
def test_bytes_that_are_no_catalogue_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        Catalogue.from_bytes(data)
    assert Catalogue.from_bytes(b"").measures == {}
