"""The provider's policy: what it says where nothing else is said, what a file may say, and what no
file may.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tipstaff_sdk.decision.decision import Decision, Finding, Reason, Verdict
from tipstaff_sdk.decision.policy import ActionKind, Policy
from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.listing.catalogue import Catalogue, Force, Measure, Nature
from tipstaff_sdk.texts import Bilingual

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 7, 1, tzinfo=UTC)
WORDS = Bilingual("示例", "Example")


def decision(
    reason: Reason,
    measure: str = "AIR_TRAVEL",
    *,
    force: Force | None = Force.MANDATORY,
    nature: Nature = Nature.RESTRICTION,
) -> Decision:
    entry = None if force is None else Measure(measure, WORDS, force, nature, WORDS, (), (), None)
    return Decision(Finding(reason, measure, entry), NOW, reason.verdict)


ALL = [
    decision(reason, force=force, nature=nature)
    for reason, force, nature in product(Reason, (*Force, None), Nature)
]


def rule(verdict: str = "RESTRICTED", action: str = "HOLD", **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "action": action, **more}


def policy(*rules: dict[str, Any]) -> Policy:
    return Policy.of({"version": 1, "rule": list(rules)})


def test_the_built_in_policy_refuses_on_proof_of_a_mandatory_restriction_and_on_nothing_else() -> (
    None
):
    built_in = Policy()
    for made in ALL:
        kind = built_in.action(made).kind
        proof = (
            made.verdict is Verdict.RESTRICTED
            and made.nature is not Nature.INCENTIVE
            and made.force is not Force.RECOMMENDED
        )
        assert (kind is ActionKind.REFUSE) == proof
        if made.verdict is Verdict.CLEAR:
            assert kind is ActionKind.ALLOW
        if made.verdict in {Verdict.REVIEW, Verdict.UNKNOWN}:
            assert kind is ActionKind.HOLD
    assert (
        built_in.action(decision(Reason.IN_FORCE, force=Force.RECOMMENDED)).kind is ActionKind.PRICE
    )
    assert (
        built_in.action(decision(Reason.IN_FORCE, nature=Nature.INCENTIVE)).kind is ActionKind.ALLOW
    )


def test_the_first_rule_that_matches_decides_and_the_built_in_policy_where_none_does() -> None:
    made = policy(
        rule(action="OFFER_ALTERNATIVE", measures=["RAIL_HIGH_CLASS"]),
        rule(action="PRICE", force="RECOMMENDED", measures=["LOAN_PRICING"]),
        rule(action="HOLD", force="RECOMMENDED"),
        rule(action="PRICE", nature="INCENTIVE"),
        rule("REVIEW", "ALLOW", reasons=["STALE_RELIEF"], measures=["STAR_HOTEL"]),
        rule("UNKNOWN", "ALLOW"),
    )
    table = {
        ActionKind.OFFER_ALTERNATIVE: decision(Reason.IN_FORCE, "RAIL_HIGH_CLASS"),
        ActionKind.PRICE: decision(Reason.IN_FORCE, "LOAN_PRICING", force=Force.RECOMMENDED),
        ActionKind.HOLD: decision(Reason.IN_FORCE, "EXIT", force=Force.RECOMMENDED),
        ActionKind.REFUSE: decision(Reason.IN_FORCE, "EXIT"),
        ActionKind.ALLOW: decision(Reason.STALE_RELIEF, "STAR_HOTEL"),
    }
    assert {kind: made.action(found).kind for kind, found in table.items()} == {
        kind: kind for kind in table
    }
    assert made.action(decision(Reason.IN_FORCE, nature=Nature.INCENTIVE)).kind is ActionKind.PRICE
    assert made.action(decision(Reason.NAME_MISMATCH, "STAR_HOTEL")).kind is ActionKind.HOLD
    assert made.action(decision(Reason.EXPIRED, force=None)).kind is ActionKind.ALLOW
    assert repr(made) == "Policy(6 rules)"


def test_texts_are_the_rule_s_own_or_the_usual_ones() -> None:
    made = policy(rule(zh="请到三号窗口。", en="Please go to counter three."))
    own = made.action(decision(Reason.IN_FORCE))
    assert (own.say("zh"), own.say("en")) == ("请到三号窗口。", "Please go to counter three.")
    said = {made.action(found).say(lang) for found in ALL for lang in ("zh", "en")}
    assert all(text.strip() for text in said)
    assert made.action(decision(Reason.NOT_LISTED)).say() == "可以办理。"
    with pytest.raises(ConfigurationError, match="set lang"):
        own.say("fr")


REFUSED = {
    "refuse on review": (rule("REVIEW", "REFUSE"), "only proof may cost"),
    "refuse on unknown": (rule("UNKNOWN", "REFUSE"), "only proof may cost"),
    "refuse on stale relief of one measure": (
        rule("REVIEW", "REFUSE", reasons=["STALE_RELIEF"], measures=["EXIT"]),
        "only proof may cost",
    ),
    "an alternative on review": (rule("REVIEW", "OFFER_ALTERNATIVE"), "only proof may cost"),
    "a price on unknown": (rule("UNKNOWN", "PRICE"), "only proof may cost"),
    "a hold on clear": (rule("CLEAR", "HOLD"), "nothing stands against"),
    "a refusal of the clear": (rule("CLEAR", "REFUSE"), "nothing stands against"),
    "an incentive that refuses": (rule(action="REFUSE", nature="INCENTIVE"), "takes nothing away"),
    "mandatory ones passed over": (rule(action="ALLOW", force="MANDATORY"), "no table passes over"),
    "mandatory ones passed over among all": (rule(action="ALLOW"), "no table passes over"),
    "a reason of another verdict": (
        rule("REVIEW", "HOLD", reasons=["IN_FORCE"]),
        "IN_FORCE never comes with REVIEW",
    ),
    "an unknown key": (rule(mesures=["EXIT"]), "unknown key 'mesures'"),
    "no action": ({"verdict": "CLEAR"}, "action is missing"),
    "no verdict": ({"action": "HOLD"}, "verdict is missing"),
    "an unknown verdict": (rule("MAYBE"), "verdict has to be one of CLEAR"),
    "a verdict by number": (rule(3), "verdict has to be one of CLEAR"),  # type: ignore[arg-type]
    "an unknown action": (rule(action="DENY"), "action has to be one of ALLOW"),
    "an unknown reason": (rule("REVIEW", reasons=["BAD"]), "reasons has to be one of NO_DATA"),
    "an unknown force": (rule(force="SOFT"), "force has to be one of MANDATORY"),
    "an unknown nature": (rule(nature="GOOD"), "nature has to be one of"),
    "no measures at all": (rule(measures=[]), "measures has to be a list"),
    "a measure twice": (rule(measures=["EXIT", "EXIT"]), "measures has to be a list"),
    "one measure without a list": (rule(measures="EXIT"), "measures has to be a list"),
    "one language": (rule(zh="请稍候"), "both languages"),
    "an empty text": (rule(zh=" ", en="x"), "both languages"),
    "a rule that is no table": ("REFUSE", "written as"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_must_not_be_is_refused_with_the_reason(name: str) -> None:
    wrong, reason = REFUSED[name]
    with pytest.raises(ConfigurationError, match=reason) as refused:
        policy(rule("UNKNOWN", "ALLOW"), wrong)  # type: ignore[arg-type]
    if wrong != "REFUSE":
        assert str(refused.value).startswith("rule 2: ")


UNREACHABLE = [
    (rule(), rule()),
    (rule(), rule(measures=["EXIT"])),
    (rule(measures=["EXIT", "AIR_TRAVEL"]), rule(measures=["EXIT"], force="MANDATORY")),
    (rule("REVIEW"), rule("REVIEW", reasons=["STALE_RELIEF"])),
]


@pytest.mark.parametrize(("first", "second"), UNREACHABLE)
def test_a_rule_that_can_never_apply_is_a_mistake(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="rule 2 can never apply, because rule 1"):
        policy(first, second)
    policy(second) if first == second else policy(second, first)


def test_no_policy_that_loads_costs_anybody_anything_without_proof() -> None:
    """Every single rule there is, over every decision there is."""
    loaded = 0
    for verdict, action, force, nature in product(Verdict, ActionKind, (None, *Force), Nature):
        table = rule(
            verdict.name,
            action.name,
            nature=nature.name,
            **({} if force is None else {"force": force.name}),
        )
        try:
            made = policy(table)
        except ConfigurationError:
            continue
        loaded += 1
        for found in ALL:
            kind = made.action(found).kind
            if found.verdict is not Verdict.RESTRICTED:
                assert kind in {ActionKind.ALLOW, ActionKind.HOLD}
            if found.nature is Nature.INCENTIVE:
                assert kind is not ActionKind.REFUSE
            if (
                found.verdict is Verdict.RESTRICTED
                and found.force is Force.MANDATORY
                and found.nature is Nature.RESTRICTION
            ):
                assert kind is not ActionKind.ALLOW
    assert loaded > 30


def test_a_file_is_read_and_its_mistakes_carry_its_name(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'version = 1\n[[rule]]\nverdict = "RESTRICTED"\nmeasures = ["AIR_TRAVLE"]\naction ='
        ' "HOLD"\n',
        "utf-8",
    )
    loaded = Policy.load(file)
    assert loaded.action(decision(Reason.IN_FORCE, "AIR_TRAVLE")).kind is ActionKind.HOLD

    class Known(Catalogue):
        def __init__(self) -> None:
            self.measures = {"AIR_TRAVEL": None}  # type: ignore[dict-item,misc]

    with pytest.raises(
        ConfigurationError, match=r"policy\.toml: rule 1: there is no measure 'AIR_TRAVLE'"
    ):
        Policy.load(file, catalogue=Known())
    for content, reason in [
        (
            'version = 1\n[[rule]]\nverdict = "REVIEW"\naction = "REFUSE"\n',
            r"policy\.toml: rule 1: REFUSE on REVIEW",
        ),
        ("version = 1\nrules = []\n", "unknown key 'rules'"),
        ("rule = []\n", "version has to be 1"),
        ("version = true\n", "version has to be 1"),
        ("version = 2\n", "version has to be 1"),
        ("version = 1\nrule = 3\n", "written as"),
        ("version = \n", "not valid TOML"),
    ]:
        file.write_text(content, "utf-8")
        with pytest.raises(ConfigurationError, match=reason):
            Policy.load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        Policy.load(file)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Policy.load(tmp_path / "none.toml")
    file.write_text("version = 1\n", "utf-8")
    assert Policy.load(file).action(decision(Reason.IN_FORCE)).kind is ActionKind.REFUSE
