"""The parts of the import: encodings, rows, headers, dates and terms, cells."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.registry import NOW, PEOPLE
from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.policies import Policies
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    FileEncodingError,
    FileHeaderError,
    ImportFileError,
)
from tipstaff_server.importing.columns import Columns, Field, kind_of, subject_type_of
from tipstaff_server.importing.convert import Converter, RowError
from tipstaff_server.importing.dates import CHINA, parse_moment, parse_term
from tipstaff_server.importing.formats import encodings
from tipstaff_server.importing.formats.csv_rows import (
    MAX_LINE,
    BrokenRow,
    Row,
    read_rows,
    split_header,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.registry.restrictions.entry import Entry

ADMINISTRATION = Administration.load()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text("姓名,案号\n买买提·吐尔逊,𠮷\n", encoding=encoding)
    assert encodings.inspect(path).encoding == encoding
    path.write_text("name,case\n", encoding="ascii")
    assert encodings.inspect(path).encoding == "utf-8"


def test_a_character_across_two_pieces_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "PIECE", 1)
    for encoding in ("utf-8", "gb18030"):
        (tmp_path / "l.csv").write_text("姓名𠮷", encoding=encoding)
        assert encodings.inspect(tmp_path / "l.csv").encoding == encoding


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("姓名".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04....", "spreadsheet"),
        ("姓名,证件号码\n".encode() + b"\xff\xff\xff", "neither UTF-8 \\(wrong at byte 20\\)"),
        ("姓".encode("gb18030") + b"\xff", "neither UTF-8"),
        ("姓名".encode("gb18030")[:-1], "neither UTF-8"),
    ],
)
def test_other_encodings_are_refused_with_the_place(
    tmp_path: Path, content: bytes, hint: str
) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(FileEncodingError, match=hint):
        encodings.inspect(tmp_path / "l.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="cannot be read"):
        encodings.inspect(tmp_path / "none.csv")


def rows(text: str, width: int = 2) -> list[tuple[int, Any]]:
    return [
        (row.line, row.fields if isinstance(row, Row) else row.code)
        for row in read_rows(io.StringIO(text, newline=""), ",", width=width)
    ]


ROWS = {
    "plain": ("a,b\nc,d\n", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "carriage returns": ("a,b\r\nc,d\r\n", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "no last line end": ("a,b\nc,d", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "empty lines": ("\n\na,b\n  \n,\nc,d\n", [(3, ["a", "b"]), (6, ["c", "d"])]),
    "a quoted line break": ('a,"b\nB"\nc,d\n', [(1, ["a", "b\nB"]), (3, ["c", "d"])]),
    "a doubled quote": ('a,"b""B"\n', [(1, ["a", 'b"B'])]),
    "a quote that is not closed": (
        '"a,b\nc,d\ne,f\n',
        [(1, EntryCode.UNCLOSED_QUOTE), (2, ["c", "d"]), (3, ["e", "f"])],
    ),
    "the last one not closed": ('a,b\n"c,d', [(1, ["a", "b"]), (2, EntryCode.UNCLOSED_QUOTE)]),
    "not closed before a quoted one": (
        '"a,b\nc,"d"\n',
        [(1, EntryCode.UNCLOSED_QUOTE), (2, ["c", "d"])],
    ),
    "not closed, and closed by a neighbour's quote": (
        '"a,b\nc,"",x\nd,e\n',
        [(1, EntryCode.UNCLOSED_QUOTE), (2, ["c", "", "x"]), (3, ["d", "e"])],
    ),
    "text behind a quote": ('"a"x,b\nc,d\n', [(1, EntryCode.MALFORMED_ROW), (2, ["c", "d"])]),
    "a line too long": (
        f"a,b\n{'x' * (MAX_LINE + 9)},y\nc,d\n",
        [(1, ["a", "b"]), (2, EntryCode.ROW_TOO_LONG), (3, ["c", "d"])],
    ),
    "a NUL": ("a,b\0\nc,d\n", [(1, ["a", "b\0"]), (2, ["c", "d"])]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_broken_row_never_takes_its_neighbours_with_it(case: str) -> None:
    text, wanted = ROWS[case]
    assert rows(text) == wanted


def test_a_quote_that_is_never_closed_costs_one_row_only() -> None:
    found = rows('"a,b\n' + "c,d\n" * 50)
    assert found[0] == (1, EntryCode.UNCLOSED_QUOTE)
    assert found[1:] == [(line, ["c", "d"]) for line in range(2, 52)]


def test_the_header_shows_the_delimiter() -> None:
    assert split_header("a\tb\tc\n") == ("\t", ["a", "b", "c"])
    assert split_header("a;b;c\n")[0] == ";"
    assert split_header('"a\n')[1] == []
    assert all(
        not isinstance(row, BrokenRow) for row in read_rows(io.StringIO("a;b\n"), ";", width=2)
    )


DAY = datetime(2024, 3, 5, tzinfo=CHINA).astimezone(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-05",
        "2024/3/5",
        "2024.03.05",
        "2024年3月5日",
        "2024年03月05日",
        "20240305",
        " 2024 年 3 月 5 日 ",
        "２０２４－０３－０５",
    ],
)
def test_dates_of_all_forms_are_the_first_moment_in_china(text: str) -> None:
    assert parse_moment(text) == DAY


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-05 08:30", DAY + timedelta(hours=8, minutes=30)),
        ("2024-03-05T08:30:15", DAY + timedelta(hours=8, minutes=30, seconds=15)),
        ("2024-03-05T08:30:00Z", datetime(2024, 3, 5, 8, 30, tzinfo=UTC)),
        ("2024-03-05T08:30:00.123+02:00", datetime(2024, 3, 5, 6, 30, tzinfo=UTC)),
        ("2024年3月5日 8时30分", DAY + timedelta(hours=8, minutes=30)),
    ],
)
def test_a_moment_is_read_in_every_usual_writing(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-02-30",
        "2024-13-01",
        "24-03-05",
        "05/03/2024",
        "三月五日",
        "2024-03-05 25:00",
        "0000-01-01",
        "x" * 65,
        "2024-3-5x",
    ],
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse_moment(text)
    assert caught.value.code is EntryCode.DATE_INVALID


def day(year: int, month: int, of: int) -> datetime:
    return datetime(year, month, of, tzinfo=CHINA).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2年", day(2026, 3, 5)),
        ("两年", day(2026, 3, 5)),
        ("二年", day(2026, 3, 5)),
        ("十二个月", day(2025, 3, 5)),
        ("24个月", day(2026, 3, 5)),
        ("２４个月", day(2026, 3, 5)),
        ("1 个月", day(2024, 4, 5)),
        ("30天", day(2024, 4, 4)),
        ("30日", day(2024, 4, 4)),
        ("2 years", day(2026, 3, 5)),
        ("6 months", day(2024, 9, 5)),
        ("P2Y", day(2026, 3, 5)),
        ("P1Y6M10D", day(2025, 9, 15)),
        ("p18m", day(2025, 9, 5)),
        ("2026-03-05", day(2026, 3, 5)),
        ("至2026年3月5日", day(2026, 3, 5)),
        ("至2026年3月5日止", day(2026, 3, 5)),
    ],
)
def test_a_term_is_read_in_every_usual_writing(text: str, end: datetime) -> None:
    assert parse_term(text, DAY) == end


def test_a_year_from_29_february_ends_on_the_28th() -> None:
    assert parse_term("1年", day(2024, 2, 29)) == day(2025, 2, 28)
    assert parse_term("1个月", day(2024, 1, 31)) == day(2024, 2, 29)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("长期", EntryCode.TERM_OPEN_ENDED),
        ("永久", EntryCode.TERM_OPEN_ENDED),
        ("Permanent", EntryCode.TERM_OPEN_ENDED),
        ("一会儿", EntryCode.TERM_INVALID),
        ("2", EntryCode.TERM_INVALID),
        ("P", EntryCode.TERM_INVALID),
        ("-2年", EntryCode.TERM_INVALID),
        ("99999年", EntryCode.TERM_INVALID),
        ("2024-02-30", EntryCode.TERM_INVALID),
    ],
)
def test_what_is_no_term(text: str, code: EntryCode) -> None:
    with pytest.raises(EntryError) as caught:
        parse_term(text, DAY)
    assert caught.value.code is code


def test_headers_with_aliases_in_both_languages() -> None:
    zh = Columns.read(
        [
            "序号",
            "被执行人姓名/名称",
            "性别",
            "身份证号码/组织机构代码",
            "案 号",
            "执行法院",
            "发布时间（年月日）",
            "限制措施",
            "期限",
        ]
    )
    assert zh.of == {
        Field.NAME: 1,
        Field.NUMBER: 3,
        Field.CASE_NUMBER: 4,
        Field.DECIDED_BY: 5,
        Field.PUBLISHED: 6,
        Field.MEASURES: 7,
        Field.TERM: 8,
    }
    assert zh.ignored == ("序号", "性别")
    en = Columns.read(["\ufeffName", "ID Number", "case_number", "Published-At"])
    assert set(en.of) == {Field.NAME, Field.NUMBER, Field.CASE_NUMBER, Field.PUBLISHED}


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        (["姓名", "案号", "发布时间"], "证件号码"),
        (["证件号码", "案号", "发布时间"], "姓名/名称"),
        (["姓名", "证件号码", "发布时间"], "案号"),
        (["姓名", "证件号码", "案号"], "发布时间"),
        (["姓名", "名称", "证件号码", "案号", "发布时间"], "columns 1 and 2 both hold NAME"),
        ([], "no header line"),
        (["x"] * 101, "no header line"),
    ],
)
def test_headers_that_cannot_be_used(headers: list[str], hint: str) -> None:
    with pytest.raises(FileHeaderError, match=hint):
        Columns.read(headers)


def test_kinds_and_types_by_their_names() -> None:
    assert kind_of("居民身份证（二代）") is IdentifierKind.RESIDENT_ID
    assert kind_of("RESIDENT_ID") is IdentifierKind.RESIDENT_ID
    assert kind_of("台胞证") is IdentifierKind.TAIWAN_PERMIT
    assert kind_of("图书证") is None
    assert (subject_type_of("自然人"), subject_type_of("Organisation"), subject_type_of("?")) == (
        1,
        2,
        None,
    )


POLICIES = Policies(
    1, NOW, ADMINISTRATION, frozenset(), {}, {item.id: item for item in ADMINISTRATION.lists}, {}
)
HEADERS = [
    "姓名/名称",
    "证件类型",
    "证件号码",
    "案号",
    "发布时间",
    "限制措施",
    "期限",
    "到期日",
    "法定代表人",
    "法定代表人证件号码",
    "主体类型",
]
PERSON, ORGANISATION, BOSS = PEOPLE.clear(0), PEOPLE._organisation(0), PEOPLE.clear(1)


def convert(list_id: str = "joint-discipline", **cells: str) -> Entry:
    full = {
        "姓名/名称": PERSON.name,
        "证件号码": PERSON.identifier.number,
        "案号": "1",
        "发布时间": "2024-03-05",
        "限制措施": "AIR_TRAVEL",
        "期限": "2年",
    }
    full |= cells
    converter = Converter(Columns.read(HEADERS), list_id, POLICIES)
    return converter.entry([full.get(header, "") for header in HEADERS])


def test_a_row_becomes_an_entry() -> None:
    made = convert(证件类型="身份证")
    assert made.party.identifiers == (PERSON.identifier,)
    assert (made.effective_at, made.published_at, made.expires_at) == (DAY, DAY, day(2026, 3, 5))
    assert made.legal_basis == "国发〔2016〕33号"
    assert convert() == made
    assert replace(made, case_number="2") != made


@pytest.mark.parametrize(
    "text",
    [
        "AIR_TRAVEL;STAR_HOTEL",
        "air_travel、star_hotel",
        "限制乘坐飞机；STAR_HOTEL",
        " AIR_TRAVEL ,STAR_HOTEL; ",
        "限制乘坐飞机 限制在星级以上宾馆、酒店高消费",
    ],
)
def test_measures_by_code_or_title_however_separated(text: str) -> None:
    assert convert(限制措施=text).measures == ("AIR_TRAVEL", "STAR_HOTEL")


def test_a_title_with_a_separator_in_it() -> None:
    assert convert(限制措施="限制旅游、度假").measures == ("TOURISM",)
    assert convert(限制措施="限制旅游、度假、限制出境").measures == ("EXIT", "TOURISM")


def test_the_list_s_policy_speaks_where_the_file_is_silent() -> None:
    made = convert("court-dishonest", 限制措施="", 期限="")
    assert len(made.measures) == 12
    assert made.expires_at == day(2026, 3, 5)


def test_the_legal_representative_is_reached_and_a_name_alone_is_counted() -> None:
    cells = {
        "姓名/名称": ORGANISATION.name,
        "证件号码": ORGANISATION.identifier.number,
        "法定代表人": BOSS.name,
    }
    made = convert(**cells, 法定代表人证件号码=BOSS.identifier.number)
    assert made.responsible[0].capacity == 1
    assert made.responsible[0].party.identifiers == (BOSS.identifier,)
    converter = Converter(Columns.read(HEADERS), "joint-discipline", POLICIES)
    row = cells | {"案号": "1", "发布时间": "2024-03-05", "限制措施": "EXIT", "期限": "2年"}
    assert converter.entry([row.get(header, "") for header in HEADERS]).responsible == ()
    assert converter.without_number == 1


NUMBER = PERSON.identifier.number
ROW_ERRORS: dict[str, tuple[dict[str, str], EntryCode, Field | None]] = {
    "no number": ({"证件号码": " "}, EntryCode.IDENTIFIER_MISSING, Field.NUMBER),
    "a masked number": (
        {"证件号码": NUMBER[:6] + "********" + NUMBER[-4:]},
        EntryCode.IDENTIFIER_MASKED,
        Field.NUMBER,
    ),
    "a wrong check digit": (
        {"证件号码": NUMBER[:-1] + ("1" if NUMBER[-1] != "1" else "2")},
        EntryCode.IDENTIFIER_INVALID,
        Field.NUMBER,
    ),
    "an old organisation code": (
        {"证件号码": "123456789", "证件类型": "组织机构代码"},
        EntryCode.IDENTIFIER_INVALID,
        Field.NUMBER,
    ),
    "an unknown kind": ({"证件类型": "图书证"}, EntryCode.IDENTIFIER_KIND, Field.KIND),
    "no name": ({"姓名/名称": ""}, EntryCode.NAME_MISSING, Field.NAME),
    "a name of 300 characters": ({"姓名/名称": "长" * 300}, EntryCode.NAME_INVALID, Field.NAME),
    "a control character": ({"姓名/名称": "张\x07三"}, EntryCode.NAME_INVALID, Field.NAME),
    "a NUL": ({"案号": "1\0"}, EntryCode.CONTROL_CHARACTER, Field.CASE_NUMBER),
    "a replacement character": ({"姓名/名称": "张\ufffd"}, EntryCode.CONTROL_CHARACTER, Field.NAME),
    "a field of 3,000 characters": (
        {"案号": "x" * 3000},
        EntryCode.FIELD_TOO_LONG,
        Field.CASE_NUMBER,
    ),
    "no case number": ({"案号": ""}, EntryCode.CASE_NUMBER, Field.CASE_NUMBER),
    "no date": ({"发布时间": ""}, EntryCode.DATE_MISSING, Field.EFFECTIVE),
    "no such day": ({"发布时间": "2024-02-30"}, EntryCode.DATE_INVALID, Field.PUBLISHED),
    "no term": ({"期限": ""}, EntryCode.TERM_MISSING, Field.EXPIRES),
    "an open-ended term": ({"期限": "长期"}, EntryCode.TERM_OPEN_ENDED, Field.TERM),
    "two terms": ({"到期日": "2025-03-05"}, EntryCode.TERM_INVALID, Field.EXPIRES),
    "an unknown measure": (
        {"限制措施": "AIR_TRAVEL;禁止呼吸"},
        EntryCode.MEASURE_UNKNOWN,
        Field.MEASURES,
    ),
    "the wrong type": ({"主体类型": "企业"}, EntryCode.IDENTIFIER_INVALID, Field.NUMBER),
    "no type known": ({"主体类型": "猫"}, EntryCode.SUBJECT_TYPE, Field.SUBJECT_TYPE),
}


@pytest.mark.parametrize("case", ROW_ERRORS)
def test_a_row_is_refused_with_column_and_code_and_without_its_content(case: str) -> None:
    cells, code, field = ROW_ERRORS[case]
    with pytest.raises(RowError) as caught:
        convert(**cells)
    assert caught.value.error.code is code
    assert caught.value.field is field
    assert NUMBER not in str(caught.value)
    assert PERSON.name not in str(caught.value)


@pytest.mark.parametrize(
    "boss",
    [
        ("", BOSS.identifier.number),
        (BOSS.name, "110101"),
        (BOSS.name, ORGANISATION.identifier.number),
    ],
)
def test_a_broken_responsible_person_refuses_the_row(boss: tuple[str, str]) -> None:
    with pytest.raises(RowError) as caught:
        convert(
            **{
                "姓名/名称": ORGANISATION.name,
                "证件号码": ORGANISATION.identifier.number,
                "法定代表人": boss[0],
                "法定代表人证件号码": boss[1],
            }
        )
    assert caught.value.error.code is EntryCode.RESPONSIBLE_PERSON


@pytest.mark.parametrize(
    ("extra", "code"),
    [(["x"], EntryCode.TOO_MANY_FIELDS), (["", " "], None), (None, EntryCode.TOO_FEW_FIELDS)],
)
def test_too_many_and_too_few_fields(extra: list[str] | None, code: EntryCode | None) -> None:
    converter = Converter(
        Columns.read(["姓名", "证件号码", "案号", "发布时间", "期限"]), "court-dishonest", POLICIES
    )
    fields = [PERSON.name, NUMBER, "1", "2024-03-05", "2年"]
    given = fields[:-1] if extra is None else fields + extra
    if code is None:
        assert converter.entry(given).case_number == "1"
    else:
        with pytest.raises(RowError) as caught:
            converter.entry(given)
        assert caught.value.error.code is code
