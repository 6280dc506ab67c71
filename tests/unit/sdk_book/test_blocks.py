"""Cutting a CSV file into blocks: every row in exactly one of them, whatever stands in it and
wherever the cut would fall.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tipstaff_sdk.book import csv_blocks
from tipstaff_sdk.book.csv_blocks import CsvFile
from tipstaff_sdk.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

values = st.text(st.sampled_from('ab,;\t"\n 张é'), max_size=12)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(values, values), max_size=20),
    st.integers(1, 60),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_blocks_end_with_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], size: int, quoting: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerow(("first", "second"))
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("blocks") / "b.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK_BYTES", size)
        file = CsvFile.open(path)
        blocks = list(file.blocks(file.begin))
        assert b"".join(block.data for block in blocks) == path.read_bytes()[file.begin :]
        found = [
            tuple(row)
            for block in blocks
            for row in csv.reader(io.StringIO(block.data.decode(), newline=""))
            if row
        ]
        assert found == rows
        for place, block in enumerate(blocks[:-1]):
            assert list(file.blocks(block.end)) == blocks[place + 1 :], (
                "wherever a run begins, blocks end where they did"
            )


def test_a_quote_that_is_never_closed_ends_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1 << 17)
    path = tmp_path / "b.csv"
    path.write_bytes(b"a,b\n" + b'1,"x\n' + b"2,yyyyyyyyyyyyyyyy\n" * 20_000)
    file = CsvFile.open(path)
    blocks = list(file.blocks(file.begin))
    assert b"".join(block.data for block in blocks) == path.read_bytes()[4:]
    assert len(blocks) >= 2
    assert all(block.data.endswith(b"\n") for block in blocks)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(csv_blocks, "MAX_LINE", 10_000)
    path = tmp_path / "b.csv"
    path.write_bytes(b"a,b\n" + b"x" * 50_000)
    file = CsvFile.open(path)
    with pytest.raises(FormatError, match="line is longer"):
        list(file.blocks(file.begin))


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"a,b\n1,2\n", "utf-8"),
        ("a,姓名\n".encode(), "utf-8"),
        ("a,姓名\n".encode("utf-8-sig"), "utf-8"),
        ("a,姓名\n".encode("gb18030"), "gb18030"),
        (b"a,b\n" + b"1,2\n" * 300_000 + "1,张三\n".encode("gb18030"), "gb18030"),
        (b"a,b\n" + b"1,2\n" * 300_000 + "1,张三\n".encode(), "utf-8"),
        (b"a,b\n" + b"1" * ((1 << 20) - 5) + "张".encode(), "utf-8"),
    ],
)
def test_the_encoding_is_found_out_from_the_first_other_characters(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    path = tmp_path / "b.csv"
    path.write_bytes(content)
    assert CsvFile.open(path).encoding == encoding
