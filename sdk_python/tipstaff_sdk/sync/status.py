"""What is true of a screener now, for operators and health checks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from tipstaff_sdk.errors import TipstaffError

if TYPE_CHECKING:
    from tipstaff_sdk.sync.follower import SyncRecord
    from tipstaff_sdk.sync.session import Session

__all__ = ["Availability", "Status", "SyncState", "make_status"]


class Availability(Enum):
    """What checks can be answered from."""

    NONE = "none"
    """Nothing: no verified listing in term, or no key to read it with. Every check is UNKNOWN."""
    CACHED = "cached"
    """A listing in term, but relief that is too old or has gaps:

    CLEAR is answered, a hit is at most REVIEW.
    """
    FRESH = "fresh"
    """Everything: a hit can be proved."""


class SyncState(Enum):
    """What following the server is doing."""

    OFF = "off"
    """No background sync; data changes on `sync()` only."""
    STARTING = "starting"
    """The first contact is being made."""
    FOLLOWING = "following"
    """The watch is open."""
    RETRYING = "retrying"
    """The last contact failed; see `last_error`. It is tried again by itself."""
    CLOSED = "closed"
    """The screener is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A screener at the moment of `at`.

    Ages are the time since the signature; None where there is no such thing.
    """

    at: datetime
    audience: str
    availability: Availability
    listing_version: int | None
    listing_age: timedelta | None
    listing_expires_at: datetime | None
    relief_sequence: int | None
    relief_age: timedelta | None
    relief_complete: bool
    """False while segments are missing between the listing and the last lift."""
    key_present: bool
    """Whether the key of the listing's epoch is at hand."""
    sync_state: SyncState
    sync_since: datetime
    """Since when `sync_state` holds."""
    last_success: datetime | None
    """When data was last confirmed with the server."""
    last_error: str | None
    """Why the last contact failed, and what to do; None after a success."""
    outbox_pending: int | None
    """Events that wait to be sent; None when the outbox cannot be read."""
    outbox_oldest_age: timedelta | None
    outbox_set_aside: int | None
    """Events that the server refused; look at them with `Screener.set_aside()`."""
    outbox_error: str | None
    """Why the outbox cannot be used, and what to do."""

    @property
    def ready(self) -> bool:
        """True while hits can be proved.

        Never true without verified data, and false again when it gets too old.
        """
        return self.availability is Availability.FRESH


def make_status(audience: str, session: Session, record: SyncRecord, now: datetime) -> Status:
    """The status of a screener over `session`."""
    loaded = session.loaded
    pending: int | None = None
    set_aside: int | None = None
    oldest_age: timedelta | None = None
    outbox_error: str | None = None
    try:
        depth = session.outbox.depth()
    except TipstaffError as error:
        outbox_error = str(error)
    else:
        pending, set_aside = depth.pending, depth.set_aside
        if depth.oldest is not None:
            oldest_age = max(timedelta(0), now - datetime.fromtimestamp(depth.oldest, UTC))
    return Status(
        at=now,
        audience=audience,
        availability=Availability.NONE if loaded is None else loaded.availability(now),
        listing_version=None if loaded is None else loaded.listing_version,
        listing_age=None if loaded is None else now - loaded.listing_signed_at,
        listing_expires_at=None if loaded is None else loaded.listing_expires_at,
        relief_sequence=None if loaded is None else loaded.relief_sequence,
        relief_age=None if loaded is None else now - loaded.relief_signed_at,
        relief_complete=loaded is not None and loaded.relief_complete,
        key_present=loaded is not None and loaded.key_present,
        sync_state=record.state,
        sync_since=record.since,
        last_success=record.last_success,
        last_error=record.last_error,
        outbox_pending=pending,
        outbox_oldest_age=oldest_age,
        outbox_set_aside=set_aside,
        outbox_error=outbox_error,
    )
