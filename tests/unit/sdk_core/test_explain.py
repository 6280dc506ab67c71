"""Words for the counter, in both languages; and the texts they come from."""

from __future__ import annotations

import string
from datetime import UTC, datetime

import pytest

from tests.support import identities
from tests.support.sealed_world import AIR, GREEN, LOAN, NOW, SealedWorld, exemption, restriction
from tipstaff.v1 import identity_pb2
from tipstaff_sdk import texts
from tipstaff_sdk.decision.decide import Reason, decide
from tipstaff_sdk.errors import CatalogueError, ConfigurationError
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.texts import Bilingual, text

PERSON = Identifier.resident_id(identities.resident_id(1))


@pytest.fixture
def world() -> SealedWorld:
    world = SealedWorld()
    world.list(
        PERSON,
        "张三",
        restriction(1, [AIR, LOAN, GREEN], first=datetime(2026, 1, 1, 16, tzinfo=UTC), capacity=1),
    )
    return world


def test_a_restriction_is_explained_in_english(world: SealedWorld) -> None:
    assert decide(world.state(), NOW, PERSON, "张三", AIR).explain("en").splitlines() == [
        "Restricted: Measure AIR_TRAVEL (AIR_TRAVEL)",
        "A restriction in force covers this service.",
        "This measure is mandatory: it has to be carried out.",
        "Decided by: Example Court",
        "Legal basis: 示例规定第三条",
        "Case number: （2026）示执1号",
        "Term: from 2026-01-02 00:00 until 2026-09-09 20:00 (Beijing time)",
        "In the capacity of: legal representative",
        "To dispute this: Ask the court",
        "While a dispute is examined, this is not enforced.",
        "Still allowed: All else",
        "Data as of: 2026-06-01 14:00 (Beijing time)",
    ]


def test_a_restriction_is_explained_in_chinese(world: SealedWorld) -> None:
    assert decide(world.state(), NOW, PERSON, "张三", AIR).explain().splitlines() == [
        "受限制：措施AIR_TRAVEL (AIR_TRAVEL)",
        "有生效中的限制涉及该项服务。",
        "措施性质：强制性，应当执行。",
        "作出单位：示例法院",
        "法律依据：示例规定第三条",
        "案号：（2026）示执1号",
        "期限：2026-01-02 00:00起，至2026-09-09 20:00止（北京时间）",
        "责任身份：法定代表人",
        "如有异议：向法院提出",
        "提出异议后，核实期间暂不执行。",
        "仍可：其余不限",
        "数据截至：2026-06-01 14:00（北京时间）",
    ]


def test_a_recommended_measure_is_advice_and_an_incentive_a_grant(world: SealedWorld) -> None:
    state = world.state()
    advice = decide(state, NOW, PERSON, "张三", LOAN).explain("en")
    assert advice.startswith("Advice: ")
    assert "the decision is yours" in advice
    assert decide(state, NOW, PERSON, "张三", GREEN).explain("en").startswith("Entitled: ")
    assert "享受激励" in decide(state, NOW, PERSON, "张三", GREEN).explain("zh")


def test_an_exemption_says_until_when() -> None:
    world = SealedWorld()
    world.list(PERSON, "张三", restriction(exemptions=[exemption()]))
    explained = decide(world.state(), NOW, PERSON, "张三", AIR).explain("en").splitlines()
    assert explained[0] == "Clear: Measure AIR_TRAVEL (AIR_TRAVEL)"
    assert "Exemption: one journey to a funeral, until 2026-06-02 20:00 (Beijing time)" in explained
    assert not any(line.startswith("Still allowed") for line in explained)


def test_a_dispute_that_does_not_suspend_is_not_said_to() -> None:
    world = SealedWorld()
    lasting = restriction()
    lasting.dispute.suspends = False
    world.list(PERSON, "张三", lasting)
    explained = decide(world.state(), NOW, PERSON, "张三", AIR).explain("en")
    assert "To dispute this" in explained
    assert "not enforced" not in explained


def test_what_must_not_refuse_says_so(world: SealedWorld) -> None:
    cases = [
        decide(None, NOW, PERSON, "张三", AIR),
        decide(world.state(epoch_keys={}), NOW, PERSON, "张三", AIR),
        decide(world.state(relief=None), NOW, PERSON, "张三", AIR),
        decide(world.state(pack=None), NOW, PERSON, "张三", AIR),
        decide(world.state(), NOW, PERSON, "李四", AIR),
        decide(world.state(parameters=world.parameters(expires_at=NOW)), NOW, PERSON, "张三", AIR),
    ]
    for decision in cases:
        assert "nobody may be refused for this alone" in decision.explain("en")
        assert "不得仅因此拒绝服务" in decision.explain("zh")


def test_every_reason_has_words() -> None:
    for reason in Reason:
        assert text(f"reason.{reason.name}", "en")
        assert text(f"verdict.{reason.verdict.name}", "zh")


def placeholders(template: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)


def test_every_text_is_in_both_languages_with_the_same_placeholders() -> None:
    catalogue = texts.catalogue()
    assert len(catalogue) > 40
    for key, entry in catalogue.items():
        assert entry.zh.strip() == entry.zh != "", key
        assert entry.en.strip() == entry.en != "", key
        assert placeholders(entry.zh) == placeholders(entry.en), key
        assert all(name.isidentifier() for name in placeholders(entry.en)), key
        assert not entry.zh.isascii(), key
        assert not any("\u4e00" <= c <= "\u9fff" for c in entry.en), key


def test_an_unknown_key_or_language_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"no text 'no\.such'"):
        text("no.such", "en")
    for lang in ("fr", "", "EN"):
        with pytest.raises(ConfigurationError, match="zh and en only"):
            text("verdict.CLEAR", lang)
    with pytest.raises(ConfigurationError, match="zh and en only"):
        decide(None, NOW, PERSON, "张三", AIR).explain("de")


def test_a_text_of_one_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in (
        {"a": {"zh": "文"}},
        {"a": {"zh": "文", "en": "text", "de": "Text"}},
        {"a": "text"},
    ):
        with pytest.raises(ConfigurationError, match=r"texts\.toml"):
            texts._entries("", broken)


def test_bilingual_texts_go_through_the_contract() -> None:
    both = Bilingual("文", "text")
    assert Bilingual.from_proto(both.to_proto(), "It", CatalogueError) == both
    for message in (identity_pb2.BilingualText(zh="文"), identity_pb2.BilingualText(en="text")):
        with pytest.raises(CatalogueError, match="It lacks"):
            Bilingual.from_proto(message, "It", CatalogueError)
