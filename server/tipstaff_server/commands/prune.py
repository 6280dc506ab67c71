"""`tipstaff-server prune`: superseded files into the history."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.clock import utc_now
from tipstaff_server.commands.options import AudienceOption, ConfigOption, config_file
from tipstaff_server.config import Config
from tipstaff_server.errors import PublicationError
from tipstaff_server.repository.keyring import open_repository
from tipstaff_signing.repository.history import prune as prune_view

__all__ = ["app"]

app = typer.Typer()


@app.command()
def prune(
    config: ConfigOption = None,
    audience: AudienceOption = None,
    days: Annotated[int, typer.Option(help="How long superseded versions stay.", min=1)] = 14,
    history: Annotated[
        Path | None,
        typer.Option(help="Where they go.", show_default="history, beside the configuration"),
    ] = None,
) -> None:
    """Move what no client can want any more out of the repository, into a history for audits. Nothing is deleted."""
    loaded = Config.load(config_file(config))
    repository, lives = open_repository(loaded)
    window = timedelta(days=days)
    if window < lives.listing:
        raise PublicationError(
            f"--days must be at least a listing's lifetime, {lives.listing.days} days: clients may"
            " still use older ones"
        )
    for each in audience or repository.audiences():
        moved = prune_view(
            repository, each, history or loaded.folder / "history", now=utc_now(), window=window
        )
        typer.echo(f"{each}: {moved} files moved")
