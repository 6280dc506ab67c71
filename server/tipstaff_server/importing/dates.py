"""Dates and terms as lists write them.

    2024-03-05   2024/3/5   2024.03.05   2024年3月5日   20240305
    2年  两年  24个月  180日  2 years  24 months  P2Y        a term from its beginning
    2026-03-05   至2026年3月5日                              a term as its end, exclusive

A time may follow, in ISO 8601 with a zone. Without one, times are China Standard Time (UTC+8). A
date is its first moment; as the end of a term that day itself is no longer in it, which is the
reading in the subject's favour. Years and months count by the calendar; from 29 February a year
leads to the 28th.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from tipstaff_server.errors import EntryCode, EntryError

__all__ = ["CHINA", "add_duration", "parse_moment", "parse_term"]

CHINA = timezone(timedelta(hours=8))
MAX_TEXT = 64
# A list of millions has the same days and terms again and again.
KEPT = 1 << 15
_DATE = re.compile(
    r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})\s*日?(.*)|(\d{4})(\d{2})(\d{2})()"
)
_TIME = re.compile(
    r"[T\s]*(\d{1,2})[:时](\d{1,2})(?:[:分](\d{1,2})(?:\.\d{1,9})?)?[分秒]?\s*(Z|[+-]\d{2}:?\d{2})?"
)
_DURATION = re.compile(
    r"(?P<count>\d{1,5}|[一二两三四五六七八九]?十[一二三四五六七八九]?|[一二两三四五六七八九])\s*(?:个)?\s*"
    r"(?P<unit>年|周年|years?|yrs?|y|月|months?|m|日|天|days?|d)",
    re.IGNORECASE,
)
_ISO_DURATION = re.compile(r"P(?=\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?", re.IGNORECASE)
_OPEN_ENDED = re.compile(
    r"长期|永久|无期限|终身|不限|无|permanent|indefinite(ly)?|forever|none", re.IGNORECASE
)
_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2}


@lru_cache(KEPT)
def parse_moment(text: str) -> datetime:
    """A date, or a date with a time, as an aware moment in UTC. Raises EntryError DATE_INVALID."""
    match = _DATE.fullmatch(_plain(text))
    if match is None:
        raise EntryError(
            EntryCode.DATE_INVALID, "not a date; write 2024-03-05, 2024/3/5 or 2024年3月5日"
        )
    year, month, day, rest = match.group(1, 2, 3, 4) if match.group(1) else match.group(5, 6, 7, 8)
    try:
        return _with_time(datetime(int(year), int(month), int(day), tzinfo=CHINA), rest.strip())
    except (ValueError, OverflowError):
        raise EntryError(
            EntryCode.DATE_INVALID, "there is no such day or time in the calendar"
        ) from None


@lru_cache(KEPT)
def parse_term(text: str, beginning: datetime) -> datetime:
    """The end of a term, exclusive, in UTC, given its beginning.

    Raises EntryError TERM_INVALID or TERM_OPEN_ENDED.
    """
    plain = _plain(text)
    if _OPEN_ENDED.fullmatch(plain):
        raise EntryError(
            EntryCode.TERM_OPEN_ENDED, "no restriction is open-ended; give a term or its end"
        )
    parts = _duration(plain)
    if parts is not None:
        return _add(beginning, *parts)
    try:
        return parse_moment(plain.removeprefix("至").removesuffix("止").removeprefix("until "))
    except EntryError:
        raise EntryError(
            EntryCode.TERM_INVALID,
            "not a term; write 2年, 24个月, 180天, P2Y or the date of its end",
        ) from None


def add_duration(beginning: datetime, duration: str) -> datetime:
    """`beginning` plus an ISO 8601 duration of years, months and days, by the calendar of China."""
    return parse_term(duration, beginning)


def _plain(text: str) -> str:
    """Full-width digits and signs as ASCII, spaces at the ends gone."""
    if len(text) > MAX_TEXT:
        raise EntryError(
            EntryCode.DATE_INVALID, f"longer than {MAX_TEXT} characters; that is no date or term"
        )
    return unicodedata.normalize("NFKC", text).strip()


def _with_time(day: datetime, rest: str) -> datetime:
    if not rest:
        return day.astimezone(UTC)
    match = _TIME.fullmatch(rest)
    if match is None:
        raise ValueError(rest)
    hour, minute, second, zone = match.group(1, 2, 3, 4)
    moment = day.replace(hour=int(hour), minute=int(minute), second=int(second or 0))
    if zone:
        moment = moment.replace(
            tzinfo=UTC if zone == "Z" else datetime.strptime(zone.replace(":", ""), "%z").tzinfo
        )
    return moment.astimezone(UTC)


def _duration(plain: str) -> tuple[int, int, int] | None:
    """Years, months, days; None when it is no duration."""
    if iso := _ISO_DURATION.fullmatch(plain):
        years, months, days = (int(part or 0) for part in iso.groups())
        return years, months, days
    match = _DURATION.fullmatch(plain)
    if match is None:
        return None
    count, unit = _number(match["count"]), match["unit"].lower()
    if unit[0] in "年周y":
        return count, 0, 0
    return (0, count, 0) if unit[0] in "月m" else (0, 0, count)


def _number(text: str) -> int:
    if text.isascii():
        return int(text)
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return _DIGITS[text]
    return (_DIGITS[tens] if tens else 1) * 10 + (_DIGITS[ones] if ones else 0)


def _add(beginning: datetime, years: int, months: int, days: int) -> datetime:
    local = beginning.astimezone(CHINA)
    month = local.year * 12 + local.month - 1 + years * 12 + months
    year, index = divmod(month, 12)
    try:
        day = min(local.day, calendar.monthrange(year, index + 1)[1])
        return (
            local.replace(year=year, month=index + 1, day=day) + timedelta(days=days)
        ).astimezone(UTC)
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise EntryError(EntryCode.TERM_INVALID, "the term reaches past the calendar") from None
