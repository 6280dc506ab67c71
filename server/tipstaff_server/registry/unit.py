"""What all acts on the registry share: the database, the vault, the clock, and the transaction that
an act is.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from tipstaff_server.administration.policies import Policies, PolicyCache
from tipstaff_server.audit.log import AuditLog
from tipstaff_server.storage.models import HEAD, IdentifierRow, ReliefHeadRow, ReliefRow
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.columns import blind_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from datetime import datetime, timedelta

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.clock import Clock
    from tipstaff_server.storage.database import Database
    from tipstaff_server.vault.stretch import Stretcher
    from tipstaff_server.vault.vault import Vault

__all__ = ["Core", "Unit", "stretch_unknown"]


@dataclass(slots=True)
class Unit:
    """One act: a writing transaction, its audit entries, and the moment that counts as now."""

    session: Session
    log: AuditLog
    now: datetime
    policies: Policies
    remedy_days: int

    def lift(
        self, restriction_id: bytes, measure_set_id: int, cause: str, post_id: bytes | None = None
    ) -> int:
        """Takes the next relief sequence.

        The row stays locked until the commit, so sequences commit in order.

        With a `post_id` only what reaches somebody through that post is lifted.
        """
        sequence = self.session.execute(
            update(ReliefHeadRow)
            .where(ReliefHeadRow.id == HEAD)
            .values(sequence=ReliefHeadRow.sequence + 1)
            .returning(ReliefHeadRow.sequence)
            .execution_options(synchronize_session=False)
        ).scalar_one()
        self.session.add(
            ReliefRow(
                sequence=sequence,
                restriction_id=restriction_id,
                at=self.now,
                cause=cause,
                measure_set_id=measure_set_id,
                post_id=post_id,
            )
        )
        return sequence

    def relief_head(self) -> int:
        """The last relief sequence, locked until the commit."""
        return self.session.execute(
            select(ReliefHeadRow.sequence).where(ReliefHeadRow.id == HEAD).with_for_update()
        ).scalar_one()


@dataclass(slots=True)
class Core:
    """Shared by the parts of `Registry`.

    `max_term`: longest term allowed; `horizon`: how far ahead a listing looks.

    `remedy_days`: how long a provider may take to answer a remedy. `disputes_per_hour`: how many
    one provider may open.
    """

    database: Database
    vault: Vault
    clock: Clock
    stretcher: Stretcher
    max_term: timedelta
    horizon: timedelta
    page_size: int
    remedy_days: int = 15
    disputes_per_hour: int = 120
    policies: PolicyCache = field(default_factory=PolicyCache)

    def refresh_stretch(self, session: Session) -> int:
        """Takes over the stretch that identifiers are entered with now, should it have changed; its
        number.
        """
        now = stretches.current(session)
        # Never back, for a session that began earlier: what is computed next would be taken for
        # what is current.
        if now.number > self.stretcher.number:
            self.stretcher.stretch, self.stretcher.number = now.stretch, now.number
        return now.number

    def still(
        self, session: Session, computed: tuple[int, dict[bytes, bytes]]
    ) -> dict[bytes, bytes]:
        """Values computed before an act by the stretch of that number: none of them where another
        is in use by now.
        """
        number, values = computed
        return values if self.refresh_stretch(session) == number else {}

    @contextmanager
    def act(self) -> Generator[Unit]:
        """A transaction that commits with its audit entries, or not at all."""
        with self.database.write() as session:
            unit = Unit(
                session,
                AuditLog(session, self.vault),
                self.clock(),
                self.policies.get(session),
                self.remedy_days,
            )
            yield unit
            session.flush()
            unit.log.flush()


def stretch_unknown(
    core: Core, identifiers: Iterable[Identifier]
) -> tuple[int, dict[bytes, bytes]]:
    """Stretches those that the registry does not know: before a transaction, which holds locks and
    asks `Core.still`.

    The number of the stretch, and values by blind index.
    """
    wanted = {blind_of(core.vault, identifier): identifier for identifier in identifiers}
    with core.database.read() as session:
        number = core.refresh_stretch(session)
        known = set(
            session.scalars(
                select(IdentifierRow.blind).where(IdentifierRow.blind.in_(list(wanted)))
            )
        )
    started = {
        blind: core.stretcher.submit(identifier)
        for blind, identifier in wanted.items()
        if blind not in known
    }
    return number, {blind: future.result() for blind, future in started.items()}
