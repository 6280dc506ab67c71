"""Who may decide what, and who is told: kept from the administration file, with every version of
it.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy import Text as LongText
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import (
    Base,
    Code,
    Digest,
    Sealed,
    Text,
    UtcDateTime,
    When,
    word,
)


class DisputeEffect(StrEnum):
    """What opening a dispute does to enforcement."""

    SUSPEND = "SUSPEND"
    CONTINUE = "CONTINUE"


class ApprovalMode(StrEnum):
    """How many persons it takes to put an entry of a list in force."""

    ONE_PERSON = "ONE_PERSON"
    TWO_PERSONS = "TWO_PERSONS"


class Meta(Base):
    """Facts of the deployment that never change: registry id, check value of the key."""

    __tablename__ = "meta"
    name: Mapped[Code] = mapped_column(primary_key=True)
    value: Mapped[Sealed]


class AdministrationRow(Base):
    """One version of the administration, as it was loaded."""

    __tablename__ = "administrations"
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    made_at: Mapped[When]
    digest: Mapped[Digest]
    document: Mapped[str] = mapped_column(LongText)


class MeasureRow(Base):
    """A measure's code; its definition is in the administration's document."""

    __tablename__ = "measures"
    code: Mapped[Code] = mapped_column(primary_key=True)
    retired: Mapped[bool]


class AuthorityRow(Base):
    """An authority (发起部门)."""

    __tablename__ = "authorities"
    id: Mapped[Code] = mapped_column(primary_key=True)
    title_zh: Mapped[Text]
    title_en: Mapped[Text]
    region: Mapped[Text]
    retired: Mapped[bool]


class EntitlementRow(Base):
    """A measure that an authority may impose."""

    __tablename__ = "entitlements"
    authority_id: Mapped[Code] = mapped_column(ForeignKey("authorities.id"), primary_key=True)
    measure: Mapped[Code] = mapped_column(ForeignKey("measures.code"), primary_key=True)


class ListRow(Base):
    """A list and its policies.

    `default_term` is an ISO 8601 duration, or empty: a term is then required.
    """

    __tablename__ = "lists"
    id: Mapped[Code] = mapped_column(primary_key=True)
    title_zh: Mapped[Text]
    title_en: Mapped[Text]
    dispute_effect: Mapped[DisputeEffect] = mapped_column(word(DisputeEffect))
    dispute_zh: Mapped[Text]
    dispute_en: Mapped[Text]
    answer_days: Mapped[int]
    notice_days: Mapped[int]
    default_term: Mapped[str] = mapped_column(String(32))
    default_legal_basis: Mapped[Text]
    approval: Mapped[ApprovalMode] = mapped_column(
        word(ApprovalMode), default=ApprovalMode.ONE_PERSON
    )
    retired: Mapped[bool]


class ListMeasureRow(Base):
    """A measure that an entry of this list carries when it names none."""

    __tablename__ = "list_measures"
    list_id: Mapped[Code] = mapped_column(ForeignKey("lists.id"), primary_key=True)
    measure: Mapped[Code] = mapped_column(ForeignKey("measures.code"), primary_key=True)


class AudienceRow(Base):
    """An audience (接收方)."""

    __tablename__ = "audiences"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    title_zh: Mapped[Text]
    title_en: Mapped[Text]
    retired: Mapped[bool]


class AudienceMeasureRow(Base):
    """A measure that an audience enforces."""

    __tablename__ = "audience_measures"
    audience_id: Mapped[str] = mapped_column(ForeignKey("audiences.id"), primary_key=True)
    measure: Mapped[Code] = mapped_column(ForeignKey("measures.code"), primary_key=True)


class ProviderRow(Base):
    """A provider (实施单位), and what it last said it enforces.

    `wrapping_key`: its X25519 public key, 32 bytes, once registered.

    `removed_at`: since when it is turned away; its reports and remedies stay.
    """

    __tablename__ = "providers"
    id: Mapped[Code] = mapped_column(primary_key=True)
    audience_id: Mapped[str] = mapped_column(ForeignKey("audiences.id"), index=True)
    created_at: Mapped[When]
    enforced_listing: Mapped[int] = mapped_column(BigInteger, default=0)
    enforced_relief_sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    wrapping_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
