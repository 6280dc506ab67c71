"""`tipstaff bundle export` and `import`: one file for a site without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.bundles import export_bundle, import_bundle
from tipstaff_sdk.sync.fetchers import choose
from tipstaff_sdk.sync.transport import connect

__all__ = ["app"]

app: Final = typer.Typer(
    help="Carry listings and relief to a site without a network, in one file.", no_args_is_help=True
)
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The tipstaff.toml of your kit. [default: TIPSTAFF_CONFIG, ./tipstaff.toml]",
    ),
]


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The file to write.")], config: Config = None
) -> None:
    """Write what the server or mirror has now into FILE. It holds no key."""
    settings = Settings.load(config, options={"background": False})
    transport = connect(settings) if settings.server is not None else None
    try:
        fetcher = choose(
            server=transport.fetcher if transport is not None else None,
            mirror=settings.mirror,
            mirror_dir=settings.mirror_dir,
            ca_file=settings.ca_file,
            timeout=settings.request_timeout,
        )
        version = export_bundle(settings, fetcher, file)
    finally:
        if transport is not None:
            transport.close()
    typer.echo(f"{settings.audience}: version {version} in {file}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The file that was carried here.")],
    config: Config = None,
) -> None:
    """Verify FILE and take it into this site's state. What is in force stays when the file is damaged, altered or older."""
    settings = Settings.load(config, options={"background": False})
    state = import_bundle(settings, file)
    typer.echo(f"{settings.audience}: version {state.timestamp_version} is in force")
