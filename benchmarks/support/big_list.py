"""A made-up list of millions, written quickly:

`synthetic` makes nicer people, at thirty times the cost.

One row in eight is on an organisation, with a legal representative; every row has a subject of its
own, and all are banned from flying.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from benchmarks.support.people import resident_ids
from tipstaff_sdk.identity.numbers import organisation_check_character

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["case_number", "write_list"]

HEADER: Final = "姓名/名称,证件类型,证件号码,案号,执行法院,立案时间,发布时间,限制措施,期限,法律依据,法定代表人/负责人,法定代表人证件号码\n"
MEASURES: Final = (
    "AIR_TRAVEL;RAIL_HIGH_CLASS;STAR_HOTEL;LOAN_PRICING",
    "AIR_TRAVEL;RAIL_HIGH_CLASS",
    "AIR_TRAVEL",
    "AIR_TRAVEL;EXIT",
)
LEGAL_BASIS: Final = "《最高人民法院关于公布失信被执行人名单信息的若干规定》第一条"
ORGANISATION_EVERY: Final = 8
PIECE: Final = 100_000
_SURNAMES: Final = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN: Final = "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂华建国志红文玉兰海波云飞龙"
_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def case_number(row: int) -> str:
    """Of a row, from 0."""
    return f"（2026）虚{row % 97:02d}执{row + 1}号"


def write_list(path: Path, rows: int, seed: int) -> list[str]:
    """Writes it; the resident IDs of the persons among the first rows, for look-ups."""
    choose = random.Random(seed)
    today = datetime.now(UTC).date()
    days = [(today - timedelta(days=ago)).isoformat() for ago in range(600)]
    people: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            numbers = resident_ids(count, seed * 1_000_000 + start).astype("U18").tolist()
            for row, number in enumerate(numbers, start):
                ago = choose.randrange(1, 300)
                name = _name(choose)
                first, last = f"{name},居民身份证,{number}", ","
                if row % ORGANISATION_EVERY == ORGANISATION_EVERY - 1:
                    first, last = (
                        f"示例市{name}商贸有限公司,统一社会信用代码,{_organisation(row)}",
                        f"{name},{number}",
                    )
                elif start == 0:
                    people.append(number)
                court = f"示例市第{row % 40 + 1}人民法院（虚构）"
                rest = f"{days[ago + 100]},{days[ago]},{MEASURES[row % len(MEASURES)]},{choose.randrange(1, 4)}年,{LEGAL_BASIS}"
                file.write(f"{first},{case_number(row)},{court},{rest},{last}\n")
    return people


def _name(choose: random.Random) -> str:
    return choose.choice(_SURNAMES) + choose.choice(_GIVEN) + choose.choice(_GIVEN)


def _organisation(row: int) -> str:
    body, rest = "", row
    for _ in range(9):
        rest, digit = divmod(rest, len(_ALPHABET))
        body += _ALPHABET[digit]
    code = f"91110000{body}"
    return code + organisation_check_character(code)
