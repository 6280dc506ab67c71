"""Restrictions, what happens to them, and the relief that follows."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.domain.lifecycle import State
from tipstaff_server.storage.models.base import (
    Base,
    Code,
    Digest,
    Id,
    Sealed,
    Text,
    UtcDateTime,
    When,
    word,
)


class DisputeState(StrEnum):
    """Where a dispute stands; named as DisputeState in the contract."""

    OPEN = "OPEN"
    REJECTED = "REJECTED"
    CORRECTED = "CORRECTED"
    REVOKED = "REVOKED"
    CLOSED = "CLOSED"


class DisputeGround(StrEnum):
    """Why a restriction is said to be wrong; named as DisputeGround in the contract."""

    IDENTITY = "IDENTITY"
    FACTS = "FACTS"
    PERFORMED = "PERFORMED"
    PROCEDURE = "PROCEDURE"
    OTHER = "OTHER"


class MeasureSetRow(Base):
    """A set of measures that occurs: few exist, so a restriction names its set.

    `codes` is sorted, separated by spaces.
    """

    __tablename__ = "measure_sets"
    id: Mapped[int] = mapped_column(primary_key=True)
    codes: Mapped[str] = mapped_column(String(2000), unique=True)


class RestrictionRow(Base):
    """One restriction.

    `entry_digest` recognises the same entry again; `decided_by` is the deciding court's own name.

    `approved_at`: when the second person approved it; empty for a draft, and where a list asks for
    one person only.
    """

    __tablename__ = "restrictions"
    __table_args__ = (
        UniqueConstraint("subject_id", "authority_id", "case_number"),
        Index(None, "state", "effective_at"),
        Index(None, "state", "expires_at"),
        Index(None, "case_number", "id"),
    )
    id: Mapped[Id] = mapped_column(primary_key=True)
    subject_id: Mapped[Id] = mapped_column(ForeignKey("subjects.id"))
    authority_id: Mapped[Code] = mapped_column(ForeignKey("authorities.id"))
    list_id: Mapped[Code] = mapped_column(ForeignKey("lists.id"))
    measure_set_id: Mapped[int] = mapped_column(ForeignKey("measure_sets.id"))
    state: Mapped[State] = mapped_column(word(State))
    legal_basis: Mapped[Text]
    case_number: Mapped[str] = mapped_column(String(100))
    decided_by: Mapped[str | None] = mapped_column(String(200))
    effective_at: Mapped[When]
    expires_at: Mapped[When]
    case_opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    entered_at: Mapped[When]
    approved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    activated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)
    relief_floor: Mapped[int] = mapped_column(BigInteger)
    relief_sequence: Mapped[int] = mapped_column(BigInteger)
    entry_digest: Mapped[Digest]


class DraftRow(Base):
    """What a draft will add once it is approved: numbers, names, responsible persons.

    Until then it touches nobody's subject.

    `entry` is encrypted, in the row of the restriction's id. The row goes when the restriction is a
    draft no longer.
    """

    __tablename__ = "drafts"
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"), primary_key=True)
    entered_by: Mapped[str] = mapped_column(String(100))
    entry: Mapped[Sealed]


class ExemptionRow(Base):
    """A narrow permission inside a restriction.

    `measures` is sorted, separated by spaces; empty: all of them.

    `reason` is encrypted, see vault/columns.py; the two texts hold it in clear only where an older
    program wrote it. `subject_id`: for one person alone, whom it reaches through an organisation;
    none: for everybody whom it reaches.
    """

    __tablename__ = "exemptions"
    id: Mapped[Id] = mapped_column(primary_key=True)
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"), index=True)
    measures: Mapped[str] = mapped_column(String(2000))
    valid_from: Mapped[When]
    valid_until: Mapped[When]
    reason_zh: Mapped[Text]
    reason_en: Mapped[Text]
    reason: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[When]
    subject_id: Mapped[bytes | None] = mapped_column(
        LargeBinary(16), ForeignKey("subjects.id"), index=True
    )


class ReliefHeadRow(Base):
    """The last relief sequence, in a single row that every lifting act locks: so the order of
    commits is the order of sequences.
    """

    __tablename__ = "relief_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)


class ReliefRow(Base):
    """One lift, and the measures that the restriction had until then: an amendment may take some
    away.

    `post_id`: only what reaches somebody through this post is lifted; the restriction is one of the
    organisation's with these measures.
    """

    __tablename__ = "relief_log"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"), index=True)
    at: Mapped[When]
    cause: Mapped[str] = mapped_column(String(24))
    measure_set_id: Mapped[int] = mapped_column(ForeignKey("measure_sets.id"))
    post_id: Mapped[bytes | None] = mapped_column(LargeBinary(16))


class DisputeRow(Base):
    """One dispute.

    `opened_by` and `request_id` make opening idempotent; `ground` bounds how often one suspends.
    """

    __tablename__ = "disputes"
    __table_args__ = (UniqueConstraint("opened_by", "request_id"),)
    case_number: Mapped[str] = mapped_column(String(32), primary_key=True)
    opened_by: Mapped[str] = mapped_column(String(100))
    request_id: Mapped[Id]
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"), index=True)
    decision_id: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    ground: Mapped[DisputeGround] = mapped_column(word(DisputeGround))
    statement: Mapped[Sealed]
    state: Mapped[DisputeState] = mapped_column(word(DisputeState))
    suspends: Mapped[bool]
    opened_at: Mapped[When]
    answer_due_at: Mapped[When] = mapped_column(index=True)
    answered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reminded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    escalated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    relief_sequence: Mapped[int] = mapped_column(BigInteger)


class IdempotencyRow(Base):
    """An answer given before, under the caller's key."""

    __tablename__ = "idempotency_keys"
    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[Code] = mapped_column(primary_key=True)
    entry_digest: Mapped[Digest]
    restriction_id: Mapped[Id]
    status: Mapped[str] = mapped_column(String(24))
    at: Mapped[When]


class ImportRow(Base):
    """One run of an import, for the record."""

    __tablename__ = "imports"
    id: Mapped[Id] = mapped_column(primary_key=True)
    file_digest: Mapped[Digest]
    authority_id: Mapped[Code] = mapped_column(ForeignKey("authorities.id"))
    list_id: Mapped[Code] = mapped_column(ForeignKey("lists.id"))
    started_at: Mapped[When]
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created: Mapped[int] = mapped_column(BigInteger)
    unchanged: Mapped[int] = mapped_column(BigInteger)
    rejected: Mapped[int] = mapped_column(BigInteger)
