"""The commands.

Numbers and names are never printed, and may come over a prompt or standard input, so that no
history keeps them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from tipstaff_sdk.book.csv_blocks import ENCODINGS
from tipstaff_sdk.book.layout import Asked
from tipstaff_sdk.book.people import typed_service
from tipstaff_sdk.book.run import Job
from tipstaff_sdk.cli import bundle, render
from tipstaff_sdk.cli.screening import screen_file
from tipstaff_sdk.decision.decide import Verdict
from tipstaff_sdk.errors import (
    ClosedError,
    ConfigurationError,
    OutboxError,
    StorageError,
    TipstaffError,
    TransportError,
    UntrustedError,
)
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.texts import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["app", "run"]

TROUBLE: Final = 1
WRONG: Final = 2
EXIT: Final = {Verdict.CLEAR: 0, Verdict.RESTRICTED: 10, Verdict.REVIEW: 11, Verdict.UNKNOWN: 12}
_TROUBLES: Final = (TransportError, StorageError, OutboxError, UntrustedError, ClosedError)

app: Final = typer.Typer(
    name="tipstaff",
    help="Check people and organisations against the signed listing on this machine.",
    epilog=(
        "Exit status: 0 clear or done, 10 restricted, 11 review, 12 unknown, 2 wrong use or input,"
        " 1 trouble."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(bundle.app, name="bundle")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The tipstaff.toml of your kit. [default: TIPSTAFF_CONFIG, ./tipstaff.toml]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Lang = Annotated[
    str | None, typer.Option("--lang", help="zh or en. [default: from the settings, else LANG]")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Answer from what is here; do not contact the server.")
]
MeasureCode = Annotated[
    str, typer.Option("--measure", "-m", help="Code of the measure, e.g. AIR_TRAVEL.")
]
Service = Annotated[
    list[str] | None,
    typer.Option("--service", "-s", metavar="KEY=VALUE", help="What is bought; may repeat."),
]


@app.command()
def check(  # noqa: PLR0913, PLR0917  a command's parameters are its options
    measure: MeasureCode,
    identifier: Annotated[
        str | None,
        typer.Argument(
            help="The number. Left out, it is asked for, or read from standard input.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "-n", help="The name. Left out, it is asked for, or read from standard input."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", "-k", help="Kind of number: " + ", ".join(k.name for k in IdentifierKind)
        ),
    ] = "RESIDENT_ID",
    service: Service = None,
    config: Config = None,
    lang: Lang = None,
    offline: Offline = False,  # noqa: FBT002  a flag
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Check one person or organisation. Best without arguments: the number and the name are then asked for and not shown."""
    settings = _settings(config)
    chosen = _language(lang, settings)
    with _open(settings, chosen, offline=offline) as screener:
        number, given = _identity(identifier, name, chosen)
        decision = screener.check(
            Identifier(_kind(kind), number),
            name=given,
            measure=measure,
            service=_service(service, screener, measure),
        )
        render.decision(decision, chosen, as_json=as_json)
    raise typer.Exit(EXIT[decision.verdict])


