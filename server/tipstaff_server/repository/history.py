"""The history of builds: what each one measured, and whether it was published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.storage.models import BuildState, ListingBuildRow

if TYPE_CHECKING:
    from datetime import datetime

    from tipstaff_server.vault.store import Store

__all__ = ["Built", "IdentifierChange", "PublishedListing", "published_listings"]


@dataclass(frozen=True, slots=True)
class PublishedListing:
    """An audience's listing, in figures; the last two: how many listed numbers share a bucket, at
    least and in the median.
    """

    audience: str
    version: int
    subjects: int
    records: int
    bucket_least: int
    bucket_median: int


def published_listings(store: Store) -> list[PublishedListing]:
    """The listing last published for each audience, as its build measured it; sorted by audience."""
    with store.read() as session:
        rows = session.scalars(
            select(ListingBuildRow)
            .where(ListingBuildRow.state == BuildState.PUBLISHED)
            .order_by(ListingBuildRow.version)
        ).all()
    return [_listing(row) for _, row in sorted({row.audience_id: row for row in rows}.items())]


def _listing(row: ListingBuildRow) -> PublishedListing:
    buckets: dict[str, int] = json.loads(row.detail).get("buckets", {})
    return PublishedListing(
        row.audience_id,
        row.version,
        row.subject_count,
        row.record_count,
        buckets.get("least", 0),
        buckets.get("median", 0),
    )


@dataclass(frozen=True, slots=True)
class IdentifierChange:
    """How many identifiers came and went between two builds of one epoch."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Built:
    """A proposed listing, in figures."""

    audience: str
    version: int
    epoch: int
    relief_sequence: int
    subjects: int
    records: int
    built_at: datetime
    deltas: int = 0
    change: IdentifierChange | None = None  # since the build before
    bucket_least: int = 0  # listed numbers in the emptiest bucket, and in the median one
    bucket_median: int = 0
    touched: int | None = None  # subjects that were read; None: all, because of `why`
    why: str = ""


def record_build(store: Store, built: Built) -> None:
    """Keeps what a build measured."""
    with store.write() as session:
        session.merge(
            ListingBuildRow(
                audience_id=built.audience,
                version=built.version,
                epoch=built.epoch,
                relief_sequence=built.relief_sequence,
                subject_count=built.subjects,
                record_count=built.records,
                state=BuildState.BUILT,
                built_at=built.built_at,
                published_at=None,
                detail=json.dumps(
                    {
                        "buckets": {"least": built.bucket_least, "median": built.bucket_median},
                        "touched": built.touched,
                        "why": built.why,
                    }
                ),
            )
        )


def mark_build(
    store: Store,
    built: tuple[str, int],
    state: BuildState,
    reasons: tuple[str, ...] = (),
) -> None:
    """Notes what became of a build. `built`: its audience and version."""
    with store.write() as session:
        row = session.get(ListingBuildRow, built)
        # A proposal that came from elsewhere has no row; the repository is what counts.
        if row is not None:
            row.state = state
            if state is BuildState.PUBLISHED:
                row.published_at = store.clock()
            if reasons:
                row.detail = json.dumps({"reasons": reasons}, ensure_ascii=False)
