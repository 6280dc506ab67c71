"""How identifiers are stretched, and how they were and will be."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import Base, UtcDateTime, When, word


class StretchState(StrEnum):
    """Where a stretch stands; registry/keys/stretch_change.py says what follows what."""

    PREPARING = "PREPARING"
    READY = "READY"
    TAKING_OVER = "TAKING_OVER"
    CURRENT = "CURRENT"
    RETIRED = "RETIRED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


class StretchRow(Base):
    """Salt (16 bytes) and cost of scrypt.

    Of each deployment one is CURRENT or TAKING_OVER; one besides may be on its way.
    """

    __tablename__ = "stretches"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    salt: Mapped[bytes] = mapped_column(LargeBinary(16))
    n: Mapped[int]
    r: Mapped[int]
    p: Mapped[int]
    state: Mapped[StretchState] = mapped_column(word(StretchState))
    begun_at: Mapped[When]
    ready_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
