"""`tipstaff-server audit verify`, and looking after the registry: `migrate`, `administration`."""

from pathlib import Path

import typer

from tipstaff_server import migrations, setup
from tipstaff_server.administration import Administration
from tipstaff_server.clock import utc_now
from tipstaff_server.commands.options import ConfigOption
from tipstaff_server.commands.registry_options import JsonOption, open_registry, print_json, this_operator
from tipstaff_server.config import Config
from tipstaff_server.database import Database

__all__ = ["app", "upkeep_app"]

app = typer.Typer(help="The audit log.", no_args_is_help=True)
upkeep_app = typer.Typer()


@app.callback()
def group() -> None:
    """The audit log."""


@app.command()
def verify(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Recompute the audit log's chain: finds any altered, missing or reordered entry. Exit status 1 when it does."""
    with open_registry(config) as registry:
        count = registry.verify_audit()
    if as_json:
        print_json({"entries": count, "intact": True})
    else:
        typer.echo(f"{count:,} audit entries, all in place")


@upkeep_app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to this program's schema. Make a backup first."""
    database = Database.open(Config.load(config))
    migrations.upgrade(database)
    database.close()
    typer.echo("the database has this program's schema")


@upkeep_app.command()
def administration(config: ConfigOption = None) -> None:
    """Load the configured administration file: measures, authorities, lists, audiences. An unchanged file changes nothing."""
    typer.echo(f"administration version {_load(config)}")


def _load(config: Path | None) -> int:
    settings = Config.load(config)
    file = settings.administration.file
    loaded = Administration.load(None if file is None else settings.path(file))
    with open_registry(config) as registry:
        return setup.set_administration(registry.database, registry.vault, loaded, actor=this_operator(), now=utc_now())
