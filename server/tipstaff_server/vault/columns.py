"""Every encrypted column of the registry: its name to the vault, its row key, its blind index.

The vault binds a value to its column and its row, so that nobody can move it elsewhere. Whoever
encrypts takes both from here; a change of keys goes through ENCRYPTED_COLUMNS.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.storage.models import (
    AuditReasonRow,
    DisputeRow,
    DraftRow,
    EpochKeyRow,
    ExemptionRow,
    IdentifierRow,
    NameRow,
    RemedyRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import InstrumentedAttribute

    from tipstaff_server.vault.vault import Vault

__all__ = [
    "AUDIT_REASON",
    "DISPUTE_STATEMENT",
    "DRAFT_ENTRY",
    "ENCRYPTED_COLUMNS",
    "EPOCH_KEY",
    "EXEMPTION_REASON",
    "NAME",
    "NEXT_STRETCHED",
    "NUMBER",
    "REMEDY_NOTE",
    "STRETCHED",
    "EncryptedColumn",
    "audit_reason_row",
    "blind_of",
    "epoch_key_row",
    "identifier_of",
    "name_blind",
    "name_row",
    "number_blind",
    "number_bytes",
    "read_exemption_reason",
    "seal_exemption_reason",
]

NUMBER = "identifiers.value"
STRETCHED = "identifiers.stretched"
NEXT_STRETCHED = "identifiers.next_stretched"
NAME = "names.value"
EXEMPTION_REASON = "exemptions.reason"
DRAFT_ENTRY = "drafts.entry"
DISPUTE_STATEMENT = "disputes.statement"
REMEDY_NOTE = "remedies.note"
EPOCH_KEY = "epoch_keys.key"
AUDIT_REASON = "audit_log.reason"


def number_bytes(identifier: Identifier) -> bytes:
    """Kind and number as they are encrypted and indexed."""
    return bytes([identifier.kind]) + identifier.number.encode("ascii")


def identifier_of(number: bytes) -> Identifier:
    """The identifier that `number_bytes` gives so.

    Raises InvalidIdentifierError, ValueError: another program wrote it.
    """
    text = number[1:].decode("ascii")
    return (
        Identifier.resident_id(text)
        if number[0] == IdentifierKind.RESIDENT_ID
        else Identifier(IdentifierKind(number[0]), text)
    )


def blind_of(vault: Vault, identifier: Identifier) -> bytes:
    """The blind index of an identifier, 32 bytes."""
    return number_blind(vault, number_bytes(identifier))


def number_blind(vault: Vault, number: bytes) -> bytes:
    """The same, of kind and number as `number_bytes` gives them."""
    return vault.index("identifiers", number)


def name_row(subject: bytes, blind: bytes) -> bytes:
    """The vault's row of a name."""
    return subject + blind


def name_blind(vault: Vault, subject: bytes, canonical: str) -> bytes:
    """The blind index of a subject's canonical name, 32 bytes."""
    return vault.index("names", subject + canonical.encode())


def seal_exemption_reason(vault: Vault, exemption: bytes, why: tuple[str, str]) -> bytes:
    """Both texts, Chinese and English, as they are stored: people write what happened to whom."""
    return vault.encrypt_text(
        EXEMPTION_REASON, exemption, json.dumps(why, ensure_ascii=False, separators=(",", ":"))
    )


def read_exemption_reason(vault: Vault, row: ExemptionRow) -> tuple[str, str]:
    """Both texts, Chinese and English.

    Raises:
        VaultDataError: the stored value does not decrypt.
    """
    if row.reason is None:
        return row.reason_zh, row.reason_en
    zh, en = json.loads(vault.decrypt_text(EXEMPTION_REASON, row.id, row.reason))
    return zh, en


def epoch_key_row(audience: str, number: int) -> bytes:
    """The vault's row of an epoch's key."""
    return audience.encode() + b"\0" + number.to_bytes(4, "big")


def audit_reason_row(sequence: int) -> bytes:
    """The vault's row of an entry's reason."""
    return sequence.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """One encrypted column.

    `label`: its name to the vault; `row`: from the primary key to the vault's row.
    """

    label: str
    column: InstrumentedAttribute[Any]
    key: tuple[InstrumentedAttribute[Any], ...]
    row: Callable[..., bytes]


ENCRYPTED_COLUMNS = (
    EncryptedColumn(NUMBER, IdentifierRow.value, (IdentifierRow.blind,), bytes),
    EncryptedColumn(STRETCHED, IdentifierRow.stretched, (IdentifierRow.blind,), bytes),
    EncryptedColumn(NEXT_STRETCHED, IdentifierRow.next_stretched, (IdentifierRow.blind,), bytes),
    EncryptedColumn(NAME, NameRow.value, (NameRow.subject_id, NameRow.blind), name_row),
    EncryptedColumn(DISPUTE_STATEMENT, DisputeRow.statement, (DisputeRow.case_number,), str.encode),
    EncryptedColumn(EXEMPTION_REASON, ExemptionRow.reason, (ExemptionRow.id,), bytes),
    EncryptedColumn(DRAFT_ENTRY, DraftRow.entry, (DraftRow.restriction_id,), bytes),
    EncryptedColumn(REMEDY_NOTE, RemedyRow.note, (RemedyRow.id,), bytes),
    EncryptedColumn(
        EPOCH_KEY, EpochKeyRow.key, (EpochKeyRow.audience_id, EpochKeyRow.epoch), epoch_key_row
    ),
    EncryptedColumn(
        AUDIT_REASON, AuditReasonRow.sealed, (AuditReasonRow.sequence,), audit_reason_row
    ),
)
