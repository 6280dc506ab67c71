"""Changing the registry's keys while servers run.

    rewrap      another key wraps them; what they encrypted stays as it is
    rotate      a new column key: acts write under it, `re-encrypt` brings over what is there
    reindex     a new index key, in one transaction, so that no look-up finds half an index

An index key that was replaced stays, wrapped, to recognise entries and requests that come again
(Vault.made): what they were made of is not kept, so their digests cannot be made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.audit.act import act
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.registry.keys.reencryption import counts
from tipstaff_server.storage.models import (
    IdentifierRow,
    KeyPurpose,
    Meta,
    NameRow,
    SubjectRow,
    VaultKeyRow,
)
from tipstaff_server.vault import keys as vault_keys
from tipstaff_server.vault.columns import (
    NAME,
    NEXT_STRETCHED,
    NUMBER,
    STRETCHED,
    name_blind,
    number_blind,
)
from tipstaff_server.vault.lock import lock_head

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.vault.store import Store
    from tipstaff_server.vault.vault import Vault

__all__ = ["KeyStatus", "reindex", "retire", "rewrap", "rotate", "status"]

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One key: since when, wrapped by which, replaced when; `values`: how many are under it (column
    keys only).
    """

    purpose: KeyPurpose
    version: int
    wrapper: str
    created_at: datetime | None
    replaced_at: datetime | None
    values: int


def status(store: Store) -> list[KeyStatus]:
    """Every key of the registry. One that is not wrapped yet says so in `wrapper`."""
    with store.read() as session:
        used = counts(session)
        rows = session.scalars(
            select(VaultKeyRow).order_by(VaultKeyRow.purpose, VaultKeyRow.version)
        ).all()
    if not rows:
        wrapper = f"not wrapped; from {store.vault.wrappers[0].id}"
        return [
            KeyStatus(
                purpose,
                1,
                wrapper,
                None,
                None,
                used.get(1, 0) if purpose is KeyPurpose.COLUMN else 0,
            )
            for purpose in KeyPurpose
        ]
    return [
        KeyStatus(
            row.purpose,
            row.version,
            row.wrapper,
            row.created_at,
            row.replaced_at,
            used.get(row.version, 0) if row.purpose is KeyPurpose.COLUMN else 0,
        )
        for row in rows
    ]


def rewrap(store: Store, *, actor: Actor) -> int:
    """Wraps every key by the configured one; gives how many were not.

    Raises:
        WrongVaultKeyError, KeyWrapperError: nothing has changed then.
    """
    vault = store.vault
    with act(store, actor) as change:
        session = change.session
        adopted = vault_keys.adopt(session, vault.wrappers, change.now)
        done = vault_keys.rewrap(session, vault.wrappers) + (len(KeyPurpose) if adopted else 0)
        if done:
            change.note(
                AuditAct.VAULT_REWRAP,
                ("vault", b""),
                detail={"keys": done, "wrapper": vault.wrappers[0].id},
            )
    vault.attach(store.database)
    return done


def rotate(store: Store, *, actor: Actor) -> int:
    """Begins a new column key; its version. Raises VaultError: there were 255."""
    vault = store.vault
    with act(store, actor) as change:
        session = change.session
        vault_keys.adopt(session, vault.wrappers, change.now)
        registry_id = vault_keys.registry_id_of(session)
        version, _ = vault_keys.make(
            session, vault.wrappers[0], registry_id, KeyPurpose.COLUMN, change.now
        )
        vault_keys.bump(session)
        change.note(
            AuditAct.VAULT_ROTATE, ("vault", bytes([version])), detail={"column_key": version}
        )
    vault.attach(store.database)
    return version


