"""The registry's own keys, wrapped; reasons of acts, apart from the log that covers them;
checkpoints of the log.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, SmallInteger, String
from sqlalchemy import Text as LongText
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import Base, Sealed, UtcDateTime, When, word


class KeyPurpose(StrEnum):
    """What a key of the registry is for: values of columns, or the blind index."""

    COLUMN = "COLUMN"
    INDEX = "INDEX"


class VaultKeyRow(Base):
    """One key of the registry, wrapped by the key named in `wrapper`.

    The newest version of a purpose is the one that writes.

    `replaced_at`: since when it only reads (columns), or only recognises entries made under it
    (index).
    """

    __tablename__ = "vault_keys"
    purpose: Mapped[KeyPurpose] = mapped_column(word(KeyPurpose), primary_key=True)
    version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    wrapper: Mapped[str] = mapped_column(String(220))
    wrapped: Mapped[Sealed]
    created_at: Mapped[When]
    replaced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditReasonRow(Base):
    """The reason of one act, encrypted.

    Its entry in the log holds a commitment to it, so it can be encrypted anew, and erased.
    """

    __tablename__ = "audit_reasons"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sealed: Mapped[Sealed]


class AuditCheckpointRow(Base):
    """A signed statement of how long the log was, and with which digest: a signed note
    (docs/formats/audit.md).
    """

    __tablename__ = "audit_checkpoints"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[When]
    note: Mapped[str] = mapped_column(LongText)
