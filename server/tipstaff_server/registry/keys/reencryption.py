"""Every encrypted column of the registry, in one place, and encrypting all of them anew after a
change of keys.

A batch is one transaction under the head's lock; whoever is killed in between goes on where values
are still under the old key. Servers may run meanwhile: since the change, every act writes under the
new key. A key that nothing is written under any more is destroyed.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, insert, select, tuple_, update

from tipstaff_server.audit import reasons
from tipstaff_server.storage.models import (
    AuditReasonRow,
    AuditRow,
    ExemptionRow,
    KeyPurpose,
    VaultKeyRow,
)
from tipstaff_server.vault.columns import (
    AUDIT_REASON,
    ENCRYPTED_COLUMNS,
    EncryptedColumn,
    audit_reason_row,
    seal_exemption_reason,
)
from tipstaff_server.vault.lock import lock_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from tipstaff_server.vault.store import Store
    from tipstaff_server.vault.vault import Vault

__all__ = ["BATCH", "counts", "reencrypt"]

BATCH = 500


def counts(session: Session) -> dict[int, int]:
    """How many values are written under each version of the column key.

    Reads every value's first byte.
    """
    by_version: dict[int, int] = {}
    for item in ENCRYPTED_COLUMNS:
        first = func.substr(item.column, 1, 1)
        query = select(first, func.count()).where(func.length(item.column) > 0).group_by(first)
        for version, count in session.execute(query):
            by_version[version[0]] = by_version.get(version[0], 0) + count
    first = func.substr(AuditRow.reason, 1, 1)
    for version, count in session.execute(
        select(first, func.count()).where(*_old_reasons(session)).group_by(first)
    ):
        by_version[version[0]] = by_version.get(version[0], 0) + count
    return by_version


def reencrypt(store: Store, *, batch: int = BATCH) -> Iterator[int]:
    """Writes under the newest key whatever is not.

    It may be killed, and run again.

    Yields:
        How many values each transaction wrote.
    """
    yield from _clear_exemptions(store, batch)
    yield from _move_reasons(store, batch)
    for item in ENCRYPTED_COLUMNS:
        last: tuple[Any, ...] = ()
        while True:
            with store.write() as session:
                lock_head(session, store.vault)
                rows = session.execute(_behind(item, store.vault, last).limit(batch)).all()
                _rewrite(session, store.vault, item, rows)
            if not rows:
                break
            last = tuple(rows[-1])[:-1]
            yield len(rows)


def _behind(item: EncryptedColumn, vault: Vault, last: tuple[Any, ...]) -> Any:
    """Values behind `last` that are not under the newest key: primary key, then the value."""
    newest = bytes([vault.keys.column])
    where = and_(func.length(item.column) > 0, func.substr(item.column, 1, 1) != newest)
    if last:
        where = and_(where, tuple_(*item.key) > last)
    return select(*item.key, item.column).where(where).order_by(*item.key)


def _rewrite(session: Session, vault: Vault, item: EncryptedColumn, rows: Any) -> None:
    if not rows:
        return
    table = item.column.class_.__table__
    name = item.column.key
    same = [table.c[part.key] == bindparam(f"was_{part.key}") for part in item.key]
    # Whoever changed the value meanwhile has written it under the newest key already.
    change = (
        update(table)
        .where(*same, table.c[name] == bindparam("was"))
        .values({name: bindparam("anew")})
    )
    values: list[dict[str, Any]] = []
    for *key, stored in rows:
        row = item.row(*key)
        anew = vault.encrypt(item.label, row, vault.decrypt(item.label, row, stored))
        values.append(
            {f"was_{part.key}": value for part, value in zip(item.key, key, strict=True)}
            | {"was": stored, "anew": anew}
        )
    session.connection().execute(change, values)


def _old_reasons(session: Session) -> tuple[ColumnElement[bool], ...]:
    """Reasons that an older program wrote into the log itself, and that nobody has copied from
    there yet.

    Those whose key is gone were copied, and erased since.
    """
    versions = session.scalars(
        select(VaultKeyRow.version).where(VaultKeyRow.purpose == KeyPurpose.COLUMN)
    ).all() or [1]
    copied = (
        select(AuditReasonRow.sequence).where(AuditReasonRow.sequence == AuditRow.sequence).exists()
    )
    return (
        AuditRow.reason.is_not(None),
        func.substr(AuditRow.reason, 1, 1).in_([bytes([version]) for version in versions]),
        ~copied,
    )


def _move_reasons(store: Store, batch: int) -> Iterator[int]:
    """Copies them out of the log, so that the key they are under there can go; the chain goes on
    covering what it covered.
    """
    if store.vault.keys.column == 1:
        return
    while True:
        with store.write() as session:
            lock_head(session, store.vault)
            query = (
                select(AuditRow.sequence, AuditRow.reason)
                .where(*_old_reasons(session))
                .order_by(AuditRow.sequence)
                .limit(batch)
            )
            rows = session.execute(query).all()
            made = list(starmap(_moved(store.vault), rows))
            if made:
                session.execute(insert(AuditReasonRow), made)
        if not rows:
            return
        yield len(rows)


def _moved(vault: Vault) -> Callable[[int, bytes], dict[str, Any]]:
    def one(sequence: int, stored: bytes) -> dict[str, Any]:
        row = audit_reason_row(sequence)
        plain = bytes(reasons.SALT_BYTES) + vault.decrypt(AUDIT_REASON, row, stored)
        return {"sequence": sequence, "sealed": vault.encrypt(AUDIT_REASON, row, plain)}

    return one


def _clear_exemptions(store: Store, batch: int) -> Iterator[int]:
    """Encrypts the reasons of exemptions that an older program left in clear."""
    while True:
        with store.write() as session:
            lock_head(session, store.vault)
            rows = session.scalars(
                select(ExemptionRow).where(ExemptionRow.reason.is_(None)).limit(batch)
            ).all()
            for row in rows:
                row.reason = seal_exemption_reason(
                    store.vault, row.id, (row.reason_zh, row.reason_en)
                )
                row.reason_zh = row.reason_en = ""
        if not rows:
            return
        yield len(rows)
