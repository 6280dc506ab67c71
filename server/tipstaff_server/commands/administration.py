"""`tipstaff-server administration`: loads the configured file; `show`, `diff`, `history`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads it when the command is made
from typing import Annotated

import typer
import yaml

from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.administration.versions import differences, load_version, versions
from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.config import Config

__all__ = ["CHANGED", "app"]

CHANGED = 4
"""Exit status of `diff` when something differs."""

app = typer.Typer(help="Measures, authorities, lists and audiences.", invoke_without_command=True)
VersionOption = Annotated[
    int | None,
    typer.Option("--version", min=1, help="Which version.", show_default="the current one"),
]


@app.callback()
def load(context: typer.Context, config: ConfigOption = None) -> None:
    """Load the configured administration file: measures, authorities, lists, audiences. An unchanged file changes nothing."""
    if context.invoked_subcommand is not None:
        return
    loaded = _configured(config)
    with open_registry(config) as registry:
        version = set_administration(registry.store, loaded, actor=this_operator())
    typer.echo(f"administration version {version}")


@app.command()
def show(
    config: ConfigOption = None, version: VersionOption = None, *, as_json: JsonOption = False
) -> None:
    """Print a version in full, as a file that can be edited and loaded."""
    with open_registry(config) as registry:
        administration = load_version(registry.store, version)
    document = administration.model_dump(mode="json", exclude_defaults=True)
    if as_json:
        print_json(document)
    else:
        typer.echo(
            yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=140), nl=False
        )


@app.command()
def diff(
    config: ConfigOption = None,
    since: Annotated[
        int | None,
        typer.Option("--from", min=1, help="The older version.", show_default="the current one"),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option("--to", min=1, help="The newer version.", show_default="the configured file"),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions, or what loading the file would change. Exit status 4: something does."""
    with open_registry(config) as registry:
        old = load_version(registry.store, since)
        new = _configured(config) if until is None else load_version(registry.store, until)
    lines = differences(old, new)
    if as_json:
        print_json(lines)
    else:
        typer.echo("\n".join(lines) or "no difference")
    if lines:
        raise typer.Exit(CHANGED)


@app.command()
def history(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Show every version: when it was loaded, by whom, and its SHA-256."""
    with open_registry(config) as registry:
        all_versions = versions(registry.store)
    if as_json:
        print_json(
            [
                {
                    "version": item.version,
                    "made_at": item.made_at.isoformat(),
                    "actor": item.actor,
                    "digest": item.digest.hex(),
                }
                for item in all_versions
            ]
        )
        return
    for item in all_versions:
        typer.echo(
            f"{item.version}  {item.made_at:%Y-%m-%d %H:%M:%S}  {item.actor}  {item.digest.hex()}"
        )


def _configured(config: Path | None) -> Administration:
    settings = Config.load(config)
    file = settings.administration.file
    return Administration.load(None if file is None else settings.path(file))
