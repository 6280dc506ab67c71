"""Who belongs to an audience: providers are removed, come back, and move.

Their reports and remedies stay, and the audit log keeps who did it and why.

A removed provider is turned away at its next call, and its open streams end within seconds. What it
has, it has: rotate the audience's epoch, so that later listings are closed to it.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.audit import reasons
from tipstaff_server.audit.log import AuditLog
from tipstaff_server.domain.checks import check_reason
from tipstaff_server.errors import AdministrationError, LifecycleError, NotFoundError
from tipstaff_server.storage.models import AudienceRow, AuditRow, ProviderRow

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.storage.database import Database
    from tipstaff_server.vault.vault import Vault

__all__ = ["Member", "MemberAct", "Membership", "add_provider", "register_wrapping_key"]


@dataclass(frozen=True, slots=True)
class Member:
    """A provider, its audience, since when it is known, since when it is removed."""

    provider_id: str
    audience: str
    created_at: datetime
    removed_at: datetime | None


@dataclass(frozen=True, slots=True)
class MemberAct:
    """What was done with a provider. `detail` is JSON; `reason` may hold names."""

    at: datetime
    actor: str
    act: str
    detail: str
    reason: str


class Membership:
    """The providers of a registry."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def all(self) -> list[Member]:
        """Every provider there ever was, sorted by audience, then id."""
        with self._database.read() as session:
            rows = session.scalars(
                select(ProviderRow).order_by(ProviderRow.audience_id, ProviderRow.id)
            )
            return [Member(row.id, row.audience_id, row.created_at, row.removed_at) for row in rows]

    def remove(self, provider_id: str, reason: str, *, actor: Actor, now: datetime) -> None:
        """Turns it away from now on.

        Raises NotFoundError, LifecycleError: removed already; InvalidRequestError.
        """
        check_reason(reason)
        with self._changing(provider_id) as (session, log, row):
            del session
            if row.removed_at is not None:
                raise LifecycleError(
                    f"provider {provider_id!r} is removed already, since {row.removed_at:%Y-%m-%d}"
                )
            row.removed_at = now
            detail = {"audience": row.audience_id}
            log.add(
                now,
                actor,
                "REMOVE_PROVIDER",
                ("provider", provider_id.encode()),
                detail=detail,
                reason=reason,
            )

    def restore(self, provider_id: str, reason: str, *, actor: Actor, now: datetime) -> None:
        """Lets it in again.

        Raises NotFoundError, LifecycleError: it is not removed; InvalidRequestError.
        """
        check_reason(reason)
        with self._changing(provider_id) as (session, log, row):
            _known_audience(session, row.audience_id)
            if row.removed_at is None:
                raise LifecycleError(f"provider {provider_id!r} is not removed")
            row.removed_at = None
            detail = {"audience": row.audience_id}
            log.add(
                now,
                actor,
                "RESTORE_PROVIDER",
                ("provider", provider_id.encode()),
                detail=detail,
                reason=reason,
            )

    def move(
        self, provider_id: str, audience: str, reason: str, *, actor: Actor, now: datetime
    ) -> None:
        """Puts it into another audience; its certificate has to be issued again.

        Raises NotFoundError, LifecycleError: it is there already; InvalidRequestError.
        """
        check_reason(reason)
        with self._changing(provider_id) as (session, log, row):
            _known_audience(session, audience)
            if row.audience_id == audience:
                raise LifecycleError(
                    f"provider {provider_id!r} belongs to audience {audience!r} already"
                )
            detail = {"from": row.audience_id, "to": audience}
            row.audience_id = audience
            # What it enforced were the other audience's versions.
            row.enforced_listing = row.enforced_relief_sequence = 0
            row.acknowledged_at = None
            log.add(
                now,
                actor,
                "MOVE_PROVIDER",
                ("provider", provider_id.encode()),
                detail=detail,
                reason=reason,
            )

    def history(self, provider_id: str) -> list[MemberAct]:
        """All acts on one provider, in order. Raises NotFoundError."""
        with self._database.read() as session:
            _find(session, provider_id)
            rows = session.scalars(
                select(AuditRow)
                .where(
                    AuditRow.object_kind == "provider", AuditRow.object_id == provider_id.encode()
                )
                .order_by(AuditRow.sequence)
            ).all()
            told = reasons.read(session, self._vault, rows)
            return [
                MemberAct(row.at, row.actor, row.act, row.detail, told.get(row.sequence, ""))
                for row in rows
            ]

    @contextmanager
    def _changing(self, provider_id: str) -> Generator[tuple[Session, AuditLog, ProviderRow]]:
        with self._database.write() as session:
            log = AuditLog(session, self._vault)
            yield session, log, _find(session, provider_id)
            session.flush()
            log.flush()


def _find(session: Session, provider_id: str) -> ProviderRow:
    row = session.get(ProviderRow, provider_id)
    if row is None:
        raise NotFoundError(f"there is no provider {provider_id!r}; see `provider list`")
    return row


def _known_audience(session: Session, audience: str) -> None:
    row = session.get(AudienceRow, audience)
    if row is None or row.retired:
        raise NotFoundError(
            f"there is no audience {audience!r}; add it to the administration first"
        )


def add_provider(
    database: Database,
    vault: Vault,
    provider_id: str,
    audience: str,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    """Makes a provider known. Repeating it changes nothing.

    Raises AdministrationError: it is in another audience already, or was removed; NotFoundError: no
    such audience.
    """
    with database.write() as session:
        log = AuditLog(session, vault)
        if session.get(AudienceRow, audience) is None:
            raise NotFoundError(
                f"there is no audience {audience!r}; add it to the administration first"
            )
        known = session.get(ProviderRow, provider_id)
        if known is not None:
            if known.audience_id != audience:
                raise AdministrationError(
                    f"provider {provider_id!r} belongs to audience {known.audience_id!r} already;"
                    " see `provider move`"
                )
            if known.removed_at is not None:
                raise AdministrationError(
                    f"provider {provider_id!r} was removed; `provider restore` lets it in again"
                )
            return
        session.add(
            ProviderRow(
                id=provider_id,
                audience_id=audience,
                created_at=now,
                enforced_listing=0,
                enforced_relief_sequence=0,
            )
        )
        log.add(
            now,
            actor,
            "ADD_PROVIDER",
            ("provider", provider_id.encode()),
            detail={"audience": audience},
        )
        session.flush()
        log.flush()


def register_wrapping_key(
    database: Database,
    vault: Vault,
    provider_id: str,
    public_key: bytes,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    """Registers a provider's X25519 public key, 32 bytes: from now on its epoch keys are sealed to
    that key only.

    Replaces the one before. Raises NotFoundError: no such provider.
    """
    with database.write() as session:
        log = AuditLog(session, vault)
        provider = session.get(ProviderRow, provider_id)
        if provider is None:
            raise NotFoundError(f"there is no provider {provider_id!r}; add it first")
        if provider.wrapping_key == public_key:
            return
        provider.wrapping_key = public_key
        log.add(
            now,
            actor,
            "REGISTER_WRAPPING_KEY",
            ("provider", provider_id.encode()),
            detail={"digest": hashlib.sha256(public_key).hexdigest()},
        )
        session.flush()
        log.flush()
