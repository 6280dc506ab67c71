"""How what is configured is published."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tipstaff_signing.model import Lifetimes

if TYPE_CHECKING:
    from tipstaff_server.config import Config


def lifetimes(config: Config) -> Lifetimes:
    """How long each role's metadata is valid."""
    publication = config.publication
    return Lifetimes(
        listing=timedelta(seconds=publication.listing_lifetime_seconds), relief=timedelta(seconds=publication.relief_lifetime_seconds)
    )
