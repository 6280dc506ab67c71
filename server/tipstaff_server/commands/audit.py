"""`tipstaff-server audit verify` and `checkpoint`, and looking after the registry's schema:

`migrate`.
"""

from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.audit import log
from tipstaff_server.audit.checkpointer import Checkpointer
from tipstaff_server.commands.options import ConfigOption, JsonOption, open_registry, print_json
from tipstaff_server.config import Config
from tipstaff_server.repository.keyring import public_of
from tipstaff_server.storage import migrations
from tipstaff_server.storage.database import Database

__all__ = ["app", "upkeep_app"]

app = typer.Typer(help="The audit log.", no_args_is_help=True)
upkeep_app = typer.Typer()


@app.callback()
def group() -> None:
    """The audit log."""


@app.command()
def verify(
    config: ConfigOption = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoints",
            help="A folder of checkpoints that somebody else kept; may be repeated.",
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key",
            help="Public key (NAME.pub) that signed them; may be repeated.",
            show_default="audit, here",
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Recompute the audit log's chain: finds any altered, missing or reordered entry. Exit status 1 when it does.

    With checkpoints that lay elsewhere it also finds a log that was written anew from the beginning, or shortened.
    """
    with open_registry(config) as registry:
        checkpointer = Checkpointer.configured(Config.load(config), registry.store)
        keys = [*map(public_of, key or []), *checkpointer.known_keys()]
        given = checkpointer.read(checkpoints or [], keys) if keys or checkpoints else []
        count = log.verify(registry.store, given)
    if as_json:
        print_json({"entries": count, "checkpoints": len(given), "intact": True})
    else:
        typer.echo(f"{count:,} audit entries, all in place; {len(given):,} checkpoints fit them")


@app.command()
def checkpoint(
    config: ConfigOption = None,
    *,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Only print the key that verifies.")
    ] = False,
) -> None:
    """Sign the audit log as it is, and write the checkpoint to its folder: copy it to somebody who cannot write the database."""
    with open_registry(config) as registry:
        checkpointer = Checkpointer.configured(Config.load(config), registry.store)
        if show_key:
            typer.echo(checkpointer.key_line())
            return
        made = checkpointer.make()
        folder = checkpointer.folder
    typer.echo(
        f"{folder}: checkpoint at entry {made.sequence:,}"
        if made
        else f"{folder}: the last entry has a checkpoint already"
    )


@upkeep_app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to this program's schema. Make a backup first."""
    database = Database.open(Config.load(config))
    migrations.upgrade(database)
    database.close()
    typer.echo("the database has this program's schema")
