"""What is bought, sector by sector: small objects that are the `service=` of a check, with their
values typed and completed by an editor.

    screener.check(number, name=name, measure="RAIL_HIGH_CLASS", service=RailService(train_class="G", seat="SECOND"))

Each is a read-only mapping of its own fields, named and valued as the attributes of the measures in
the catalogue that comes with the program; a plain mapping serves just as well, and is the way where
a deployment's catalogue asks for something else. What is wrong is found by the check
(InvalidServiceError), because only the signed catalogue knows. Air travel, exit, holidays, pricing
by risk, sponsoring, underwriting and the incentives depend on nothing, so they need no service.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "HotelService",
    "InsuranceCoverService",
    "InsuranceProductService",
    "LoanService",
    "OfficeService",
    "PropertyService",
    "RailService",
    "SchoolService",
    "ShipService",
    "VehicleService",
    "VenueService",
]


class _Service(Mapping[str, str | float]):
    """A mapping of the fields."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> str | float:
        if key in self.__match_args__:
            value: str | float = getattr(self, key)
            return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__match_args__)

    def __len__(self) -> int:
        return len(self.__match_args__)


@dataclass(frozen=True, slots=True)
class RailService(_Service):
    """A journey by rail:

    RAIL_HIGH_CLASS. `train_class` is the letter of the train's number, OTHER for any but G, D and
    C.
    """

    train_class: Literal["G", "C", "D", "OTHER"]
    seat: Literal[
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
    ]


@dataclass(frozen=True, slots=True)
class ShipService(_Service):
    """A passage by ship: SHIP_HIGH_CLASS."""

    cabin: Literal["SPECIAL", "FIRST", "SECOND", "THIRD", "FOURTH", "STEERAGE"]


@dataclass(frozen=True, slots=True)
class HotelService(_Service):
    """A stay: STAR_HOTEL. `stars` of the house, 0 for none."""

    stars: float


@dataclass(frozen=True, slots=True)
class VenueService(_Service):
    """An evening or a round: CLUB_GOLF."""

    venue: Literal["NIGHT_CLUB", "GOLF_COURSE", "OTHER"]


@dataclass(frozen=True, slots=True)
class PropertyService(_Service):
    """A deal about property: REAL_ESTATE."""

    deal: Literal[
        "PURCHASE", "NEW_BUILDING", "EXTENSION", "LAVISH_FITTING", "ORDINARY_FITTING", "RENTAL"
    ]


@dataclass(frozen=True, slots=True)
class OfficeService(_Service):
    """Premises to work in: OFFICE_LEASE."""

    grade: Literal["HIGH", "ORDINARY"]


@dataclass(frozen=True, slots=True)
class VehicleService(_Service):
    """A vehicle: VEHICLE_PURCHASE."""

    need: Literal["BUSINESS_NECESSITY", "OTHER"]


@dataclass(frozen=True, slots=True)
class SchoolService(_Service):
    """A place at a school for a child: PRIVATE_SCHOOL. The check is about who pays."""

    school: Literal["COSTLY_PRIVATE", "OTHER"]


@dataclass(frozen=True, slots=True)
class LoanService(_Service):
    """A loan: LOAN_RESTRICTION. `amount` in yuan."""

    amount: float
    purpose: Literal["CONSUMPTION", "HOUSING", "BUSINESS", "STUDY", "TREATMENT"]


@dataclass(frozen=True, slots=True)
class InsuranceProductService(_Service):
    """A policy to be bought: INSURANCE_PREMIUM."""

    product: Literal["INVESTMENT", "PROTECTION"]


@dataclass(frozen=True, slots=True)
class InsuranceCoverService(_Service):
    """Cover to be given: INSURANCE_RESTRICTION."""

    cover: Literal["COMPULSORY", "BASIC", "COMMERCIAL"]
