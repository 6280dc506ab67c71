"""Books of synthetic people for tests of screening: a world with a few listed, files, and a
stand-in for the screener that counts.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.support import identities
from tests.support.sealed_world import AIR, HOTEL, NOW, SealedWorld, record, restriction
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.screening.engine import Screening

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_sdk.decision.decide import Reason
    from tipstaff_sdk.decision.evidence import DecisionState

LISTED = identities.resident_id(1)
HOTEL_LISTED = identities.resident_id(2)
GHOST = identities.resident_id(3)  # in the filter, and nowhere else
NAME = "张三"
PASSPORT = "E12345678"


def world() -> SealedWorld:
    made = SealedWorld()
    made.list_record(Identifier.parse(LISTED), NAME, record(restriction(1)))
    made.list_record(Identifier.parse(HOTEL_LISTED), NAME, record(restriction(2, [HOTEL])))
    made.only_in_filter(Identifier.parse(GHOST))
    return made


class Desk:
    """What `screen_book` needs of a screener."""

    def __init__(self, state: DecisionState | None, now: datetime = NOW) -> None:
        self.state = state
        self.now = now
        self.counted: list[Counter[Reason]] = []

    def screening(self, measure: str) -> Screening:
        return Screening(self.state, self.now, measure)

    def checked(self, screening: Screening, reasons: Mapping[Reason, int]) -> None:
        self.counted.append(Counter(reasons))


def people(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Nobody of them is listed, but every 100th row is the one who is."""
    random = Random(seed)
    return [
        (LISTED, NAME) if row % 100 == 99 else (identities.random_resident_id(random), NAME)
        for row in range(count)
    ]


def write_csv(
    path: Path,
    rows: Iterable[Sequence[str]],
    header: str = "booking,identifier,name",
    encoding: str = "utf-8",
    end: str = "\n",
) -> Path:
    path.write_bytes(end.join([header, *(",".join(row) for row in rows), ""]).encode(encoding))
    return path


def bookings(count: int, seed: int = 1) -> list[tuple[str, str, str]]:
    return [(f"B{row:07d}", *person) for row, person in enumerate(people(count, seed), 1)]


__all__ = [
    "AIR",
    "GHOST",
    "HOTEL",
    "HOTEL_LISTED",
    "LISTED",
    "NAME",
    "PASSPORT",
    "Desk",
    "bookings",
    "people",
    "world",
    "write_csv",
]
