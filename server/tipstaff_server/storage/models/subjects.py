"""Whom restrictions are on.

Numbers, names and stretched values are encrypted; look-up goes through the blind index.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tipstaff_server.storage.models.base import Base, Digest, Id, Sealed, UtcDateTime, When, word


class PostState(StrEnum):
    """Whether a post is held; named as PostState in the contract."""

    COMING = "COMING"
    HELD = "HELD"
    LEFT = "LEFT"


class SubjectRow(Base):
    """A person (1) or an organisation (2), as SubjectType in the contract."""

    __tablename__ = "subjects"
    id: Mapped[Id] = mapped_column(primary_key=True)
    type: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[When]
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IdentifierRow(Base):
    """One identifier.

    `blind` covers kind and number; the values are bound to it. `next_stretched`: by the stretch to
    come.
    """

    __tablename__ = "identifiers"
    blind: Mapped[Digest] = mapped_column(primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger)
    subject_id: Mapped[Id] = mapped_column(ForeignKey("subjects.id"), index=True)
    value: Mapped[Sealed]
    stretched: Mapped[Sealed]
    next_stretched: Mapped[bytes | None] = mapped_column(LargeBinary)


class NameRow(Base):
    """One known name.

    `blind` covers the canonical name; the oldest by `position` is the one shown.
    """

    __tablename__ = "names"
    subject_id: Mapped[Id] = mapped_column(ForeignKey("subjects.id"), primary_key=True)
    blind: Mapped[Digest] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    value: Mapped[Sealed]


class ResponsibleLinkRow(Base):
    """A post: a person answers for an organisation, in a capacity (as in the contract), from and
    until.

    `state` is what a listing goes by, since `changed_at`; `relief_sequence` is the last one that
    carries the leaving (0: none).
    """

    __tablename__ = "responsible_links"
    __table_args__ = (UniqueConstraint("organisation_id", "person_id", "capacity", "valid_from"),)
    id: Mapped[Id] = mapped_column(primary_key=True)
    organisation_id: Mapped[Id] = mapped_column(ForeignKey("subjects.id"))
    person_id: Mapped[Id] = mapped_column(ForeignKey("subjects.id"), index=True)
    capacity: Mapped[int] = mapped_column(SmallInteger)
    valid_from: Mapped[When]
    valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    state: Mapped[PostState] = mapped_column(word(PostState), index=True)
    changed_at: Mapped[When]
    relief_sequence: Mapped[int] = mapped_column(BigInteger)
