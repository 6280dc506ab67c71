"""How much to measure, and what a suite gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Figures", "Plan"]

_SIZES: Final = (100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True)
class Plan:
    """sizes: subjects listed, ascending; the flat keys are of the last. repeats: of which the
    median counts. asked: checks in one repeat.

    peer_sizes: of the peers' filters. book_rows: rows of the screened book. patience: seconds to
    wait in all for the machine to be quiet. watchers: providers that watch; lifts: restrictions
    that are lifted while they do. sync_size: subjects of the listing that is synchronised; changes:
    in its next version. published_subjects: of the listing that is built on SQLite.
    registry_subjects: rows of the list that fills a registry; registry_acts: releases, and
    look-ups, in it. keep: where that registry stays, for a run to go on with.
    """

    sizes: tuple[int, ...] = _SIZES
    repeats: int = 7
    asked: int = 2_000_000
    asked_singly: int = 100_000
    peer_sizes: tuple[int, ...] = _SIZES
    book_rows: int = 10_000_000
    patience: float = 300.0
    watchers: int = 1_000
    lifts: int = 100
    sync_size: int = 10_000_000
    changes: int = 10_000
    published_subjects: int = 60_000
    registry_subjects: int = 8_500_000
    registry_acts: int = 300
    keep: Path | None = None

    @classmethod
    def quick(cls) -> Plan:
        """Less of everything: the largest size for ourselves, a million for peers."""
        return cls(
            repeats=3,
            patience=15.0,
            asked=1_000_000,
            asked_singly=30_000,
            sizes=(100_000, 10_000_000),
            peer_sizes=(100_000, 1_000_000),
            book_rows=2_000_000,
            lifts=30,
            sync_size=200_000,
            published_subjects=6_000,
            registry_subjects=850_000,
        )


@dataclass
class Figures:
    """flat: keys of bench.json by name; None where something is not installed. details: whatever
    else the suite found, as JSON values.
    """

    flat: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    details: dict[str, object] = field(default_factory=dict[str, object])
