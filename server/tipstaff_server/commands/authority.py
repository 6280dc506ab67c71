"""`tipstaff-server authority add-officer | revoke-officer`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads it when the command is made
from typing import Annotated

import typer

from tipstaff_server.commands.options import ConfigOption, config_file
from tipstaff_server.config import Config
from tipstaff_server.workdir.officers import add_officer
from tipstaff_server.workdir.revoke import revoke_officer

__all__ = ["app"]

app = typer.Typer(help="Authorities and their officers.", no_args_is_help=True)
AuthorityArgument = Annotated[str, typer.Argument(metavar="AUTHORITY")]
OfficerArgument = Annotated[
    str,
    typer.Argument(
        metavar="OFFICER", help="A staff number rather than a name: the audit log shows it."
    ),
]


@app.command("add-officer")
def add(
    authority: AuthorityArgument, officer: OfficerArgument, config: ConfigOption = None
) -> None:
    """Make a certificate for one officer with the development CA. Lists that ask for two persons need one for each of them."""
    typer.echo(
        f"{add_officer(Config.load(config_file(config)), authority, officer)}: certificate of"
        f" {authority}/{officer}"
    )


@app.command("revoke-officer")
def revoke(
    authority: AuthorityArgument,
    officer: OfficerArgument,
    config: ConfigOption = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="The certificate, when it is not the one issued here.", show_default="that one"
        ),
    ] = None,
) -> None:
    """Revoke an officer's certificate; a running server refuses its calls within a second."""
    loaded = Config.load(config_file(config))
    serial = revoke_officer(loaded, authority, officer, certificate)
    typer.echo(
        f"{loaded.server.client_crl_file}: certificate {serial:x} of {authority}/{officer} is"
        " revoked"
    )
