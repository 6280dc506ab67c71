"""Identifiers: one form for every writing of a number, an error for everything else, and nothing
shown.
"""

from __future__ import annotations

import copy
import pickle
import traceback
from datetime import date

import pytest
from stdnum.cn import ric, uscc

from tests.support import identities
from tipstaff.v1 import identity_pb2
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.numbers import (
    canonical_number,
    is_canonical_resident_id,
    organisation_check_character,
    resident_check_character,
)

KIND = IdentifierKind
STANDARD = "11010519491231002X"  # the example in GB 11643-1999
OLD_STANDARD = "110105491231002"

SAME = [
    ("as it is", KIND.RESIDENT_ID, STANDARD, STANDARD),
    ("lower-case x", KIND.RESIDENT_ID, "11010519491231002x", STANDARD),
    ("15 digits", KIND.RESIDENT_ID, OLD_STANDARD, STANDARD),
    ("15 digits, spaced", KIND.RESIDENT_ID, "110105 491231 002", STANDARD),
    (
        "15 digits of a centenarian",
        KIND.RESIDENT_ID,
        "110105900101996",
        identities.with_resident_check("11010518900101996"),
    ),
    ("full width", KIND.RESIDENT_ID, "１１０１０５１９４９１２３１００２Ｘ", STANDARD),
    ("roman numeral ten", KIND.RESIDENT_ID, "11010519491231002Ⅹ", STANDARD),
    ("spaces and hyphens", KIND.RESIDENT_ID, " 110105-19491231 - 002X ", STANDARD),
    ("ideographic space", KIND.RESIDENT_ID, "110105　19491231　002X", STANDARD),
    (
        "non-breaking space, en dash, minus",
        KIND.RESIDENT_ID,
        "110105\u00a01949\u20131231\u2212002X",
        STANDARD,
    ),
    ("invisible characters", KIND.RESIDENT_ID, "\ufeff110105\u200b19491231\u200e002X", STANDARD),
    ("a line end after it", KIND.RESIDENT_ID, STANDARD + "\r\n", STANDARD),
    (
        "leap day",
        KIND.RESIDENT_ID,
        identities.resident_id(birth=date(2000, 2, 29)),
        identities.resident_id(birth=date(2000, 2, 29)),
    ),
    ("region that no table has", KIND.RESIDENT_ID, *[identities.resident_id(region="899999")] * 2),
    (
        "residence permit of a Taiwan resident",
        KIND.RESIDENT_ID,
        *[identities.resident_id(region="830000")] * 2,
    ),
    ("company", KIND.ORGANISATION_CODE, "91110000600037341L", "91110000600037341L"),
    (
        "company, lower case and spaced",
        KIND.ORGANISATION_CODE,
        "91 110000 600037341 l",
        "91110000600037341L",
    ),
    (
        "rural collective",
        KIND.ORGANISATION_CODE,
        *[identities.with_organisation_check("N2110105MA0012345")] * 2,
    ),
    ("passport", KIND.PASSPORT, "e1234 5678", "E12345678"),
    ("short passport", KIND.PASSPORT, "1234A", "1234A"),
    ("Hong Kong permit", KIND.HK_MACAO_PERMIT, "h12345678", "H12345678"),
    ("Macao permit, older card, second renewal", KIND.HK_MACAO_PERMIT, "M1234567802", "M12345678"),
    ("Taiwan permit", KIND.TAIWAN_PERMIT, "12345678", "12345678"),
    (
        "Taiwan permit, older, issuing office in brackets",
        KIND.TAIWAN_PERMIT,
        "1234567801(B)",
        "12345678",
    ),
    (
        "Taiwan permit, older, full-width brackets",
        KIND.TAIWAN_PERMIT,
        "1234567801（B）",
        "12345678",
    ),
    ("Taiwan permit, 2006 to 2008", KIND.TAIWAN_PERMIT, "1234567803", "12345678"),
    (
        "permanent resident, old card",
        KIND.FOREIGN_PERMANENT_RESIDENT,
        "usa 1101 800101 12",
        "USA110180010112",
    ),
    (
        "permanent resident, new card",
        KIND.FOREIGN_PERMANENT_RESIDENT,
        *[identities.with_resident_check("91184019800101001")] * 2,
    ),
]
BAD = [
    ("empty", KIND.RESIDENT_ID, ""),
    ("only spaces and hyphens", KIND.RESIDENT_ID, " - "),
    ("wrong check character", KIND.RESIDENT_ID, "110105194912310021"),
    ("two digits swapped", KIND.RESIDENT_ID, "11010519491213002X"),
    ("17 digits", KIND.RESIDENT_ID, "11010519491231002"),
    ("19 characters", KIND.RESIDENT_ID, STANDARD + "1"),
    ("x in the middle", KIND.RESIDENT_ID, "1101051949123X0021"),
    ("30 February", KIND.RESIDENT_ID, identities.with_resident_check("11010519800230001")),
    (
        "29 February of a common year",
        KIND.RESIDENT_ID,
        identities.with_resident_check("11010519000229001"),
    ),
    ("31 April", KIND.RESIDENT_ID, identities.with_resident_check("11010519800431001")),
    ("month 0", KIND.RESIDENT_ID, identities.with_resident_check("11010519800001001")),
    ("month 13", KIND.RESIDENT_ID, identities.with_resident_check("11010519801301001")),
    ("day 0", KIND.RESIDENT_ID, identities.with_resident_check("11010519800100001")),
    ("year 1799", KIND.RESIDENT_ID, identities.with_resident_check("11010517990101001")),
    ("year 2100", KIND.RESIDENT_ID, identities.with_resident_check("11010521000101001")),
    ("year 0", KIND.RESIDENT_ID, identities.with_resident_check("11010500000101001")),
    ("15 digits with a bad date", KIND.RESIDENT_ID, "110105491331002"),
    ("first digit 0", KIND.RESIDENT_ID, identities.with_resident_check("01010519800101001")),
    (
        "a foreigner's card as a resident's",
        KIND.RESIDENT_ID,
        identities.with_resident_check("91184019800101001"),
    ),
    (
        "Arabic-Indic digits but the last",
        KIND.RESIDENT_ID,
        "".join(chr(0x660 + int(c)) for c in STANDARD[:17]) + "Y",
    ),
    ("Chinese numerals", KIND.RESIDENT_ID, "一一〇一〇五一九四九一二三一〇〇二X"),
    ("multiplication sign for X", KIND.RESIDENT_ID, "11010519491231002×"),
    ("Cyrillic Х", KIND.RESIDENT_ID, "11010519491231002Х"),
    ("a name", KIND.RESIDENT_ID, "张三"),
    ("NUL inside", KIND.RESIDENT_ID, "110105\x0019491231002X"),
    ("lone surrogate", KIND.RESIDENT_ID, "\ud800" + STANDARD),
    ("a megabyte", KIND.RESIDENT_ID, "1" * 1_000_000),
    ("old organisation code", KIND.ORGANISATION_CODE, "600037341"),
    ("company, wrong check character", KIND.ORGANISATION_CODE, "91110000600037341M"),
    ("company with the letter O", KIND.ORGANISATION_CODE, "9111OOOO600037341L"),
    (
        "company, letters in the region",
        KIND.ORGANISATION_CODE,
        identities.with_organisation_check("91A10000600037341"),
    ),
    ("company, two characters swapped", KIND.ORGANISATION_CODE, "19110000600037341L"),
    ("passport of 4", KIND.PASSPORT, "E123"),
    ("passport of 10", KIND.PASSPORT, "E123456789"),
    ("passport without a digit", KIND.PASSPORT, "ZHANGSAN"),
    ("passport with sharp s", KIND.PASSPORT, "1234ß"),
    ("passport with punctuation", KIND.PASSPORT, "E1234567/8"),
    ("Hong Kong permit with another letter", KIND.HK_MACAO_PERMIT, "K12345678"),
    ("Hong Kong permit of 7 digits", KIND.HK_MACAO_PERMIT, "H1234567"),
    ("Hong Kong permit of 9 digits", KIND.HK_MACAO_PERMIT, "H123456780"),
    ("Taiwan permit of 9 digits", KIND.TAIWAN_PERMIT, "123456789"),
    ("Taiwan permit of 7 digits", KIND.TAIWAN_PERMIT, "1234567"),
    ("Taiwan identity number", KIND.TAIWAN_PERMIT, "A123456789"),
    ("permanent resident, resident ID", KIND.FOREIGN_PERMANENT_RESIDENT, STANDARD),
    (
        "permanent resident, wrong check character",
        KIND.FOREIGN_PERMANENT_RESIDENT,
        "911840198001010010",
    ),
    ("permanent resident, two letters", KIND.FOREIGN_PERMANENT_RESIDENT, "US1110180010112"),
]


