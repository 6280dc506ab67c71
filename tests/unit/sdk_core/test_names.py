"""Names: every writing of one name meets, and what is no name is refused."""

from __future__ import annotations

import pytest

from tipstaff_sdk.errors import InvalidNameError
from tipstaff_sdk.identity.names import DOT, canonical_name

SAME = [
    ("plain", "张三丰", "张三丰"),
    ("space between Han characters", "张 三", "张三"),
    ("ideographic space", "张　三", "张三"),
    ("many spaces around", "  张   三  ", "张三"),
    ("compatibility ideograph", "\uf9f4", "\u6797"),
    ("full-width letters", "ＪＯＨＮ　ＳＭＩＴＨ", "john smith"),
    ("case", "John SMITH", "john smith"),
    ("one space between Latin words", "John    Smith", "john smith"),
    ("sharp s", "Strauß", "strauss"),
    ("composed and decomposed", "Jose\u0301", "josé"),
    ("curly apostrophe", "O’Brien", "o'brien"),
    ("non-breaking hyphen", "Smith\u2011Jones", "smith-jones"),
    ("Kana with a space", "やまだ たろう", "やまだたろう"),
    ("half-width kana", "ﾔﾏﾀﾞ", "ヤマダ"),
    ("Hangul with a space", "김 철수", "김철수"),
    ("Han beside Latin", "张 John", "张john"),
    ("Arabic keeps its space", "محمد علي", "محمد علي"),
    ("zero-width space", "张\u200b三", "张三"),
    ("byte order mark", "\ufeff张三", "张三"),
    ("variation selector", "葛\U000e0100城", "葛城"),
    ("number for a name", "1", "1"),
    ("rare ideograph", "𠮷田", "𠮷田"),
    ("Greek final sigma", "ΓΙΩΡΓΟΣ", "γιωργοσ"),
    ("iota below", "ᾳ", "αι"),
]

DOTS = "·•‧∙⋅・･．.。｡●◦⸱ꞏᐧ᛫․˙°\u0387"

BAD = [
    ("empty", ""),
    ("a space", " "),
    ("ideographic spaces", "　　"),
    ("only a dot", "·"),
    ("only invisible characters", "\u200b\ufeff"),
    ("tab", "张\t三"),
    ("line end", "张三\n"),
    ("NUL", "张三\0"),
    ("escape", "\x1b[31m张三"),
    ("C1 control", "张\x85三"),
    ("lone surrogate", "张\ud83d"),
    ("201 characters", "张" * 201),
    ("801 characters", "a " * 401),
    ("200 that unfold to 3600", "\ufdfa" * 200),
    ("a million", "x" * 1_000_000),
]


@pytest.mark.parametrize(
    ("written", "canonical"), [case[1:] for case in SAME], ids=[case[0] for case in SAME]
)
def test_a_name_has_one_form(written: str, canonical: str) -> None:
    assert canonical_name(written) == canonical
    assert canonical_name(canonical) == canonical


@pytest.mark.parametrize("dot", DOTS, ids=[f"U+{ord(dot):04X}" for dot in DOTS])
def test_every_dot_of_transliterated_names_is_one(dot: str) -> None:
    assert canonical_name(f"买买提{dot}艾力") == f"买买提{DOT}艾力"
    assert canonical_name(f"买买提 {dot} 艾力{dot}") == f"买买提{DOT}艾力"
    assert canonical_name(f"买买提{dot}{dot}艾力") == f"买买提{DOT}艾力"


@pytest.mark.parametrize("text", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_no_name_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        canonical_name(text)
    assert "张" not in str(caught.value)


@pytest.mark.parametrize("text", ["张" * 200, "a" * 200, "张 " * 200, "ab " * 66 + "ab"])
def test_two_hundred_characters_are_allowed(text: str) -> None:
    assert len(canonical_name(text)) == 200


def test_different_names_stay_different() -> None:
    names = [
        "张三",
        "张三丰",
        "张叁",
        "張三",
        "zhang san",
        "zhangsan",
        "san zhang",
        "张·三",
        "アリ",
        "ァリ",
    ]
    assert len({canonical_name(name) for name in names}) == len(names)
