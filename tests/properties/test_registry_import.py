"""Whatever stands in a file: the import reads on, refuses in fixed words, and never repeats what it
read.
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from datetime import UTC, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.registry import NOW, PEOPLE
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.policies import Policies
from tipstaff_server.errors import EntryError, FileHeaderError, VaultDataError
from tipstaff_server.importing.columns import Columns
from tipstaff_server.importing.convert import Converter, RowError
from tipstaff_server.importing.dates import parse_moment, parse_term
from tipstaff_server.importing.formats.csv_rows import BrokenRow, Row, read_rows
from tipstaff_server.vault.vault import Vault

ADMINISTRATION = Administration.load()
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
    "法定代表人",
    "法定代表人证件号码",
]
CELL = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(
        st.lists(CELL, min_size=3, max_size=3).filter(
            lambda row: any(cell.strip() for cell in row)
        ),
        max_size=12,
    )
)
def test_what_a_csv_writer_wrote_is_read_back(table: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(table)
    found = list(read_rows(io.StringIO(buffer.getvalue(), newline=""), ",", width=3))
    assert [row.fields for row in found if isinstance(row, Row)] == table
    assert [row.line for row in found] == list(range(1, len(table) + 1))


@given(st.text(st.sampled_from('ab,"\n\r\0 ；'), max_size=200))
def test_any_text_is_read_to_its_end_in_order(text: str) -> None:
    found = list(read_rows(io.StringIO(text, newline=""), ",", width=2))
    lines = [row.line for row in found]
    assert lines == sorted(set(lines))
    if "a" in text:
        assert found


@given(st.data())
@settings(max_examples=60)
def test_broken_lines_cost_only_themselves(data: st.DataObject) -> None:
    good = [f"{index},x,y" for index in range(8)]
    # None of these makes three fields together with another one, so none can be taken for a record
    # of several lines.
    kinds = st.sampled_from(['"a,b,c', '"a"b,c,d', '"', 'a,"b,c'])
    broken = data.draw(st.lists(st.tuples(st.integers(0, 8), kinds), min_size=1, max_size=4))
    lines = list(good)
    for place, text in sorted(broken, reverse=True):
        lines.insert(place, text)
    found = list(read_rows(io.StringIO("\n".join(lines) + "\n", newline=""), ",", width=3))
    assert [row.fields for row in found if isinstance(row, Row)] == [
        text.split(",") for text in good
    ]
    assert len([row for row in found if isinstance(row, BrokenRow)]) == len(broken)


@given(st.text(max_size=70))
def test_no_text_crashes_dates_and_terms(text: str) -> None:
    for parse in (parse_moment, lambda value: parse_term(value, NOW)):
        with suppress(EntryError):
            assert parse(text).tzinfo is UTC


@given(st.integers(-7_000, 55_000), st.integers(1, 900), st.sampled_from(["Y", "M", "D"]))
def test_terms_end_after_they_begin_and_about_as_long_as_said(
    day: int, count: int, unit: str
) -> None:
    begin = NOW + timedelta(days=day)
    end = parse_term(f"P{count}{unit}", begin)
    length = {"Y": 365.2425, "M": 30.436875, "D": 1.0}[unit] * count
    assert abs((end - begin) - timedelta(days=length)) < timedelta(days=4)


@given(st.lists(st.one_of(CELL, st.text(max_size=40)), min_size=9, max_size=9))
def test_any_row_is_an_entry_or_refused_in_a_fixed_word(cells: list[str]) -> None:
    converter = Converter(Columns.read(HEADERS), "court-dishonest", POLICIES)
    with pytest.raises(RowError) as caught:
        converter.entry(cells)
    number = PEOPLE.clear(0).identifier.number
    assert number not in str(caught.value)


@given(st.lists(st.text(max_size=20), max_size=12))
def test_any_header_line_is_understood_or_refused(headers: list[str]) -> None:
    try:
        columns = Columns.read(headers)
    except FileHeaderError:
        return
    assert columns.width == len(headers)


@given(
    st.binary(min_size=1, max_size=60),
    st.binary(max_size=20),
    st.integers(0, 10_000),
    st.integers(1, 255),
)
def test_no_flipped_byte_opens(plaintext: bytes, row: bytes, place: int, change: int) -> None:
    vault = Vault(b"k" * 32)
    stored = bytearray(vault.encrypt("a", row, plaintext))
    assert vault.decrypt("a", row, bytes(stored)) == plaintext
    stored[place % len(stored)] ^= change
    with pytest.raises(VaultDataError):
        vault.decrypt("a", row, bytes(stored))