def by_name(cases: list[tuple]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "case", [case[1:] for case in cases], ids=[case[0] for case in cases]
    )


@by_name(SAME)
def test_a_number_has_one_form(case: tuple[IdentifierKind, str, str]) -> None:
    kind, written, canonical = case
    assert Identifier(kind, written).number == canonical
    assert Identifier(kind, canonical) == Identifier(kind, written)


@by_name(BAD)
def test_a_bad_number_is_an_error_that_does_not_repeat_it(case: tuple[IdentifierKind, str]) -> None:
    kind, written = case
    with pytest.raises(InvalidIdentifierError) as caught:
        Identifier(kind, written)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    message = str(caught.value)
    assert not written.strip(" -") or written not in message
    assert not any(len(digits) >= 5 for digits in _runs_of_digits(message.replace("1000000", "")))
    assert "During handling" not in shown, "the cause may hold the number"


def _runs_of_digits(text: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in text).split()


def test_each_bad_kind_of_number_says_what_to_do() -> None:
    with pytest.raises(InvalidIdentifierError, match="check character is wrong"):
        Identifier.resident_id("110105194912310021")
    with pytest.raises(InvalidIdentifierError, match="date of birth"):
        Identifier.resident_id(identities.with_resident_check("11010519800230001"))
    with pytest.raises(InvalidIdentifierError, match="permanent residence card"):
        Identifier.resident_id(identities.with_resident_check("91184019800101001"))
    with pytest.raises(InvalidIdentifierError, match="old organisation code"):
        Identifier.organisation("600037341")
    with pytest.raises(InvalidIdentifierError, match="1000000 characters long"):
        Identifier.resident_id("1" * 1_000_000)


