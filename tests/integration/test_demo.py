"""The demo as a test: a smaller list, the same story, and nobody's number or name in anything that
it leaves behind.
"""

from __future__ import annotations

import csv
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.leaks import occurring
from tests.support.prepared_python import python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LISTS = ("list.csv", "others.csv")
SHORTEST_NAME = 3  # names of two characters are words elsewhere: 金力, 常阳


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [python(), "-m", "examples.demo", "--subjects", "400", "--folder", str(folder)],
        capture_output=True,
        check=False,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def secrets(folder: Path) -> Iterator[str]:
    for name in LISTS:
        with (folder / name).open(encoding="gb18030", newline="") as file:
            for row in csv.DictReader(file):
                yield from (row["证件号码"], row["法定代表人证件号码"])
                yield from (
                    name
                    for name in (row["姓名/名称"], row["法定代表人/负责人"])
                    if len(name) >= SHORTEST_NAME
                )


def test_every_expectation_of_the_demo_holds(demo: tuple[Path, str]):
    assert demo[1].rstrip().endswith("demo: ok")
    assert "✗" not in demo[1]


def test_no_number_or_name_in_what_the_demo_prints_logs_and_keeps(demo: tuple[Path, str]):
    folder, printed = demo
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name not in LISTS]
    assert {path.suffix for path in kept} >= {".log", ".db", ".json", ".sqlite3"}
    everything = b"\0".join([printed.encode(), *(path.read_bytes() for path in kept)])
    wanted = {secret for secret in secrets(folder) if secret}
    assert len(wanted) > 400
    listed = {secret.encode("gb18030") for secret in wanted}
    assert occurring(listed, b"".join((folder / name).read_bytes() for name in LISTS)) == listed
    found = occurring(
        {secret.encode(encoding) for secret in wanted for encoding in ("utf-8", "gb18030")},
        everything,
    )
    assert len(found) == 0, (
        f"{len(found)} of {len(wanted)} numbers and names stand in the demo's output or files"
    )
