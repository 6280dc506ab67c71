"""Moments of requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tipstaff_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["moment_of"]


def moment_of(value: Timestamp, what: str) -> datetime:
    """Aware, UTC. Raises InvalidRequestError."""
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{what} is not a moment between the years 1 and 9999") from None
