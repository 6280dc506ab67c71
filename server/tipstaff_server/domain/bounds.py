"""Bounds that the builder and the sign-off hold to alike."""

from __future__ import annotations

__all__ = ["MOST_STEPS"]

MOST_STEPS = 8
"""How many deltas a listing offers at most, each a step nearer to it."""
