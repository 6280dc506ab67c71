"""All commands in one, and what becomes of errors: one line on standard error that says what to do."""

from __future__ import annotations

import sys

import typer

from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.commands import (
    administration,
    audit,
    authority,
    dispute,
    drafts,
    end,
    generate,
    import_,
    init,
    keys,
    members,
    mirror,
    prune,
    publish,
    remedies,
    restriction,
    retention,
    serve,
    stats,
    subject,
    vault,
)
from tipstaff_server.errors import ServerError
from tipstaff_signing.errors import SigningError

__all__ = ["app", "run"]

app = typer.Typer(
    name="tipstaff-server",
    help="The operator's side of Tipstaff: registry, listings, relief, statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (
    init.app,
    serve.app,
    publish.app,
    mirror.app,
    prune.app,
    import_.app,
    generate.app,
    stats.app,
    end.app,
    remedies.app,
    audit.upkeep_app,
):
    app.add_typer(commands)
init.provider_app.add_typer(members.app)
restriction.app.add_typer(drafts.app)
app.add_typer(init.provider_app, name="provider")
app.add_typer(administration.app, name="administration")
app.add_typer(authority.app, name="authority")
app.add_typer(keys.app, name="keys")
app.add_typer(dispute.app, name="dispute")
app.add_typer(restriction.app, name="restriction")
app.add_typer(subject.app, name="subject")
app.add_typer(audit.app, name="audit")
app.add_typer(vault.app, name="vault")
app.add_typer(retention.app, name="retention")


def run() -> None:
    """Runs the command line of this process and exits."""
    logs.configure("error")
    try:
        app()
    except (ServerError, SigningError, TipstaffError) as error:
        sys.exit(f"tipstaff-server: {error}")
