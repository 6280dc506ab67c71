"""`tipstaff-server restriction draft | approve`: the second of two persons."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    ReasonOption,
    identity_of,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.registry.restrictions.drafts import MAX_BATCH, Approval, Approved

__all__ = ["REFUSED", "app"]

REFUSED = 3
"""Exit status of `approve` when some were refused."""

app = typer.Typer()


@app.command()
def draft(
    restriction_id: Annotated[str, typer.Argument(help="The draft's id, 32 hexadecimal digits.")],
    config: ConfigOption = None,
) -> None:
    """Show everything that a draft will put in force, names and numbers too, as JSON. The audit log keeps who looked."""
    with open_registry(config) as registry:
        draft = registry.restrictions.read_draft(identity_of(restriction_id), this_operator())
    entry = MessageToDict(draft.entry, preserving_proto_field_name=True)
    print_json(
        {
            "restriction_id": restriction_id,
            "entered_by": draft.entered_by,
            "entered_at": draft.entered_at.isoformat(),
            "entry": entry,
        }
    )


@app.command()
def approve(
    reason: ReasonOption,
    restriction_id: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of drafts. Left out, they come from standard input, one a line.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Approve drafts that somebody else entered. Exit status 3: some were refused; the others are approved."""
    given = restriction_id or sys.stdin.read().split()
    approvals = [Approval(identity_of(item), reason) for item in given]
    done: list[Approved] = []
    with open_registry(config) as registry:
        for start in range(0, len(approvals), MAX_BATCH):
            done += registry.restrictions.approve_many(
                approvals[start : start + MAX_BATCH], this_operator()
            )
    rows = [
        (
            item.restriction_id.hex(),
            "" if item.restriction is None else item.restriction.state.value,
            item.detail,
        )
        for item in done
    ]
    if as_json:
        print_json(
            [
                {"restriction_id": identity, "state": state or None, "detail": detail}
                for identity, state, detail in rows
            ]
        )
    for identity, state, detail in [] if as_json else rows:
        typer.echo(f"{identity}: {state.lower() or 'refused: ' + detail}")
    if any(item.restriction is None for item in done):
        raise typer.Exit(REFUSED)