@app.command()
def screen(  # noqa: PLR0913, PLR0917  a command's parameters are its options
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a header (UTF-8 or GB18030), or Parquet.", exists=True, dir_okay=False
        ),
    ],
    measure: MeasureCode,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Result file. [default: FILE.screened.csv]"),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", help="Wrong rows and why. [default: FILE.screened.rejects.csv]"),
    ] = None,
    identifier_column: Annotated[
        str | None, typer.Option(help="Column of the numbers. [default: identifier, 证件号码, ...]")
    ] = None,
    name_column: Annotated[
        str | None, typer.Option(help="Column of the names. [default: name, 姓名, ...]")
    ] = None,
    kind_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the kinds of number. [default: kind, 证件类型; else resident IDs]"
        ),
    ] = None,
    key_column: Annotated[
        str | None,
        typer.Option(help="Column to pass through to the result, such as a booking reference."),
    ] = None,
    service: Service = None,
    service_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=COLUMN",
            help="Column of what each row buys; may repeat. [default: named like the attribute]",
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of a CSV file: utf-8 or gb18030. [default: found out]")
    ] = None,
    only_hits: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--only-hits", help="Leave clear rows out of the result.")
    ] = False,
    config: Config = None,
    lang: Lang = None,
    offline: Offline = False,  # noqa: FBT002  a flag
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Check every row of a file, of any size. Result and rejects name rows by their number in FILE, never people.

    Interrupted, the same command goes on where it was.
    """
    target = output or file.with_suffix(".screened.csv")
    if encoding is not None and encoding not in ENCODINGS:
        raise typer.BadParameter(" or ".join(ENCODINGS), param_hint="--encoding")
    columns = Asked(
        identifier_column,
        name_column,
        kind_column,
        key_column,
        dict(_pairs(service_column, "--service-column", "stars=STARS")),
    )
    settings = _settings(config)
    chosen = _language(lang, settings)
    with _open(settings, chosen, offline=offline) as screener:
        job = Job(
            file,
            target,
            measure,
            columns,
            _service(service, screener, measure),
            rejects,
            encoding,
            only_hits=only_hits,
        )
        summary = screen_file(screener, job, chosen, quiet=as_json)
        render.summary(summary, chosen, as_json=as_json)
    raise typer.Exit(_gravest(summary.verdicts, bad=summary.bad_rows))


@app.command()
def sync(config: Config = None, lang: Lang = None, as_json: AsJson = False) -> None:  # noqa: FBT002  a flag
    """Bring the data up to date, send what waits, and show the status."""
    settings = _settings(config)
    chosen = _language(lang, settings)
    with Screener(settings) as screener:
        render.status(screener.sync(), chosen, as_json=as_json)


@app.command()
def status(config: Config = None, lang: Lang = None, as_json: AsJson = False) -> None:  # noqa: FBT002  a flag
    """Show what is on this machine: versions, ages, what waits to be sent. Does not contact the server."""
    settings = _settings(config)
    chosen = _language(lang, settings)
    with Screener(settings) as screener:
        render.status(screener.status(), chosen, as_json=as_json)


@app.command()
def dispute(
    case_number: Annotated[
        str | None,
        typer.Argument(
            help=(
                "The case number, as the person has it. Left out, it is asked for, or read from"
                " standard input."
            ),
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    lang: Lang = None,
    as_json: AsJson = False,  # noqa: FBT002  a flag
) -> None:
    """Show where a dispute stands, wherever it was opened. Whoever holds its case number may ask; best without arguments, as `check`."""
    settings = _settings(config)
    chosen = _language(lang, settings)
    with Screener(settings) as screener:
        render.progress(
            screener.follow_dispute(_ask(case_number, "cli.ask_case_number", chosen)),
            chosen,
            as_json=as_json,
        )


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; our errors become one line and an exit status."""
    try:
        app(args=arguments, prog_name="tipstaff")
    except ConfigurationError as error:
        _fail(error, WRONG)
    except _TROUBLES as error:
        _fail(error, TROUBLE)
    except TipstaffError as error:
        _fail(error, WRONG if isinstance(error, ValueError) else TROUBLE)
    sys.exit(0)


def _fail(error: TipstaffError, status_: int) -> NoReturn:
    sys.stderr.write(f"tipstaff: {error}\n")
    sys.exit(status_)


def _settings(config: Path | None) -> Settings:
    return Settings.load(config, options={"background": False})


def _open(settings: Settings, lang: str, *, offline: bool) -> Screener:
    """A screener with the newest data that can be had.

    Each run needs the key, which is not kept on disk, so the server is asked first.
    """
    screener = Screener(settings)
    try:
        if not offline:
            screener.sync()
    except (TransportError, UntrustedError) as error:
        sys.stderr.write(text("cli.offline_answer", lang, error=error) + "\n")
    except BaseException:
        screener.close()
        raise
    return screener


def _language(lang: str | None, settings: Settings) -> str:
    if lang is not None:
        if lang not in {"zh", "en"}:
            raise typer.BadParameter("zh or en", param_hint="--lang")
        return lang
    if settings.lang is not None:
        return settings.lang
    chosen = (
        os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    )
    return "zh" if chosen.startswith("zh") else "en"


def _kind(kind: str) -> IdentifierKind:
    try:
        return IdentifierKind[kind.upper().replace("-", "_")]
    except KeyError:
        raise typer.BadParameter(
            "one of " + ", ".join(k.name for k in IdentifierKind), param_hint="--kind"
        ) from None


def _identity(identifier: str | None, name: str | None, lang: str) -> tuple[str, str]:
    """Number and name: as given, else asked for at a terminal, else the next lines of standard
    input.
    """
    return _ask(identifier, "cli.ask_number", lang), _ask(name, "cli.ask_name", lang)


def _ask(given: str | None, question: str, lang: str) -> str:
    if given is not None and given != "-":
        return given
    if sys.stdin.isatty():
        return str(typer.prompt(text(question, lang), hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _service(pairs: list[str] | None, screener: Screener, measure: str) -> dict[str, str | float]:
    """`key=value` pairs; a value becomes a number where the catalogue says that the attribute is
    one.
    """
    service: dict[str, str | float] = dict(_pairs(pairs, "--service", "stars=4"))
    return typed_service(service, screener.catalogue, measure)


def _pairs(pairs: list[str] | None, option: str, example: str) -> Iterator[tuple[str, str]]:
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(
                f"write it as KEY=VALUE, for example {example}", param_hint=option
            )
        yield key, value


def _gravest(verdicts: Mapping[Verdict, int], *, bad: int) -> int:
    for verdict in (Verdict.RESTRICTED, Verdict.REVIEW, Verdict.UNKNOWN):
        if verdicts.get(verdict):
            return EXIT[verdict]
    return WRONG if bad else 0
