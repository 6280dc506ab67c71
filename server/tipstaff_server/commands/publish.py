"""`tipstaff-server build`, `sign-off` and `publish`."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tipstaff_server.commands.options import (
    REFUSED,
    AudienceOption,
    ConfigOption,
    chosen_audiences,
    config_file,
)
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing.build import build as build_one
from tipstaff_server.listing.publish import publish as publish_one
from tipstaff_server.listing.publish import refresh_catalogue
from tipstaff_server.processes.per_audience import AudienceOutcome, for_each_audience
from tipstaff_server.signoff.sign_off import sign_off as sign_off_one

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tipstaff_server.repository.history import Built

__all__ = ["app"]

app = typer.Typer()
ScratchOption = Annotated[
    bool,
    typer.Option(
        "--from-scratch", help="Read everybody, not only who changed since the last build."
    ),
]
GrowthOption = Annotated[
    bool,
    typer.Option("--accept-growth", help="Set the churn guard aside, after somebody has looked."),
]


@app.command()
def build(
    config: ConfigOption = None,
    audience: AudienceOption = None,
    *,
    from_scratch: ScratchOption = False,
) -> None:
    """Build listings and propose them, signed with the builder's key."""
    file = config_file(config)
    _finish(_build(file, _audiences(file, audience), from_scratch=from_scratch))


@app.command("sign-off")
def sign_off(
    config: ConfigOption = None,
    audience: AudienceOption = None,
    *,
    accept_growth: GrowthOption = False,
) -> None:
    """Check proposed listings against the registry, and sign them with the sign-off's key or refuse them. Exit status 3: refused."""
    file = config_file(config)
    work = partial(sign_off_one, accept_growth=accept_growth)
    outcomes = for_each_audience(partial(_open, file), _audiences(file, audience), work)
    _tell(outcomes, lambda version: f"version {version} signed off")
    _finish(outcomes)


@app.command()
def publish(
    config: ConfigOption = None,
    audience: AudienceOption = None,
    *,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Publish what waits, built and signed off before.")
    ] = False,
    accept_growth: GrowthOption = False,
    from_scratch: ScratchOption = False,
) -> None:
    """Build, let a second process sign off, and publish. Exit status 3: refused by the sign-off."""
    file = config_file(config)
    audiences = _audiences(file, audience)
    failed: list[AudienceOutcome[Any]] = []
    if not no_build:
        built = _build(file, audiences, from_scratch=from_scratch)
        failed += [outcome for outcome in built if outcome.error]
        audiences = [outcome.audience for outcome in built if not outcome.error]
        refused = (
            _sign_off_elsewhere(file, audiences, accept_growth=accept_growth)
            if audiences
            else False
        )
        failed += [AudienceOutcome("", error="see above", refused=True)] if refused else []
    with Deployment(Config.load(file)) as runtime:
        if "targets-1" in runtime.keys.names():
            refresh_catalogue(runtime)
        if not no_build:
            audiences = [item for item in audiences if _waits(runtime, item)]
        published = [_publish(runtime, item) for item in audiences]
    _tell(published, lambda version: f"version {version} published")
    _finish([*failed, *published])


def _open(file: Path) -> Deployment:
    return Deployment(Config.load(file))


def _audiences(file: Path, audiences: list[str] | None) -> list[str]:
    with Deployment(Config.load(file)) as runtime:
        return chosen_audiences(runtime, audiences)


def _build(
    file: Path, audiences: Sequence[str], *, from_scratch: bool
) -> list[AudienceOutcome[Built]]:
    outcomes = for_each_audience(
        partial(_open, file), audiences, partial(build_one, from_scratch=from_scratch)
    )
    _tell(outcomes, _in_words)
    return outcomes


def _in_words(built: Built) -> str:
    text = (
        f"version {built.version} built: {built.subjects:,} subjects, {built.records:,} sealed"
        " records"
    )
    text += f", {built.bucket_least:,} or more numbers to a bucket (median {built.bucket_median:,})"
    if built.deltas:
        text += f", {built.deltas} deltas"
    if built.change is not None:
        text += (
            f"; identifiers since the last build: {built.change.added:,} more,"
            f" {built.change.removed:,} gone"
        )
    return text + (
        f"; from scratch: {built.why}"
        if built.touched is None
        else f"; {built.touched:,} subjects read"
    )


def _sign_off_elsewhere(file: Path, audiences: Sequence[str], *, accept_growth: bool) -> bool:
    """The sign-off as a process of its own; whether it refused or failed."""
    command = [sys.executable, "-m", "tipstaff_server", "sign-off", "--config", str(file)]
    command += [argument for audience in audiences for argument in ("--audience", audience)]
    command += ["--accept-growth"] if accept_growth else []
    return subprocess.run(command, check=False).returncode != 0


def _waits(runtime: Deployment, audience: str) -> bool:
    proposal = runtime.repository.proposal(audience)
    return proposal is not None and proposal.complete


def _publish(runtime: Deployment, audience: str) -> AudienceOutcome[int]:
    return AudienceOutcome(audience, publish_one(runtime, audience).listing)


def _tell(outcomes: Sequence[AudienceOutcome[Any]], words: Callable[[Any], str]) -> None:
    for outcome in outcomes:
        if outcome.error:
            typer.echo(
                f"{outcome.audience}: {'refused: ' if outcome.refused else ''}{outcome.error}",
                err=True,
            )
        else:
            typer.echo(f"{outcome.audience}: {words(outcome.result)}")


def _finish(outcomes: Sequence[AudienceOutcome[Any]]) -> None:
    if any(outcome.refused for outcome in outcomes):
        raise typer.Exit(REFUSED)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)
