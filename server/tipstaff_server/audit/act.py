"""An act: one transaction with its audit entries, kept together or not at all.

with act(store, actor, reason) as change:
    change.session.add(row)
    change.note(AuditAct.ADD_PROVIDER, ("provider", b"skyline-air"), detail={"audience": "aviation"})
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.audit.log import AuditLog

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.domain.acts import AuditAct
    from tipstaff_server.vault.store import Store

__all__ = ["Act", "act"]


@dataclass(slots=True)
class Act:
    """A writing transaction, its audit entries, who acts and why, and the moment that is now."""

    session: Session
    log: AuditLog
    actor: Actor
    reason: str
    now: datetime

    def note(
        self,
        name: AuditAct,
        thing: tuple[str, bytes],
        *,
        detail: Mapping[str, object] | str | None = None,
        by: Actor | None = None,
    ) -> None:
        """Enters the act on one thing into the log.

        Args:
            name: what was done.
            thing: the kind of the thing ("restriction", "subject" …) and its id.
            detail: facts without personal data, or `detail_text` of them.
            by: who did it, when that is not the actor. Then the actor's reason is left out.
        """
        reason = self.reason if by is None else ""
        self.log.add(self.now, by or self.actor, name, thing, detail=detail, reason=reason)

    def flush(self) -> None:
        """Writes what was added, entries included. The context manager does it at the end."""
        self.session.flush()
        self.log.flush()


@contextmanager
def act(store: Store, actor: Actor, reason: str = "") -> Generator[Act]:
    """Opens a transaction that commits with its audit entries, or not at all.

    Raises:
        DatabaseUnavailableError: as the database says.
    """
    with store.write() as session:
        opened = Act(session, AuditLog(session, store.vault), actor, reason, store.clock())
        yield opened
        opened.flush()
