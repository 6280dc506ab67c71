"""The provider's policy: which action follows from a decision, written down in a file instead of in
a booking system's code.

    version = 1

    [[rule]]
    verdict = "RESTRICTED"
    measures = ["LOAN_PRICING"]
    action = "PRICE"

    [[rule]]
    verdict = "REVIEW"
    reasons = ["NAME_MISMATCH"]
    action = "HOLD"
    zh = "请重新核对证件。"
    en = "Check the document again."

The first rule that matches decides. A rule may look at measures, reasons, force and nature besides
the verdict; what it does not mention it does not look at, except that a rule is about restrictions
unless it says `nature = "INCENTIVE"`. Where no rule matches, the built-in policy does: ALLOW what
is clear, REFUSE a mandatory restriction, PRICE by a recommended one, and HOLD for a person all that
is in doubt.

A file cannot make of the system what it must not be (docs/decisions/0012-what-a-policy-may-say.md),
and is refused with a reason:

1. Only RESTRICTED may cost anybody anything. REVIEW and UNKNOWN are ALLOW or HOLD, CLEAR is ALLOW.
2. A mandatory restriction is not ALLOW: who may pass it over is a person, so HOLD.
3. An incentive takes nothing away: it is ALLOW, PRICE or HOLD.
4. A rule that can never be reached, because those before it match all that it matches, is a
   mistake.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from tipstaff_sdk.decision.decision import Reason, Verdict
from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.listing.catalogue import Force, Nature
from tipstaff_sdk.texts import Bilingual, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tipstaff_sdk.decision.decision import Decision
    from tipstaff_sdk.enums import Word
    from tipstaff_sdk.listing.catalogue import Catalogue

__all__ = ["Action", "ActionKind", "Policy"]

Chosen = TypeVar("Chosen", bound="Word")

_VERSION: Final = 1
_MAX_TEXT: Final = 2_000
_KEYS: Final = frozenset(
    {"verdict", "measures", "reasons", "force", "nature", "action", "zh", "en"}
)


class ActionKind(Enum):
    """What the provider does."""

    ALLOW = "ALLOW"
    """Sell it."""
    REFUSE = "REFUSE"
    """Do not sell it."""
    OFFER_ALTERNATIVE = "OFFER_ALTERNATIVE"
    """Do not sell it, and offer what stays allowed."""
    PRICE = "PRICE"
    """Sell it at a price of its own."""
    HOLD = "HOLD"
    """Ask a person."""


_MAY: Final = {
    Verdict.CLEAR: {ActionKind.ALLOW},
    Verdict.REVIEW: {ActionKind.ALLOW, ActionKind.HOLD},
    Verdict.UNKNOWN: {ActionKind.ALLOW, ActionKind.HOLD},
    Verdict.RESTRICTED: set(ActionKind),
}


@dataclass(frozen=True, slots=True)
class Action:
    """What to do, and what to say to the person at the counter.

    The decision's own `explain` says why.
    """

    kind: ActionKind
    text: Bilingual

    def say(self, lang: str = "zh") -> str:
        """The text in 'zh' or 'en'. Raises ConfigurationError for another language."""
        return self.text.get(lang)


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One row of the table; None: not looked at."""

    verdict: Verdict
    action: Action
    measures: frozenset[str] | None = None
    reasons: frozenset[Reason] | None = None
    force: Force | None = None
    nature: Nature = Nature.RESTRICTION

    def matches(self, decision: Decision) -> bool:
        """Whether it is about this decision.

        What is not known of a measure is no reason not to match.
        """
        return (
            self.verdict is decision.verdict
            and (self.measures is None or decision.measure in self.measures)
            and (self.reasons is None or decision.reason in self.reasons)
            and (self.force is None or decision.force in (self.force, None))
            and decision.nature in (self.nature, None)
        )

    def covers(self, other: PolicyRule) -> bool:
        """Whether it matches everything that `other` matches."""
        return (
            self.verdict is other.verdict
            and self.nature is other.nature
            and (
                self.measures is None
                or (other.measures is not None and other.measures <= self.measures)
            )
            and (
                self.reasons is None
                or (other.reasons is not None and other.reasons <= self.reasons)
            )
            and (self.force is None or other.force is self.force)
        )