def retire(store: Store, *, actor: Actor) -> list[int]:
    """Destroys the column keys that nothing is written under any more; gives their versions.

    Since a key was replaced, under the head's lock, nobody can have written under it: what is counted
    after that stays counted.
    """
    with store.read() as session:
        replaced = (VaultKeyRow.purpose == KeyPurpose.COLUMN, VaultKeyRow.replaced_at.is_not(None))
        versions = set(session.scalars(select(VaultKeyRow.version).where(*replaced)))
        idle = sorted(versions - counts(session).keys()) if versions else []
    if not idle:
        return []
    vault = store.vault
    with act(store, actor) as change:
        session = change.session
        gone = session.scalars(
            delete(VaultKeyRow)
            .where(VaultKeyRow.purpose == KeyPurpose.COLUMN, VaultKeyRow.version.in_(idle))
            .returning(VaultKeyRow.version)
            .execution_options(synchronize_session=False)
        ).all()
        for version in sorted(gone):
            change.note(
                AuditAct.VAULT_RETIRE,
                ("vault", bytes([version])),
                detail={"column_key": version},
            )
        vault_keys.bump(session)
    vault.attach(store.database)
    return sorted(gone)


def reindex(store: Store, *, actor: Actor) -> int:
    """Begins a new index key and moves every identifier and name to it, all or nothing.

    Acts wait meanwhile.

    Returns:
        How many were moved.
    """
    vault = store.vault
    with act(store, actor) as change:
        session = change.session
        vault_keys.adopt(session, vault.wrappers, change.now)
        registry_id = vault_keys.registry_id_of(session)
        version, key = vault_keys.make(
            session, vault.wrappers[0], registry_id, KeyPurpose.INDEX, change.now
        )
        vault_keys.bump(session)
        # Another vault: this one's other threads must not look up under a key that may yet be
        # rolled back.
        moving = type(vault)(vault.wrappers)
        check = vault_keys.check_value(key, registry_id)
        session.execute(update(Meta).where(Meta.name == "vault.check").values(value=check))
        lock_head(session, moving)
        done = _move(session, moving)
        change.note(
            AuditAct.VAULT_REINDEX,
            ("vault", bytes([version])),
            detail={"index_key": version, "values": done},
        )
    vault.attach(store.database)
    return done


def _move(session: Session, vault: Vault) -> int:
    done, last = 0, b""
    while True:
        subjects = session.scalars(
            select(SubjectRow.id).where(SubjectRow.id > last).order_by(SubjectRow.id).limit(PAGE)
        ).all()
        if not subjects:
            return done
        low, last = last, subjects[-1]
        done += _move_identifiers(session, vault, low, last) + _move_names(
            session, vault, low, last
        )


def _move_identifiers(session: Session, vault: Vault, low: bytes, high: bytes) -> int:
    columns = (
        IdentifierRow.blind,
        IdentifierRow.value,
        IdentifierRow.stretched,
        IdentifierRow.next_stretched,
    )
    rows = session.execute(
        select(*columns).where(IdentifierRow.subject_id > low, IdentifierRow.subject_id <= high)
    ).all()
    for row in rows:
        number = vault.decrypt(NUMBER, row.blind, row.value)
        coming = row.next_stretched and vault.decrypt(NEXT_STRETCHED, row.blind, row.next_stretched)
        blind = number_blind(vault, number)
        values = {
            "blind": blind,
            "value": vault.encrypt(NUMBER, blind, number),
            "stretched": vault.encrypt(
                STRETCHED, blind, vault.decrypt(STRETCHED, row.blind, row.stretched)
            ),
            "next_stretched": coming and vault.encrypt(NEXT_STRETCHED, blind, coming),
        }
        session.execute(
            update(IdentifierRow).where(IdentifierRow.blind == row.blind).values(values)
        )
    return len(rows)


def _move_names(session: Session, vault: Vault, low: bytes, high: bytes) -> int:
    columns = (NameRow.subject_id, NameRow.blind, NameRow.value)
    rows = session.execute(
        select(*columns).where(NameRow.subject_id > low, NameRow.subject_id <= high)
    ).all()
    for row in rows:
        shown = vault.decrypt_text(NAME, row.subject_id + row.blind, row.value)
        blind = name_blind(vault, row.subject_id, canonical_name(shown))
        value = vault.encrypt_text(NAME, row.subject_id + blind, shown)
        which = (NameRow.subject_id == row.subject_id, NameRow.blind == row.blind)
        session.execute(update(NameRow).where(*which).values(blind=blind, value=value))
    return len(rows)
