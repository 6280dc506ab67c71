"""Lists as JSON Lines and as Parquet go in as CSV does: the same columns, the same refusals, the
same nothing the second time.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.registry import OPERATOR, World, listed, organisation, person
from tests.support.server import name_of, resident_id
from tipstaff_sdk.book import arrow_library
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.errors import EntryCode, FileHeaderError, ImportFileError
from tipstaff_server.importing import Importer, ImportResult
from tipstaff_server.importing.formats.csv_rows import MAX_LINE
from tipstaff_server.importing.formats.json_lines import MAX_IGNORED

if TYPE_CHECKING:
    from pathlib import Path

FIRM = organisation(0)
PASSPORT = Identifier(IdentifierKind.PASSPORT, "E00000019")


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "姓名/名称": person(index).names[0],
        "证件号码": person(index).identifiers[0].number,
        "案号": f"（2026）虚01执{index}号",
        "发布时间": "2026-02-01",
        "限制措施": "AIR_TRAVEL",
        "期限": "2年",
        "法律依据": "国发〔2016〕33号",
    }
    return made | changes


def firm(**changes: Any) -> dict[str, Any]:
    return row(0) | {"姓名/名称": FIRM.names[0], "证件号码": FIRM.identifiers[0].number} | changes


def run(world: World, path: Path) -> ImportResult:
    importer = Importer(
        world.registry, authority="court", list_id="joint-discipline", actor=OPERATOR
    )
    return importer.run(path, path.with_suffix(".rejects.csv"))


def as_json(
    folder: Path, rows: list[Any], name: str = "list.jsonl", encoding: str = "utf-8"
) -> Path:
    lines = [
        item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in rows
    ]
    (folder / name).write_bytes("\n".join(lines).encode(encoding))
    return folder / name


def as_parquet(
    folder: Path, rows: list[dict[str, Any]], name: str = "list.parquet", **options: Any
) -> Path:
    table = pa.Table.from_pylist(rows, **options)
    pq.write_table(table, folder / name)
    return folder / name


def refused(path: Path) -> list[tuple[int, str, str]]:
    with path.with_suffix(".rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        return [(int(item["line"]), item["column"], item["code"]) for item in csv.DictReader(file)]


WRITERS = {"JSON Lines": as_json, "Parquet": as_parquet}


@pytest.mark.parametrize("writer", WRITERS)
def test_goes_in_once_and_broken_rows_come_back_with_line_column_and_reason(
    world: World, tmp_path: Path, writer: str
) -> None:
    rows = [
        row(0),
        row(1, 证件号码="1101051949********"),
        row(2, 期限="永久"),
        row(3, 案号=None),
        row(4),
    ]
    path = WRITERS[writer](tmp_path, rows)
    first = run(world, path)
    assert (first.rows, first.created, first.rejected) == (5, 2, 3)
    assert refused(path) == [
        (2, "证件号码", EntryCode.IDENTIFIER_MASKED),
        (3, "期限", EntryCode.TERM_OPEN_ENDED),
        (4, "案号", EntryCode.CASE_NUMBER),
    ]
    second = run(world, path)
    assert (second.created, second.unchanged, second.rejected) == (0, 2, 3)
    text = path.with_suffix(".rejects.csv").read_text("utf-8-sig")
    assert not any(
        person(index).names[0] in text or person(index).identifiers[0].number in text
        for index in range(5)
    )


def test_the_same_entries_as_csv_and_the_other_formats_are_the_same(
    world: World, tmp_path: Path
) -> None:
    rows = [row(index) for index in range(3)]
    with (tmp_path / "list.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert run(world, tmp_path / "list.csv").created == 3
    assert run(world, as_json(tmp_path, rows)).unchanged == 3
    assert run(world, as_json(tmp_path, rows, "gb.ndjson", "gb18030")).unchanged == 3
    assert run(world, as_json(tmp_path, rows, "list.txt")).unchanged == 3, (
        "known by its first brace"
    )
    assert run(world, as_parquet(tmp_path, rows)).unchanged == 3
    assert run(world, as_parquet(tmp_path, rows, "list.bin")).unchanged == 3, (
        "known by its first bytes"
    )


RICH = firm(
    **{
        "姓名/名称": [FIRM.names[0], "曾用名公司"],
        "限制措施": ["AIR_TRAVEL", "LOAN_PRICING"],
        "责任人": [
            {
                "capacity": "法定代表人",
                "name": [person(1).names[0], "曾用名"],
                "id_number": [person(1).identifiers[0].number],
                "id_type": None,
            },
            {
                "capacity": "actual_controller",
                "name": [person(2).names[0]],
                "id_number": [PASSPORT.number],
                "id_type": "护照",
            },
            {"capacity": "主要负责人", "name": ["某人"], "id_number": None, "id_type": None},
        ],
    }
)


@pytest.mark.parametrize("writer", WRITERS)
def test_several_names_numbers_measures_and_responsible_persons(
    world: World, tmp_path: Path, writer: str
) -> None:
    result = run(world, WRITERS[writer](tmp_path, [RICH]))
    assert (result.created, result.rejected, result.without_number) == (1, 0, 1)
    found = listed(world)
    assert set(found) == {FIRM.identifiers[0], person(1).identifiers[0], PASSPORT}
    assert len(found[FIRM.identifiers[0]].names) == len(found[person(1).identifiers[0]].names) == 2
    assert found[PASSPORT].restrictions[0].capacity == 4


@pytest.mark.parametrize("writer", WRITERS)
def test_several_numbers_of_one_person_each_with_its_kind(
    world: World, tmp_path: Path, writer: str
) -> None:
    numbers = [
        {"id_type": "居民身份证", "id_number": person(0).identifiers[0].number},
        {"id_type": "护照", "id_number": PASSPORT.number},
    ]
    assert run(world, WRITERS[writer](tmp_path, [row(证件号码=numbers)])).created == 1
    assert set(listed(world)) == {person(0).identifiers[0], PASSPORT}


def person_row(**fields: Any) -> dict[str, Any]:
    known = {
        "capacity": "法定代表人",
        "name": person(1).names[0],
        "id_number": person(1).identifiers[0].number,
    }
    return firm(责任人=[known | fields])


NUMBER = int(person(0).identifiers[0].number[:17])
BROKEN: dict[str, tuple[Any, str, EntryCode]] = {
    "not JSON": ("{", "", EntryCode.MALFORMED_ROW),
    "a text": ('"text"', "", EntryCode.MALFORMED_ROW),
    "a list later on": ("[]", "", EntryCode.MALFORMED_ROW),
    "two objects": ("{}{}", "", EntryCode.MALFORMED_ROW),
    "a key twice": ('{"name": "a", "name": "b"}', "", EntryCode.MALFORMED_ROW),
    "not a number": ('{"name": NaN}', "", EntryCode.MALFORMED_ROW),
    "a huge number": ('{"name": ' + "9" * 5_000 + "}", "", EntryCode.MALFORMED_ROW),
    "deep": ("[" * 60_000, "", EntryCode.MALFORMED_ROW),
    "deep in a field": (
        '{"name": ' + "[" * 30_000 + "]" * 30_000 + "}",
        "",
        EntryCode.MALFORMED_ROW,
    ),
    "a long line": (json.dumps(row(备注="x" * MAX_LINE)), "", EntryCode.ROW_TOO_LONG),
    "one field under two names": (row(name="x"), "", EntryCode.TOO_MANY_FIELDS),
    "too many keys": ({str(index): "" for index in range(101)}, "", EntryCode.TOO_MANY_FIELDS),
    "nothing in it": ({}, "", EntryCode.IDENTIFIER_MISSING),
    "a number as a number": (row(证件号码=NUMBER), "证件号码", EntryCode.FIELD_TYPE),
    "a truth": (row(案号=True), "案号", EntryCode.FIELD_TYPE),
    "a fraction": (row(期限=2.0), "期限", EntryCode.FIELD_TYPE),
    "a list in a list": (row(证件号码=[["x"]]), "证件号码", EntryCode.FIELD_TYPE),
    "nothing in a list": (row(证件号码=[None]), "证件号码", EntryCode.FIELD_TYPE),
    "a hundred and one": (row(证件号码=["x"] * 101), "证件号码", EntryCode.FIELD_TOO_LONG),
    "two case numbers": (row(案号=["1", "2"]), "案号", EntryCode.FIELD_TYPE),
    "an object for a date": (row(发布时间={"year": 2026}), "发布时间", EntryCode.FIELD_TYPE),
    "an object for a name": (
        row(**{"姓名/名称": {"name": "x"}}),
        "姓名/名称",
        EntryCode.FIELD_TYPE,
    ),
    "no name": (row(**{"姓名/名称": []}), "姓名/名称", EntryCode.NAME_MISSING),
    "an object without a number": (
        row(证件号码={"id_type": "护照"}),
        "证件号码",
        EntryCode.IDENTIFIER_MISSING,
    ),
    "an unknown kind": (
        row(证件号码={"id_type": "船票", "id_number": "1"}),
        "证件号码",
        EntryCode.IDENTIFIER_KIND,
    ),
    "half of a pair": (row(**{"姓名/名称": "\ud800"}), "姓名/名称", EntryCode.CONTROL_CHARACTER),
    "a NUL": (row(**{"姓名/名称": ["a\0b"]}), "姓名/名称", EntryCode.CONTROL_CHARACTER),
    "a long name": (row(**{"姓名/名称": ["x" * 2_001]}), "姓名/名称", EntryCode.FIELD_TOO_LONG),
    "an unknown measure in a list": (
        row(限制措施=["AIR_TRAVEL", "NONE"]),
        "限制措施",
        EntryCode.MEASURE_UNKNOWN,
    ),
    "a capacity that is none": (
        person_row(capacity="国王"),
        "责任人",
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "no capacity": (person_row(capacity=None), "责任人", EntryCode.RESPONSIBLE_PERSON),
    "a person without a name": (person_row(name=None), "责任人", EntryCode.RESPONSIBLE_PERSON),
    "a person with a wrong number": (
        person_row(id_number="123"),
        "责任人",
        EntryCode.RESPONSIBLE_PERSON,
    ),
    "a person with a number as a number": (
        person_row(id_number=NUMBER),
        "责任人",
        EntryCode.FIELD_TYPE,
    ),
    "a person's unknown kind": (person_row(id_type="船票"), "责任人", EntryCode.IDENTIFIER_KIND),
}


def test_each_broken_line_costs_itself_and_is_refused_in_fixed_words(
    sqlite_world: World, tmp_path: Path
) -> None:
    rows: list[Any] = [row(20)]
    for broken, _, _ in BROKEN.values():
        rows += [json.dumps(broken) if not isinstance(broken, str) else broken, "  "]
    path = as_json(tmp_path, [*rows, row(21)])
    result = run(sqlite_world, path)
    assert (result.created, result.rejected) == (2, len(BROKEN))
    expected = [
        (2 + 2 * index, column, code.value)
        for index, (_, column, code) in enumerate(BROKEN.values())
    ]
    names = {line: name for (line, _, _), name in zip(expected, BROKEN, strict=True)}
    assert {names[line]: (column, code) for line, column, code in refused(path)} == {
        names[line]: (column, code) for line, column, code in expected
    }


def test_keys_that_are_not_understood_are_named_but_never_somebody_s_number(
    sqlite_world: World, tmp_path: Path
) -> None:
    rows = [row(备注="x", **{person(0).identifiers[0].number: "x"})] + [
        row(index, **{f"k{index}": 1}) for index in range(1, 40)
    ]
    result = run(sqlite_world, as_json(tmp_path, rows))
    assert result.created == 40
    assert len(result.ignored_columns) == MAX_IGNORED
    assert result.ignored_columns[0] == "备注"
    assert person(0).identifiers[0].number not in result.ignored_columns


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_of_lines_is_refused(
    sqlite_world: World, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "list.jsonl").write_bytes(content)
    with pytest.raises(FileHeaderError, match="empty"):
        run(sqlite_world, tmp_path / "list.jsonl")


def test_one_array_is_not_json_lines(sqlite_world: World, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([row()]))
    with pytest.raises(FileHeaderError, match="one object on each line"):
        run(sqlite_world, tmp_path / "list.json")


def test_dates_and_dictionaries_of_parquet(world: World, tmp_path: Path) -> None:
    rows = [row(index) for index in range(2)]
    table = pa.Table.from_pylist(
        [
            {key: value for key, value in item.items() if key not in {"发布时间", "期限"}}
            for item in rows
        ]
    )
    moments = [datetime(2026, 1, 31, 16, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]
    table = table.append_column("发布时间", pa.array(moments, pa.timestamp("ns", "Asia/Shanghai")))
    table = table.append_column(
        "到期日", pa.array([date(2027, 2, 1), date(2027, 2, 1)], pa.date32())
    )
    table = table.set_column(0, table.schema.names[0], table.column(0).dictionary_encode())
    pq.write_table(table, tmp_path / "list.parquet")
    assert run(world, tmp_path / "list.parquet").created == 2
    terms = {
        subject.restrictions[0].effective_at.ToDatetime(UTC) for subject in listed(world).values()
    }
    assert terms == set(moments)
    assert {
        subject.restrictions[0].expires_at.ToDatetime(UTC) for subject in listed(world).values()
    } == {datetime(2027, 1, 31, 16, tzinfo=UTC)}


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.float64(), pa.binary(), pa.bool_(), pa.list_(pa.int64()), pa.decimal128(20)],
)
def test_a_column_that_is_no_text_refuses_the_file(
    sqlite_world: World, tmp_path: Path, kind: Any
) -> None:
    table = pa.Table.from_pylist([row()]).set_column(1, "证件号码", pa.array([None], kind))
    pq.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(FileHeaderError, match="write it as text"):
        run(sqlite_world, tmp_path / "list.parquet")


def test_bytes_that_are_no_text_and_days_beyond_the_calendar_cost_their_row(
    sqlite_world: World, tmp_path: Path
) -> None:
    table = pa.Table.from_pylist([row(index) for index in range(3)])
    bad = pa.array(
        [b"\xff\xfe", *(name.encode() for name in (person(1).names[0], person(2).names[0]))]
    ).view(pa.string())
    far = pa.array([20_000, 2_000_000_000, 20_000], pa.int32()).view(pa.date32())
    table = table.set_column(0, "姓名/名称", bad).set_column(3, "发布时间", far)
    pq.write_table(table, tmp_path / "list.parquet")
    result = run(sqlite_world, tmp_path / "list.parquet")
    assert (result.created, result.rejected) == (1, 2)
    assert [code for _, _, code in refused(tmp_path / "list.parquet")] == [
        EntryCode.CONTROL_CHARACTER
    ] * 2


@pytest.mark.parametrize("cut", [4, 100, -1, -40])
def test_a_truncated_parquet_file_is_refused_as_a_whole(
    sqlite_world: World, tmp_path: Path, cut: int
) -> None:
    path = as_parquet(tmp_path, [row(index) for index in range(50)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ImportFileError, match="damaged"):
        run(sqlite_world, path)
    assert not path.with_suffix(".rejects.csv").exists()


def test_a_parquet_file_damaged_in_the_middle_says_how_far_it_went(
    sqlite_world: World, tmp_path: Path
) -> None:
    path = as_parquet(tmp_path, [row(index) for index in range(50)])
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    with pytest.raises(ImportFileError, match="behind row 0"):
        run(sqlite_world, path)


def test_what_says_parquet_and_is_not_is_refused(sqlite_world: World, tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_text("name,id_number\n")
    with pytest.raises(ImportFileError, match="begins otherwise"):
        run(sqlite_world, tmp_path / "list.parquet")
    path = as_parquet(tmp_path, [{"a": "b"}])
    with pytest.raises(FileHeaderError, match="has no column"):
        run(sqlite_world, path)
    with pytest.raises(ImportFileError, match="cannot be read"):
        run(sqlite_world, tmp_path / "nothing.parquet")


def test_without_pyarrow_one_line_says_which_extra(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_parquet(tmp_path, [row()])
    arrow_library.pyarrow.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportFileError, match=r"pip install 'tipstaff\[screen\]'"):
        run(sqlite_world, path)
    arrow_library.pyarrow.cache_clear()


def test_rows_go_in_batch_by_batch_across_row_groups(sqlite_world: World, tmp_path: Path) -> None:
    rows = [
        row(0)
        | {
            "姓名/名称": name_of(index),
            "证件类型": "居民身份证",
            "证件号码": resident_id(index).number,
        }
        for index in range(1_200)
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "list.parquet", row_group_size=700)
    done: list[int] = []
    importer = Importer(
        sqlite_world.registry, authority="court", list_id="joint-discipline", actor=OPERATOR
    )
    result = importer.run(
        tmp_path / "list.parquet",
        tmp_path / "rejects.csv",
        lambda position, size: done.append(position * 100 // size),
    )
    assert result.created == 1_200
    assert done == sorted(done)
    assert done[-1] == 100
