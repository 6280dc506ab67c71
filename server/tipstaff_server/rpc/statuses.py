"""From our errors to gRPC statuses, once, at the edge.

STATUSES is the whole table; the first class that fits decides. The message of an error of ours goes
out as it is: it says what to do and never holds an identifier or a name. Anything else is a fault
of this program: the caller gets INTERNAL and an incident number, the log gets the same number with
the place it happened at, and neither gets the exception's text, because a library's text may quote
its input.
"""

from __future__ import annotations

import secrets
import traceback
from typing import TYPE_CHECKING

import grpc

from tipstaff_sdk.errors import InvalidIdentifierError, InvalidNameError
from tipstaff_server.errors import (
    CallLimitError,
    CallTimeoutError,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    NotIdentifiedError,
    PermissionDeniedError,
    StaleListingError,
    StaleVersionError,
    StorageError,
    StreamEnd,
    StreamEndedError,
)
from tipstaff_server.logs import log_error
from tipstaff_signing.errors import NotFoundError as NoSuchFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STATUSES", "OffsetError", "status_of"]


class OffsetError(InvalidRequestError):
    """A download is to go on behind the artefact's end."""


STATUSES: Sequence[tuple[type[Exception], grpc.StatusCode]] = (
    (NotIdentifiedError, grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (CallLimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (CallTimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (NoSuchFileError, grpc.StatusCode.NOT_FOUND),
    (LifecycleError, grpc.StatusCode.FAILED_PRECONDITION),
    (StaleVersionError, grpc.StatusCode.ABORTED),
    (StaleListingError, grpc.StatusCode.FAILED_PRECONDITION),
    (OffsetError, grpc.StatusCode.OUT_OF_RANGE),
    (InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (EntryError, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidIdentifierError, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidNameError, grpc.StatusCode.INVALID_ARGUMENT),
    (StorageError, grpc.StatusCode.UNAVAILABLE),
)

_STREAM_ENDS = {
    StreamEnd.SLOW: (
        grpc.StatusCode.ABORTED,
        "this stream did not keep up; open Watch again with what you enforce, to resync",
    ),
    StreamEnd.STOPPING: (
        grpc.StatusCode.UNAVAILABLE,
        "the server is stopping; open Watch again in a moment",
    ),
    StreamEnd.REVOKED: (
        grpc.StatusCode.UNAUTHENTICATED,
        "this certificate is revoked; ask the operator for a new one",
    ),
    StreamEnd.EXPIRED: (
        grpc.StatusCode.UNAUTHENTICATED,
        "this certificate has run out; ask the operator for a new one",
    ),
    StreamEnd.REMOVED: (
        grpc.StatusCode.PERMISSION_DENIED,
        "this provider no longer belongs to the audience in its certificate; ask the operator",
    ),
    StreamEnd.STALLED: (
        grpc.StatusCode.ABORTED,
        "nothing was read from this stream for too long; open it again",
    ),
}


def status_of(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    """The status and the message for a caller of `method`.

    An error that is not in the table is logged as an incident.
    """
    if isinstance(error, StreamEndedError):
        return _STREAM_ENDS[error.reason]
    if isinstance(error, StorageError):
        # Its message speaks to the operator: addresses and paths are none of a caller's business.
        log_error("storage_unavailable", method=method, error=type(error).__name__)
        return (
            grpc.StatusCode.UNAVAILABLE,
            "the registry cannot be reached at the moment; try again",
        )
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status, str(error)
    return _incident(error, method)


def _incident(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    number = secrets.token_hex(6)
    log_error(
        "incident", incident=number, method=method, error=type(error).__name__, at=place_of(error)
    )
    return (
        grpc.StatusCode.INTERNAL,
        f"internal error, incident {number}; tell the operator this number",
    )


def place_of(error: BaseException) -> list[str]:
    """Where an exception was raised, innermost last, as file:line. No source lines, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [
        f"{frame.filename.rpartition('site-packages/')[2].rpartition('/server/')[2]}:{frame.lineno}"
        for frame in frames
    ]