class Policy:
    """A table of rules over the built-in one. Immutable; safe to share between threads."""

    def __init__(self, rules: tuple[PolicyRule, ...] = ()) -> None:
        """The built-in policy; with `rules`, those first.

        Raises ConfigurationError for rules that no policy may have.
        """
        for number, rule in enumerate(rules, start=1):
            _check(number, rule, rules[: number - 1])
        self._rules = rules

    @classmethod
    def load(cls, path: str | Path, *, catalogue: Catalogue | None = None) -> Policy:
        """From a TOML file; with `catalogue` (`Screener.catalogue`), measures that it does not have
        are mistakes.

        Raises ConfigurationError: it cannot be read, or says what no policy may say; the message
        names the rule.
        """
        path = Path(path)
        try:
            policy = cls.of(tomllib.loads(path.read_text(encoding="utf-8")))
            if catalogue is not None:
                policy.require_measures(catalogue)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {path} ({error.strerror}); give the path of your policy"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        return policy

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Policy:
        """From a parsed document. Raises ConfigurationError."""
        if unknown := sorted(document.keys() - {"version", "rule"}):
            raise ConfigurationError(
                f"unknown key {unknown[0]!r}; a policy has version and [[rule]] tables"
            )
        version = document.get("version")
        if version != _VERSION or isinstance(version, bool):
            raise ConfigurationError(f"version has to be {_VERSION}")
        tables = document.get("rule", [])
        if not isinstance(tables, list):
            raise ConfigurationError("rules are written as [[rule]] tables")
        rules = enumerate(cast("list[object]", tables), start=1)
        return cls(tuple(_rule(number, table) for number, table in rules))

    def require_measures(self, catalogue: Catalogue) -> None:
        """Raises ConfigurationError when a rule names a measure that the catalogue does not have,
        and so would never apply.
        """
        for number, rule in enumerate(self._rules, start=1):
            if unknown := sorted((rule.measures or frozenset()) - catalogue.measures.keys()):
                raise ConfigurationError(
                    f"rule {number}: there is no measure {unknown[0]!r} in the catalogue; correct"
                    " its code"
                )

    def action(self, decision: Decision) -> Action:
        """What to do about a decision."""
        for rule in self._rules:
            if rule.matches(decision):
                return rule.action
        return _said(_built_in(decision))

    def __repr__(self) -> str:
        return f"Policy({len(self._rules)} rules)"


def _built_in(decision: Decision) -> ActionKind:
    if decision.verdict is Verdict.CLEAR:
        return ActionKind.ALLOW
    if decision.verdict is not Verdict.RESTRICTED:
        return ActionKind.HOLD
    if decision.nature is Nature.INCENTIVE:
        return ActionKind.ALLOW
    # A recommended measure is advice: it may raise a price, and refuses nobody by itself.
    return ActionKind.PRICE if decision.force is Force.RECOMMENDED else ActionKind.REFUSE


def _said(kind: ActionKind) -> Action:
    key = f"action.{kind.name}"
    return Action(kind, Bilingual(text(key, "zh"), text(key, "en")))


