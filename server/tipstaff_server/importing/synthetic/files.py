"""Made-up lists as files: encodings, header languages, and a share of rows broken in known ways."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_server.errors import EntryCode, ImportFileError
from tipstaff_server.importing.synthetic.lists import (
    LEGAL_BASIS,
    Synthetic,
    SyntheticRow,
    SyntheticSubject,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ENCODINGS", "Breakage", "BrokenLine", "write_csv"]

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030")
_HEADERS = {
    "zh": (
        *(
            "姓名/名称",
            "性别",
            "证件类型",
            "证件号码",
            "案号",
            "执行法院",
            "立案时间",
            "发布时间",
            "限制措施",
            "期限",
            "法律依据",
        ),
        *("法定代表人/负责人", "法定代表人证件号码", "备注"),
    ),
    "en": (
        *(
            "name",
            "sex",
            "id_type",
            "id_number",
            "case_number",
            "court",
            "case_opened",
            "published",
            "measures",
            "term",
            "legal_basis",
        ),
        *("legal_representative", "legal_representative_id", "remark"),
    ),
}
_KINDS = {
    "zh": {
        IdentifierKind.RESIDENT_ID: "居民身份证",
        IdentifierKind.ORGANISATION_CODE: "统一社会信用代码",
        IdentifierKind.PASSPORT: "护照",
    },
    "en": {
        IdentifierKind.RESIDENT_ID: "resident id",
        IdentifierKind.ORGANISATION_CODE: "organisation code",
        IdentifierKind.PASSPORT: "passport",
    },
}
# Which rows write their number in full-width digits, and with a small x.
ODD_EVERY, FULL_WIDTH_AT, SMALL_AT = 40, 3, 9
NAME, KIND, NUMBER, CASE, PUBLISHED, MEASURES, TERM = 0, 2, 3, 4, 7, 8, 9


class Breakage(StrEnum):
    """A known way in which a row is broken."""

    WRONG_CHECK_DIGIT = "WRONG_CHECK_DIGIT"
    MASKED_NUMBER = "MASKED_NUMBER"
    NO_NUMBER = "NO_NUMBER"
    NO_NAME = "NO_NAME"
    UNKNOWN_KIND = "UNKNOWN_KIND"
    NO_CASE_NUMBER = "NO_CASE_NUMBER"
    UNKNOWN_MEASURE = "UNKNOWN_MEASURE"
    NO_SUCH_DAY = "NO_SUCH_DAY"
    INVERTED_TERM = "INVERTED_TERM"
    OPEN_ENDED = "OPEN_ENDED"
    ENDLESS_TERM = "ENDLESS_TERM"
    EXTRA_FIELDS = "EXTRA_FIELDS"
    CUT_OFF = "CUT_OFF"
    NUL = "NUL"
    UNCLOSED_QUOTE = "UNCLOSED_QUOTE"


EXPECTED = {
    Breakage.WRONG_CHECK_DIGIT: EntryCode.IDENTIFIER_INVALID,
    Breakage.MASKED_NUMBER: EntryCode.IDENTIFIER_MASKED,
    Breakage.NO_NUMBER: EntryCode.IDENTIFIER_MISSING,
    Breakage.NO_NAME: EntryCode.NAME_MISSING,
    Breakage.UNKNOWN_KIND: EntryCode.IDENTIFIER_KIND,
    Breakage.NO_CASE_NUMBER: EntryCode.CASE_NUMBER,
    Breakage.UNKNOWN_MEASURE: EntryCode.MEASURE_UNKNOWN,
    Breakage.NO_SUCH_DAY: EntryCode.DATE_INVALID,
    Breakage.INVERTED_TERM: EntryCode.TERM_INVERTED,
    Breakage.OPEN_ENDED: EntryCode.TERM_OPEN_ENDED,
    Breakage.ENDLESS_TERM: EntryCode.TERM_TOO_LONG,
    Breakage.EXTRA_FIELDS: EntryCode.TOO_MANY_FIELDS,
    Breakage.CUT_OFF: EntryCode.TOO_FEW_FIELDS,
    Breakage.NUL: EntryCode.CONTROL_CHARACTER,
    Breakage.UNCLOSED_QUOTE: EntryCode.UNCLOSED_QUOTE,
}
"""What an import answers to each."""


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A broken row: the line that it begins on (the header's is 1), its index, how it is broken,
    what an import answers.
    """

    line: int
    index: int
    breakage: Breakage
    code: EntryCode


