"""`tipstaff-server generate`: made-up lists for tests and demos."""

import csv
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.commands.registry.import_list import progress_bar
from tipstaff_server.errors import ImportFileError
from tipstaff_server.importing.synthetic.files import BrokenLine, write_csv
from tipstaff_server.importing.synthetic.lists import Synthetic

__all__ = ["app"]

app = typer.Typer()


class Encoding(StrEnum):
    """Encodings of lists."""

    UTF8 = "utf-8"
    UTF8_MARK = "utf-8-sig"
    GB18030 = "gb18030"


class Headers(StrEnum):
    """Languages of header lines."""

    ZH = "zh"
    EN = "en"


@app.command()
def generate(
    out: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    rows: Annotated[int, typer.Option(min=0, help="How many rows.")] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed and day give the same file.")] = 1,
    encoding: Annotated[Encoding, typer.Option(help="How it is encoded.")] = Encoding.UTF8,
    headers: Annotated[Headers, typer.Option(help="Language of headers and kinds.")] = Headers.ZH,
    broken: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of rows that are broken, in all known ways."),
    ] = 0.0,
    broken_out: Annotated[
        Path | None, typer.Option(help="Write which rows are broken, and how, to this file.")
    ] = None,
    today: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day that terms run on.", show_default="today"),
    ] = None,
) -> None:
    """Write a made-up list: valid check digits, names of several origins, courts that do not exist."""
    day = _today() if today is None else today.date()
    with progress_bar("generating") as progress:
        told = write_csv(
            out,
            Synthetic(seed, day),
            rows,
            encoding=encoding.value,
            language=headers.value,
            broken=broken,
            progress=progress,
        )
    if broken_out is not None:
        _write_broken(broken_out, told)
    typer.echo(f"{rows:,} rows written to {out} ({encoding.value}), {len(told):,} of them broken")


def _today() -> date:
    return datetime.now(UTC).date()


def _write_broken(path: Path, told: Sequence[BrokenLine]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("line", "index", "breakage", "code"))
            writer.writerows((item.line, item.index, item.breakage, item.code) for item in told)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be written: {error.strerror}") from None
