"""docs/formats/import.md says what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from tests.support.registry import OPERATOR, World, listed
from tipstaff_server.errors import EntryCode
from tipstaff_server.importing import Importer
from tipstaff_server.importing.columns import Columns, Field

PAGE = (Path(__file__).parents[3] / "docs" / "formats" / "import.md").read_text("utf-8")
REQUIRED = {
    Field.NAME: "name",
    Field.NUMBER: "id_number",
    Field.CASE_NUMBER: "case_number",
    Field.PUBLISHED: "published",
}


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```(?:csv|json)\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_goes_in_as_the_page_says(world: World, tmp_path: Path) -> None:
    (tmp_path / "LIST.csv").write_text(example("list"), encoding="gb18030")
    world.clock.now = datetime(2026, 5, 4, tzinfo=UTC)
    importer = Importer(
        world.registry, authority="court", list_id="joint-discipline", actor=OPERATOR
    )
    first = importer.run(tmp_path / "LIST.csv", tmp_path / "rejects.csv")
    assert (first.created, first.rejected, first.without_number, first.ignored_columns) == (
        2,
        1,
        0,
        ("性别",),
    )
    assert (tmp_path / "rejects.csv").read_text("utf-8-sig") == example("rejects")
    found = {identifier.number: subject for identifier, subject in listed(world).items()}
    assert set(found) == {"11010519491231002X", "91350100M000100Y43", "110105194912310046"}
    assert found["110105194912310046"].restrictions[0].organisation_name == "青屿市虚构商贸有限公司"
    second = importer.run(tmp_path / "LIST.csv", tmp_path / "rejects.csv")
    assert (second.created, second.unchanged, second.rejected) == (0, 2, 1)


def test_the_lines_go_in_as_the_page_says(world: World, tmp_path: Path) -> None:
    (tmp_path / "LIST.jsonl").write_text(example("lines"), encoding="utf-8")
    world.clock.now = datetime(2026, 5, 4, tzinfo=UTC)
    importer = Importer(
        world.registry, authority="court", list_id="joint-discipline", actor=OPERATOR
    )
    first = importer.run(tmp_path / "LIST.jsonl", tmp_path / "rejects.csv")
    assert (first.created, first.rejected, first.without_number) == (2, 1, 0)
    assert (tmp_path / "rejects.csv").read_text("utf-8-sig") == example("lines-rejects")
    found = {identifier.number: subject for identifier, subject in listed(world).items()}
    assert set(found) == {
        "91350100M000100Y43",
        "110105194912310046",
        "E00000019",
        "11010519491231002X",
        "E00000020",
    }
    assert (
        found["E00000019"].restrictions[0].capacity,
        len(found["91350100M000100Y43"].names),
    ) == (4, 2)


def test_every_header_on_the_page_is_understood_as_the_page_says() -> None:
    lines = re.findall(r"^\| ([A-Z_]+) \| (`.*`)(?: \(.*\))? \|$", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} >= {field.value for field in Field} - {
        f"{x}_KIND" for x in ("PRINCIPAL", "DIRECTLY_RESPONSIBLE", "ACTUAL_CONTROLLER")
    }
    for name, headers in lines:
        field = Field(name)
        others = [header for other, header in REQUIRED.items() if other is not field]
        for header in re.findall(r"`(.*?)`", headers):
            assert Columns.read([*others, header]).of[field] == len(others), header


def test_every_code_is_on_the_page() -> None:
    section = PAGE.partition("## Refused rows")[2]
    assert {code.value for code in EntryCode} <= set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", section))