def write_csv(
    path: Path,
    synthetic: Synthetic,
    rows: int,
    *,
    encoding: str = "utf-8",
    language: Literal["zh", "en"] = "zh",
    broken: float = 0.0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[BrokenLine]:
    """Writes a list of `rows` rows, of which the share `broken` is broken (0 to 1), and says which.
    Raises ImportFileError.
    """
    if encoding not in ENCODINGS:
        raise ImportFileError(f"no such encoding: {encoding}; choose one of {', '.join(ENCODINGS)}")
    if rows < 0 or not 0 <= broken <= 1:
        raise ImportFileError("rows is a count, and broken a share between 0 and 1")
    told: list[BrokenLine] = []
    line = 2
    try:
        with path.open("w", encoding=encoding, newline="") as file:
            file.write(_line(list(_HEADERS[language])))
            for row in synthetic.rows(rows):
                fields = _fields(row, language)
                if int((row.index + 1) * broken) > int(row.index * broken):
                    breakage = list(Breakage)[len(told) % len(Breakage)]
                    text = _break(fields, row, breakage)
                    told.append(BrokenLine(line, row.index, breakage, EXPECTED[breakage]))
                else:
                    text = _line(fields)
                file.write(text)
                line += text.count("\n")
                if row.index % 1_000 == 0:
                    progress(row.index, rows)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be written: {error.strerror}") from None
    progress(rows, rows)
    return told


def _fields(row: SyntheticRow, language: Literal["zh", "en"]) -> list[str]:
    """A row's cells. Dates take the three usual forms in turn."""
    form = ("{0:%Y-%m-%d}", "{0:%Y/%m/%d}", "{0.year}年{0.month}月{0.day}日")[row.index % 3]
    person = row.subject.identifier.kind is not IdentifierKind.ORGANISATION_CODE
    representative = row.representative
    return [
        row.subject.name,
        ("男" if row.index % 2 else "女") if person else "",
        _KINDS[language][row.subject.identifier.kind],
        _written(row.subject, row.index),
        row.case_number,
        row.court,
        form.format(row.opened),
        form.format(row.published),
        (";", "、", "；", ",")[row.index % 4].join(row.measures),
        row.term,
        LEGAL_BASIS,
        representative.name if representative else "",
        representative.identifier.number if representative else "",
        row.remark,
    ]


def _written(subject: SyntheticSubject, index: int) -> str:
    """The number as people write it: now and then in full-width digits, or with a small x."""
    number = subject.identifier.number
    if index % ODD_EVERY == FULL_WIDTH_AT:
        return "".join(chr(ord(character) + 0xFEE0) for character in number)
    return number.lower() if index % ODD_EVERY == SMALL_AT else number


def _line(fields: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def _break(fields: list[str], row: SyntheticRow, breakage: Breakage) -> str:
    """The row's text, broken. The remark goes, so that a broken row is one line."""
    fields[-1] = ""
    number = row.subject.identifier.number
    cells = {
        Breakage.WRONG_CHECK_DIGIT: (NUMBER, _wrong(row.subject)),
        Breakage.MASKED_NUMBER: (NUMBER, number[:4] + "*" * (len(number) - 6) + number[-2:]),
        Breakage.NO_NUMBER: (NUMBER, ""),
        Breakage.NO_NAME: (NAME, " "),
        Breakage.UNKNOWN_KIND: (KIND, "图书证"),
        Breakage.NO_CASE_NUMBER: (CASE, ""),
        Breakage.UNKNOWN_MEASURE: (MEASURES, "禁止呼吸"),
        Breakage.NO_SUCH_DAY: (PUBLISHED, "2025-02-30"),
        Breakage.INVERTED_TERM: (TERM, (row.published - timedelta(days=30)).isoformat()),
        Breakage.OPEN_ENDED: (TERM, "长期"),
        Breakage.ENDLESS_TERM: (TERM, "150年"),
        Breakage.NUL: (NAME, row.subject.name + "\0"),
    }
    if breakage in cells:
        index, text = cells[breakage]
        fields[index] = text
        return _line(fields)
    if breakage is Breakage.EXTRA_FIELDS:
        return _line([*fields, "多", "余"])
    if breakage is Breakage.CUT_OFF:
        return _line(fields[:6])
    return '"' + ",".join(fields) + "\n"


def _wrong(subject: SyntheticSubject) -> str:
    """The number with a wrong last character; a passport with too few, as it has no check digit."""
    number = subject.identifier.number
    if subject.identifier.kind is IdentifierKind.PASSPORT:
        return number[:3]
    return number[:-1] + ("1" if number[-1] != "1" else "2")
