"""`tipstaff-server keys`: signing keys, and epochs."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.commands.options import ConfigOption, chosen_audiences, config_file
from tipstaff_server.config import Config
from tipstaff_server.runtime import Runtime
from tipstaff_server.workdir import DEFAULT_AUDIENCES
from tipstaff_signing.keys import create_key_files

__all__ = ["app"]

app = typer.Typer(help="Signing keys and epoch keys.", no_args_is_help=True)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the key files go; made if it is missing. Existing keys are never touched.")],
    audience: Annotated[list[str] | None, typer.Option(help="An audience; may be repeated.", show_default="the usual four")] = None,
) -> None:
    """Make the signing keys alone, for a ceremony: carry root, targets and sign-off keys to where they belong, then remove them here."""
    keys = create_key_files(folder, audiences=audience or list(DEFAULT_AUDIENCES))
    for name in keys.names():
        typer.echo(f"{name}  {keys.public(name).keyid}")


@app.command("rotate-epoch")
def rotate_epoch(
    audience: Annotated[str, typer.Option("--audience", "-a", help="Whose epoch.")],
    config: ConfigOption = None,
) -> None:
    """Begin the next epoch of an audience: the next listing uses a new key, and the old one stays in use for a listing's lifetime."""
    loaded = Config.load(config_file(config))
    with Runtime(loaded) as runtime:
        chosen_audiences(runtime, [audience])
        epoch = runtime.epochs.rotate(audience, timedelta(seconds=loaded.publication.listing_lifetime_seconds))
    typer.echo(f"{audience}: epoch {epoch.number}; publish a listing to use it")
