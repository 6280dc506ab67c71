"""Screening a whole book: a CSV or Parquet file of people, whatever its size, to a file of
verdicts. Needs the extra `screen` (pyarrow).

    with Screener.open("tipstaff.toml") as screener:
        summary = screen_book(screener, Job(Path("bookings.csv"), Path("bookings.screened.csv"), "AIR_TRAVEL"))

How it runs, and what a run that was interrupted leaves behind, is in run.py.
"""

from tipstaff_sdk.book.layout import Asked
from tipstaff_sdk.book.run import Job, Summary, screen_book

__all__ = ["Asked", "Job", "Summary", "screen_book"]
