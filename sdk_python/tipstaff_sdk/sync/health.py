"""Says how current a running screener's data is, from its session and its last synchronisation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tipstaff_sdk.errors import TipstaffError
from tipstaff_sdk.sync.status import Availability, Status

if TYPE_CHECKING:
    from tipstaff_sdk.sync.follower import SyncRecord
    from tipstaff_sdk.sync.session import Session

__all__ = ["make_status"]


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
