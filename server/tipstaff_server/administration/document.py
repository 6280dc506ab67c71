"""Measures, authorities, lists and audiences: read from YAML, checked as a whole, made into the
signed catalogue.

    administration = Administration.load()                  # the file that comes with the program
    administration.catalogue(version=3, made_at=…)    # the message to sign

A wrong file raises AdministrationError with one line for each mistake and the place where it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tipstaff.v1 import catalogue_pb2
from tipstaff.v1.identity_pb2 import BilingualText
from tipstaff_server.errors import AdministrationError
from tipstaff_server.storage.models import ApprovalMode, DisputeEffect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from importlib.resources.abc import Traversable
    from pathlib import Path

__all__ = ["Administration", "AudienceSpec", "AuthoritySpec", "ListSpec", "MeasureSpec"]

MAX_FILE_BYTES = 4 << 20
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
MeasureCode = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Duration = Annotated[str, StringConstraints(pattern=r"^(P\d{1,3}Y|P\d{1,4}M|P\d{1,5}D)?$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BilingualSpec(_Model):
    """A text in both languages."""

    zh: Words
    en: Words

    def to_proto(self) -> BilingualText:
        """As in the contract."""
        return BilingualText(zh=self.zh, en=self.en)


class AttributeSpec(_Model):
    """One fact about a service: a choice, or a number."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    title: BilingualSpec
    choices: list[Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9_]{0,39}$")]] = []
    numeric: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.numeric == bool(self.choices):
            raise ValueError("give either choices, or numeric: true")
        _unique(self.choices, "choice")
        return self

    def to_proto(self) -> catalogue_pb2.ServiceAttribute:
        """As in the contract."""
        return catalogue_pb2.ServiceAttribute(
            name=self.name, title=self.title.to_proto(), choices=self.choices, numeric=self.numeric
        )


class ConditionSpec(_Model):
    """A test of one attribute: one of some choices, or within bounds."""

    attribute: str
    any_of: list[str] = []
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        bounded = self.at_least is not None or self.below is not None
        if bounded == bool(self.any_of):
            raise ValueError("give either any_of, or at_least and below")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError("at_least has to be less than below")
        return self

    def to_proto(self) -> catalogue_pb2.ServiceCondition:
        """As in the contract."""
        return catalogue_pb2.ServiceCondition(
            attribute=self.attribute, any_of=self.any_of, at_least=self.at_least, below=self.below
        )


class RuleSpec(_Model):
    """One line of a measure's table of services."""

    all_of: list[ConditionSpec] = []
    covered: bool
    title: BilingualSpec

    def to_proto(self) -> catalogue_pb2.ServiceRule:
        """As in the contract."""
        conditions = [condition.to_proto() for condition in self.all_of]
        return catalogue_pb2.ServiceRule(
            all_of=conditions, covered=self.covered, title=self.title.to_proto()
        )


class MeasureSpec(_Model):
    """One measure (措施)."""

    code: MeasureCode
    title: BilingualSpec
    force: Literal["MANDATORY", "RECOMMENDED"]
    nature: Literal["RESTRICTION", "INCENTIVE"]
    legal_basis: BilingualSpec
    attributes: list[AttributeSpec] = []
    rules: list[RuleSpec] = []
    still_allowed: BilingualSpec

    @model_validator(mode="after")
    def _total(self) -> Self:
        _unique((attribute.name for attribute in self.attributes), "attribute")
        if bool(self.attributes) != bool(self.rules):
            raise ValueError("attributes and rules go together: one without the other says nothing")
        if self.rules and self.rules[-1].all_of:
            raise ValueError(
                "the last rule must have no condition, so that every service is decided"
            )
        if any(not rule.all_of for rule in self.rules[:-1]):
            raise ValueError(
                "only the last rule may be without a condition; rules behind it would never be"
                " looked at"
            )
        attributes = {attribute.name: attribute for attribute in self.attributes}
        for condition in (condition for rule in self.rules for condition in rule.all_of):
            _fits(condition, attributes.get(condition.attribute))
        return self

    def to_proto(self) -> catalogue_pb2.Measure:
        """As in the contract."""
        return catalogue_pb2.Measure(
            code=self.code,
            title=self.title.to_proto(),
            force=catalogue_pb2.MeasureForce.Value(f"MEASURE_FORCE_{self.force}"),
            nature=catalogue_pb2.MeasureNature.Value(f"MEASURE_NATURE_{self.nature}"),
            legal_basis=self.legal_basis.to_proto(),
            attributes=[attribute.to_proto() for attribute in self.attributes],
            rules=[rule.to_proto() for rule in self.rules],
            still_allowed=self.still_allowed.to_proto(),
        )


class AuthoritySpec(_Model):
    """One authority (发起部门), and the measures that it may impose."""

    id: Slug
    title: BilingualSpec
    region: Words
    entitlements: list[MeasureCode] = Field(min_length=1)


