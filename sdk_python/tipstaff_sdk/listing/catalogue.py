"""The catalogue of measures (措施清单): which there are, on what they rest, and which services each
covers.

A measure applies to what is bought, not to the person: its attributes say what a check has to tell
("train_class", "stars"), and the first rule whose conditions all hold says whether such a service
is covered. A catalogue that contradicts itself is refused whole.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from google.protobuf.message import DecodeError

from tipstaff.v1 import catalogue_pb2, identity_pb2
from tipstaff_sdk.enums import Word
from tipstaff_sdk.errors import CatalogueError, InvalidServiceError, UnknownMeasureError
from tipstaff_sdk.texts import Bilingual

__all__ = ["Attribute", "Catalogue", "Condition", "Force", "Measure", "Nature", "ServiceRule"]

MAX_BYTES: Final = 4 << 20
_code = re.compile("[A-Z][A-Z0-9_]{0,63}").fullmatch
_attribute_name = re.compile("[a-z][a-z0-9_]{0,63}").fullmatch


class Force(Word):
    """Whether a provider must or may act; values as in tipstaff.v1.MeasureForce."""

    MANDATORY = 1
    RECOMMENDED = 2


class Nature(Word):
    """Whether a measure takes something away or grants something; values as in
    tipstaff.v1.MeasureNature.
    """

    RESTRICTION = 1
    INCENTIVE = 2


@dataclass(frozen=True, slots=True)
class Attribute:
    """One fact about what is bought: a choice of texts, or a number when there are no choices."""

    name: str
    title: Bilingual
    choices: tuple[str, ...]

    def require(self, value: object) -> None:
        """Raises InvalidServiceError unless the value is one that this attribute may have."""
        if self.choices:
            if value not in self.choices:
                raise InvalidServiceError(
                    f"{self.name} is one of {', '.join(self.choices)}: pass one of these."
                )
        elif (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            raise InvalidServiceError(f"{self.name} is a number: pass an int or a finite float.")


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one attribute: one of some texts, or a number from `at_least` on and `below`."""

    attribute: str
    any_of: tuple[str, ...]
    at_least: float
    below: float

    def holds(self, service: Mapping[str, str | float]) -> bool:
        """Whether a valid service passes."""
        value = service[self.attribute]
        return (
            value in self.any_of if isinstance(value, str) else self.at_least <= value < self.below
        )


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """One line of a measure's table of services."""

    all_of: tuple[Condition, ...]
    covered: bool
    title: Bilingual


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure."""

    code: str
    title: Bilingual
    force: Force
    nature: Nature
    legal_basis: Bilingual
    attributes: tuple[Attribute, ...]
    rules: tuple[ServiceRule, ...]
    still_allowed: Bilingual | None

    def require_service(self, service: Mapping[str, str | float] | None) -> None:
        """Raises InvalidServiceError unless the service has exactly this measure's attributes, each
        with a value it may have.
        """
        given = service or {}
        for attribute in self.attributes:
            if attribute.name not in given:
                raise InvalidServiceError(
                    f"{self.code} depends on {attribute.name}: pass it in service=."
                )
            attribute.require(given[attribute.name])
        if len(given) > len(self.attributes):
            extra = sorted(set(given) - {attribute.name for attribute in self.attributes})
            raise InvalidServiceError(
                f"{self.code} has no attribute {', '.join(extra)}: leave it out, or correct its"
                " spelling."
            )

    def covers(self, service: Mapping[str, str | float] | None) -> bool:
        """Whether the measure covers such a service.

        Raises InvalidServiceError as `require_service` does.
        """
        self.require_service(service)
        return self.covers_valid(service or {})

    def covers_valid(self, service: Mapping[str, str | float]) -> bool:
        """`covers` for a service that `require_service` has let through."""
        for rule in self.rules:
            if all(condition.holds(service) for condition in rule.all_of):
                return rule.covered
        return True


class Catalogue:
    """All measures of a deployment. Raises CatalogueError when the message contradicts itself."""

    def __init__(self, message: catalogue_pb2.Catalogue) -> None:
        """From the contract's message, which is copied."""
        self._message = catalogue_pb2.Catalogue()
        self._message.CopyFrom(message)
        self.version: Final[int] = message.version
        measures = [_measure(measure) for measure in message.measures]
        codes = [measure.code for measure in measures]
        if any(before >= after for before, after in pairwise(codes)):
            raise CatalogueError(
                "The catalogue's measures are not in order of their codes, or one is there twice:"
                " sort them."
            )
        self.measures: Final[Mapping[str, Measure]] = {
            measure.code: measure for measure in measures
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> "Catalogue":
        """From the signed artefact."""
        if len(data) > MAX_BYTES:
            raise CatalogueError(
                f"The catalogue is over {MAX_BYTES >> 20} MiB: no catalogue is, tell the operator."
            )
        try:
            return cls(catalogue_pb2.Catalogue.FromString(data))
        except DecodeError:
            raise CatalogueError("The catalogue does not parse: fetch it again.") from None

    def to_bytes(self) -> bytes:
        """As the signed artefact; the same catalogue always gives the same bytes."""
        return self._message.SerializeToString(deterministic=True)

    def to_proto(self) -> catalogue_pb2.Catalogue:
        """A copy of the contract's message."""
        copy = catalogue_pb2.Catalogue()
        copy.CopyFrom(self._message)
        return copy

    def measure(self, code: str) -> Measure:
        """The measure of a code. Raises UnknownMeasureError."""
        try:
            return self.measures[code]
        except KeyError:
            raise UnknownMeasureError(
                "There is no such measure in the catalogue: check the spelling of its code."
            ) from None

    def __repr__(self) -> str:
        return f"Catalogue(version={self.version}, measures={len(self.measures)})"


def _measure(message: catalogue_pb2.Measure) -> Measure:
    code = message.code
    if not _code(code):
        raise CatalogueError(
            "A measure's code is capital letters, digits and '_': correct the catalogue."
        )
    try:
        force, nature = Force(message.force), Nature(message.nature)
    except ValueError:
        raise CatalogueError(
            f"{code} has no force or nature: say MANDATORY or RECOMMENDED, RESTRICTION or"
            " INCENTIVE."
        ) from None
    attributes = tuple(_attribute(code, attribute) for attribute in message.attributes)
    by_name = {attribute.name: attribute for attribute in attributes}
    if len(by_name) != len(attributes):
        raise CatalogueError(f"{code} has an attribute twice: remove one.")
    rules = tuple(_rule(code, rule, by_name) for rule in message.rules)
    _require_total(code, attributes, rules)
    allowed = message.still_allowed
    return Measure(
        code=code,
        title=_bilingual(message.title, f"{code}'s title"),
        force=force,
        nature=nature,
        legal_basis=_bilingual(message.legal_basis, f"{code}'s legal basis"),
        attributes=attributes,
        rules=rules,
        still_allowed=(
            _bilingual(allowed, f"What {code} still allows") if allowed.zh or allowed.en else None
        ),
    )


def _require_total(
    code: str, attributes: tuple[Attribute, ...], rules: tuple[ServiceRule, ...]
) -> None:
    """The last rule decides all that is left, no rule stands behind one that does, and what is
    asked for is looked at.
    """
    if any(bool(rule.all_of) == (rule is rules[-1]) for rule in rules):
        raise CatalogueError(
            f"{code}'s last rule, and no other, has to be without conditions: so every service is"
            " decided."
        )
    used = {condition.attribute for rule in rules for condition in rule.all_of}
    unused = sorted(attribute.name for attribute in attributes if attribute.name not in used)
    if unused:
        raise CatalogueError(
            f"{code} asks for {', '.join(unused)}, and no rule looks at it: remove it."
        )


def _attribute(code: str, message: catalogue_pb2.ServiceAttribute) -> Attribute:
    if not _attribute_name(message.name):
        raise CatalogueError(
            f"An attribute of {code} has a name other than small letters, digits and '_':"
            " correct it."
        )
    choices = tuple(message.choices)
    if message.numeric == bool(choices) or len(set(choices)) != len(choices) or not all(choices):
        raise CatalogueError(
            f"{code}'s {message.name} has to be numeric or to have different choices, and not both:"
            " correct it."
        )
    return Attribute(
        message.name, _bilingual(message.title, f"The title of {code}'s {message.name}"), choices
    )


def _rule(
    code: str, message: catalogue_pb2.ServiceRule, attributes: Mapping[str, Attribute]
) -> ServiceRule:
    conditions = tuple(_condition(code, condition, attributes) for condition in message.all_of)
    return ServiceRule(
        conditions, message.covered, _bilingual(message.title, f"The title of a rule of {code}")
    )


def _condition(
    code: str, message: catalogue_pb2.ServiceCondition, attributes: Mapping[str, Attribute]
) -> Condition:
    attribute = attributes.get(message.attribute)
    if attribute is None:
        raise CatalogueError(
            f"A rule of {code} looks at an attribute that {code} has not: correct its name."
        )
    bounded = message.HasField("at_least") or message.HasField("below")
    at_least = message.at_least if message.HasField("at_least") else -math.inf
    below = message.below if message.HasField("below") else math.inf
    if attribute.choices:
        if bounded or not message.any_of or not _among(message.any_of, attribute.choices):
            raise CatalogueError(
                f"A rule of {code} on {attribute.name} has to name some of its choices, and no"
                " bounds: correct it."
            )
    elif message.any_of or not bounded or not at_least < below:
        raise CatalogueError(
            f"A rule of {code} on {attribute.name} has to give bounds that some number meets:"
            " correct it."
        )
    return Condition(attribute.name, tuple(message.any_of), at_least, below)


def _among(some: Iterable[str], choices: tuple[str, ...]) -> bool:
    return set(some) <= set(choices)


def _bilingual(message: identity_pb2.BilingualText, what: str) -> Bilingual:
    return Bilingual.from_proto(message, what, CatalogueError)
