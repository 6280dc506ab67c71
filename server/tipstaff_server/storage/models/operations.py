"""What providers send back, what was published, and the audit log."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    String,
)
from sqlalchemy import Text as LongText
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import (
    Base,
    Code,
    Digest,
    Id,
    Sealed,
    UtcDateTime,
    When,
    word,
)


class BuildState(StrEnum):
    """How a listing build fared."""

    BUILT = "BUILT"
    SIGNED_OFF = "SIGNED_OFF"
    REFUSED = "REFUSED"
    PUBLISHED = "PUBLISHED"


class ReportRow(Base):
    """One report of a provider.

    Verdict, reason and outcome are the numbers of the contract's enums.
    """

    __tablename__ = "reports"
    __table_args__ = (Index(None, "provider_id", "measure", "outcome"),)
    provider_id: Mapped[Code] = mapped_column(ForeignKey("providers.id"), primary_key=True)
    report_id: Mapped[Id] = mapped_column(primary_key=True)
    decision_id: Mapped[Id]
    measure: Mapped[Code] = mapped_column(ForeignKey("measures.code"))
    verdict: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[int] = mapped_column(SmallInteger)
    outcome: Mapped[int] = mapped_column(SmallInteger)
    decided_at: Mapped[When]
    acted_at: Mapped[When] = mapped_column(index=True)
    listing_version: Mapped[int] = mapped_column(BigInteger)
    relief_sequence: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[When]


class ReportRestrictionRow(Base):
    """A restriction that a report rested on."""

    __tablename__ = "report_restrictions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["provider_id", "report_id"], ["reports.provider_id", "reports.report_id"]
        ),
    )
    restriction_id: Mapped[Id] = mapped_column(ForeignKey("restrictions.id"), primary_key=True)
    provider_id: Mapped[Code] = mapped_column(primary_key=True)
    report_id: Mapped[Id] = mapped_column(primary_key=True)


class CoverageRow(Base):
    """Checks that a provider made of one measure in one hour, or a part of that hour."""

    __tablename__ = "coverage"
    __table_args__ = (Index(None, "provider_id", "measure", "hour"),)
    provider_id: Mapped[Code] = mapped_column(ForeignKey("providers.id"), primary_key=True)
    count_id: Mapped[Id] = mapped_column(primary_key=True)
    measure: Mapped[Code] = mapped_column(ForeignKey("measures.code"))
    hour: Mapped[When]
    checked: Mapped[int] = mapped_column(BigInteger)
    clear: Mapped[int] = mapped_column(BigInteger)
    filter_hits: Mapped[int] = mapped_column(BigInteger)
    restricted: Mapped[int] = mapped_column(BigInteger)
    review: Mapped[int] = mapped_column(BigInteger)
    unknown: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[When]


class AuditRow(Base):
    """One act.

    `digest` covers everything else and the digest before. `reason`: a commitment to the reason, see
    audit/reasons.py.
    """

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "object_kind", "object_id"),)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[When]
    actor: Mapped[str] = mapped_column(String(100))
    act: Mapped[str] = mapped_column(String(40))
    object_kind: Mapped[str] = mapped_column(String(24))
    object_id: Mapped[bytes] = mapped_column(LargeBinary(64))
    detail: Mapped[str] = mapped_column(LongText)
    reason: Mapped[bytes | None] = mapped_column(LargeBinary)
    digest: Mapped[Digest]


class AuditHeadRow(Base):
    """The last entry of the audit log, in a single row that every act locks: a shortened log shows.

    `vault_generation` counts changes of the registry's keys, so that every act writes under the
    newest.
    """

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[Digest]
    vault_generation: Mapped[int] = mapped_column(BigInteger, default=0)


class EpochKeyRow(Base):
    """An audience's master key of one epoch, encrypted; row of the vault: audience, 0x00, epoch as
    4 bytes big-endian.

    `stretch`: the one that its listings use.
    """

    __tablename__ = "epoch_keys"
    audience_id: Mapped[str] = mapped_column(ForeignKey("audiences.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[Sealed]
    created_at: Mapped[When]
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stretch: Mapped[int] = mapped_column(ForeignKey("stretches.number"))


class ListingBuildRow(Base):
    """One listing that was built.

    `detail` is JSON without personal data: reasons of a refusal, digests.
    """

    __tablename__ = "listing_builds"
    audience_id: Mapped[str] = mapped_column(ForeignKey("audiences.id"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger)
    relief_sequence: Mapped[int] = mapped_column(BigInteger)
    subject_count: Mapped[int] = mapped_column(BigInteger)
    record_count: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[BuildState] = mapped_column(word(BuildState))
    built_at: Mapped[When]
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    detail: Mapped[str] = mapped_column(LongText)
