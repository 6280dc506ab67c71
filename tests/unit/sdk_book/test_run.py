"""Screening a book: verdicts, rejects, formats, going on after an interruption, memory."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import identities
from tests.support.books import (
    AIR,
    GHOST,
    HOTEL,
    HOTEL_LISTED,
    LISTED,
    NAME,
    PASSPORT,
    Desk,
    bookings,
    people,
    world,
    write_csv,
)
from tests.support.sealed_world import NOW
from tipstaff_sdk.book import Asked, Job, csv_blocks, parquet_rows, run, screen_book
from tipstaff_sdk.book.checkpoint import BookCheckpoint
from tipstaff_sdk.decision.decide import Reason, Verdict
from tipstaff_sdk.errors import (
    ConfigurationError,
    FormatError,
    InvalidServiceError,
    MeasureNotCoveredError,
    StorageError,
    UnknownMeasureError,
)

ROOT = Path(__file__).parents[3]
CLEAR = identities.resident_id(77)


@pytest.fixture
def desk() -> Desk:
    return Desk(world().state())


def result(job: Job) -> list[dict[str, str]]:
    with job.result.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rejects(job: Job) -> list[tuple[int, str]]:
    with job.rejects_path.open(encoding="utf-8", newline="") as file:
        return [(int(row["row"]), row["reason"]) for row in csv.DictReader(file)]


def job(source: Path, measure: str = AIR, **changes: Any) -> Job:
    return Job(source, source.with_name("out.csv"), measure, **changes)


def test_every_row_gets_its_verdict_and_wrong_ones_go_to_the_rejects(
    desk: Desk, tmp_path: Path
) -> None:
    source = write_csv(
        tmp_path / "b.csv",
        [
            ("B1", CLEAR, NAME),
            ("B2", LISTED, NAME),
            ("B3", LISTED, "李四"),
            ("B4", "wrong", NAME),
            ("B5", CLEAR, ""),
            ("B6", CLEAR),
            ("B7", GHOST, NAME),
            ("B8", CLEAR, NAME, "more"),
            ("B9", CLEAR.lower(), "Zhang San"),
            ("B10", HOTEL_LISTED, NAME),
        ],
    )
    asked = job(source, columns=Asked(key="booking"))
    summary = screen_book(desk, asked)
    assert [
        (row["row"], row["booking"], row["verdict"], row["reason"]) for row in result(asked)
    ] == [
        ("1", "B1", "CLEAR", "NOT_LISTED"),
        ("2", "B2", "RESTRICTED", "IN_FORCE"),
        ("3", "B3", "REVIEW", "NAME_MISMATCH"),
        ("7", "B7", "CLEAR", "FALSE_POSITIVE"),
        ("9", "B9", "CLEAR", "NOT_LISTED"),
        ("10", "B10", "CLEAR", "NOT_COVERED"),
    ]
    assert result(asked)[1]["restriction_ids"] == "01" * 16
    assert result(asked)[1]["case_numbers"] == "（2026）示执1号"
    assert [row for row, _ in rejects(asked)] == [4, 5, 6, 8]
    assert "2 values where the header has 3" in dict(rejects(asked))[6]
    assert (summary.rows, summary.bad_rows) == (10, 4)
    assert summary.verdicts == {Verdict.CLEAR: 4, Verdict.RESTRICTED: 1, Verdict.REVIEW: 1}
    assert desk.counted == [summary.reasons]
    assert (summary.moment, summary.listing_version) == (NOW, 7)
    written = asked.result.read_text("utf-8") + asked.rejects_path.read_text("utf-8")
    assert all(secret not in written for secret in (LISTED, CLEAR, NAME, "wrong"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.csv",
        "out.csv",
        "out.rejects.csv",
    ]


def test_only_hits_leaves_clear_rows_out(desk: Desk, tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "b.csv",
        [("1", CLEAR, NAME), ("2", GHOST, NAME), ("3", LISTED, NAME), ("4", LISTED, "李四")],
    )
    asked = job(source, only_hits=True)
    summary = screen_book(desk, asked)
    assert [row["row"] for row in result(asked)] == ["3", "4"]
    assert summary.rows == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_line_ends(desk: Desk, tmp_path: Path, encoding: str, end: str) -> None:
    rows = [
        ("订1", CLEAR, NAME),
        ("订2", LISTED, "张三"),
        ("订3", LISTED, "李四"),
        ("订4", CLEAR, "阿凡提·买买提"),
    ]
    source = write_csv(
        tmp_path / "b.csv", rows, header="订单,证件号码,姓名", encoding=encoding, end=end
    )
    asked = job(source, columns=Asked(key="订单"))
    screen_book(desk, asked)
    assert [(row["订单"], row["verdict"]) for row in result(asked)] == [
        ("订1", "CLEAR"),
        ("订2", "RESTRICTED"),
        ("订3", "REVIEW"),
        ("订4", "CLEAR"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_text_in_another_encoding_is_one_rows_fault(
    desk: Desk, tmp_path: Path, encoding: str
) -> None:
    content = (
        f"identifier,name\n{CLEAR},{NAME}\n".encode(encoding)
        + f"{CLEAR},".encode()
        + b"\xff\xff\n"
        + f"{LISTED},{NAME}\n".encode(encoding)
    )
    (tmp_path / "b.csv").write_bytes(content)
    asked = job(tmp_path / "b.csv", encoding=encoding)
    screen_book(desk, asked)
    assert [(row["row"], row["verdict"]) for row in result(asked)] == [
        ("1", "CLEAR"),
        ("3", "RESTRICTED"),
    ]
    assert [row for row, _ in rejects(asked)] == [2]


def test_quoted_values_may_hold_anything(desk: Desk, tmp_path: Path) -> None:
    rows = [
        ('"a,""b""\nc"', LISTED, f'"{NAME}"'),
        ("2", f'"{CLEAR}"', '"Zhang\nSan"'),
        ("", "", ""),
        ("4", LISTED, NAME),
    ]
    asked = job(write_csv(tmp_path / "b.csv", rows), columns=Asked(key="booking"))
    screen_book(desk, asked)
    assert [(row["row"], row["booking"], row["verdict"]) for row in result(asked)] == [
        ("1", 'a,"b"\nc', "RESTRICTED"),
        ("4", "4", "RESTRICTED"),
    ]
    assert [row for row, _ in rejects(asked)] == [2, 3]


def test_a_quote_left_open_costs_its_own_row_only(desk: Desk, tmp_path: Path) -> None:
    rows = [
        ("1", CLEAR, NAME),
        ("2", CLEAR, '"Zhang'),
        ("3", LISTED, NAME),
        ('"4"', LISTED, NAME),
        ("5", CLEAR, NAME),
    ]
    asked = job(write_csv(tmp_path / "b.csv", rows))
    summary = screen_book(desk, asked)
    assert summary.rows == 5
    assert {row["row"]: row["verdict"] for row in result(asked)}.items() >= {
        "3": "RESTRICTED",
        "4": "RESTRICTED",
        "5": "CLEAR",
    }.items()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_separators_are_found_out(desk: Desk, tmp_path: Path, delimiter: str) -> None:
    source = tmp_path / "b.csv"
    source.write_text(
        delimiter.join(["x", "identifier", "name"]) + "\n" + delimiter.join(["1", LISTED, NAME]),
        encoding="utf-8",
    )
    asked = job(source)
    screen_book(desk, asked)
    assert [row["verdict"] for row in result(asked)] == ["RESTRICTED"]


def test_kinds_of_number_by_column(desk: Desk, tmp_path: Path) -> None:
    made = world()
    from tests.support.sealed_world import restriction  # noqa: PLC0415  for this test only
    from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind  # noqa: PLC0415

    made.list(Identifier(IdentifierKind.PASSPORT, PASSPORT), NAME, restriction(3))
    rows = [
        (PASSPORT, NAME, "passport"),
        (PASSPORT, NAME, "护照"),
        (LISTED, NAME, ""),
        (LISTED, NAME, "resident-id"),
        (PASSPORT, NAME, "LIBRARY CARD"),
        ("!", NAME, "passport"),
        (CLEAR, NAME, "居民身份证"),
        ("E7654321", NAME, "PASSPORT"),
    ]
    asked = job(write_csv(tmp_path / "b.csv", rows, header="证件号码,姓名,证件类型"))
    screen_book(Desk(made.state()), asked)
    assert [(row["row"], row["verdict"]) for row in result(asked)] == [
        ("1", "RESTRICTED"),
        ("2", "RESTRICTED"),
        ("3", "RESTRICTED"),
        ("4", "RESTRICTED"),
        ("7", "CLEAR"),
        ("8", "CLEAR"),
    ]
    assert "kind" in dict(rejects(asked))[5]
    assert [row for row, _ in rejects(asked)] == [5, 6]


def test_each_row_is_judged_by_what_it_buys(desk: Desk, tmp_path: Path) -> None:
    rows = [(HOTEL_LISTED, NAME, stars) for stars in ("2", "4", "five", " 4 ", "")]
    source = write_csv(tmp_path / "b.csv", rows, header="identifier,name,stars")
    screen_book(desk, job(source, HOTEL))
    assert [(row["row"], row["reason"]) for row in result(job(source))] == [
        ("1", "NOT_COVERED"),
        ("2", "IN_FORCE"),
        ("4", "IN_FORCE"),
    ]
    assert [row for row, _ in rejects(job(source))] == [3, 5]
    source = write_csv(tmp_path / "c.csv", rows, header="identifier,name,class")
    screen_book(desk, job(source, HOTEL, columns=Asked(services={"stars": "class"})))
    assert [row["row"] for row in result(job(source))] == ["1", "2", "4"]
    screen_book(desk, job(source, HOTEL, service={"stars": 5}))
    assert {row["reason"] for row in result(job(source))} == {"IN_FORCE"}
    with pytest.raises(InvalidServiceError, match="stars"):
        screen_book(desk, job(source, HOTEL))
    with pytest.raises(FormatError, match="no attribute moons"):
        screen_book(desk, job(source, HOTEL, columns=Asked(services={"moons": "class"})))


def test_parquet_gives_what_csv_gives(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = bookings(250)
    table = pa.table(
        dict(zip(("booking", "identifier", "name"), zip(*rows, strict=True), strict=True))
    )
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=70)
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 30)
    of_parquet = job(tmp_path / "b.parquet", columns=Asked(key="booking"))
    screen_book(desk, of_parquet)
    first = of_parquet.result.read_bytes()
    screen_book(desk, job(write_csv(tmp_path / "b.csv", rows), columns=Asked(key="booking")))
    assert of_parquet.result.read_bytes() == first
    assert first.count(b"RESTRICTED") == 2


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.binary(),
    ],
)
def test_parquet_columns_of_any_kind_of_text(desk: Desk, tmp_path: Path, kind: pa.DataType) -> None:
    numbers = pa.array([LISTED, None, CLEAR]).cast(kind)
    pq.write_table(
        pa.table({"identifier": numbers, "name": pa.array([NAME, NAME, None]), "stars": [1, 2, 3]}),
        tmp_path / "b.parquet",
    )
    asked = job(tmp_path / "b.parquet")
    screen_book(desk, asked)
    assert [(row["row"], row["verdict"]) for row in result(asked)] == [("1", "RESTRICTED")]
    assert [row for row, _ in rejects(asked)] == [2, 3]


def test_without_data_every_row_is_unknown_and_wrong_rows_are_rejected_all_the_same(
    tmp_path: Path,
) -> None:
    asked = job(
        write_csv(tmp_path / "b.csv", [("1", CLEAR, NAME), ("2", "x", NAME), ("3", LISTED, NAME)])
    )
    for state, reason in [(None, Reason.NO_DATA), (world().state(epoch_keys={}), Reason.NO_DATA)]:
        summary = screen_book(Desk(state), asked)
        assert summary.reasons == {reason: 2}
        assert [row for row, _ in rejects(asked)] == [2]
    late = Desk(world().state(), NOW + timedelta(days=8))
    assert screen_book(late, asked).reasons == {Reason.EXPIRED: 2}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header"),
        (b"\n", "header"),
        (b"a,b\n1,2\n", "--identifier-column"),
        (b"identifier,x\n1,2\n", "--name-column"),
        (b"identifier,name,identifier\n", "several columns"),
        (b"identifier,n\xff\xff\n", "not CSV"),
        (b"PAR1 and no more", "Parquet"),
        (b"a" * (1 << 20), "longer than 1 MiB"),
    ],
)
def test_files_that_are_no_book_say_why_and_leave_nothing(
    desk: Desk, tmp_path: Path, content: bytes, says: str
) -> None:
    source = tmp_path / "b.csv"
    source.write_bytes(content)
    with pytest.raises(FormatError, match=says):
        screen_book(desk, job(source))
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]
    assert not desk.counted


def test_a_book_without_rows_is_a_result_without_rows(desk: Desk, tmp_path: Path) -> None:
    for content in (b"identifier,name\n", b"identifier,name", b"identifier,name\r\n\r\n\n"):
        (tmp_path / "b.csv").write_bytes(content)
        asked = job(tmp_path / "b.csv")
        assert screen_book(desk, asked).rows == 0
        assert (result(asked), rejects(asked)) == ([], [])


def test_wrong_calls_are_told_before_any_row(desk: Desk, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", [("1", CLEAR, NAME)])
    with pytest.raises(UnknownMeasureError):
        screen_book(desk, job(source, "TELEPORT"))
    with pytest.raises(MeasureNotCoveredError):
        screen_book(
            Desk(world().state(parameters=world().parameters(measures=[HOTEL]))), job(source)
        )
    with pytest.raises(FormatError, match="no column 'nowhere'"):
        screen_book(desk, job(source, columns=Asked(key="nowhere")))
    with pytest.raises(StorageError, match=r"nothing\.csv"):
        screen_book(desk, job(tmp_path / "nothing.csv"))
    with pytest.raises(StorageError, match="no"):
        screen_book(desk, Job(source, tmp_path / "no" / "out.csv", AIR))
    assert not (tmp_path / "out.csv").exists()


def test_without_pyarrow_one_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; from pathlib import Path\nfrom"
        " tests.support.books import *; from tipstaff_sdk.book import"
        f" *\nscreen_book(Desk(world().state()), Job(Path({str(tmp_path / 'b.csv')!r}),"
        f" Path({str(tmp_path / 'o.csv')!r}), AIR))"
    )
    write_csv(tmp_path / "b.csv", [("1", CLEAR, NAME)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert f"{ConfigurationError.__name__}: screening files needs pyarrow" in done.stderr
    assert "pip install 'tipstaff[screen]'" in done.stderr


class CrashError(Exception):
    """Stands for whatever ends a run."""


def test_an_interrupted_run_goes_on_and_comes_to_the_same_bytes(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    rows = [
        row if number % 7 else (row[0], "bad", row[2]) for number, row in enumerate(bookings(400))
    ]
    source = write_csv(tmp_path / "b.csv", rows)
    whole = Job(source, tmp_path / "whole.csv", AIR, columns=Asked(key="booking"))
    screen_book(desk, whole)
    asked = job(source, columns=Asked(key="booking"), checkpoint_seconds=0.0)
    for minute, stop in enumerate((3, 4, 3, 10_000)):
        calls = iter(range(stop))

        def crash(_done: int, _size: int, _rows: int, calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise CrashError

        later = Desk(desk.state, NOW + timedelta(minutes=minute))
        try:
            summary = screen_book(later, asked, crash)
        except CrashError:
            assert not asked.result.exists()
            assert not later.counted
    assert summary.resumed_rows > 100
    assert summary.moment == NOW, "the moment of the run that began"
    assert asked.result.read_bytes() == whole.result.read_bytes()
    assert asked.rejects_path.read_bytes() == whole.rejects_path.read_bytes()
    assert later.counted == desk.counted, "all rows of the book, once"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.csv",
        "out.csv",
        "out.rejects.csv",
        "whole.csv",
        "whole.rejects.csv",
    ]


def interrupted(desk: Desk, asked: Job) -> None:
    def crash(_done: int, _size: int, rows: int) -> None:
        if rows > 100:
            raise CrashError

    with pytest.raises(CrashError):
        screen_book(desk, asked, crash)


@pytest.mark.parametrize(
    "change", ["listing", "relief", "source", "options", "stale", "old", "damaged", "shorter"]
)
def test_it_begins_again_when_anything_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    source = write_csv(tmp_path / "b.csv", bookings(400))
    asked = job(source, checkpoint_seconds=0.0)
    made = world()
    interrupted(Desk(made.state()), asked)
    assert BookCheckpoint.load(tmp_path / ".out.csv.checkpoint") is not None
    desk = Desk(made.state())
    if change == "listing":
        desk = Desk(made.state(parameters=made.parameters(version=8)))
    elif change == "relief":
        made.lift(9)
        desk = Desk(made.state())
    elif change == "source":
        os.utime(source, (1, 1))
    elif change == "options":
        asked = job(source, only_hits=True)
    elif change == "stale":
        desk = Desk(
            made.state(relief=made.relief(NOW - timedelta(minutes=20))), NOW + timedelta(minutes=15)
        )
    elif change == "old":
        desk = Desk(
            made.state(relief=made.relief(NOW + timedelta(hours=1))), NOW + timedelta(hours=1)
        )
    elif change == "damaged":
        (tmp_path / ".out.csv.checkpoint").write_text('{"version": 1}', "utf-8")
    else:
        (tmp_path / ".out.csv.part").write_bytes(b"")
    summary = screen_book(desk, asked)
    assert (summary.resumed_rows, summary.rows) == (0, 400)
    assert summary.moment == desk.now


def test_unchanged_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half of the test above."""
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    asked = job(write_csv(tmp_path / "b.csv", bookings(400)), checkpoint_seconds=0.0)
    interrupted(Desk(world().state()), asked)
    assert screen_book(Desk(world().state()), asked).resumed_rows >= 70


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_killed_in_the_middle_it_goes_on(tmp_path: Path, kind: str) -> None:
    rows = bookings(3000)
    source = write_csv(tmp_path / "b.csv", rows)
    if kind == "parquet":
        source = tmp_path / "b.parquet"
        names = ("booking", "identifier", "name")
        pq.write_table(
            pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))),
            source,
            row_group_size=700,
        )
    program = (
        "import time; from pathlib import Path; from tests.support.books import *; from"
        " tipstaff_sdk.book import *\nfrom tipstaff_sdk.book import csv_blocks, parquet_rows;"
        " csv_blocks.BLOCK_BYTES = 4000; parquet_rows.BATCH_ROWS = 100\nasked ="
        f" Job(Path({str(source)!r}), Path({str(tmp_path / 'out.csv')!r}), AIR,"
        " checkpoint_seconds=0.0)\nscreen_book(Desk(world().state()), asked, lambda done, size,"
        " rows: (print(rows, flush=True), time.sleep(0.02)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 1000:
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.csv").exists()
    desk = Desk(world().state())
    asked = Job(source, tmp_path / "out.csv", AIR)
    summary = screen_book(desk, asked)
    assert summary.resumed_rows >= 900
    whole = Job(source, tmp_path / "whole.csv", AIR)
    screen_book(desk, whole)
    assert asked.result.read_bytes() == whole.result.read_bytes()
    assert desk.counted[0] == desk.counted[1]


def test_two_runs_do_not_write_one_result(desk: Desk, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", bookings(10))

    def second(_done: int, _size: int, _rows: int) -> None:
        with pytest.raises(StorageError, match="another run"):
            screen_book(desk, job(source))

    assert screen_book(desk, job(source), second).rows == 10


def test_a_book_that_grows_meanwhile_is_refused(desk: Desk, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", bookings(10))

    def grow(_done: int, _size: int, _rows: int) -> None:
        with source.open("a", encoding="utf-8") as file:
            file.write("x")

    with pytest.raises(FormatError, match="changed while it was read"):
        screen_book(desk, job(source), grow)
    assert not (tmp_path / "out.csv").exists()
    assert not desk.counted


def test_a_full_disk_is_told_and_the_run_goes_on_later(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    asked = job(write_csv(tmp_path / "b.csv", bookings(400)), checkpoint_seconds=0.0)
    write, room = run._Files.write_result, iter(range(4))

    def full(self: Any, text: bytes) -> int:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(run._Files, "write_result", full)
        with pytest.raises(StorageError, match="No space left"):
            screen_book(desk, asked)
    assert screen_book(desk, asked).resumed_rows > 0


def test_memory_does_not_grow_with_the_book(tmp_path: Path) -> None:
    """In a process of its own: once the first blocks are through, ten times as many rows bring
    nothing more.
    """
    program = (
        "import sys; from pathlib import Path; from tests.support.books import *; from"
        " tipstaff_sdk.book import *\nfrom tipstaff_sdk.book import csv_blocks;"
        " csv_blocks.BLOCK_BYTES = 1 << 18\nresident = lambda:"
        " int(Path('/proc/self/statm').read_text().split()[1]) *"
        " 4\nscreen_book(Desk(world().state()), Job(Path(sys.argv[1]), Path(sys.argv[2]), AIR,"
        " threads=2), lambda *d: print(d[2], resident()))"
    )
    source = tmp_path / "b.csv"
    source.write_text(
        "booking,identifier,name\n" + "".join(",".join(row) + "\n" for row in bookings(3000)) * 100,
        encoding="utf-8",
    )
    arguments = [sys.executable, "-c", program, str(source), str(tmp_path / "out.csv")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    resident = {int(line.split()[0]): int(line.split()[1]) for line in done.stdout.splitlines()}
    assert max(resident) == 300_000
    early = max(size for rows, size in resident.items() if rows <= 60_000)
    # In KiB. The book is 12 MB and its result 12 MB; columns of either, kept, would be several
    # times that.
    assert max(resident.values()) < early + 8_000


def test_the_checkpoint_says_nothing_of_anybody(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1000)
    interrupted(desk, job(write_csv(tmp_path / "b.csv", bookings(400)), checkpoint_seconds=0.0))
    content = json.loads((tmp_path / ".out.csv.checkpoint").read_text("utf-8"))
    assert set(content) == {"version", "job", "moment", "progress"}
    assert set(content["progress"]) == {
        "position",
        "rows",
        "bad_rows",
        "result",
        "rejects",
        "reasons",
    }


def test_a_person_is_stretched_for_once_however_often_they_book(tmp_path: Path) -> None:
    made = world()
    stretched: list[str] = []

    class Counting:
        def stretch(self, identifier: Any) -> bytes:
            stretched.append(identifier.number)
            return made.stretch.stretch(identifier)

    desk = Desk(made.state(stretch=Counting()))
    rows = [("x", person, NAME) for person in (LISTED, GHOST) for _ in range(50)]
    screen_book(desk, job(write_csv(tmp_path / "b.csv", rows)))
    assert sorted(stretched) == sorted([LISTED, GHOST])


def test_the_run_is_as_fast_to_stop_as_a_block(desk: Desk, tmp_path: Path) -> None:
    """An error in a worker comes out, and no thread stays."""
    import threading  # noqa: PLC0415  for this test only

    before = threading.active_count()
    source = write_csv(tmp_path / "b.csv", people(20), header="identifier,name")
    begin = time.monotonic()
    with pytest.raises(CrashError):
        screen_book(desk, job(source), lambda *_: (_ for _ in ()).throw(CrashError))
    assert threading.active_count() == before
    assert time.monotonic() - begin < 30
