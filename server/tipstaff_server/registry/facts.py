"""Making a registry: its facts, its administration, its providers.

Everything here may be repeated.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from tipstaff_sdk.listing.sealing import SALT_SIZE
from tipstaff_server.administration.in_use import refuse_in_use
from tipstaff_server.audit.log import START, AuditLog
from tipstaff_server.clock import utc_now
from tipstaff_server.errors import AdministrationError, NotFoundError, SchemaVersionError
from tipstaff_server.storage import migrations
from tipstaff_server.storage.models import (
    AdministrationRow,
    AudienceMeasureRow,
    AudienceRow,
    AuditHeadRow,
    AuthorityRow,
    EntitlementRow,
    ListMeasureRow,
    ListRow,
    MeasureRow,
    Meta,
    ProviderRow,
    ReliefHeadRow,
    StretchRow,
    StretchState,
)
from tipstaff_server.vault import keys as vault_keys
from tipstaff_server.vault import stretch as stretches

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_sdk.listing.sealing import Stretch
    from tipstaff_server.administration.document import Administration
    from tipstaff_server.config import StretchSection
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.storage.database import Database
    from tipstaff_server.vault.vault import Vault

__all__ = [
    "add_provider",
    "initialise",
    "open_facts",
    "register_wrapping_key",
    "set_administration",
]

_HEAD = 1


def initialise(database: Database, vault: Vault, stretch: StretchSection) -> Stretch:
    """Migrates the database and settles the facts of the deployment; of an existing one it only
    checks the key.

    Raises WrongVaultKeyError, SchemaVersionError.
    """
    migrations.upgrade(database)
    with database.write() as session:
        if session.get(Meta, "registry.id") is None:
            registry_id = secrets.token_bytes(16)
            facts = {
                "registry.id": registry_id,
                "vault.check": vault_keys.create(
                    session, vault.wrappers[0], registry_id, utc_now()
                ),
            }
            session.execute(
                insert(Meta), [{"name": name, "value": value} for name, value in facts.items()]
            )
            salt, now = secrets.token_bytes(SALT_SIZE), utc_now()
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
            session.add(ReliefHeadRow(id=_HEAD, sequence=0))
            session.add(AuditHeadRow(id=_HEAD, sequence=0, digest=START, vault_generation=0))
    return open_facts(database, vault)


def open_facts(database: Database, vault: Vault) -> Stretch:
    """Checks schema and key, and gives the deployment's stretch.

    Raises SchemaVersionError, WrongVaultKeyError, VaultDataKeyError.
    """
    migrations.check(database)
    with database.read() as session:
        facts = {row.name: row.value for row in session.scalars(select(Meta))}
    if "registry.id" not in facts:
        raise SchemaVersionError("the database holds no registry yet; run `tipstaff-server init`")
    vault.attach(database)
    with database.read() as session:
        return stretches.current(session).stretch


def set_administration(
    database: Database, vault: Vault, administration: Administration, *, actor: Actor, now: datetime
) -> int:
    """Makes `administration` the current one; its version. The same one again changes nothing.

    What is no longer in it is marked as retired, never deleted: restrictions and reports refer to
    it. Raises AdministrationError: a restriction or a provider still rests on what is left out.
    """
    with database.write() as session:
        log = AuditLog(session, vault)
        last = session.execute(
            select(AdministrationRow.version, AdministrationRow.digest)
            .order_by(AdministrationRow.version.desc())
            .limit(1)
        ).first()
        if last is not None and last.digest == administration.digest():
            return int(last.version)
        refuse_in_use(session, administration)
        version = 1 if last is None else int(last.version) + 1
        session.add(
            AdministrationRow(
                version=version,
                made_at=now,
                digest=administration.digest(),
                document=administration.document(),
            )
        )
        _rewrite(session, administration)
        log.add(
            now,
            actor,
            "ADMINISTRATION",
            ("administration", version.to_bytes(8, "big")),
            detail={"digest": administration.digest().hex()},
        )
        session.flush()
        log.flush()
    return version


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


def _rewrite(session: Session, administration: Administration) -> None:
    for link in (EntitlementRow, ListMeasureRow, AudienceMeasureRow):
        session.execute(delete(link))
    _retire(
        session,
        {item.code for item in administration.measures},
        {item.id for item in administration.authorities},
    )
    _retire_groups(
        session,
        {item.id for item in administration.lists},
        {item.id for item in administration.audiences},
    )
    for measure in administration.measures:
        session.merge(MeasureRow(code=measure.code, retired=False))
    for authority in administration.authorities:
        session.merge(
            AuthorityRow(
                id=authority.id,
                title_zh=authority.title.zh,
                title_en=authority.title.en,
                region=authority.region,
                retired=False,
            )
        )
    for item in administration.lists:
        session.merge(
            ListRow(
                id=item.id,
                title_zh=item.title.zh,
                title_en=item.title.en,
                dispute_effect=item.dispute_effect,
                dispute_zh=item.dispute.zh,
                dispute_en=item.dispute.en,
                answer_days=item.answer_days,
                notice_days=item.notice_days,
                default_term=item.default_term,
                default_legal_basis=item.default_legal_basis,
                approval=item.approval,
                retired=False,
            )
        )
    for audience in administration.audiences:
        session.merge(
            AudienceRow(
                id=audience.id,
                title_zh=audience.title.zh,
                title_en=audience.title.en,
                retired=False,
            )
        )
    session.flush()
    _link(session, administration)


def _retire(session: Session, measures: set[str], authorities: set[str]) -> None:
    for measure in session.scalars(select(MeasureRow)):
        measure.retired = measure.code not in measures
    for authority in session.scalars(select(AuthorityRow)):
        authority.retired = authority.id not in authorities


def _retire_groups(session: Session, lists: set[str], audiences: set[str]) -> None:
    for item in session.scalars(select(ListRow)):
        item.retired = item.id not in lists
    for audience in session.scalars(select(AudienceRow)):
        audience.retired = audience.id not in audiences


def _link(session: Session, administration: Administration) -> None:
    session.add_all(
        EntitlementRow(authority_id=item.id, measure=code)
        for item in administration.authorities
        for code in item.entitlements
    )
    session.add_all(
        ListMeasureRow(list_id=item.id, measure=code)
        for item in administration.lists
        for code in item.default_measures
    )
    session.add_all(
        AudienceMeasureRow(audience_id=item.id, measure=code)
        for item in administration.audiences
        for code in item.measures
    )
