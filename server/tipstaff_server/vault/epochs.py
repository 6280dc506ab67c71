"""Epoch keys: one 32-byte master key per audience and epoch, which tokens, locators and record keys
come from.

Kept encrypted by the vault, made when first asked for, epoch 1 first. A rotation makes the next
epoch and gives its key to providers at once; listings use it after a lead, by when they have it.
The epoch before retires an overlap later; until then listings of both are in use. An epoch keeps
the stretch that it began with (stretches.py).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from tipstaff.v1 import distribution_pb2
from tipstaff_sdk.listing.sealing import EpochKey
from tipstaff_server.errors import InvalidRequestError, PermissionDeniedError, PublicationError
from tipstaff_server.storage.models import EpochKeyRow, ProviderRow
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.columns import EPOCH_KEY, epoch_key_row
from tipstaff_server.vault.lock import lock_head

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.vault.store import Store

__all__ = ["Epoch", "EpochKeys"]

KEY_BYTES = 32
NO_TIME = timedelta(0)
# RFC 9180 base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, as distribution.proto
# says.
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of an audience.

    `valid_until` is None while it is the current one. The key does not show in its repr.
    """

    audience: str
    number: int
    valid_from: datetime
    valid_until: datetime | None
    key: bytes = field(repr=False)
    stretch: int = 1  # number of the stretch that its listings use

    @property
    def master(self) -> EpochKey:
        """Its key as tokens, locators and record keys are derived from it."""
        return EpochKey(self.audience, self.number, self.key)


class EpochKeys:
    """The epoch keys of all audiences.

    Thread-safe. Raises DatabaseUnavailableError and VaultError as the database and vault do.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def current(self, audience: str) -> Epoch:
        """The epoch that a listing built now uses; epoch 1 is made when there is none."""
        with self._store.read() as session:
            rows = self._rows(session, audience)
        if not rows:
            with self._store.write() as session:
                # Somebody else may have been first.
                rows = self._rows(session, audience) or [
                    self._make(session, audience, 1, self._store.clock())
                ]
        now = self._store.clock()
        begun = [row for row in rows if row.created_at <= now]
        # Before the very first begins only where clocks of machines differ.
        return self._open(begun[-1] if begun else rows[0])

    def in_use(self, audience: str) -> list[Epoch]:
        """Epochs whose keys providers need, ascending: those of the overlap, the current one, and
        the one that comes next.
        """
        self.current(audience)
        now = self._store.clock()
        with self._store.read() as session:
            rows = self._rows(session, audience)
        return [self._open(row) for row in rows if row.retired_at is None or row.retired_at > now]

    def newest(self, audience: str) -> Epoch:
        """The last one that was made; what listings use now, or after its lead."""
        return self.in_use(audience)[-1]

    def get(self, audience: str, number: int) -> Epoch | None:
        """One epoch, also a retired one; None when there is no such."""
        with self._store.read() as session:
            row = session.get(EpochKeyRow, (audience, number))
        return None if row is None else self._open(row)

    def needed(self, audience: str, number: int) -> Epoch:
        """The same for a listing of this epoch. Raises PublicationError: there is no such."""
        epoch = self.get(audience, number)
        if epoch is None:
            raise PublicationError(f"epoch {number} of {audience} is no longer in use; build again")
        return epoch

    def rotate(self, audience: str, overlap: timedelta, lead: timedelta = NO_TIME) -> Epoch:
        """Makes the next epoch, which listings use after `lead`; the one before stays in use for
        `overlap` more, a listing's lifetime.

        `lead` should be longer than providers wait between asking for keys (their `keys_interval`).
        """
        begins = self._store.clock() + lead
        with self._store.write() as session:
            rows = self._rows(session, audience)
            for row in rows:
                row.retired_at = row.retired_at or begins + overlap
            made = self._make(
                session,
                audience,
                rows[-1].epoch + 1 if rows else 1,
                begins if rows else self._store.clock(),
            )
            return self._open(made)

    def sealed(
        self, audience: str, recipient: bytes, *, provider: str | None = None
    ) -> list[distribution_pb2.SealedEpochKey]:
        """All keys in use, sealed to an X25519 public key (32 bytes).

        A provider that registered a key gets them sealed to that one only, so that a stolen
        certificate alone yields none.

        Raises:
            PermissionDeniedError: another key than the registered one. InvalidRequestError: a key
                that cannot be sealed to.
        """
        registered = None if provider is None else self._registered(provider)
        if registered is not None and registered != recipient:
            raise PermissionDeniedError(
                "this provider's epoch keys are sealed to its registered key only; set"
                " wrapping_key_file to that key's file"
            )
        public = X25519PublicKey.from_public_bytes(recipient)
        return [_seal(epoch, public) for epoch in self.in_use(audience)]

    def _registered(self, provider: str) -> bytes | None:
        with self._store.read() as session:
            return session.scalar(
                select(ProviderRow.wrapping_key).where(ProviderRow.id == provider)
            )

    def _rows(self, session: Session, audience: str) -> list[EpochKeyRow]:
        return list(
            session.scalars(
                select(EpochKeyRow)
                .where(EpochKeyRow.audience_id == audience)
                .order_by(EpochKeyRow.epoch)
            )
        )

    def _make(self, session: Session, audience: str, number: int, begins: datetime) -> EpochKeyRow:
        lock_head(session, self._store.vault)
        key = self._store.vault.encrypt(
            EPOCH_KEY, epoch_key_row(audience, number), secrets.token_bytes(KEY_BYTES)
        )
        stretch = stretches.newest(session).number
        row = EpochKeyRow(
            audience_id=audience,
            epoch=number,
            key=key,
            created_at=begins,
            retired_at=None,
            stretch=stretch,
        )
        session.add(row)
        session.flush()
        return row

    def _open(self, row: EpochKeyRow) -> Epoch:
        key = self._store.vault.decrypt(
            EPOCH_KEY, epoch_key_row(row.audience_id, row.epoch), row.key
        )
        return Epoch(row.audience_id, row.epoch, row.created_at, row.retired_at, key, row.stretch)


def _seal(epoch: Epoch, recipient: X25519PublicKey) -> distribution_pb2.SealedEpochKey:
    info = f"tipstaff/v1/epoch-key\0{epoch.audience}\0{epoch.number}".encode()
    try:
        sealed = _SUITE.encrypt(epoch.key, recipient, info=info)
    except ValueError:
        # A low-order point: the shared secret would be all zeros (RFC 7748, 6.1).
        raise InvalidRequestError(
            "recipient_public_key is not a usable X25519 key; make a new one"
        ) from None
    message = distribution_pb2.SealedEpochKey(
        epoch=epoch.number, sealed=sealed, valid_from=_timestamp(epoch.valid_from)
    )
    if epoch.valid_until is not None:
        message.valid_until.CopyFrom(_timestamp(epoch.valid_until))
    return message


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
