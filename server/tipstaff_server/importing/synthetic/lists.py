"""Made-up lists, of any size, from a seed: for tests, demos and load.

Everything follows from (seed, today, index), so row 5,000,000 costs as much as row 0 and the same
call gives the same file. Numbers have valid check digits (GB 11643, GB 32100 with GB 11714 inside)
and never repeat: an index is spread over the whole space by a permutation. Names are of several
origins, courts do not exist. Any likeness to somebody is chance; the numbers are not to be used
outside.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import TYPE_CHECKING

from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.numbers import organisation_check_character, resident_check_character

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Synthetic", "SyntheticRow", "SyntheticSubject"]

REGIONS = (
    "110101",
    "120103",
    "130102",
    "210202",
    "310104",
    "320106",
    "330106",
    "350102",
    "370202",
    "410105",
    "420106",
    "440106",
)
REGIONS_WEST = ("500103", "510104", "530102", "540102", "610103", "620102", "630102", "650102")
FIRST_BIRTH = date(1950, 1, 1)
BIRTH_DAYS = 18_000
SERIALS = 999
PEOPLE = len(REGIONS + REGIONS_WEST) * BIRTH_DAYS * SERIALS
CODE_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
CODES = len(CODE_ALPHABET) ** 8
PASSPORTS = 10**8
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)

_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦"
    "江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
_DOUBLE_SURNAMES = ("欧阳", "司马", "上官", "诸葛", "慕容")
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰萍红玲建国志文辉力斌波宇浩凯健俊帆雪婷倩颖晨旭阳宁博思佳欣怡梓涵子轩一诺雨泽"
_UYGHUR = (
    "买买提",
    "吐尔逊",
    "阿依古丽",
    "艾力",
    "古丽努尔",
    "玉素甫",
    "帕提古丽",
    "阿卜杜拉",
    "热依汗",
    "库尔班",
    "迪丽拜尔",
    "亚森",
)
_KAZAKH = ("叶尔江", "哈力克", "努尔兰", "阿依努尔", "别克", "巴合提", "加那提", "古丽扎")
_TIBETAN = ("扎西", "顿珠", "卓玛", "次仁", "达瓦", "央金", "索朗", "平措", "格桑", "旺堆")
_LATIN_GIVEN = (
    "Anna",
    "James",
    "Maria",
    "Oleg",
    "Fatima",
    "Pedro",
    "Ingrid",
    "Minh",
    "Kofi",
    "Chloé",
    "Søren",
    "José",
)
_LATIN_FAMILY = (
    "Smith",
    "Müller",
    "Ivanov",
    "O'Brien",
    "Nguyen",
    "García",
    "Okafor",
    "Larsen",
    "Dubois",
    "van Dijk",
    "Kowalska",
    "Rossi",
)
_PLACES = ("示例", "虚谷", "明川", "青屿", "云泽", "南麓", "北汀", "白榆")
_TRADES = ("商贸", "建筑工程", "科技", "餐饮管理", "物流", "置业", "文化传媒", "机械制造")
_MEASURES = (
    ("AIR_TRAVEL", "RAIL_HIGH_CLASS", "STAR_HOTEL", "LOAN_PRICING"),
    (
        "AIR_TRAVEL",
        "RAIL_HIGH_CLASS",
        "SHIP_HIGH_CLASS",
        "STAR_HOTEL",
        "REAL_ESTATE",
        "TOURISM",
        "INSURANCE_PREMIUM",
    ),
    ("AIR_TRAVEL", "RAIL_HIGH_CLASS"),
    ("LOAN_PRICING",),
    ("EXIT", "LOAN_PRICING", "LOAN_RESTRICTION"),
)
# Shares of rows and names of each kind, and which rows have a remark of two lines.
ORGANISATIONS, REPRESENTED, FOREIGNERS, TRANSLITERATED, DOUBLE_SURNAME, ONE_CHARACTER = (
    1 / 8,
    0.9,
    0.02,
    0.5,
    0.02,
    0.2,
)
REMARK_EVERY, REMARK_AT = 50, 7
LEGAL_BASIS = "《最高人民法院关于公布失信被执行人名单信息的若干规定》第一条"


@dataclass(frozen=True, slots=True)
class SyntheticSubject:
    """A made-up person or organisation."""

    identifier: Identifier
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SyntheticRow:
    """A made-up row of a list.

    `term`: text as a list writes it; `representative`: of an organisation, its legal
    representative.
    """

    index: int
    subject: SyntheticSubject
    case_number: str
    court: str
    opened: date
    published: date
    measures: tuple[str, ...]
    term: str
    remark: str
    representative: SyntheticSubject | None


class Synthetic:
    """Rows and people of one seed.

    `today`: what the dates of rows lie before, so that their terms are running.
    """

    def __init__(self, seed: int, today: date) -> None:
        self.seed = seed
        self.today = today
        self._people = _Permutation(PEOPLE, f"{seed}/people")
        self._codes = _Permutation(CODES, f"{seed}/codes")
        self._passports = _Permutation(PASSPORTS, f"{seed}/passports")

    def rows(self, count: int) -> Iterator[SyntheticRow]:
        """The first `count` rows, one at a time."""
        return (self.row(index) for index in range(count))

    def row(self, index: int) -> SyntheticRow:
        """Row `index`, from 0.

        One in eight is an organisation, most of these with a legal representative.
        """
        random = self._random("row", index)
        is_organisation = random.random() < ORGANISATIONS
        subject = self._organisation(index) if is_organisation else self._listed(index)
        published = self.today - timedelta(days=random.randint(1, 300))
        years = random.randint(1, 3)
        place = random.choice(_PLACES)
        return SyntheticRow(
            index=index,
            subject=subject,
            case_number=f"（{published.year}）虚{index % 97:02d}执{index + 1}号",
            court=f"{place}市{random.choice(('第一', '东', '西', '南', '北'))}区人民法院（虚构）",
            opened=published - timedelta(days=random.randint(10, 200)),
            published=published,
            measures=random.choice(_MEASURES),
            term=random.choice(
                (
                    f"{years}年",
                    f"{years * 12}个月",
                    f"P{years}Y",
                    _add_years(published, years).isoformat(),
                )
            ),
            remark="全部未履行\n另案处理" if index % REMARK_EVERY == REMARK_AT else "",
            representative=(
                self._person(2 * index + 1)
                if is_organisation and random.random() < REPRESENTED
                else None
            ),
        )

    def clear(self, index: int) -> SyntheticSubject:
        """Somebody who is in no row of this seed: person `index` of those, from 0."""
        return self._person(PEOPLE // 2 + index)

    def _listed(self, index: int) -> SyntheticSubject:
        random = self._random("kind", index)
        if random.random() < FOREIGNERS:
            number = f"E{self._passports(index):08d}"
            return SyntheticSubject(
                Identifier(IdentifierKind.PASSPORT, number), _latin_name(random)
            )
        return self._person(2 * index)

    def _person(self, position: int) -> SyntheticSubject:
        rest, serial = divmod(self._people(position), SERIALS)
        region, day = divmod(rest, BIRTH_DAYS)
        code = (REGIONS + REGIONS_WEST)[region]
        body = f"{code}{FIRST_BIRTH + timedelta(days=day):%Y%m%d}{serial + 1:03d}"
        name = _name(self._random("name", position), west=code in REGIONS_WEST)
        return SyntheticSubject(Identifier.resident_id(body + resident_check_character(body)), name)

    def _organisation(self, index: int) -> SyntheticSubject:
        random = self._random("organisation", index)
        rest, body = self._codes(index), ""
        for _ in range(8):
            rest, digit = divmod(rest, len(CODE_ALPHABET))
            body += CODE_ALPHABET[digit]
        code = f"91{random.choice(REGIONS)}{body}{_organisation_digit(body)}"
        name = f"{random.choice(_PLACES)}市{''.join(random.choices(_GIVEN, k=2))}{random.choice(_TRADES)}有限公司"
        return SyntheticSubject(
            Identifier.organisation(code + organisation_check_character(code)), name
        )

    def _random(self, purpose: str, index: int) -> Random:
        return Random(f"{self.seed}/{purpose}/{index}")  # noqa: S311  made-up data, nothing secret


class _Permutation:
    """Spreads 0 … size-1 over itself: an affine map, with its factor and offset from a seed."""

    def __init__(self, size: int, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self._size = size
        self._offset = int.from_bytes(digest[:8], "big") % size
        factor = int.from_bytes(digest[8:16], "big") % size
        while math.gcd(factor, size) != 1:
            factor += 1
        self._factor = factor

    def __call__(self, index: int) -> int:
        if not 0 <= index < self._size:
            raise ValueError(f"an index lies between 0 and {self._size - 1}")
        return (index * self._factor + self._offset) % self._size


def _name(random: Random, *, west: bool) -> str:
    if west and random.random() < TRANSLITERATED:
        names = random.choice((_UYGHUR, _KAZAKH, _TIBETAN))
        return f"{random.choice(names)}·{random.choice(names)}"
    surname = (
        random.choice(_DOUBLE_SURNAMES)
        if random.random() < DOUBLE_SURNAME
        else random.choice(_SURNAMES)
    )
    return surname + "".join(random.choices(_GIVEN, k=1 if random.random() < ONE_CHARACTER else 2))


def _latin_name(random: Random) -> str:
    return f"{random.choice(_LATIN_GIVEN)} {random.choice(_LATIN_FAMILY)}"


def _organisation_digit(body: str) -> str:
    """Check character of an organisation's own code (GB 11714), here over the digits of its
    alphabet.
    """
    values = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    check = (
        11
        - sum(
            weight * values.index(character)
            for weight, character in zip(_ORGANISATION_WEIGHTS, body, strict=True)
        )
        % 11
    )
    return {10: "X", 11: "0"}.get(check, str(check))


def _add_years(day: date, years: int) -> date:
    return day.replace(year=day.year + years, day=min(day.day, 28))
