"""Acts that may be sent twice, and acts on what somebody else has changed meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.errors import InvalidRequestError, StaleVersionError
from tipstaff_server.storage.models import IdempotencyRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.storage.models import RestrictionRow
    from tipstaff_server.vault.vault import Vault

__all__ = ["ANY", "Precondition", "check_version", "first_answer", "remember"]

MAX_KEY = 64
_ACT = "restrictions.act"


@dataclass(frozen=True, slots=True)
class Precondition:
    """What a caller says about an act:

    `version` that it has seen (0: whatever it is now), and its idempotency `key` (none: none).
    """

    version: int = 0
    key: str = ""


ANY = Precondition()


def check_version(row: RestrictionRow, given: Precondition) -> None:
    """Raises StaleVersionError: somebody acted on the restriction since the caller looked."""
    if given.version and given.version != row.version:
        raise StaleVersionError(
            f"the restriction has version {row.version} by now, not {given.version}: look at it"
            " again, then decide anew"
        )


def first_answer(
    session: Session, vault: Vault, actor: Actor, given: Precondition, request: Sequence[object]
) -> bytes | None:
    """The id that the same request was answered with before, under the same key.

    Raises InvalidRequestError: another request was.
    """
    if not given.key:
        return None
    if len(given.key) > MAX_KEY:
        raise InvalidRequestError(f"an idempotency key has 1 to {MAX_KEY} characters")
    row = session.scalar(
        select(IdempotencyRow).where(
            IdempotencyRow.scope == str(actor), IdempotencyRow.key == given.key
        )
    )
    if row is None:
        return None
    if not vault.made(row.entry_digest, _ACT, _told(request)):
        raise InvalidRequestError(
            "this idempotency key was used for another request; choose a new one"
        )
    return row.restriction_id


def remember(
    session: Session,
    vault: Vault,
    actor: Actor,
    given: Precondition,
    request: Sequence[object],
    answer: bytes,
    now: datetime,
) -> None:
    """Keeps the answer (an id of 16 bytes) under the caller's key, if it gave one."""
    if given.key:
        session.add(
            IdempotencyRow(
                scope=str(actor),
                key=given.key,
                entry_digest=_digest(vault, request),
                restriction_id=answer,
                status="DONE",
                at=now,
            )
        )


def _digest(vault: Vault, request: Sequence[object]) -> bytes:
    """Keyed, because reasons may hold names."""
    return vault.index(_ACT, _told(request))


def _told(request: Sequence[object]) -> bytes:
    return json.dumps(request, default=str, ensure_ascii=False).encode()
