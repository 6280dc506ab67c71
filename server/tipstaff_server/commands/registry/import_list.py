"""`tipstaff-server import`: a list goes in, broken rows come out."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.importing import Importer, ImportResult

__all__ = ["app", "progress_bar"]

app = typer.Typer()


@app.command("import")
def import_list(
    file: Annotated[
        Path, typer.Argument(help="A list as CSV, JSON Lines or Parquet (docs/formats/import.md).")
    ],
    authority: Annotated[str, typer.Option(help="The authority whose restrictions these are.")],
    list_id: Annotated[
        str, typer.Option("--list", help="The list that they belong to; its policies apply.")
    ],
    rejects: Annotated[
        Path | None, typer.Option(help="Where refused rows go.", show_default="FILE.rejects.csv")
    ] = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Import a list. Good rows go in, refused ones go to a file with line and reason; the same file again changes nothing."""
    target = rejects or file.with_name(f"{file.name}.rejects.csv")
    with open_registry(config) as registry, progress_bar("importing") as progress:
        result = Importer(
            registry, authority=authority, list_id=list_id, actor=this_operator()
        ).run(file, target, progress)
    if as_json:
        print_json(asdict(result) | {"rejects": str(result.rejects) if result.rejects else None})
    else:
        _tell(result)


@contextmanager
def progress_bar(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar on standard error while the block runs, on a terminal only; gives `progress(done, all)`."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(result: ImportResult) -> None:
    typer.echo(
        f"{result.rows:,} rows ({result.encoding}): {result.created:,} new, {result.unchanged:,}"
        f" unchanged, {result.rejected:,} refused"
    )
    if result.without_number:
        typer.echo(
            f"{result.without_number:,} responsible persons have no number, so nothing reaches them"
        )
    if result.ignored_columns:
        typer.echo(f"columns passed over: {', '.join(result.ignored_columns)}")
    if result.rejects:
        typer.echo(f"refused rows with reasons: {result.rejects}")
