"""Which providers lag: what is published for them, what they said they enforce, and since when
something has been missing there (P1 in docs/policy.md).

A provider says what it enforces whenever that changes, so silence means that nothing changed there.
It lags when it has been without a listing, or without relief that concerns it, for longer than the
deployment allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tipstaff_server.administration.policies import visible_sets
from tipstaff_server.registry.disputes.cases import dispute_counts
from tipstaff_server.storage.models import BuildState, ListingBuildRow, ProviderRow, ReliefRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff.v1 import statistics_pb2
    from tipstaff_server.config import PublicationSection
    from tipstaff_server.registry.unit import RegistryStore

__all__ = ["Allowed", "ProviderLag", "standings", "supervise"]


@dataclass(frozen=True, slots=True)
class Allowed:
    """How long a provider may be without something that is published."""

    listing: timedelta
    relief: timedelta

    @classmethod
    def of(cls, publication: PublicationSection) -> Allowed:
        """Until the next listing, and until relief is too old to deny anybody by."""
        return cls(
            timedelta(seconds=publication.listing_interval_seconds),
            timedelta(seconds=publication.relief_max_age_seconds),
        )


@dataclass(frozen=True, slots=True)
class ProviderLag:
    """What is published for a provider's audience, since when it lacks some of it (None: it
    enforces all), and whether that is too long.
    """

    published_listing: int
    relief_sequence: int
    behind_since: datetime | None
    lagging: bool


def standings(store: RegistryStore, allowed: Allowed) -> dict[str, ProviderLag]:
    """Of every provider that is not removed, by id."""
    now = store.clock()
    with store.read() as session:
        policies = store.policies.get(session)
        reader = _Reader(
            session,
            {
                audience: list(visible_sets(session, codes))
                for audience, codes in policies.audiences.items()
            },
        )
        return {
            row.id: reader.standing(row, now, allowed)
            for row in session.scalars(select(ProviderRow).where(ProviderRow.removed_at.is_(None)))
        }


def supervise(
    response: statistics_pb2.GetStatisticsResponse, store: RegistryStore, allowed: Allowed
) -> None:
    """Adds to statistics who lags, and how disputes stand.

    Removed providers have counts, and cannot lag.
    """
    known = standings(store, allowed)
    for provider in response.providers:
        if (standing := known.get(provider.provider_id)) is None:
            continue
        provider.published_listing, provider.relief_sequence = (
            standing.published_listing,
            standing.relief_sequence,
        )
        provider.lagging = standing.lagging
        if standing.behind_since is not None:
            provider.behind_since.FromDatetime(standing.behind_since)
    for item in dispute_counts(store):
        response.disputes.add(
            authority_id=item.authority_id,
            open=item.open,
            overdue=item.overdue,
            answered=item.answered,
        )


class _Reader:
    """Answers each question once: many providers enforce the same."""

    def __init__(self, session: Session, sets: dict[str, list[int]]) -> None:
        self._session = session
        self._sets = sets
        self._listings: dict[tuple[str, int], tuple[int, datetime | None]] = {}
        self._relief: dict[tuple[str, int], tuple[int, datetime | None]] = {}

    def standing(self, row: ProviderRow, now: datetime, allowed: Allowed) -> ProviderLag:
        listing, listing_since = self._listing(row.audience_id, row.enforced_listing)
        relief, relief_since = self._lifts(row.audience_id, row.enforced_relief_sequence)
        # Whatever was published before it was known does not count against it.
        missing = [
            (max(since, row.created_at), limit)
            for since, limit in ((listing_since, allowed.listing), (relief_since, allowed.relief))
            if since is not None
        ]
        return ProviderLag(
            listing,
            relief,
            min((since for since, _ in missing), default=None),
            any(now - since > limit for since, limit in missing),
        )

    def _listing(self, audience: str, enforced: int) -> tuple[int, datetime | None]:
        key = (audience, enforced)
        if key not in self._listings:
            published = (
                ListingBuildRow.audience_id == audience,
                ListingBuildRow.state == BuildState.PUBLISHED,
            )
            newest = self._session.scalar(
                select(func.max(ListingBuildRow.version)).where(*published)
            )
            since = self._session.scalar(
                select(func.min(ListingBuildRow.published_at)).where(
                    *published, ListingBuildRow.version > enforced
                )
            )
            self._listings[key] = newest or 0, since
        return self._listings[key]

    def _lifts(self, audience: str, enforced: int) -> tuple[int, datetime | None]:
        key = (audience, enforced)
        if key not in self._relief:
            concerning = ReliefRow.measure_set_id.in_(self._sets.get(audience, []))
            newest = self._session.scalar(select(func.max(ReliefRow.sequence)).where(concerning))
            since = self._session.scalar(
                select(func.min(ReliefRow.at)).where(concerning, ReliefRow.sequence > enforced)
            )
            self._relief[key] = newest or 0, since
        return self._relief[key]
