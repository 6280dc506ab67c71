"""The relief log: every lift of the registry, in one sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Lift"]


@dataclass(frozen=True, slots=True)
class Lift:
    """One entry of the relief log.

    `restriction_id`: what is lifted; the id of a post that was left, where only that one is.
    """

    sequence: int
    restriction_id: bytes
    at: datetime
