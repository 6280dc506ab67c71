"""`tipstaff-server keys change-stretch`: another cost or salt for stretching identifiers, while
everything goes on.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.commands.options import (
    AudienceOption,
    ConfigOption,
    chosen_audiences,
    config_file,
    this_operator,
)
from tipstaff_server.commands.registry.import_list import progress_bar
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from tipstaff_server.vault.stretch import NumberedStretch

__all__ = ["change_stretch"]


def change_stretch(  # noqa: PLR0913  one for each thing that may be said of it
    config: ConfigOption = None,
    n: Annotated[
        int | None, typer.Option("--n", help="scrypt's N, a power of two.", show_default="as it is")
    ] = None,
    r: Annotated[
        int | None, typer.Option("--r", help="scrypt's r.", show_default="as it is")
    ] = None,
    p: Annotated[
        int | None, typer.Option("--p", help="scrypt's p.", show_default="as it is")
    ] = None,
    audience: AudienceOption = None,
    lead_hours: Annotated[
        float,
        typer.Option(
            help="Hours until listings use it, once it is computed; as for rotate-epoch.",
            min=0,
            max=2_160,
        ),
    ] = 2,
    *,
    new_salt: Annotated[
        bool,
        typer.Option(
            "--new-salt", help="A new salt, too: nothing computed against the old one is of use."
        ),
    ] = False,
    weaker: Annotated[
        bool,
        typer.Option(
            "--weaker", help="Even if it is weaker than now, or than the least that is sensible."
        ),
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how it stands.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Drop the change, as long as no epoch uses it.")
    ] = False,
) -> None:
    """Stretch every identifier anew, in hours and while everything goes on, then begin epochs that use it.

    May be stopped at any time: given again, with or without the cost, it goes on where it was. With --audience, only the epochs of these
    begin now, and those of others with their next rotate-epoch. When no epoch in use is of the old stretch any more, the server drops it.
    """
    loaded = Config.load(config_file(config))
    with Deployment(loaded) as runtime:
        if status:
            typer.echo(_status(runtime))
            return
        if cancel:
            typer.echo(
                f"stretch {runtime.registry.stretch_change.cancel(actor=this_operator())} is"
                " cancelled; nothing uses it"
            )
            return
        audiences = chosen_audiences(runtime, audience)
        coming = _begin(runtime, (n, r, p), new_salt=new_salt, weaker=weaker)
        typer.echo(_status(runtime))
        with progress_bar("stretching") as progress:
            runtime.registry.stretch_change.fill(coming.number, progress)
        overlap, lead = (
            timedelta(seconds=loaded.publication.listing_lifetime_seconds),
            timedelta(hours=lead_hours),
        )
        for name in audiences:
            epoch = runtime.epochs.newest(name)
            if epoch.stretch != coming.number:
                epoch = runtime.epochs.rotate(name, overlap, lead)
            typer.echo(
                f"{name}: epoch {epoch.number} uses stretch {epoch.stretch}; listings built from"
                f" {epoch.valid_from:%FT%TZ} on"
            )


def _begin(
    runtime: Deployment,
    cost: tuple[int | None, int | None, int | None],
    *,
    new_salt: bool,
    weaker: bool,
) -> NumberedStretch:
    change = runtime.registry.stretch_change.under_way()
    if cost == (None, None, None) and not new_salt:
        if change is None:
            raise InvalidRequestError(
                "no change of stretch is under way: say what is to change, with --n, --r, --p or"
                " --new-salt"
            )
        return change.coming
    now = runtime.registry.stretch if change is None else change.coming.stretch
    n, r, p = (given or known for given, known in zip(cost, (now.n, now.r, now.p), strict=True))
    return runtime.registry.stretch_change.begin(
        n=n, r=r, p=p, new_salt=new_salt, weaker=weaker, actor=this_operator()
    )


def _status(runtime: Deployment) -> str:
    now, change = runtime.registry.stretch, runtime.registry.stretch_change.under_way()
    lines = [f"in use: n={now.n} r={now.r} p={now.p}"]
    if change is not None:
        coming = change.coming
        cost = f"n={coming.stretch.n} r={coming.stretch.r} p={coming.stretch.p}"
        salt = "" if coming.stretch.salt == now.salt else ", another salt"
        lines += [
            (
                f"stretch {coming.number}: {coming.state.lower()}, {cost}{salt}; {change.done:,} of"
                f" {change.all:,} identifiers"
            )
        ]
    return "\n".join(lines)
