"""`tipstaff-server remedies`: who was told to make good, and what they answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tipstaff_server.clock import utc_now
from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    open_registry,
    print_json,
    this_operator,
)

if TYPE_CHECKING:
    from datetime import datetime

    from tipstaff_server.registry.restrictions.remedies import RemedyView

__all__ = ["app"]

app = typer.Typer()
WIDTH = 180


@app.command()
def remedies(
    config: ConfigOption = None,
    provider: Annotated[
        str | None, typer.Option(help="Only this provider's.", show_default="all")
    ] = None,
    *,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that wait for an answer.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show remedies: providers that acted on a restriction which was revoked as wrong, their deadlines and their answers."""
    with open_registry(config) as registry:
        remedies = registry.remedies.all(
            this_operator(), answered=not waiting, provider_id=provider
        )
    now = utc_now()
    if as_json:
        print_json([_document(item, now) for item in remedies])
        return
    table = Table(title=f"Remedies ({sum(item.overdue(now) for item in remedies)} overdue)")
    for header in (
        "remedy",
        "restriction",
        "provider",
        "acts",
        "state",
        "due (UTC)",
        "outcome",
        "note",
    ):
        table.add_column(header)
    for item in remedies:
        state = "overdue" if item.overdue(now) else item.state.lower()
        outcome = "" if item.outcome is None else item.outcome.lower()
        due = f"{item.due_at:%Y-%m-%d}"
        table.add_row(
            item.remedy_id.hex(),
            item.restriction_id.hex(),
            item.provider_id,
            f"{item.affected_count}",
            state,
            due,
            outcome,
            item.note,
        )
    Console(width=WIDTH).print(table)


def _document(item: RemedyView, now: datetime) -> dict[str, object]:
    return {
        "remedy_id": item.remedy_id.hex(),
        "restriction_id": item.restriction_id.hex(),
        "provider_id": item.provider_id,
        "state": item.state,
        "overdue": item.overdue(now),
        "acts": item.affected_count,
        "opened_at": item.opened_at.isoformat(),
        "due_at": item.due_at.isoformat(),
        "answered_at": None if item.answered_at is None else item.answered_at.isoformat(),
        "outcome": item.outcome,
        "note": item.note,
    }
