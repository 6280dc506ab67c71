"""`tipstaff-server stats`: what providers checked and did, and what is published for them."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tipstaff.v1 import enforcement_pb2, statistics_pb2
from tipstaff_server.commands.options import ConfigOption, JsonOption, open_registry, print_json
from tipstaff_server.config import Config
from tipstaff_server.enforcement.lag import Allowed, supervise
from tipstaff_server.enforcement.statistics import statistics
from tipstaff_server.repository.history import PublishedListing, published_listings

__all__ = ["LAGGING", "app"]

LAGGING = 4
"""Exit status of `--lagging` when somebody lags."""

app = typer.Typer()
COUNTS = ("checked", "clear", "filter_hits", "restricted", "review", "unknown")
# Where there is no terminal to ask, tables are as wide as they need.
WIDTH = 180
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]


@app.command()
def stats(
    config: ConfigOption = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="First moment, UTC.", show_default="all"),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, help="End, UTC, exclusive.", show_default="now"),
    ] = None,
    *,
    lagging: Annotated[
        bool,
        typer.Option("--lagging", help="Only providers that lag. Exit status 4: there are such."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show checks, hits and outcomes per provider and measure, what each provider enforces and who lags, disputes, published listings."""
    with open_registry(config) as registry:
        response = statistics(registry.store, since=_utc(since), until=_utc(until))
        supervise(response, registry.store, Allowed.of(Config.load(config).publication))
        head, now = registry.relief.head(), registry.store.clock()
        listings = published_listings(registry.store)
    if lagging:
        _only_lagging(response, now, as_json=as_json)
    elif as_json:
        print_json(
            {
                "relief_head": head,
                **_document(response),
                "listings": [asdict(listing) for listing in listings],
            }
        )
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        for table in (
            _measures(response),
            _providers(response.providers, now),
            _disputes(response),
            _listings(listings),
        ):
            console.print(table)


def _only_lagging(
    found: statistics_pb2.GetStatisticsResponse, now: datetime, *, as_json: bool
) -> None:
    late = [row for row in found.providers if row.lagging]
    if as_json:
        print_json(_document(statistics_pb2.GetStatisticsResponse(providers=late))["providers"])
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(_providers(late, now))
    if late:
        raise typer.Exit(LAGGING)


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
            "outcomes": {
                enforcement_pb2.Outcome.Name(item.outcome).removeprefix("OUTCOME_"): item.count
                for item in row.outcomes
            },
        }
        for row in found.measures
    ]
    providers = [
        {
            "provider_id": row.provider_id,
            "audience": row.audience,
            "enforced_listing": row.enforced_listing,
            "enforced_relief_sequence": row.enforced_relief_sequence,
            "acknowledged_at": row.acknowledged_at.ToDatetime(UTC).isoformat()
            if row.HasField("acknowledged_at")
            else None,
            "published_listing": row.published_listing,
            "relief_sequence": row.relief_sequence,
            "behind_since": row.behind_since.ToDatetime(UTC).isoformat()
            if row.HasField("behind_since")
            else None,
            "lagging": row.lagging,
        }
        for row in found.providers
    ]
    disputes = [
        {
            "authority_id": row.authority_id,
            "open": row.open,
            "overdue": row.overdue,
            "answered": row.answered,
        }
        for row in found.disputes
    ]
    return {"measures": measures, "providers": providers, "disputes": disputes}


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
    names = (
        (enforcement_pb2.Outcome.Name(item.outcome).removeprefix("OUTCOME_").lower(), item.count)
        for item in row.outcomes
    )
    return ", ".join(f"{name} {count:,}" for name, count in names)


def _providers(rows: Sequence[statistics_pb2.ProviderStatistics], now: datetime) -> Table:
    table = Table(title=f"Enforced versions ({sum(row.lagging for row in rows)} lag)")
    for header in ("provider", "audience"):
        table.add_column(header)
    for header in ("listing", "of", "relief", "of", "behind for"):
        table.add_column(header, justify="right")
    for header in ("", "said at (UTC)"):
        table.add_column(header)
    for row in rows:
        said = row.HasField("acknowledged_at")
        enforced = (
            (f"{row.enforced_listing:,}", f"{row.enforced_relief_sequence:,}")
            if said
            else ("-", "-")
        )
        behind = (
            _age(now - row.behind_since.ToDatetime(UTC)) if row.HasField("behind_since") else ""
        )
        at = f"{row.acknowledged_at.ToDatetime():%Y-%m-%d %H:%M:%S}" if said else "never"
        numbers = (
            enforced[0],
            f"{row.published_listing:,}",
            enforced[1],
            f"{row.relief_sequence:,}",
        )
        table.add_row(
            row.provider_id, row.audience, *numbers, behind, "LAGS" if row.lagging else "", at
        )
    return table


def _age(age: timedelta) -> str:
    """In days and hours, or hours and minutes."""
    minutes = max(0, int(age.total_seconds())) // 60
    return (
        f"{age.days} d {minutes // 60 % 24} h"
        if age.days > 0
        else f"{minutes // 60} h {minutes % 60} min"
    )


def _disputes(found: statistics_pb2.GetStatisticsResponse) -> Table:
    table = Table(title="Disputes")
    table.add_column("authority")
    for header in ("open", "overdue", "answered"):
        table.add_column(header, justify="right")
    for row in found.disputes:
        table.add_row(row.authority_id, f"{row.open:,}", f"{row.overdue:,}", f"{row.answered:,}")
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
