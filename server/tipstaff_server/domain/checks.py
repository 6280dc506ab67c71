"""What every act checks of its arguments: ids and reasons."""

from __future__ import annotations

from tipstaff_server.errors import InvalidRequestError

__all__ = ["ID_BYTES", "MAX_REASON", "check_id", "check_reason"]

ID_BYTES = 16
MAX_REASON = 500


def check_id(value: bytes) -> None:
    """Raises InvalidRequestError unless it has 16 bytes."""
    if len(value) != ID_BYTES:
        raise InvalidRequestError(f"an id has {ID_BYTES} bytes")


def check_reason(reason: str) -> None:
    """Raises InvalidRequestError: empty, or longer than 500 characters."""
    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise InvalidRequestError(
            f"give a reason of 1 to {MAX_REASON} characters; it goes into the audit log"
        )
