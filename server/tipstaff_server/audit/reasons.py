"""Reasons of acts: kept encrypted beside the audit log, which holds a commitment to each.

    salt = 16 random bytes                                              audit_reasons.sealed = encrypted(salt || reason)
    audit_log.reason = 0x00 || SHA-256("tipstaff/audit/reason/v1" || 0x00 || salt || reason)        33 bytes

People write names into reasons, so a reason must be encrypted anew when keys change and must go
when its time is over. The chain covers the commitment, which says nothing once the salt is gone, so
it stays whole. Entries of older programs hold their ciphertext itself there (its first byte is the
version of its key, 1 or more); `vault re-encrypt` copies what it says to audit_reasons.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.errors import AuditError, VaultDataError
from tipstaff_server.storage.models import AuditReasonRow, AuditRow
from tipstaff_server.vault.columns import AUDIT_REASON, audit_reason_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from tipstaff_server.vault.vault import Vault

__all__ = ["check", "is_commitment", "read", "seal"]

SALT_BYTES = 16
_COMMITTED = b"\x00"
_LABEL = b"tipstaff/audit/reason/v1\0"


def is_commitment(reason: bytes) -> bool:
    """Whether an entry holds a commitment, not an older program's ciphertext."""
    return reason[:1] == _COMMITTED


def seal(vault: Vault, sequence: int, text: str) -> tuple[bytes, bytes]:
    """What the log keeps of a reason, and what is kept beside it."""
    plain = secrets.token_bytes(SALT_BYTES) + text.encode()
    return commit(plain), vault.encrypt(AUDIT_REASON, audit_reason_row(sequence), plain)


def commit(plain: bytes) -> bytes:
    """The commitment to salt and reason."""
    return _COMMITTED + hashlib.sha256(_LABEL + plain).digest()


def read(session: Session, vault: Vault, rows: Sequence[AuditRow]) -> dict[int, str]:
    """Gives the reasons of some entries, by sequence.

    Entries without a reason, or whose reason was erased, are left out.

    Raises:
        VaultDataError: a stored reason does not decrypt.
    """
    kept = _kept(session, [row.sequence for row in rows if row.reason is not None])
    texts: dict[int, str] = {}
    for row in rows:
        if (sealed := kept.get(row.sequence)) is not None:
            texts[row.sequence] = vault.decrypt(
                AUDIT_REASON, audit_reason_row(row.sequence), sealed
            )[SALT_BYTES:].decode()
        elif row.reason is not None and row.reason[0] in vault.keys.columns:
            texts[row.sequence] = vault.decrypt_text(
                AUDIT_REASON, audit_reason_row(row.sequence), row.reason
            )
    return texts


def check(session: Session, vault: Vault, rows: Sequence[AuditRow]) -> list[AuditRow]:
    """Opens the reasons of some entries, and gives the entries whose reason is gone.

    Raises:
        AuditError: a reason is not what was given then.
    """
    kept = _kept(session, [row.sequence for row in rows if row.reason is not None])
    gone: list[AuditRow] = []
    for row in rows:
        sealed = kept.get(row.sequence)
        if row.reason is None or not is_commitment(row.reason):
            continue
        if sealed is None:
            gone.append(row)
            continue
        try:
            plain = vault.decrypt(AUDIT_REASON, audit_reason_row(row.sequence), sealed)
        except VaultDataError:
            plain = b""
        if not hmac.compare_digest(commit(plain), row.reason):
            raise AuditError(row.sequence, f"the reason of audit entry {row.sequence} was altered")
    return gone


def _kept(session: Session, sequences: Iterable[int]) -> dict[int, bytes]:
    query = select(AuditReasonRow.sequence, AuditReasonRow.sealed).where(
        AuditReasonRow.sequence.in_(list(sequences))
    )
    return {row.sequence: row.sealed for row in session.execute(query)}