def test_the_shortcuts_name_their_kind() -> None:
    assert Identifier.resident_id(STANDARD) == Identifier(KIND.RESIDENT_ID, STANDARD)
    assert Identifier.parse(OLD_STANDARD) == Identifier(KIND.RESIDENT_ID, STANDARD)
    assert Identifier.organisation("91110000600037341l") == Identifier(
        KIND.ORGANISATION_CODE, "91110000600037341L"
    )


def test_the_same_digits_of_another_kind_are_somebody_else() -> None:
    assert Identifier(KIND.PASSPORT, "12345678") != Identifier(KIND.TAIWAN_PERMIT, "12345678")
    assert (
        len({Identifier(KIND.PASSPORT, "12345678"), Identifier(KIND.TAIWAN_PERMIT, "12345678")})
        == 2
    )
    assert Identifier.parse(STANDARD) != STANDARD


@pytest.mark.parametrize("kind", [0, 7, -1, "RESIDENT_ID", None])
def test_an_unknown_kind_is_an_error(kind: object) -> None:
    with pytest.raises(InvalidIdentifierError, match="IdentifierKind"):
        Identifier(kind, STANDARD)  # type: ignore[arg-type]


def test_nothing_shows_the_number() -> None:
    identifier = Identifier.parse(STANDARD)
    for shown in (
        repr(identifier),
        str(identifier),
        f"{identifier}",
        f"{identifier!r}",
        repr([identifier]),
        repr({identifier: 1}),
    ):
        assert "110105" not in shown
        assert "RESIDENT_ID" in shown


def test_it_does_not_change() -> None:
    identifier = Identifier.parse(STANDARD)
    with pytest.raises(AttributeError):
        identifier.number = "1"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del identifier.kind
    with pytest.raises(AttributeError):
        identifier.other = 1  # type: ignore[attr-defined]
    assert identifier.number == STANDARD


def test_copies_and_pickles_are_equal() -> None:
    identifier = Identifier.organisation("91110000600037341L")
    for same in (
        copy.copy(identifier),
        copy.deepcopy(identifier),
        pickle.loads(pickle.dumps(identifier)),
    ):
        assert same == identifier
        assert hash(same) == hash(identifier)


def test_the_contract_s_message_and_back() -> None:
    for kind, number in [(KIND.RESIDENT_ID, STANDARD), (KIND.PASSPORT, "E12345678")]:
        identifier = Identifier(kind, number)
        assert Identifier.from_proto(identifier.to_proto()) == identifier


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (0, STANDARD),
        (99, STANDARD),
        (1, "11010519491231002x"),
        (1, OLD_STANDARD),
        (3, ""),
        (4, "H1234567800"),
    ],
)
def test_a_message_that_is_not_canonical_is_refused(kind: int, number: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        Identifier.from_proto(identity_pb2.Identifier(kind=kind, number=number))  # type: ignore[arg-type]


def test_check_characters_agree_with_stdnum_and_with_the_standards_tables() -> None:
    assert resident_check_character("11010519491231002") == "X"
    assert (
        ric.calc_check_digit("440524188001010014")
        == identities.with_resident_check("44052418800101001")[17]
        == "4"
    )
    assert (
        organisation_check_character("91110000600037341")
        == uscc.calc_check_digit("91110000600037341")
        == "L"
    )
    assert identities.with_organisation_check("91110000600037341") == "91110000600037341L"


def test_regions_that_python_stdnum_lacks_are_accepted() -> None:
    # stdnum's table would refuse these: one region it has not, and one that it thinks did not exist
    # in the year of birth.
    for number in (
        identities.resident_id(region="899999"),
        identities.resident_id(region="110112", birth=date(1950, 1, 1)),
    ):
        assert not ric.is_valid(number)
        assert Identifier.resident_id(number).number == number


def test_the_quick_check_takes_every_day_that_there_is() -> None:
    day = date(1999, 1, 1)
    while day < date(2001, 1, 1):
        assert is_canonical_resident_id(identities.resident_id(birth=day))
        day = date.fromordinal(day.toordinal() + 1)
    for year in range(1800, 2100):
        number = identities.with_resident_check(f"110105{year}0229001")
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        assert is_canonical_resident_id(number) == leap


def test_canonical_number_takes_only_text() -> None:
    with pytest.raises(TypeError):
        canonical_number(KIND.RESIDENT_ID, 110105194912310021)  # type: ignore[arg-type]