def _check(number: int, rule: PolicyRule, before: tuple[PolicyRule, ...]) -> None:
    """Rules 1 to 4. Raises ConfigurationError."""
    kind, verdict = rule.action.kind, rule.verdict
    if kind not in _MAY[verdict]:
        may = " or ".join(sorted(allowed.name for allowed in _MAY[verdict]))
        raise ConfigurationError(
            f"rule {number}: {kind.name} on {verdict.name} is not possible, only proof may cost"
            f" anybody anything: {verdict.name} says that there is none (data are old or missing,"
            f" or a name did not fit); write {may}"
            if verdict is not Verdict.CLEAR
            else (
                f"rule {number}: {kind.name} on CLEAR is not possible, because nothing stands"
                " against this person; write ALLOW"
            )
        )
    if rule.nature is Nature.INCENTIVE and kind in {
        ActionKind.REFUSE,
        ActionKind.OFFER_ALTERNATIVE,
    }:
        raise ConfigurationError(
            f"rule {number}: an incentive takes nothing away; write ALLOW, PRICE or HOLD"
        )
    mandatory = (
        verdict is Verdict.RESTRICTED
        and rule.nature is Nature.RESTRICTION
        and rule.force is not Force.RECOMMENDED
    )
    if mandatory and kind is ActionKind.ALLOW:
        raise ConfigurationError(
            f"rule {number}: no table passes over a mandatory restriction; write HOLD, and a person"
            ' may do so (outcome OVERRIDDEN), or add force = "RECOMMENDED"'
        )
    wrong = [reason.name for reason in rule.reasons or () if reason.verdict is not verdict]
    if wrong:
        raise ConfigurationError(
            f"rule {number}: {', '.join(sorted(wrong))} never comes with {verdict.name}; correct"
            " one of them"
        )
    for earlier, other in enumerate(before, start=1):
        if other.covers(rule):
            raise ConfigurationError(
                f"rule {number} can never apply, because rule {earlier} matches all that it"
                " matches; swap them"
            )


def _rule(number: int, table: object) -> PolicyRule:
    if not isinstance(table, dict):
        raise ConfigurationError("rules are written as [[rule]] tables")
    fields = cast("dict[str, object]", table)
    if unknown := sorted(fields.keys() - _KEYS):
        raise ConfigurationError(
            f"rule {number}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}"
        )
    for needed in ("verdict", "action"):
        if needed not in fields:
            raise ConfigurationError(f"rule {number}: {needed} is missing")
    reasons = _texts(number, fields, "reasons")
    kinds = {kind.name: kind for kind in ActionKind}
    action = fields["action"]
    if not isinstance(action, str) or action not in kinds:
        raise ConfigurationError(f"rule {number}: action has to be one of {', '.join(kinds)}")
    measures = _texts(number, fields, "measures")
    return PolicyRule(
        verdict=_word(number, "verdict", fields["verdict"], Verdict),
        action=_action(number, kinds[action], fields),
        measures=None if measures is None else frozenset(measures),
        reasons=(
            None
            if reasons is None
            else frozenset(_word(number, "reasons", item, Reason) for item in reasons)
        ),
        force=_word(number, "force", fields["force"], Force) if "force" in fields else None,
        nature=_word(number, "nature", fields.get("nature", Nature.RESTRICTION.name), Nature),
    )


def _word(number: int, key: str, value: object, kind: type[Chosen]) -> Chosen:
    for member in kind:
        if member.name == value:
            return member
    raise ConfigurationError(
        f"rule {number}: {key} has to be one of {', '.join(member.name for member in kind)}"
    )


def _texts(number: int, fields: Mapping[str, object], key: str) -> list[str] | None:
    if key not in fields:
        return None
    found = fields[key]
    values = cast("list[object]", found) if isinstance(found, list) else []
    texts = [value for value in values if isinstance(value, str) and value]
    if not texts or len(texts) != len(values) or len(set(texts)) < len(texts):
        raise ConfigurationError(
            f"rule {number}: {key} has to be a list of different words, and not empty; leave it out"
            " to match all"
        )
    return texts


def _action(number: int, kind: ActionKind, fields: Mapping[str, object]) -> Action:
    zh, en = fields.get("zh"), fields.get("en")
    if zh is None and en is None:
        return _said(kind)
    if not (
        isinstance(zh, str)
        and isinstance(en, str)
        and 0 < len(zh.strip()) <= _MAX_TEXT
        and 0 < len(en.strip()) <= _MAX_TEXT
    ):
        raise ConfigurationError(
            f"rule {number}: give the text in both languages, zh and en, up to {_MAX_TEXT}"
            " characters each, or in none"
        )
    return Action(kind, Bilingual(zh, en))
