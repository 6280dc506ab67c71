"""The head of the audit log, locked: whoever encrypts takes it first.

So acts of several servers queue up in one order, and nobody writes under a key that was replaced
meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.storage.models import HEAD, AuditHeadRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff_server.vault.vault import Vault

__all__ = ["lock_head"]


def lock_head(session: Session, vault: Vault) -> tuple[int, bytes]:
    """Locks the log's head until the commit; gives sequence and digest of its last entry.

    From here on the vault writes under the newest key. Whoever encrypts anything for the database takes
    this lock first, so nothing is written any more under a key that was replaced under it.
    """
    columns = (AuditHeadRow.sequence, AuditHeadRow.digest, AuditHeadRow.vault_generation)
    head = session.execute(select(*columns).where(AuditHeadRow.id == HEAD).with_for_update()).one()
    vault.refresh(session, head.vault_generation)
    return head.sequence, head.digest
