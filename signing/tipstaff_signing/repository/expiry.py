"""When signed metadata ends, and whether somebody has to see to it.

Root and targets are renewed by people, so they are due some days before. The others are renewed by
programs well before their end: with less than a quarter of their life left, the program that should
have done so has stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_signing.files import storage_errors
from tipstaff_signing.repository.view import View
from tipstaff_signing.signed import signed_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from tipstaff_signing.repository.repository import Repository
    from tipstaff_signing.tuf_names import Signed

__all__ = ["Expiry", "expiries"]

_BY_PEOPLE = frozenset({"root", "targets"})


@dataclass(frozen=True, slots=True)
class Expiry:
    """One published metadata file."""

    audience: str
    role: str
    version: int
    expires: datetime
    due: bool


def expiries(repository: Repository, now: datetime, within: timedelta) -> list[Expiry]:
    """Every file in force, what ends first first.

    Args:
        repository: whose.
        now: aware UTC.
        within: how long before their end root and targets are due.
    """
    with storage_errors(f"reading {repository.path}"):
        expiries = [
            item
            for audience in repository.audiences()
            for item in _of(repository, audience, now, within)
        ]
    return sorted(expiries, key=lambda item: (item.expires, item.audience, item.role))


def _of(
    repository: Repository, audience: str, now: datetime, within: timedelta
) -> Iterator[Expiry]:
    view = View(repository.path / audience, audience)
    timestamp = view.timestamp()
    snapshot = view.snapshot(timestamp)
    roles: dict[str, Signed] = {"root": view.root(), "timestamp": timestamp, "snapshot": snapshot}
    roles |= {
        (role := name.removesuffix(".json")): view.role(role, snapshot) for name in snapshot.meta
    }
    for role, signed in roles.items():
        ahead = within if role in _BY_PEOPLE else (signed.expires - signed_at(signed)) / 4
        yield Expiry(
            audience, role, signed.version, signed.expires, due=signed.expires - now < ahead
        )
