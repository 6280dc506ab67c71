"""Screening a book of bookings from CSV to CSV, end to end: rows a second, the share of reading
CSV, memory, and what hits cost.

Everybody in the book is somebody else, and nobody is listed, so every hit is a false positive and
costs a stretch of about 10 ms. Their number is the filter's rate: at 1e-5 (32 bits a subject), the
rate for audiences that screen whole books, 100 in 10 million; at 1e-3 10,000, which is a hundred
seconds of stretching and the whole cost. So both are measured, the second on a shorter book.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.support.machine import load
from benchmarks.support.people import resident_ids
from benchmarks.support.plan import Figures, Plan
from benchmarks.support.provider import MEASURE, open_screener
from benchmarks.support.timing import quiet_seconds

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["run", "write_book"]

_NAMES: Final = ("张三", "李小龙", "王五", "欧阳娜娜", "Zhang San", "司马相如")
_PIECE: Final = 100_000
_RATE: Final = 1e-5
_USUAL_RATE: Final = 1e-3
_USUAL_SHARE: Final = 50


def run(plan: Plan) -> Figures:
    """The suite; each measurement in a process of its own, so that memory is its own too."""
    with tempfile.TemporaryDirectory() as folder:
        book, short = Path(folder) / "bookings.csv", Path(folder) / "short.csv"
        write_book(book, plan.book_rows)
        write_book(short, max(1, plan.book_rows // _USUAL_SHARE))
        runs = [_undisturbed(book, plan.sizes[-1]) for _ in range(min(plan.repeats, 3))]
        quickest_first = sorted(runs, key=lambda one: one["seconds"])
        found = quickest_first[len(runs) // 2]
        details: dict[str, object] = {
            **found,
            "all_seconds": [one["seconds"] for one in runs],
            "book_bytes": book.stat().st_size,
            "filter_rate": _RATE,
            "small_book": _measured(short, plan.sizes[-1], _RATE),
            "at_usual_rate": {
                "filter_rate": _USUAL_RATE,
                **_measured(short, plan.sizes[-1], _USUAL_RATE),
            },
            "load_after": load(),
        }
    return Figures({"screen_rows_per_s": found["rows_per_s"]}, details)


def write_book(path: Path, rows: int) -> None:
    """Six columns, some 60 bytes a row."""
    with path.open("wb") as file:
        file.write(b"booking,identifier,name,flight,date,class\n")
        for start in range(0, rows, _PIECE):
            _write(file, start, min(_PIECE, rows - start))


def _write(file: BinaryIO, start: int, rows: int) -> None:
    numbers = resident_ids(rows, seed=1000 + start).astype(str).tolist()
    lines = (
        f"B{start + row:09d},{number},{_NAMES[row % len(_NAMES)]},CA{row % 2000:04d},2026-07-01,Y\n"
        for row, number in enumerate(numbers)
    )
    file.write("".join(lines).encode())


def _undisturbed(book: Path, size: int) -> dict[str, float]:
    found: list[dict[str, float]] = []
    quiet_seconds(lambda: found.append(_measured(book, size, _RATE)))
    return found[-1]


def _measured(book: Path, size: int, fpr: float) -> dict[str, float]:
    arguments = [sys.executable, "-m", "benchmarks.book", str(book), str(size), repr(fpr)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _screen(book: Path, size: int, fpr: float) -> dict[str, float]:
    import time  # noqa: PLC0415  only in the process that measures

    from tipstaff_sdk.book import Asked, Job, screen_book  # noqa: PLC0415  needs pyarrow

    with (
        tempfile.TemporaryDirectory(dir=book.parent) as folder,
        open_screener(Path(folder), size, fpr) as screener,
    ):
        before, spent = _resident_mib(), time.process_time()
        peak = [before]

        def watch(_done: int, _size: int, _rows: int) -> None:
            peak.append(_resident_mib())

        summary = screen_book(
            screener,
            Job(book, Path(folder) / "result.csv", MEASURE, columns=Asked(key="booking")),
            watch,
        )
        spent = time.process_time() - spent
    hits = sum(summary.reasons.values()) - max(summary.reasons.values())
    return {
        "rows": summary.rows,
        "seconds": summary.seconds,
        "rows_per_s": summary.rows / summary.seconds,
        "hits": hits,
        "processor_ns_per_row": spent / summary.rows * 1e9,
        "parsing_ns_per_row": summary.parsing / summary.rows * 1e9,
        "settling_ns_per_row": summary.settling / summary.rows * 1e9,
        "parsing_share": summary.parsing / spent,
        "memory_before_mib": before,
        "memory_growth_mib": max(peak) - before,
    }


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_screen(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
