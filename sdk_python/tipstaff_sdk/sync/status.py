"""What is true of a screener now, for operators and health checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = ["Availability", "Status", "SyncState"]


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
