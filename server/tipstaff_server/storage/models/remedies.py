"""What follows a wrongful enforcement (恢复): each provider that acted on it is told, and answers."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import Base, Code, Id, UtcDateTime, When, word


class RemedyState(StrEnum):
    """Where a remedy stands; named as RemedyState in the contract."""

    OPEN = "OPEN"
    DELIVERED = "DELIVERED"
    ANSWERED = "ANSWERED"


class RemedyOutcome(StrEnum):
    """What a provider did to make good; named as RemedyOutcome in the contract."""

    RESTORED = "RESTORED"
    COMPENSATED = "COMPENSATED"
    DECLINED = "DECLINED"
    NOT_FOUND = "NOT_FOUND"
    NOTHING_DONE = "NOTHING_DONE"


class RemedyRow(Base):
    """One provider's duty to make good what it did on one revoked restriction.

    `note` is encrypted, in the row of the remedy's id.
    """

    __tablename__ = "remedies"
    __table_args__ = (
        UniqueConstraint("restriction_id", "provider_id"),
        Index(None, "provider_id", "state"),
        Index(None, "state", "due_at"),
    )
    id: Mapped[Id] = mapped_column(primary_key=True)
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"))
    provider_id: Mapped[Code] = mapped_column(ForeignKey("providers.id"))
    state: Mapped[RemedyState] = mapped_column(word(RemedyState))
    affected: Mapped[int] = mapped_column(BigInteger)
    opened_at: Mapped[When]
    due_at: Mapped[When]
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reminded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    escalated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    answered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[RemedyOutcome | None] = mapped_column(word(RemedyOutcome))
    note: Mapped[bytes | None] = mapped_column(LargeBinary)
