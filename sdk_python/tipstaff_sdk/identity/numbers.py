"""What numbers of each kind look like, and the one form each is kept in.

A number is canonical or it is refused. Canonical: NFKC, upper case, without spaces, hyphens,
brackets and invisible characters, and whatever changes between two documents of one holder is
dropped where the issuer says so:

- Resident ID (GB 11643-1999): 17 digits and a check character, ISO 7064 MOD 11-2; first digit 1 to
  8, a birth date that exists, year 1800 to 2099. The 15 digits of GB 11643-1989 are upgraded:
  century 19, or 18 for the order codes 996 to 999 (kept for centenarians), and the check character
  computed. Region codes are not looked up: tables of them (python-stdnum's too) lack codes that
  were really issued, and a real number that is refused leaves its holder standing at the counter.
- Organisation (GB 32100-2015): 18 characters without I, O, S, V, Z; registering authority and
  class, six digits of region, nine of organisation code, a check character modulo 31. Authority and
  class may be letters (rural collectives begin with N).
- Passport: 5 to 9 letters and digits (ICAO Doc 9303 holds nine), at least one digit.
- Hong Kong and Macao permit: H or M and 8 digits. Two further digits on older cards count renewals
  (Ministry of Public Security, 2010: "the first nine characters are the same for the same holder")
  and are dropped.
- Taiwan permit: 8 digits. Older numbers go on with two digits of issue count and one or two
  characters of the issuing office, in brackets (one number for life since 25 September 2008); both
  are dropped.
- Foreign permanent resident: since December 2023 18 characters as for residents, first digit 9;
  before, three letters and twelve digits. One cannot be computed from the other: a holder of both
  has two identifiers.
"""

import re
import unicodedata
from typing import Final

from stdnum.cn import ric, uscc

from tipstaff_sdk.enums import Word
from tipstaff_sdk.errors import InvalidIdentifierError


class IdentifierKind(Word):
    """What kind of number identifies a subject; values as in tipstaff.v1.IdentifierKind."""

    RESIDENT_ID = 1
    ORGANISATION_CODE = 2
    PASSPORT = 3
    HK_MACAO_PERMIT = 4
    TAIWAN_PERMIT = 5
    FOREIGN_PERMANENT_RESIDENT = 6


# Longer texts are nobody's number; the cap keeps normalisation cheap whatever is passed.
_MAX_TEXT: Final = 64

# Hyphens, dashes, minus signs and brackets; white space and invisible characters go by category.
_DECORATION: Final = frozenset(
    "-()\u058a\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2e3a\u2e3b\ufe58"
)

# A canonical resident ID but for its check character.
_MONTH_AND_DAY: Final = (
    "(?:(?:0[1-9]|1[0-2])(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])(?:29|30)|(?:0[13578]|1[02])31)"
)
_LEAP_DAY: Final = "(?:(?:18|19|20)(?:0[48]|[2468][048]|[13579][26])|2000)0229"
resident_form = re.compile(
    f"[1-8][0-9]{{5}}(?:(?:18|19|20)[0-9]{{2}}{_MONTH_AND_DAY}|{_LEAP_DAY})[0-9]{{3}}[0-9X]"
).fullmatch

# GB 11643 weighs the characters by powers of two, from the right, and their sum is 1 modulo 11.
# Read to base 13, which is 2 modulo 11, 18 digits give that sum. An X counts 10, so the 17 digits
# before it, doubled, give 1 - 10, and by themselves 1, too.
CHECK_BASE: Final = 13
CHECK_MODULUS: Final = 11

_OLD_ORGANISATION_CODE_LENGTH: Final = 9
_seventeen_digits = re.compile("[0-9]{17}[0-9X]").fullmatch
_fifteen_digits = re.compile("[0-9]{15}").fullmatch
_organisation = re.compile("[0-9A-HJ-NP-RTUWXY]{2}[0-9]{6}[0-9A-HJ-NP-RTUWXY]{10}").fullmatch
_passport = re.compile("(?=.*[0-9])[0-9A-Z]{5,9}").fullmatch
_hk_macao = re.compile("([HM][0-9]{8})(?:[0-9]{2})?").fullmatch
_taiwan = re.compile("([0-9]{8})(?:[0-9]{2}[0-9A-Z]{0,2})?").fullmatch
_old_foreign = re.compile("[A-Z]{3}[0-9]{12}").fullmatch


def is_canonical_resident_id(text: str) -> bool:
    """Whether a text is a resident ID in canonical form; what is not may still be one.

    About 0.4 µs.

    Says the same as the careful rules below, which rest on python-stdnum; a property test holds the
    two together.
    """
    return (
        resident_form(text) is not None
        and int(text[:17] if text[17] == "X" else text, CHECK_BASE) % CHECK_MODULUS == 1
    )


