"""The registry's own keys in its database: each wrapped by the key of the configuration, each with
a version.

    COLUMN n   AES-256-SIV key, 64 bytes; n is the first byte of every value that it encrypted (1 to 255)
    INDEX n    HMAC key of the blind index, 32 bytes

What is wrapped says itself what it is, so no row can take another's place, here or in another
registry. A registry made before there was this table has both keys from its root key, as version 1;
they are wrapped at the first `vault rewrap` or `vault rotate`.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from sqlalchemy import select, update

from tipstaff_server.errors import VaultDataKeyError, VaultError, WrongVaultKeyError
from tipstaff_server.storage.models import HEAD, AuditHeadRow, KeyPurpose, Meta, VaultKeyRow
from tipstaff_server.vault.wrapping import LocalKey, expand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.vault.wrapping import KeyWrapper

__all__ = [
    "Keys",
    "adopt",
    "bump",
    "check_value",
    "create",
    "generation_of",
    "load",
    "make",
    "registry_id_of",
    "rewrap",
]

COLUMN_BYTES, INDEX_BYTES = 64, 32
LAST_VERSION = 255
_LENGTHS = {KeyPurpose.COLUMN: COLUMN_BYTES, KeyPurpose.INDEX: INDEX_BYTES}
_MAGIC = b"tipstaff vault key v1\n"
_BACKUP = "restore the table vault_keys from a backup of the database"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys as they were at one generation.

    `columns` and `indices` by version; the highest version writes. Shows nothing.
    """

    generation: int
    columns: dict[int, AESSIV] = field(repr=False)
    indices: dict[int, bytes] = field(repr=False)
    bare: bool
    _begun: dict[int, HMAC] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A copy of one that has taken its key in costs a third of hmac.digest, which also gives up
        # the interpreter lock each time: beside a busy thread it then waits its turn, and an import
        # asks for five a row.
        object.__setattr__(
            self, "_begun", {version: HMAC(key, SHA256()) for version, key in self.indices.items()}
        )

    @classmethod
    def of_root(cls, root: bytes, generation: int = 0) -> Keys:
        """Those of a registry without wrapped keys."""
        return cls(
            generation,
            {1: AESSIV(expand(root, b"column", COLUMN_BYTES))},
            {1: expand(root, b"index", INDEX_BYTES)},
            bare=True,
        )

    @property
    def column(self) -> int:
        """The version that values are written under."""
        return max(self.columns)

    @property
    def index(self) -> int:
        """The version that values are looked up under."""
        return max(self.indices)

    def digest(self, version: int, column: str, value: bytes) -> bytes:
        """The blind index under one version."""
        hashing = self._begun[version].copy()
        hashing.update(column.encode() + b"\0" + value)
        return hashing.finalize()


def generation_of(session: Session) -> int:
    """How often the keys have changed."""
    return session.scalar(select(AuditHeadRow.vault_generation).where(AuditHeadRow.id == HEAD)) or 0


def bump(session: Session) -> None:
    """Tells every program on this database, at its next act, that the keys have changed.

    The head is to be locked already.
    """
    session.execute(
        update(AuditHeadRow)
        .where(AuditHeadRow.id == HEAD)
        .values(vault_generation=AuditHeadRow.vault_generation + 1)
    )


def load(session: Session, wrappers: Sequence[KeyWrapper]) -> Keys:
    """The keys, unwrapped and checked.

    Raises WrongVaultKeyError, VaultDataKeyError, KeyWrapperError.
    """
    facts = {
        row.name: row.value
        for row in session.scalars(
            select(Meta).where(Meta.name.in_(["registry.id", "vault.check"]))
        )
    }
    registry_id, check = facts["registry.id"], facts["vault.check"]
    generation = generation_of(session)
    rows = session.scalars(select(VaultKeyRow).order_by(VaultKeyRow.version)).all()
    if not rows:
        return _bare(wrappers, registry_id, check, generation)
    by_purpose: dict[KeyPurpose, dict[int, bytes]] = {KeyPurpose.COLUMN: {}, KeyPurpose.INDEX: {}}
    for row in rows:
        by_purpose[row.purpose][row.version] = _unwrap(row, wrappers, registry_id)
    writing = {row.purpose for row in rows if row.replaced_at is None}
    if len(writing) < len(KeyPurpose):
        raise VaultDataKeyError(f"a key of this registry is lost; {_BACKUP}")
    columns = {version: AESSIV(key) for version, key in by_purpose[KeyPurpose.COLUMN].items()}
    keys = Keys(generation, columns, by_purpose[KeyPurpose.INDEX], bare=False)
    if not hmac.compare_digest(check, keys.digest(keys.index, "vault.check", registry_id)):
        raise VaultDataKeyError(f"the index key of this registry is lost or out of date; {_BACKUP}")
    return keys


