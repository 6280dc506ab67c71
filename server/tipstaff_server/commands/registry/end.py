"""`tipstaff-server release`, `repair`, `revoke`: relief follows by itself."""

from pathlib import Path

import typer

from tipstaff_server.commands.options import (
    ConfigOption,
    IdArgument,
    JsonOption,
    ReasonOption,
    identity_of,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.registry.restrictions.transitions import EndKind

__all__ = ["app"]

app = typer.Typer()


@app.command()
def release(
    restriction_id: IdArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a restriction go: the obligation is performed, the case closed."""
    _end(restriction_id, EndKind.RELEASE, reason, config, as_json=as_json)


@app.command()
def repair(
    restriction_id: IdArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """End a restriction early: the subject put it right (信用修复)."""
    _end(restriction_id, EndKind.REPAIR, reason, config, as_json=as_json)


@app.command()
def revoke(
    restriction_id: IdArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """End a restriction because it was wrong."""
    _end(restriction_id, EndKind.REVOKE, reason, config, as_json=as_json)


def _end(
    restriction_id: str, kind: EndKind, reason: str, config: Path | None, *, as_json: bool
) -> None:
    with open_registry(config) as registry:
        ended = registry.restrictions.end(
            identity_of(restriction_id), kind, reason, actor=this_operator()
        )
    if as_json:
        print_json(
            {
                "restriction_id": restriction_id,
                "state": ended.restriction.state,
                "relief_sequence": ended.relief_sequence,
            }
        )
    else:
        typer.echo(
            f"{restriction_id}: {ended.restriction.state.lower()}, relief sequence"
            f" {ended.relief_sequence}"
        )
