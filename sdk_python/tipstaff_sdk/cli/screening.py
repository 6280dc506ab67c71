"""A book screened at a terminal: the same run as `screen_book`, with a progress bar on standard
error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tipstaff_sdk.book.run import screen_book
from tipstaff_sdk.texts import text

if TYPE_CHECKING:
    from tipstaff_sdk.book.run import Job, Summary
    from tipstaff_sdk.screener import Screener

__all__ = ["screen_file"]


def screen_file(screener: Screener, job: Job, lang: str, *, quiet: bool) -> Summary:
    """Runs a job; the bar shows where standard error is a terminal, and not when `quiet`.

    Raises what `screen_book` raises.
    """
    if quiet or not sys.stderr.isatty():
        return screen_book(screener, job)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text("cli.screening", lang), total=None, rows="")

        def show(done: int, size: int, rows: int) -> None:
            bar.update(task, completed=done, total=size, rows=f"{rows:,}")

        return screen_book(screener, job, show)