class ListSpec(_Model):
    """One list and its policies.

    `answer_days`: how long an answer to a dispute may take. `approval`: with TWO_PERSONS an entry
    is a draft until another one approves.
    """

    id: Slug
    title: BilingualSpec
    dispute_effect: DisputeEffect = DisputeEffect.SUSPEND
    dispute: BilingualSpec
    answer_days: int = Field(default=15, ge=1, le=365)
    notice_days: int = Field(default=0, ge=0, le=365)
    approval: ApprovalMode = ApprovalMode.ONE_PERSON
    default_term: Duration = ""
    default_legal_basis: Annotated[str, StringConstraints(max_length=500)] = ""
    default_measures: list[MeasureCode] = []


class AudienceSpec(_Model):
    """One audience (接收方), and the measures that it enforces."""

    id: Slug
    title: BilingualSpec
    measures: list[MeasureCode] = Field(min_length=1)


class Administration(_Model):
    """All of it."""

    measures: list[MeasureSpec] = Field(min_length=1)
    authorities: list[AuthoritySpec] = Field(min_length=1)
    lists: list[ListSpec] = Field(min_length=1)
    audiences: list[AudienceSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _unique((item.code for item in self.measures), "measure")
        for kind, items in (
            ("authority", self.authorities),
            ("list", self.lists),
            ("audience", self.audiences),
        ):
            _unique((item.id for item in items), kind)
        natures = {item.code: item.nature for item in self.measures}
        named = [(f"authority {item.id}", item.entitlements) for item in self.authorities]
        named += [(f"list {item.id}", item.default_measures) for item in self.lists]
        named += [(f"audience {item.id}", item.measures) for item in self.audiences]
        for where, codes in named:
            _unique(codes, f"{where}: measure")
            if missing := sorted(set(codes) - natures.keys()):
                raise ValueError(f"{where}: no such measure: {', '.join(missing)}")
        for audience in self.audiences:
            if len({natures[code] for code in audience.measures}) > 1:
                raise ValueError(
                    f"audience {audience.id}: restrictions and incentives go to separate audiences"
                )
        return self

    @classmethod
    def load(cls, path: Path | None = None) -> Administration:
        """From a YAML file; without one, the file that comes with the program.

        Raises AdministrationError.
        """
        return _shipped() if path is None else _read(path, str(path))

    @classmethod
    def parse(cls, data: bytes, where: str = "administration") -> Administration:
        """From YAML text, which JSON is too. Raises AdministrationError."""
        if len(data) > MAX_FILE_BYTES:
            raise AdministrationError(f"{where} is larger than {MAX_FILE_BYTES >> 20} MiB")
        try:
            values: Any = yaml.load(data, _Loader)  # noqa: S506  a SafeLoader that also refuses repeated keys and aliases
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise AdministrationError(f"{where} is not valid YAML: {error}") from None
        return cls._validated(values, where)

    @classmethod
    def from_document(cls, text: str, where: str) -> Administration:
        """From what `document` gave, a hundred times quicker than as YAML.

        Raises AdministrationError.
        """
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise AdministrationError(
                f"{where} is not the JSON that was stored; restore the database from its backup"
            ) from None
        return cls._validated(values, where)

    @classmethod
    def _validated(cls, values: Any, where: str) -> Administration:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise AdministrationError(f"{where}: {_explain(error)}") from None

    def document(self) -> str:
        """Canonical JSON: the same administration gives the same text."""
        return self.model_dump_json(exclude_defaults=True)

    def digest(self) -> bytes:
        """SHA-256 of the document."""
        return hashlib.sha256(self.document().encode()).digest()

    def catalogue(self, *, version: int, made_at: datetime) -> catalogue_pb2.Catalogue:
        """The catalogue of measures as it is signed, sorted by code."""
        measures = [item.to_proto() for item in sorted(self.measures, key=lambda item: item.code)]
        message = catalogue_pb2.Catalogue(version=version, measures=measures)
        message.made_at.FromDatetime(made_at)
        return message


@cache
def _shipped() -> Administration:
    """Comes with the program; read once, because YAML of this size takes a third of a second."""
    name = "administration.yaml"
    return _read(resources.files("tipstaff_server").joinpath(name), name)


def _read(source: Traversable, where: str) -> Administration:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise AdministrationError(
            f"{where} cannot be read: {error.strerror}; see [administration] file"
        ) from None
    return Administration.parse(data, where)


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key given twice is a mistake, and aliases can blow up a small file."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed; write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  the library's signature
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError(f"a key is given twice, near line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _fits(condition: ConditionSpec, attribute: AttributeSpec | None) -> None:
    if attribute is None:
        raise ValueError(f"no attribute {condition.attribute!r}")
    if attribute.numeric == bool(condition.any_of):
        raise ValueError(f"{condition.attribute}: bounds are for numbers, any_of is for choices")
    if unknown := sorted(set(condition.any_of) - set(attribute.choices)):
        raise ValueError(f"{condition.attribute}: no such choice: {', '.join(unknown)}")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} is given twice")
        seen.add(name)


def _explain(error: ValidationError) -> str:
    lines: list[str] = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"]) or "as a whole"
        text = (
            "unknown key; remove it or correct its name"
            if item["type"] == "extra_forbidden"
            else item["msg"]
        )
        lines.append(f"{where}: {re.sub('^Value error, ', '', text)}")
    return "; ".join(lines)
