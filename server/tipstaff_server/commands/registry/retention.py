"""`tipstaff-server retention`: what is kept for how long, the archive, erasing, and what is held on
one person.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003  typer reads it when the command is made
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.commands.options import (
    ConfigOption,
    open_registry,
    this_operator,
)
from tipstaff_server.config import Config
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.registry.erasure import append

if TYPE_CHECKING:
    from tipstaff_server.registry.erasure import Erased

__all__ = ["app"]

app = typer.Typer(
    help="Erase what was kept for long enough; show what is held on one person.",
    no_args_is_help=True,
)
ID_DIGITS = 32


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, appended to, mode 0600: full of names.")
    ],
    config: ConfigOption = None,
) -> None:
    """Write everything that could be erased now to a file, for the archive. Erases nothing."""
    with open_registry(config) as registry:
        count = registry.retention(Config.load(config).retention).export(file)
    typer.echo(f"{count:,} restrictions written to {file}; encrypt it for the archive")


@app.command()
def erase(
    config: ConfigOption = None,
    restriction: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this one, 32 hexadecimal digits; may be repeated.",
            show_default="all that are due",
        ),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="Where everything is written before it goes, as `export` does."),
    ] = None,
    *,
    no_archive: Annotated[bool, typer.Option("--no-archive", help="Keep nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; otherwise only say what would be done.")
    ] = False,
) -> None:
    """Erase restrictions whose retention is over, and whoever nothing is left of. Without --yes nothing is changed."""
    if yes and (archive is None) != no_archive:
        raise InvalidRequestError(
            "say either --archive FILE or --no-archive: what is erased cannot be brought back"
        )
    with open_registry(config) as registry:
        retention = registry.retention(Config.load(config).retention)
        if not yes:
            _show("would be", retention.due())
            return
        if not restriction:
            _show("are", retention.erase(this_operator(), archive))
        for text in restriction or []:
            _show("are", retention.erase_one(_identity(text), this_operator(), archive))


@app.command()
def access(
    file: Annotated[
        Path, typer.Argument(help="Where it goes: JSON, mode 0600, never over an existing file.")
    ],
    config: ConfigOption = None,
    kind: Annotated[
        str, typer.Option(help="What kind of number it is.")
    ] = IdentifierKind.RESIDENT_ID.name,
) -> None:
    """Write everything that is held on one person, whose number is on standard input, to a file: for their own right of access."""
    if kind not in IdentifierKind.__members__:
        raise InvalidRequestError(
            f"there is no kind {kind[:40]!r}; kinds are {', '.join(IdentifierKind.__members__)}"
        )
    if file.exists():
        raise InvalidRequestError(f"{file} exists already; give another one")
    identifier = Identifier(IdentifierKind[kind], sys.stdin.readline())
    with open_registry(config) as registry:
        holdings = registry.held_on(identifier, actor=this_operator())
    append(file, [json.dumps(holdings, ensure_ascii=False, indent=1)])
    typer.echo(
        f"written to {file}: give it to nobody but the person it is about, or who acts for them"
    )


def _identity(text: str) -> bytes:
    try:
        restriction_id = bytes.fromhex(text)
    except ValueError:
        restriction_id = b""
    if len(restriction_id) * 2 != ID_DIGITS:
        raise InvalidRequestError(f"a restriction's id has {ID_DIGITS} hexadecimal digits")
    return restriction_id


def _show(verb: str, found: Erased) -> None:
    subjects = f", and {found.subjects:,} subjects with nothing left" if verb == "are" else ""
    typer.echo(f"{found.restrictions:,} restrictions{subjects} {verb} erased")
    for why, count in sorted(found.blocked.items()):
        typer.echo(f"{count:,} are due but stay: {why}")
