"""The audit log: every act, chained by hashes, written in the transaction of the act itself.

    digest(n) = SHA-256(digest(n-1) || JSON array of everything else in entry n)        digest(0) = 32 zero bytes

`verify` recomputes the chain: an altered, inserted, missing or reordered entry breaks it where it is, and a shortened log does
not reach the head. Reasons are encrypted, because people write names into them; the chain covers the ciphertext.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from tipstaff_server.errors import AuditError
from tipstaff_server.models import AuditHeadRow, AuditRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.actors import Actor
    from tipstaff_server.database import Database
    from tipstaff_server.vault import Vault

__all__ = ["START", "AuditLog", "verify"]

START = bytes(32)
HEAD = 1
REASON_COLUMN = "audit_log.reason"
PAGE = 2_000


class AuditLog:
    """Adds entries within one transaction. Making one locks the head, so acts of several replicas queue up here, in one order."""

    def __init__(self, session: Session, vault: Vault) -> None:
        self._session = session
        self._vault = vault
        head = session.execute(select(AuditHeadRow.sequence, AuditHeadRow.digest).where(AuditHeadRow.id == HEAD).with_for_update()).one()
        self._sequence: int = head.sequence
        self._digest: bytes = head.digest
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        at: datetime,
        actor: Actor,
        act: str,
        subject: tuple[str, bytes],
        *,
        detail: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> None:
        """One act on one thing. `subject`: its kind ("restriction") and id; `detail`: facts without personal data."""
        self._sequence += 1
        row: dict[str, Any] = {
            "sequence": self._sequence,
            "at": at,
            "actor": str(actor),
            "act": act,
            "object_kind": subject[0],
            "object_id": subject[1],
            "detail": json.dumps(detail or {}, ensure_ascii=False, sort_keys=True, separators=(",", ":")),
            "reason": self._vault.encrypt_text(REASON_COLUMN, self._sequence.to_bytes(8, "big"), reason) if reason else None,
        }
        self._digest = chain(self._digest, row)
        self._rows.append(row | {"digest": self._digest})

    def flush(self) -> None:
        """Writes what was added. To be called once, before the commit."""
        if not self._rows:
            return
        self._session.execute(insert(AuditRow), self._rows)
        self._session.execute(update(AuditHeadRow).where(AuditHeadRow.id == HEAD).values(sequence=self._sequence, digest=self._digest))
        self._rows = []


def chain(before: bytes, row: Mapping[str, Any]) -> bytes:
    """The digest of an entry, given the one before it."""
    at: datetime = row["at"]
    reason: bytes | None = row["reason"]
    fields = [
        row["sequence"],
        at.isoformat(timespec="microseconds"),
        row["actor"],
        row["act"],
        row["object_kind"],
        row["object_id"].hex(),
        row["detail"],
        None if reason is None else reason.hex(),
    ]
    return hashlib.sha256(before + json.dumps(fields, separators=(",", ":")).encode()).digest()


def verify(database: Database) -> int:
    """Recomputes the whole chain, a page at a time; the number of entries. Raises AuditError at the first wrong one."""
    with database.read() as session:
        head = session.execute(select(AuditHeadRow.sequence, AuditHeadRow.digest).where(AuditHeadRow.id == HEAD)).one()
    digest, last = START, 0
    while last < head.sequence:
        with database.read() as session:
            page = session.scalars(
                select(AuditRow).where(AuditRow.sequence > last, AuditRow.sequence <= head.sequence).order_by(AuditRow.sequence).limit(PAGE)
            ).all()
        if not page:
            raise AuditError(last + 1, f"audit entries from {last + 1} to {head.sequence} are missing")
        for row in page:
            if row.sequence != last + 1:
                raise AuditError(last + 1, f"audit entry {last + 1} is missing")
            digest = chain(digest, vars(row))
            if digest != row.digest:
                raise AuditError(row.sequence, f"audit entry {row.sequence} was altered, or stands where another one was")
            last = row.sequence
    if digest != head.digest:
        raise AuditError(last, f"the log's head does not fit its last entry {last}")
    return last
