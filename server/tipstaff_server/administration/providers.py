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

from sqlalchemy import select, update

from tipstaff_server.audit import reasons
from tipstaff_server.audit.act import Act, act
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_reason
from tipstaff_server.errors import AdministrationError, LifecycleError, NotFoundError
from tipstaff_server.storage.models import AudienceRow, AuditRow, ProviderRow

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.vault.store import Store

__all__ = ["Member", "MemberAct", "Providers"]


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


class Providers:
    """The providers of a registry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Member]:
        """Every provider there ever was, sorted by audience, then id."""
        with self._store.read() as session:
            rows = session.scalars(
                select(ProviderRow).order_by(ProviderRow.audience_id, ProviderRow.id)
            )
            return [Member(row.id, row.audience_id, row.created_at, row.removed_at) for row in rows]

    def audiences(self) -> dict[str, str]:
        """Every provider that is known and not removed, and its audience."""
        query = select(ProviderRow.id, ProviderRow.audience_id)
        with self._store.read() as session:
            known = session.execute(query.where(ProviderRow.removed_at.is_(None)))
            return {row.id: row.audience_id for row in known}

    def acknowledge(self, provider_id: str, *, listing_version: int, relief_sequence: int) -> None:
        """Keeps what a provider says it enforces. Raises NotFoundError: no such provider."""
        with self._store.write() as session:
            updated = session.execute(
                update(ProviderRow)
                .where(ProviderRow.id == provider_id)
                .values(
                    enforced_listing=listing_version,
                    enforced_relief_sequence=relief_sequence,
                    acknowledged_at=self._store.clock(),
                )
                .returning(ProviderRow.id)
            ).first()
            if updated is None:
                raise NotFoundError(f"there is no provider {provider_id!r}; add it first")

    def add(self, provider_id: str, audience: str, *, actor: Actor) -> None:
        """Makes a provider known. Repeating it changes nothing.

        Raises:
            AdministrationError: it is in another audience already, or was removed.
            NotFoundError: no such audience.
        """
        with act(self._store, actor) as change:
            if change.session.get(AudienceRow, audience) is None:
                raise NotFoundError(
                    f"there is no audience {audience!r}; add it to the administration first"
                )
            row = change.session.get(ProviderRow, provider_id)
            if row is not None:
                _check_member(row, audience)
                return
            change.session.add(
                ProviderRow(
                    id=provider_id,
                    audience_id=audience,
                    created_at=change.now,
                    enforced_listing=0,
                    enforced_relief_sequence=0,
                )
            )
            detail = {"audience": audience}
            change.note(AuditAct.ADD_PROVIDER, _thing(provider_id), detail=detail)

    def register_wrapping_key(self, provider_id: str, public_key: bytes, *, actor: Actor) -> None:
        """Registers a provider's public key: from now on its epoch keys are sealed to it alone.

        Args:
            provider_id: whose key it is. The key before is replaced.
            public_key: X25519, 32 bytes.
            actor: who registers it.

        Raises:
            NotFoundError: no such provider.
        """
        with act(self._store, actor) as change:
            row = change.session.get(ProviderRow, provider_id)
            if row is None:
                raise NotFoundError(f"there is no provider {provider_id!r}; add it first")
            if row.wrapping_key == public_key:
                return
            row.wrapping_key = public_key
            digest = hashlib.sha256(public_key).hexdigest()
            thing, detail = _thing(provider_id), {"digest": digest}
            change.note(AuditAct.REGISTER_WRAPPING_KEY, thing, detail=detail)

    def remove(self, provider_id: str, reason: str, *, actor: Actor) -> None:
        """Turns a provider away from now on.

        Raises:
            NotFoundError: no such provider.
            LifecycleError: it is removed already.
            InvalidRequestError: no reason.
        """
        with self._changing(provider_id, reason, actor) as (change, row):
            if row.removed_at is not None:
                raise LifecycleError(
                    f"provider {provider_id!r} is removed already, since {row.removed_at:%Y-%m-%d}"
                )
            row.removed_at = change.now
            detail = {"audience": row.audience_id}
            change.note(AuditAct.REMOVE_PROVIDER, _thing(provider_id), detail=detail)

    def restore(self, provider_id: str, reason: str, *, actor: Actor) -> None:
        """Lets a removed provider in again.

        Raises:
            NotFoundError: no such provider, or its audience is gone.
            LifecycleError: it is not removed.
            InvalidRequestError: no reason.
        """
        with self._changing(provider_id, reason, actor) as (change, row):
            _known_audience(change.session, row.audience_id)
            if row.removed_at is None:
                raise LifecycleError(f"provider {provider_id!r} is not removed")
            row.removed_at = None
            detail = {"audience": row.audience_id}
            change.note(AuditAct.RESTORE_PROVIDER, _thing(provider_id), detail=detail)

    def move(self, provider_id: str, audience: str, reason: str, *, actor: Actor) -> None:
        """Puts a provider into another audience; its certificate has to be issued again.

        Raises:
            NotFoundError: no such provider, or no such audience.
            LifecycleError: it is there already.
            InvalidRequestError: no reason.
        """
        with self._changing(provider_id, reason, actor) as (change, row):
            _known_audience(change.session, audience)
            if row.audience_id == audience:
                raise LifecycleError(
                    f"provider {provider_id!r} belongs to audience {audience!r} already"
                )
            detail = {"from": row.audience_id, "to": audience}
            row.audience_id = audience
            # What it enforced were the other audience's versions.
            row.enforced_listing = row.enforced_relief_sequence = 0
            row.acknowledged_at = None
            change.note(AuditAct.MOVE_PROVIDER, _thing(provider_id), detail=detail)

    def history(self, provider_id: str) -> list[MemberAct]:
        """All acts on one provider, in order. Raises NotFoundError."""
        with self._store.read() as session:
            _find(session, provider_id)
            rows = session.scalars(
                select(AuditRow)
                .where(
                    AuditRow.object_kind == "provider", AuditRow.object_id == provider_id.encode()
                )
                .order_by(AuditRow.sequence)
            ).all()
            told = reasons.read(session, self._store.vault, rows)
            return [
                MemberAct(row.at, row.actor, row.act, row.detail, told.get(row.sequence, ""))
                for row in rows
            ]

    @contextmanager
    def _changing(
        self, provider_id: str, reason: str, actor: Actor
    ) -> Generator[tuple[Act, ProviderRow]]:
        check_reason(reason)
        with act(self._store, actor, reason) as change:
            yield change, _find(change.session, provider_id)


def _thing(provider_id: str) -> tuple[str, bytes]:
    return "provider", provider_id.encode()


def _check_member(row: ProviderRow, audience: str) -> None:
    """Raises AdministrationError: it is in another audience, or was removed."""
    if row.audience_id != audience:
        raise AdministrationError(
            f"provider {row.id!r} belongs to audience {row.audience_id!r} already;"
            " see `provider move`"
        )
    if row.removed_at is not None:
        raise AdministrationError(
            f"provider {row.id!r} was removed; `provider restore` lets it in again"
        )


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