def _bare(
    wrappers: Sequence[KeyWrapper], registry_id: bytes, check: bytes, generation: int
) -> Keys:
    for wrapper in wrappers:
        if isinstance(wrapper, LocalKey):
            keys = Keys.of_root(wrapper.root, generation)
            if hmac.compare_digest(check, keys.digest(1, "vault.check", registry_id)):
                return keys
    raise WrongVaultKeyError(
        "this registry key does not belong to this database; configure the key that was made with"
        " it ([registry] key). If it is the right one, the database has lost its wrapped keys:"
        f" {_BACKUP}"
    )


def _unwrap(row: VaultKeyRow, wrappers: Sequence[KeyWrapper], registry_id: bytes) -> bytes:
    wrapper = next((item for item in wrappers if item.id == row.wrapper), None)
    if wrapper is None:
        known = ", ".join(item.id for item in wrappers)
        raise WrongVaultKeyError(
            f"this registry key does not belong to this database: {row.wrapper} wraps its keys, and"
            f" {known} is configured; configure the key that was made with it as [registry] key, or"
            " among other_keys"
        )
    payload = wrapper.unwrap(row.wrapped)
    header, length = _header(row.purpose, row.version, registry_id), _LENGTHS[row.purpose]
    if not hmac.compare_digest(payload[:-length], header):
        raise VaultDataKeyError(
            f"{row.purpose} key {row.version} is not what was wrapped for this place; {_BACKUP}"
        )
    return payload[-length:]


def _header(purpose: KeyPurpose, version: int, registry_id: bytes) -> bytes:
    return _MAGIC + purpose.value.encode() + bytes([version]) + registry_id


def registry_id_of(session: Session) -> bytes:
    """The registry's id, 16 bytes."""
    return session.execute(select(Meta.value).where(Meta.name == "registry.id")).scalar_one()


def create(session: Session, wrapper: KeyWrapper, registry_id: bytes, now: datetime) -> bytes:
    """The first keys of a new registry; the check value to be kept beside them."""
    make(session, wrapper, registry_id, KeyPurpose.COLUMN, now)
    _, key = make(session, wrapper, registry_id, KeyPurpose.INDEX, now)
    return check_value(key, registry_id)


def check_value(index_key: bytes, registry_id: bytes) -> bytes:
    """What a database keeps to recognise its index key, 32 bytes."""
    return Keys(0, {}, {1: index_key}, bare=False).digest(1, "vault.check", registry_id)


def make(
    session: Session, wrapper: KeyWrapper, registry_id: bytes, purpose: KeyPurpose, now: datetime
) -> tuple[int, bytes]:
    """Adds a new random key, which from here on writes; its version, and the key.

    Raises VaultError: there were 255 already.
    """
    newest = session.scalar(
        select(VaultKeyRow.version)
        .where(VaultKeyRow.purpose == purpose)
        .order_by(VaultKeyRow.version.desc())
        .limit(1)
    )
    version = (newest or 0) + 1
    if version > LAST_VERSION:
        raise VaultError(f"there have been {LAST_VERSION} {purpose} keys; move to a new registry")
    earlier = (VaultKeyRow.purpose == purpose, VaultKeyRow.replaced_at.is_(None))
    session.execute(update(VaultKeyRow).where(*earlier).values(replaced_at=now))
    key = secrets.token_bytes(_LENGTHS[purpose])
    _put(session, wrapper, registry_id, purpose, version, key, now)
    return version, key


def _put(
    session: Session,
    wrapper: KeyWrapper,
    registry_id: bytes,
    purpose: KeyPurpose,
    version: int,
    key: bytes,
    now: datetime,
) -> None:
    wrapped = wrapper.wrap(_header(purpose, version, registry_id) + key)
    session.add(
        VaultKeyRow(
            purpose=purpose, version=version, wrapper=wrapper.id, wrapped=wrapped, created_at=now
        )
    )
    session.flush()


def adopt(session: Session, wrappers: Sequence[KeyWrapper], now: datetime) -> bool:
    """Wraps the keys of a registry that has none wrapped yet; False: they are.

    The head is to be locked already.
    """
    if session.scalar(select(VaultKeyRow.version).limit(1)) is not None:
        return False
    keys = load(session, wrappers)
    root = next(
        item.root
        for item in wrappers
        if isinstance(item, LocalKey) and Keys.of_root(item.root).indices == keys.indices
    )
    registry_id = registry_id_of(session)
    _put(
        session,
        wrappers[0],
        registry_id,
        KeyPurpose.COLUMN,
        1,
        expand(root, b"column", COLUMN_BYTES),
        now,
    )
    _put(session, wrappers[0], registry_id, KeyPurpose.INDEX, 1, keys.indices[1], now)
    bump(session)
    return True


def rewrap(session: Session, wrappers: Sequence[KeyWrapper]) -> int:
    """Wraps all keys by the first of `wrappers`; how many were wrapped by another.

    Nothing else changes.
    """
    registry_id, done = registry_id_of(session), 0
    for row in session.scalars(select(VaultKeyRow).with_for_update()):
        if row.wrapper != wrappers[0].id:
            key = _unwrap(row, wrappers, registry_id)
            row.wrapped = wrappers[0].wrap(_header(row.purpose, row.version, registry_id) + key)
            row.wrapper = wrappers[0].id
            done += 1
    session.flush()
    return done
