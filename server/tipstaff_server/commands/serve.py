"""`tipstaff-server serve`."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from tipstaff_server import logs
from tipstaff_server.commands.options import ConfigOption, config_file
from tipstaff_server.config import Config
from tipstaff_server.daemon.loops import Pace
from tipstaff_server.daemon.loops import serve as run
from tipstaff_server.deployment import Deployment
from tipstaff_server.services.distribution import HEARTBEAT_SECONDS

__all__ = ["app"]

app = typer.Typer()


@app.command()
def serve(
    config: ConfigOption = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with the address once the server answers.")
    ] = None,
    heartbeat: Annotated[
        float, typer.Option(min=0.05, help="Seconds between heartbeats of a quiet watch.")
    ] = HEARTBEAT_SECONDS,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="What goes to the log on standard error."),
    ] = "info",
) -> None:
    """Serve providers and authorities until SIGTERM."""
    logs.configure(log_level)
    file = config_file(config)
    with Deployment(Config.load(file)) as runtime:
        asyncio.run(
            run(runtime, config_file=file, pace=Pace(heartbeat=heartbeat), ready_file=ready_file)
        )
