"""Synthetic numbers of every kind with valid check digits, computed here from the standards' own
tables and not by the code under test.

Nobody's: birth dates and regions are random. `Random` arguments make them repeatable; the
strategies are for hypothesis.
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta
from random import Random
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

# GB 11643-1999, table of weights and of check characters by remainder.
RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECKS = "10X98765432"

# GB 32100-2015, alphabet and weights.
ORGANISATION_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
ORGANISATION_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_FIRST_BIRTH = date(1900, 1, 1)


def with_resident_check(body: str) -> str:
    """17 digits and their check character."""
    total = sum(int(digit) * weight for digit, weight in zip(body, RESIDENT_WEIGHTS, strict=True))
    return body + RESIDENT_CHECKS[total % 11]


def with_organisation_check(body: str) -> str:
    """17 characters and their check character."""
    total = sum(
        ORGANISATION_ALPHABET.index(c) * weight
        for c, weight in zip(body, ORGANISATION_WEIGHTS, strict=True)
    )
    return body + ORGANISATION_ALPHABET[-total % 31]


def resident_id(
    sequence: int = 1, *, birth: date = date(1980, 5, 17), region: str = "110105"
) -> str:
    """A resident ID; `sequence` from 0 to 999 tells people of one region and birth date apart."""
    return with_resident_check(f"{region}{birth:%Y%m%d}{sequence:03d}")


def random_resident_id(random: Random) -> str:
    birth = _FIRST_BIRTH + timedelta(days=random.randrange(45_000))
    return resident_id(
        random.randrange(1000), birth=birth, region=str(random.randrange(100_000, 900_000))
    )


def random_old_resident_id(random: Random) -> str:
    """15 digits, as before 1999."""
    number = random_resident_id(random)
    return number[:6] + number[8:17]


def random_organisation_code(random: Random) -> str:
    body = "".join(random.choice(ORGANISATION_ALPHABET) for _ in range(9))
    return with_organisation_check(
        random.choice("159ANY")
        + random.choice("1239")
        + f"{random.randrange(110_000, 659_999)}"
        + body
    )


def random_passport(random: Random) -> str:
    return random.choice(LETTERS) + f"{random.randrange(10**8):08d}"


def random_hk_macao_permit(random: Random) -> str:
    return random.choice("HM") + f"{random.randrange(10**8):08d}"


def random_taiwan_permit(random: Random) -> str:
    return f"{random.randrange(10**8):08d}"


def random_foreign_id(random: Random) -> str:
    """18 characters, as since December 2023."""
    birth = _FIRST_BIRTH + timedelta(days=random.randrange(45_000))
    region = f"9{random.randrange(11, 66)}{random.randrange(4, 895):03d}"
    return with_resident_check(f"{region}{birth:%Y%m%d}{random.randrange(1000):03d}")


def random_old_foreign_id(random: Random) -> str:
    """15 characters, as before."""
    return "".join(random.choice(LETTERS) for _ in range(3)) + f"{random.randrange(10**12):012d}"


def _from_seed(make: Callable[[Random], str]) -> st.SearchStrategy[str]:
    return st.integers(0, 2**32 - 1).map(lambda seed: make(Random(seed)))


organisation_codes = _from_seed(random_organisation_code)
foreign_ids = _from_seed(random_foreign_id)
hk_macao_permits = _from_seed(random_hk_macao_permit)
taiwan_permits = _from_seed(random_taiwan_permit)
old_foreign_ids = _from_seed(random_old_foreign_id)
passports = st.text("0123456789" + LETTERS, min_size=5, max_size=9).filter(
    lambda s: any(c.isdigit() for c in s)
)
resident_ids = st.builds(
    lambda region, birth, sequence: resident_id(sequence, birth=birth, region=str(region)),
    st.integers(100_000, 899_999),
    st.dates(date(1800, 1, 1), date(2099, 12, 31)),
    st.integers(0, 999),
)


def is_resident_id(text: str) -> bool:
    """The rules of GB 11643 for 18 characters, as plainly as they can be said."""
    if (
        len(text) != 18
        or any(c not in "0123456789" for c in text[:17])
        or text[17] not in "0123456789X"
    ):
        return False
    year, month, day = int(text[6:10]), int(text[10:12]), int(text[12:14])
    if not (1800 <= year <= 2099 and 1 <= month <= 12 and text[0] in "12345678"):
        return False
    return (
        1 <= day <= calendar.monthrange(year, month)[1] and with_resident_check(text[:17]) == text
    )
