"""`tipstaff-server restriction search | history | amend`: looking at restrictions, and correcting one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_sdk.identity import Identifier
from tipstaff_server.amending import Amendment
from tipstaff_server.commands.options import ConfigOption  # noqa: TC001  typer reads it when the command is made
from tipstaff_server.commands.registry_options import JsonOption, ReasonOption, open_registry, print_json, this_operator
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.looking import Wanted
from tipstaff_server.repeating import Precondition

if TYPE_CHECKING:
    from tipstaff_server.acts import RestrictionSummary

__all__ = ["app"]

app = typer.Typer(help="Look at restrictions, and correct them.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="The restriction's id, 32 hexadecimal digits.")]


@app.command()
def search(
    config: ConfigOption = None,
    case_number: Annotated[str, typer.Option(help="The authority's case number, exactly.")] = "",
    *,
    by_number: Annotated[bool, typer.Option("--by-number", help="Read a resident ID from standard input: arguments show in `ps`.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find restrictions by case number, or by the resident ID on standard input; the latter goes into the audit log."""
    if by_number == bool(case_number):
        raise InvalidRequestError("say either --case-number or --by-number")
    identifier = Identifier.parse(sys.stdin.readline()) if by_number else None
    with open_registry(config) as registry:
        found = registry.looking.search(Wanted(identifier=identifier, case_number=case_number, limit=500), this_operator())
    _show(found, as_json=as_json)


@app.command()
def history(restriction_id: IdArgument, config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Show everything that was done with one restriction."""
    with open_registry(config) as registry:
        found = registry.looking.history(_identity(restriction_id), this_operator())
    if as_json:
        print_json([asdict(item) | {"at": item.at.isoformat()} for item in found])
        return
    for item in found:
        typer.echo(f"{item.at:%Y-%m-%d %H:%M:%S}  {item.act}  {item.actor}  {item.reason}".rstrip())


@app.command()
def amend(
    restriction_id: IdArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    measure: Annotated[list[str] | None, typer.Option(help="A measure that it then has; may be repeated.", show_default="as it is")] = None,
    legal_basis: Annotated[str, typer.Option(help="The provision that it then rests on.", show_default="as it is")] = "",
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its end, UTC.", show_default="as it is")] = None,
    version: Annotated[int, typer.Option(help="The version that you have seen; refused when it has changed.", show_default="any")] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Correct a restriction. What becomes less is relief at once; what becomes more comes with the next listing."""
    amendment = Amendment(tuple(measure or ()), legal_basis, None if expires is None else expires.replace(tzinfo=UTC))
    with open_registry(config) as registry:
        done = registry.amending.amend(_identity(restriction_id), amendment, reason, this_operator(), Precondition(version))
    _show([done.restriction], as_json=as_json)


def _identity(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidRequestError("a restriction's id has 32 hexadecimal digits, as decisions and reports show it") from None


def _show(found: list[RestrictionSummary], *, as_json: bool) -> None:
    documents = [
        asdict(item)
        | {
            "restriction_id": item.restriction_id.hex(),
            "effective_at": item.effective_at.isoformat(),
            "expires_at": item.expires_at.isoformat(),
        }
        for item in found
    ]
    if as_json:
        print_json(documents)
        return
    for item in found:
        fields = (item.restriction_id.hex(), item.state.lower(), item.case_number, ", ".join(item.measures))
        typer.echo("  ".join((*fields, f"until {item.expires_at:%Y-%m-%d}", f"version {item.version}")))
