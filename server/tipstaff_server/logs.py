"""Log records as lines of JSON: when, how bad, which event, and fields.

    {"at": "2026-01-05T08:00:00.123Z", "level": "info", "event": "relief_published", "relief": 7}

Fields hold counts, versions, audiences, provider and authority ids, restriction ids never with a
person. Nothing that says who somebody is may come in: no identifier, name, statement, token or key.
An exception's text stays out for the same reason.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["configure", "log_debug", "log_error", "log_info", "log_warning"]

_LOG = logging.getLogger("tipstaff_server")

Field = str | int | float | bool | list[str] | None


class JsonLogFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON. For records of other libraries only their logger's name is kept."""
        at = (
            datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
        fields = getattr(record, "fields", None)
        event = record.getMessage() if fields is not None else "library"
        line = {
            "at": at,
            "level": record.levelname.lower(),
            "event": event,
            **(fields or {"logger": record.name}),
        }
        return json.dumps(line, ensure_ascii=False)


def configure(level: str) -> None:
    """Sends all log records of the process to standard error as JSON lines.

    `level`: debug, info, warning or error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOG.setLevel(level.upper())


def log_debug(event: str, **fields: Field) -> None:
    """For looking closely."""
    _LOG.debug(event, extra={"fields": fields})


def log_info(event: str, **fields: Field) -> None:
    """What an operator wants to see."""
    _LOG.info(event, extra={"fields": fields})


def log_warning(event: str, **fields: Field) -> None:
    """Something to look at."""
    _LOG.warning(event, extra={"fields": fields})


def log_error(event: str, **fields: Field) -> None:
    """Something went wrong."""
    _LOG.error(event, extra={"fields": fields})
