"""`tipstaff-server restriction search | show | history | submit | amend | exempt`, and drafts
(drafts.py).
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from google.protobuf.json_format import Parse, ParseError

from tipstaff.v1 import registry_pb2
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.commands.options import (
    ConfigOption,
    IdArgument,
    JsonOption,
    ReasonOption,
    identity_of,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.commands.registry import drafts
from tipstaff_server.domain.lifecycle import State  # noqa: TC001  typer reads it when the command is made
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.restrictions.search import MAX_PAGE, Wanted
from tipstaff_server.registry.restrictions.submission import SubmitStatus

if TYPE_CHECKING:
    from tipstaff_server.registry.restrictions.summary import RestrictionSummary

__all__ = ["app"]

REFUSED = 3
"""Exit status of `submit` when the entry was refused."""

app = typer.Typer(
    help="Restrictions: enter one, look at them, correct, exempt, approve.", no_args_is_help=True
)
app.add_typer(drafts.app)
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]


@app.command()
def search(
    config: ConfigOption = None,
    case_number: Annotated[str, typer.Option(help="The authority's case number, exactly.")] = "",
    state: Annotated[
        State | None,
        typer.Option(case_sensitive=False, help="Only those in this state.", show_default="any"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 500,
    *,
    by_number: Annotated[
        bool,
        typer.Option(
            "--by-number", help="Read a resident ID from standard input: arguments show in `ps`."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find restrictions by case number, by state, or by the resident ID on standard input; the latter goes into the audit log."""
    if (by_number and case_number) or not (by_number or case_number or state):
        raise InvalidRequestError(
            "say --case-number, --state, or --by-number; not a case number and a number together"
        )
    identifier = Identifier.parse(sys.stdin.readline()) if by_number else None
    summaries: list[RestrictionSummary] = []
    with open_registry(config) as registry:
        while len(summaries) < limit:
            size, after = (
                min(MAX_PAGE, limit - len(summaries)),
                summaries[-1].restriction_id if summaries else b"",
            )
            page = registry.restrictions.search(
                Wanted(identifier, case_number, state, after, size), this_operator()
            )
            summaries += page
            if len(page) < size:
                break
    _show(summaries, as_json=as_json)


@app.command()
def show(
    restriction_id: IdArgument, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Show where one restriction stands."""
    with open_registry(config) as registry:
        summary = registry.restrictions.get(identity_of(restriction_id), actor=this_operator())
    _show([summary], as_json=as_json)


@app.command()
def submit(
    authority: Annotated[str, typer.Option(help="The authority whose restriction it is.")],
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: the same again changes nothing.", show_default="none"),
    ] = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Enter one restriction, a RestrictionEntry as JSON on standard input; many go in with `import`. Exit status 3: refused."""
    entry = _entry(sys.stdin.read())
    with open_registry(config) as registry:
        done = registry.restrictions.submit(
            entry, authority=authority, actor=this_operator(), idempotency_key=key
        )
    identity = done.restriction_id.hex()
    if as_json:
        print_json(
            {
                "status": done.status,
                "restriction_id": identity or None,
                "code": done.code,
                "detail": done.detail,
            }
        )
    else:
        typer.echo(f"{done.status.lower()}: {identity or f'{done.code}: {done.detail}'}")
    if done.status is SubmitStatus.REJECTED:
        raise typer.Exit(REFUSED)


@app.command()
def exempt(  # noqa: PLR0913  a command's parameters are its options
    restriction_id: IdArgument,
    since: Annotated[datetime, typer.Option("--from", formats=FORMATS, help="First moment, UTC.")],
    until: Annotated[
        datetime, typer.Option("--until", formats=FORMATS, help="End, UTC, exclusive.")
    ],
    zh: Annotated[str, typer.Option("--zh", help="What for, in Chinese; the counter shows it.")],
    en: Annotated[str, typer.Option("--en", help="The same in English.")],
    config: ConfigOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Only this measure; may be repeated.", show_default="all"),
    ] = None,
    version: Annotated[
        int,
        typer.Option(
            help="The version that you have seen; refused when it has changed.", show_default="any"
        ),
    ] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Permit something inside a restriction, from the next listing on."""
    with open_registry(config) as registry:
        exemption = registry.restrictions.exempt(
            identity_of(restriction_id),
            measures=measure or [],
            valid=(since.replace(tzinfo=UTC), until.replace(tzinfo=UTC)),
            why=(zh, en),
            actor=this_operator(),
            given=Precondition(version),
        )
    if as_json:
        print_json({"restriction_id": restriction_id, "exemption_id": exemption.hex()})
    else:
        typer.echo(f"{restriction_id}: exemption {exemption.hex()}, with the next listing")


@app.command()
def history(
    restriction_id: IdArgument, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Show everything that was done with one restriction."""
    with open_registry(config) as registry:
        entries = registry.restrictions.history(identity_of(restriction_id), this_operator())
    if as_json:
        print_json([asdict(item) | {"at": item.at.isoformat()} for item in entries])
        return
    for item in entries:
        typer.echo(f"{item.at:%Y-%m-%d %H:%M:%S}  {item.act}  {item.actor}  {item.reason}".rstrip())


@app.command()
def amend(
    restriction_id: IdArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A measure that it then has; may be repeated.", show_default="as it is"),
    ] = None,
    legal_basis: Annotated[
        str, typer.Option(help="The provision that it then rests on.", show_default="as it is")
    ] = "",
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Its end, UTC.", show_default="as it is"),
    ] = None,
    version: Annotated[
        int,
        typer.Option(
            help="The version that you have seen; refused when it has changed.", show_default="any"
        ),
    ] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Correct a restriction. What becomes less is relief at once; what becomes more comes with the next listing."""
    amendment = Amendment(
        tuple(measure or ()), legal_basis, None if expires is None else expires.replace(tzinfo=UTC)
    )
    with open_registry(config) as registry:
        done = registry.restrictions.amend(
            identity_of(restriction_id), amendment, reason, this_operator(), Precondition(version)
        )
    _show([done.restriction], as_json=as_json)


def _entry(text: str) -> Entry:
    try:
        message = Parse(text, registry_pb2.RestrictionEntry())
    except ParseError:
        # The library's words quote the text, which names somebody.
        raise InvalidRequestError(
            "standard input is no RestrictionEntry as JSON; see proto/tipstaff/v1/registry.proto"
        ) from None
    return Entry.from_proto(message)


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
        fields = (
            item.restriction_id.hex(),
            item.state.lower(),
            item.case_number,
            ", ".join(item.measures),
        )
        typer.echo(
            "  ".join((*fields, f"until {item.expires_at:%Y-%m-%d}", f"version {item.version}"))
        )
