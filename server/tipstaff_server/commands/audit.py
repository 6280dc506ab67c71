"""`tipstaff-server audit verify`, and looking after the registry's schema: `migrate`."""

import typer

from tipstaff_server import migrations
from tipstaff_server.commands.options import ConfigOption
from tipstaff_server.commands.registry_options import JsonOption, open_registry, print_json
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
