"""`tipstaff-server stats`: what providers checked and did, and what is published for them."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tipstaff.v1 import enforcement_pb2, statistics_pb2
from tipstaff_server.commands.options import ConfigOption
from tipstaff_server.commands.registry_options import JsonOption, open_registry, print_json
from tipstaff_server.statistics import PublishedListing, published_listings, statistics

__all__ = ["app"]

app = typer.Typer()
COUNTS = ("checked", "clear", "filter_hits", "restricted", "review", "unknown")
# Where there is no terminal to ask, tables are as wide as they need.
WIDTH = 180
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]


@app.command()
def stats(
    config: ConfigOption = None,
    since: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="First moment, UTC.", show_default="all")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_FORMATS, help="End, UTC, exclusive.", show_default="now")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show checks, hits and outcomes per provider and measure, what each provider enforces, and how many share a bucket."""
    with open_registry(config) as registry:
        found = statistics(registry.database, since=_utc(since), until=_utc(until))
        head = registry.relief_head()
        listings = published_listings(registry.database)
    if as_json:
        print_json({"relief_head": head, **_document(found), "listings": [asdict(listing) for listing in listings]})
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_measures(found))
    console.print(_providers(found, head))
    console.print(_listings(listings))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _document(found: statistics_pb2.GetStatisticsResponse) -> dict[str, object]:
    """The same as JSON, with numbers as numbers."""
    measures = [
        {
            "provider_id": row.provider_id,
            "audience": row.audience,
            "measure": row.measure,
            **{name: int(getattr(row, name)) for name in COUNTS},
            "outcomes": {enforcement_pb2.Outcome.Name(item.outcome).removeprefix("OUTCOME_"): item.count for item in row.outcomes},
        }
        for row in found.measures
    ]
    providers = [
        {
            "provider_id": row.provider_id,
            "audience": row.audience,
            "enforced_listing": row.enforced_listing,
            "enforced_relief_sequence": row.enforced_relief_sequence,
            "acknowledged_at": row.acknowledged_at.ToDatetime(UTC).isoformat() if row.HasField("acknowledged_at") else None,
        }
        for row in found.providers
    ]
    return {"measures": measures, "providers": providers}


def _measures(found: statistics_pb2.GetStatisticsResponse) -> Table:
    table = Table(title="Checks and outcomes")
    for header in ("provider", "audience", "measure"):
        table.add_column(header)
    for header in ("checked", "clear", "hits", "restricted", "review", "unknown"):
        table.add_column(header, justify="right")
    table.add_column("outcomes")
    for row in found.measures:
        counts = (f"{getattr(row, name):,}" for name in COUNTS)
        table.add_row(row.provider_id, row.audience, row.measure, *counts, _outcomes(row))
    return table


def _outcomes(row: statistics_pb2.MeasureStatistics) -> str:
    names = ((enforcement_pb2.Outcome.Name(item.outcome).removeprefix("OUTCOME_").lower(), item.count) for item in row.outcomes)
    return ", ".join(f"{name} {count:,}" for name, count in names)


def _providers(found: statistics_pb2.GetStatisticsResponse, head: int) -> Table:
    table = Table(title=f"Enforced versions (relief is at {head:,})")
    for header in ("provider", "audience"):
        table.add_column(header)
    for header in ("listing", "relief", "behind"):
        table.add_column(header, justify="right")
    table.add_column("said at (UTC)")
    for row in found.providers:
        said = row.HasField("acknowledged_at")
        numbers = (row.enforced_listing, row.enforced_relief_sequence, max(0, head - row.enforced_relief_sequence))
        at = f"{row.acknowledged_at.ToDatetime():%Y-%m-%d %H:%M:%S}" if said else "never"
        table.add_row(row.provider_id, row.audience, *(f"{number:,}" if said else "-" for number in numbers), at)
    return table


def _listings(listings: list[PublishedListing]) -> Table:
    table = Table(title="Published listings")
    table.add_column("audience")
    for header in ("version", "subjects", "records", "numbers a bucket, least", "median"):
        table.add_column(header, justify="right")
    for item in listings:
        numbers = (item.version, item.subjects, item.records, item.bucket_least, item.bucket_median)
        table.add_row(item.audience, *(f"{number:,}" for number in numbers))
    return table
