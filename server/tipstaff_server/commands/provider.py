"""`tipstaff-server provider list | remove | restore | move | history`: who is in an audience."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    ReasonOption,
    open_registry,
    print_json,
    this_operator,
)

__all__ = ["app"]

app = typer.Typer()
ProviderArgument = Annotated[str, typer.Argument(metavar="ID")]


@app.command("list")
def list_(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Show every provider, its audience, and whether it was removed."""
    with open_registry(config) as registry:
        members = registry.providers.all()
    if as_json:
        moments = [
            (
                item.created_at.isoformat(),
                None if item.removed_at is None else item.removed_at.isoformat(),
            )
            for item in members
        ]
        print_json(
            [
                asdict(item) | {"created_at": a, "removed_at": b}
                for item, (a, b) in zip(members, moments, strict=True)
            ]
        )
        return
    for item in members:
        state = (
            f"removed {item.removed_at:%Y-%m-%d}"
            if item.removed_at is not None
            else f"since {item.created_at:%Y-%m-%d}"
        )
        typer.echo(f"{item.audience}/{item.provider_id}  {state}")


@app.command()
def remove(provider: ProviderArgument, reason: ReasonOption, config: ConfigOption = None) -> None:
    """Turn a provider away from now on; a running server ends its streams within seconds. Its reports and remedies stay."""
    with open_registry(config) as registry:
        members = registry.providers
        members.remove(provider, reason, actor=this_operator())
        audience = next(item.audience for item in members.all() if item.provider_id == provider)
    typer.echo(f"{provider}: removed. It keeps what it has, so:")
    typer.echo(
        f"tipstaff-server keys rotate-epoch --lead-hours 0 --audience {audience}; tipstaff-server"
        f" publish --audience {audience}"
    )


@app.command()
def restore(provider: ProviderArgument, reason: ReasonOption, config: ConfigOption = None) -> None:
    """Let a removed provider in again."""
    with open_registry(config) as registry:
        registry.providers.restore(provider, reason, actor=this_operator())
    typer.echo(f"{provider}: let in again")


@app.command()
def move(
    provider: ProviderArgument,
    audience: Annotated[str, typer.Argument(help="The audience that it belongs to from now on.")],
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Put a provider into another audience. It is turned away until it has a certificate that names that audience."""
    with open_registry(config) as registry:
        registry.providers.move(provider, audience, reason, actor=this_operator())
    typer.echo(
        f"{provider}: belongs to {audience}; issue it a certificate for"
        f" tipstaff://provider/{audience}/{provider}"
    )


@app.command()
def history(
    provider: ProviderArgument, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Show everything that was done with one provider."""
    with open_registry(config) as registry:
        acts = registry.providers.history(provider)
    if as_json:
        print_json([asdict(item) | {"at": item.at.isoformat()} for item in acts])
        return
    for item in acts:
        typer.echo(
            f"{item.at:%Y-%m-%d %H:%M:%S}  {item.act}  {item.actor}  {item.detail}  {item.reason}".rstrip()
        )
