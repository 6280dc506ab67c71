"""Which subjects: all of them, or those whose ids lie between two."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EVERYBODY", "Span"]


class Span(NamedTuple):
    """Subjects with an id above `after` and up to `last`."""

    after: bytes
    last: bytes


EVERYBODY = Span(b"", b"\xff" * 16)
