"""What all tables share: naming of constraints, ids, moments in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from sqlalchemy import DateTime, Enum, LargeBinary, MetaData, String
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator

from tipstaff_server.domain.checks import ID_BYTES

if TYPE_CHECKING:
    from enum import StrEnum

    from sqlalchemy.engine import Dialect


HEAD = 1
"""Id of the only row of `audit_head`, and of `relief_head`."""


class Base(DeclarativeBase):
    """Root of the tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, kept in UTC: timestamptz on PostgreSQL, a sortable text on SQLite.

    Refuses naive values.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment has to be aware")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def word(kind: type[StrEnum]) -> Enum:
    """A column type for a fixed set of words, kept as text so that a new word is no change of
    schema.
    """
    return Enum(
        kind,
        native_enum=False,
        length=24,
        create_constraint=False,
        validate_strings=True,
        values_callable=_values,
    )


def _values(kind: Any) -> list[str]:
    return [str(item.value) for item in kind]


Id = Annotated[bytes, mapped_column(LargeBinary(ID_BYTES))]
"""16 random bytes."""
Digest = Annotated[bytes, mapped_column(LargeBinary(32))]
"""32 bytes of SHA-256 or HMAC-SHA256."""
Sealed = Annotated[bytes, mapped_column(LargeBinary)]
"""Encrypted by the vault."""
Code = Annotated[str, mapped_column(String(64))]
"""An id that people write: court-dishonest, aviation, AIR_TRAVEL."""
Text = Annotated[str, mapped_column(String(500))]
"""A short text without personal data."""
When = Annotated[datetime, mapped_column(UtcDateTime)]
"""A moment, aware, UTC."""
