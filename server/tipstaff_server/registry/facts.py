"""Making a registry: its facts, its administration, its providers.

Everything here may be repeated.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from tipstaff_sdk.listing.sealing import SALT_SIZE
from tipstaff_server.audit.log import START
from tipstaff_server.errors import SchemaVersionError
from tipstaff_server.storage import migrations
from tipstaff_server.storage.models import (
    HEAD,
    AuditHeadRow,
    Meta,
    ReliefHeadRow,
    StretchRow,
    StretchState,
)
from tipstaff_server.vault import keys as vault_keys
from tipstaff_server.vault import stretch as stretches

if TYPE_CHECKING:
    from tipstaff_sdk.listing.sealing import Stretch
    from tipstaff_server.config import StretchSection
    from tipstaff_server.vault.store import Store

__all__ = ["initialise", "open_facts"]


def initialise(store: Store, stretch: StretchSection) -> Stretch:
    """Migrates the database and settles the facts of the deployment; of an existing one it only
    checks the key.

    Raises WrongVaultKeyError, SchemaVersionError.
    """
    migrations.upgrade(store.database)
    with store.write() as session:
        if session.get(Meta, "registry.id") is None:
            registry_id = secrets.token_bytes(16)
            facts = {
                "registry.id": registry_id,
                "vault.check": vault_keys.create(
                    session, store.vault.wrappers[0], registry_id, store.clock()
                ),
            }
            session.execute(
                insert(Meta), [{"name": name, "value": value} for name, value in facts.items()]
            )
            salt, now = secrets.token_bytes(SALT_SIZE), store.clock()
            first = StretchRow(
                number=1,
                salt=salt,
                n=stretch.n,
                r=stretch.r,
                p=stretch.p,
                state=StretchState.CURRENT,
                begun_at=now,
            )
            session.add(first)
            session.add(ReliefHeadRow(id=HEAD, sequence=0))
            session.add(AuditHeadRow(id=HEAD, sequence=0, digest=START, vault_generation=0))
    return open_facts(store)


def open_facts(store: Store) -> Stretch:
    """Checks schema and key, and gives the deployment's stretch.

    Raises SchemaVersionError, WrongVaultKeyError, VaultDataKeyError.
    """
    migrations.check(store.database)
    with store.read() as session:
        facts = {row.name: row.value for row in session.scalars(select(Meta))}
    if "registry.id" not in facts:
        raise SchemaVersionError("the database holds no registry yet; run `tipstaff-server init`")
    store.vault.attach(store.database)
    with store.read() as session:
        return stretches.current(session).stretch
