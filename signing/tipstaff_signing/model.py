"""What readers and writers hand out, and the limits and lifetimes they go by."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Delta",
    "Lifetimes",
    "Limits",
    "Proposal",
    "RoleState",
    "Target",
    "VerifiedState",
    "Versions",
    "utc_now",
]


def utc_now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Target:
    """One artefact whose length and hash are signed, and its local copy, which has them."""

    path: str
    length: int  # bytes
    sha256: str  # 64 hexadecimal digits
    custom: Mapping[str, object]
    file: (
        Path  # named by its hash; never changed, replaced by another file when the artefact changes
    )


@dataclass(frozen=True, slots=True)
class RoleState:
    """One role's verified metadata."""

    name: str
    version: int
    signed_at: datetime
    expires: datetime
    targets: Mapping[str, Target]  # by path: those that are wanted here, and no deltas


@dataclass(frozen=True, slots=True)
class VerifiedState:
    """One consistent version of everything that a reader asked for: all of it verified, from the
    trusted root down.
    """

    view: str
    timestamp_version: int
    snapshot_version: int
    root_version: int
    roles: Mapping[str, RoleState]  # "targets", "listing-<audience>", "relief-<audience>"
    expiries: Mapping[
        str, datetime
    ]  # of every metadata file used: "root", "timestamp", "snapshot" and the roles

    def expired(self, now: datetime) -> tuple[str, ...]:
        """Names of the metadata that are past their expiry, sorted."""
        return tuple(sorted(name for name, expires in self.expiries.items() if now >= expires))


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of one audience's metadata. Zero: not known."""

    timestamp: int
    snapshot: int
    listing: int
    relief: int
    targets: int = 0
    root: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """What an artefact that is a delta leads from and to, see deltas.py."""

    target: str  # path of the artefact whose versions these are
    base: str  # SHA-256 of the version it starts from, hexadecimal
    result: str  # SHA-256 of the version it leads to


@dataclass(frozen=True, slots=True)
class Proposal:
    """A listing that waits for its sign-off or its publication."""

    audience: str
    version: int
    folder: Path
    artefacts: Mapping[str, Path]  # by target path
    signed_at: datetime
    expires: datetime
    digest: str  # SHA-256 of what is signed, hexadecimal
    signatures: int  # valid ones of different keys
    threshold: int
    deltas: Mapping[str, Delta] = field(
        default_factory=dict[str, Delta]
    )  # by target path: those artefacts that are deltas

    @property
    def complete(self) -> bool:
        """Whether enough keys have signed."""
        return self.signatures >= self.threshold


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader takes from the other side, and how long it waits."""

    root_bytes: int = 512_000
    timestamp_bytes: int = 16_384
    snapshot_bytes: int = 2_000_000
    targets_bytes: int = 5_000_000
    artefact_bytes: int = 16 * 2**30
    root_rotations: int = 256
    targets_per_role: int = 10_000
    delta_chain: int = (
        32  # deltas applied one after another; longer chains are passed over for the whole artefact
    )
    fetch_seconds: float = 3600.0  # for one artefact
    lock_seconds: float = 60.0
    clock_tolerance: timedelta = timedelta(
        minutes=5
    )  # how far this clock may be behind what was signed
    retention: timedelta = timedelta(
        minutes=10
    )  # how long replaced artefacts stay for those still opening them


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long each role's metadata is valid."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    listing: timedelta = timedelta(days=7)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=1)
    relief: timedelta = timedelta(hours=1)