def canonical_number(kind: IdentifierKind, text: str) -> str:
    """The one form in which a number of this kind is kept.

    Raises InvalidIdentifierError, whose message does not hold the number.
    """
    if kind == IdentifierKind.RESIDENT_ID and is_canonical_resident_id(text):
        return text
    return _RULES[kind](_clean(text))


def resident_check_character(digits: str) -> str:
    """Check character of 17 digits (GB 11643, ISO 7064 MOD 11-2)."""
    return ric.calc_check_digit(f"{digits}0")


def organisation_check_character(body: str) -> str:
    """Check character of the first 17 characters of an organisation code (GB 32100)."""
    return uscc.calc_check_digit(body)


def _clean(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise InvalidIdentifierError(
            f"This is {len(text)} characters long, and no number is: pass the number alone."
        )
    cleaned = "".join(c for c in unicodedata.normalize("NFKC", text) if not _is_decoration(c))
    if not cleaned:
        raise InvalidIdentifierError("The number is empty: read it from the document again.")
    # Upper case of ASCII alone: elsewhere one letter may become two, and none of those is in any
    # number.
    return cleaned.upper() if cleaned.isascii() else cleaned


def _is_decoration(character: str) -> bool:
    return (
        character in _DECORATION or character.isspace() or unicodedata.category(character) == "Cf"
    )


def _resident(number: str) -> str:
    if _fifteen_digits(number):
        century = "18" if number[12:] >= "996" else "19"
        body = number[:6] + century + number[6:]
        number = body + resident_check_character(body)
    _verify_resident(
        number,
        "12345678",
        "A resident ID begins with 1 to 8; 9 is a foreigner's permanent residence card: pass that"
        " kind.",
    )
    return number


def _foreign(number: str) -> str:
    if not _old_foreign(number):
        _verify_resident(
            number,
            "9",
            "A foreign permanent resident's 18-digit number begins with 9, the old one is 3 letters"
            " and 12 digits.",
        )
    return number


def _verify_resident(number: str, first_digits: str, first_digit_hint: str) -> None:
    if not _seventeen_digits(number):
        raise InvalidIdentifierError(
            "This is not 17 digits and a check character (or the 15 digits of an old number): read"
            " it again."
        )
    if number[0] not in first_digits:
        raise InvalidIdentifierError(first_digit_hint)
    if resident_check_character(number[:17]) != number[17]:
        raise InvalidIdentifierError(
            "The check character is wrong: a digit was misread or two were swapped, read the number"
            " again."
        )
    try:
        year = ric.get_birth_date(number).year
    except (
        ValueError
    ):  # stdnum's own error is one; nothing of it is shown, in case it holds the number
        year = 0
    if number[6:8] not in {"18", "19", "20"} or not year:
        raise InvalidIdentifierError(
            "Digits 7 to 14 are not a date of birth: read the number again."
        )


def _organisation_code(number: str) -> str:
    if len(number) == _OLD_ORGANISATION_CODE_LENGTH:
        raise InvalidIdentifierError(
            "Nine characters are the old organisation code: pass the 18 characters of the unified"
            " social credit code."
        )
    if not _organisation(number):
        raise InvalidIdentifierError(
            "This is not a unified social credit code (18 characters, none of I, O, S, V, Z): read"
            " it again."
        )
    if organisation_check_character(number[:17]) != number[17]:
        raise InvalidIdentifierError(
            "The check character is wrong: a character was misread or two were swapped, read the"
            " code again."
        )
    return number


def _passport_number(number: str) -> str:
    if not _passport(number):
        raise InvalidIdentifierError(
            "A passport number is 5 to 9 letters and digits with at least one digit: read it again."
        )
    return number


def _hk_macao_permit(number: str) -> str:
    match = _hk_macao(number)
    if match is None:
        raise InvalidIdentifierError(
            "A Hong Kong or Macao permit is H or M and 8 digits (older cards: 10): read it again."
        )
    return match[1]


def _taiwan_permit(number: str) -> str:
    match = _taiwan(number)
    if match is None:
        raise InvalidIdentifierError(
            "A Taiwan permit is 8 digits (older ones: 10, and a character in brackets): read it"
            " again."
        )
    return match[1]


_RULES: Final = {
    IdentifierKind.RESIDENT_ID: _resident,
    IdentifierKind.ORGANISATION_CODE: _organisation_code,
    IdentifierKind.PASSPORT: _passport_number,
    IdentifierKind.HK_MACAO_PERMIT: _hk_macao_permit,
    IdentifierKind.TAIWAN_PERMIT: _taiwan_permit,
    IdentifierKind.FOREIGN_PERMANENT_RESIDENT: _foreign,
}
