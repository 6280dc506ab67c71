"""Classes of service: what each measure of the shipped catalogue covers, and the objects that
describe what is bought.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest

from tests.support.deployment import Deployment
from tests.support.server import COURT, entry, name_of, resident_id
from tipstaff_sdk import InvalidServiceError, Verdict, services
from tipstaff_sdk.listing.catalogue import Catalogue, Force, Nature
from tipstaff_sdk.services import (
    HotelService,
    InsuranceCoverService,
    InsuranceProductService,
    LoanService,
    OfficeService,
    PropertyService,
    RailService,
    SchoolService,
    ShipService,
    VehicleService,
    VenueService,
)
from tipstaff_server.administration.document import Administration

CATALOGUE = Catalogue(
    Administration.load().catalogue(version=1, made_at=datetime(2026, 1, 1, tzinfo=UTC))
)
OF_MEASURE = {
    "RAIL_HIGH_CLASS": RailService,
    "SHIP_HIGH_CLASS": ShipService,
    "STAR_HOTEL": HotelService,
    "CLUB_GOLF": VenueService,
    "REAL_ESTATE": PropertyService,
    "OFFICE_LEASE": OfficeService,
    "VEHICLE_PURCHASE": VehicleService,
    "PRIVATE_SCHOOL": SchoolService,
    "LOAN_RESTRICTION": LoanService,
    "INSURANCE_PREMIUM": InsuranceProductService,
    "INSURANCE_RESTRICTION": InsuranceCoverService,
}
SEATS = (
    "BUSINESS",
    "PREMIER",
    "FIRST",
    "SECOND",
    "DELUXE_SOFT_SLEEPER",
    "SOFT_SLEEPER",
    "HARD_SLEEPER",
    "SOFT_SEAT",
    "HARD_SEAT",
    "NO_SEAT",
)
# What the courts' rule bars (article 3), seat by seat: each class of train with the seats that are
# covered.
BARRED_SEATS = {
    "G": set(SEATS),
    "C": {"BUSINESS", "PREMIER", "FIRST", "DELUXE_SOFT_SLEEPER", "SOFT_SLEEPER"},
    "D": {"BUSINESS", "PREMIER", "FIRST", "DELUXE_SOFT_SLEEPER", "SOFT_SLEEPER"},
    "OTHER": {"DELUXE_SOFT_SLEEPER", "SOFT_SLEEPER"},
}
# P4, P5 and P18 of docs/policy.md: measure, its force and nature.
POLICY = {
    **dict.fromkeys(
        ["AIR_TRAVEL", "RAIL_HIGH_CLASS", "SHIP_HIGH_CLASS", "STAR_HOTEL", "CLUB_GOLF"],
        (Force.MANDATORY, Nature.RESTRICTION),
    ),
    **dict.fromkeys(
        ["REAL_ESTATE", "OFFICE_LEASE", "VEHICLE_PURCHASE", "TOURISM", "PRIVATE_SCHOOL"],
        (Force.MANDATORY, Nature.RESTRICTION),
    ),
    **dict.fromkeys(["INSURANCE_PREMIUM", "EXIT"], (Force.MANDATORY, Nature.RESTRICTION)),
    **dict.fromkeys(
        ["LOAN_PRICING", "LOAN_RESTRICTION", "PROPERTY_INSURANCE_RATE"],
        (Force.RECOMMENDED, Nature.RESTRICTION),
    ),
    **dict.fromkeys(
        ["INSURANCE_RESTRICTION", "SPONSORING", "UNDERWRITING"],
        (Force.RECOMMENDED, Nature.RESTRICTION),
    ),
    **dict.fromkeys(
        ["GREEN_CHANNEL", "DEFERRED_DOCUMENTS", "PRIORITY_SERVICE"],
        (Force.RECOMMENDED, Nature.INCENTIVE),
    ),
    **dict.fromkeys(
        ["FEWER_INSPECTIONS", "CREDIT_LOAN", "DEPOSIT_FREE"], (Force.RECOMMENDED, Nature.INCENTIVE)
    ),
}


def test_the_catalogue_holds_the_measures_of_the_policy_and_no_other() -> None:
    assert {
        code: (measure.force, measure.nature) for code, measure in CATALOGUE.measures.items()
    } == POLICY


@pytest.mark.parametrize("code", sorted(POLICY))
def test_each_measure_says_what_it_rests_on_and_what_stays_allowed(code: str) -> None:
    measure = CATALOGUE.measure(code)
    assert measure.still_allowed is not None
    for words in (
        measure.title,
        measure.legal_basis,
        measure.still_allowed,
        *(rule.title for rule in measure.rules),
    ):
        assert any("\u4e00" <= character <= "\u9fff" for character in words.zh)
        assert words.en.isascii()


@pytest.mark.parametrize("train", BARRED_SEATS)
@pytest.mark.parametrize("seat", SEATS)
def test_every_seat_of_every_train(train: Any, seat: Any) -> None:
    assert CATALOGUE.measure("RAIL_HIGH_CLASS").covers(RailService(train, seat)) is (
        seat in BARRED_SEATS[train]
    )


@pytest.mark.parametrize(
    ("code", "covered", "allowed"),
    [
        (
            "SHIP_HIGH_CLASS",
            [ShipService("SPECIAL"), ShipService("SECOND")],
            [ShipService("THIRD"), ShipService("STEERAGE")],
        ),
        ("STAR_HOTEL", [HotelService(1), HotelService(5)], [HotelService(0), HotelService(0.5)]),
        (
            "CLUB_GOLF",
            [VenueService("NIGHT_CLUB"), VenueService("GOLF_COURSE")],
            [VenueService("OTHER")],
        ),
        (
            "REAL_ESTATE",
            [
                PropertyService("PURCHASE"),
                PropertyService("NEW_BUILDING"),
                PropertyService("EXTENSION"),
                PropertyService("LAVISH_FITTING"),
            ],
            [PropertyService("RENTAL"), PropertyService("ORDINARY_FITTING")],
        ),
        ("OFFICE_LEASE", [OfficeService("HIGH")], [OfficeService("ORDINARY")]),
        ("VEHICLE_PURCHASE", [VehicleService("OTHER")], [VehicleService("BUSINESS_NECESSITY")]),
        ("PRIVATE_SCHOOL", [SchoolService("COSTLY_PRIVATE")], [SchoolService("OTHER")]),
        (
            "LOAN_RESTRICTION",
            [LoanService(50_000, "HOUSING"), LoanService(1e7, "BUSINESS")],
            [
                LoanService(49_999.99, "CONSUMPTION"),
                LoanService(80_000, "STUDY"),
                LoanService(80_000, "TREATMENT"),
            ],
        ),
        (
            "INSURANCE_PREMIUM",
            [InsuranceProductService("INVESTMENT")],
            [InsuranceProductService("PROTECTION")],
        ),
        (
            "INSURANCE_RESTRICTION",
            [InsuranceCoverService("COMMERCIAL")],
            [InsuranceCoverService("COMPULSORY"), InsuranceCoverService("BASIC")],
        ),
    ],
)
def test_what_is_covered_and_what_stays_allowed(
    code: str, covered: list[Any], allowed: list[Any]
) -> None:
    measure = CATALOGUE.measure(code)
    assert [measure.covers(service) for service in covered] == [True] * len(covered)
    assert [measure.covers(service) for service in allowed] == [False] * len(allowed)


@pytest.mark.parametrize("code", sorted(POLICY))
def test_the_objects_ask_for_what_the_catalogue_asks_for(code: str) -> None:
    attributes = CATALOGUE.measure(code).attributes
    kind = OF_MEASURE.get(code)
    if kind is None:
        assert not attributes
        return
    hints = get_type_hints(kind)
    assert [field.name for field in fields(kind)] == [attribute.name for attribute in attributes]
    assert [get_args(hints[attribute.name]) for attribute in attributes] == [
        attribute.choices for attribute in attributes
    ]


def test_every_object_has_its_measure() -> None:
    assert {kind.__name__ for kind in OF_MEASURE.values()} == set(services.__all__)


def test_an_object_is_a_read_only_mapping_of_its_fields() -> None:
    service = RailService("G", seat="SECOND")
    assert dict(service) == {"train_class": "G", "seat": "SECOND"}
    assert len(service) == 2
    assert "wagon" not in service
    with pytest.raises(KeyError):
        service["__class__"]
    with pytest.raises(FrozenInstanceError):
        service.seat = "FIRST"  # type: ignore[misc]


@pytest.mark.parametrize(
    "service",
    [HotelService(5), RailService("K", "SECOND"), RailService("G", 2), {"train_class": "G"}],
)  # type: ignore[arg-type]
def test_the_wrong_object_or_value_is_a_wrong_call(service: Any) -> None:
    with pytest.raises(InvalidServiceError):
        CATALOGUE.measure("RAIL_HIGH_CLASS").covers(service)


def test_checks_take_objects_and_mappings_alike_and_say_what_stays_allowed() -> None:
    with Deployment("rail") as real:
        real.runtime.registry.restrictions.submit(entry(1), authority="court", actor=COURT)
        real.publish()
        real.screener.sync()
        number, name = resident_id(1), name_of(1)
        for service in (RailService("D", "FIRST"), {"train_class": "D", "seat": "FIRST"}):
            decision = real.screener.check(
                number, name=name, measure="RAIL_HIGH_CLASS", service=service
            )
            assert decision.verdict is Verdict.RESTRICTED
            assert "二等座" in decision.explain("zh")
            assert "Second class on D and C trains" in decision.explain("en")
            (again,) = real.screener.check_many(
                [(number, name)], measure="RAIL_HIGH_CLASS", service=service
            )
            assert again.verdict is Verdict.RESTRICTED
        assert (
            real.screener.check(
                number, name=name, measure="RAIL_HIGH_CLASS", service=RailService("D", "SECOND")
            ).verdict
            is Verdict.CLEAR
        )
