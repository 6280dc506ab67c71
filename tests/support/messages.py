"""What clients of the server send, about made-up people."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tests.support.server import name_of, resident_id
from tipstaff.v1 import enforcement_pb2, identity_pb2, registry_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def entry_message(
    number: int,
    begins: datetime,
    ends: datetime,
    *,
    measures: Sequence[str] = ("AIR_TRAVEL",),
    list_id: str = "joint-discipline",
) -> registry_pb2.RestrictionEntry:
    """A restriction on person `number`, under a case number of its own."""
    made = registry_pb2.RestrictionEntry(
        list_id=list_id,
        measures=measures,
        legal_basis="国发〔2016〕33号",
        case_number=f"（2026）虚01执{number}号",
    )
    made.subject.type = identity_pb2.SUBJECT_TYPE_PERSON
    made.subject.identifiers.append(resident_id(number).to_proto())
    made.subject.names.append(name_of(number))
    made.effective_at.FromDatetime(begins)
    made.expires_at.FromDatetime(ends)
    return made


def denial(restriction: bytes, at: datetime, **changes: Any) -> enforcement_pb2.Report:
    """The report that somebody was denied because of a restriction, decided and done at a moment.
    `changes`: fields that are different.
    """
    fields: dict[str, Any] = {
        "report_id": secrets.token_bytes(16),
        "decision_id": secrets.token_bytes(16),
        "restriction_ids": [restriction],
        "measure": "AIR_TRAVEL",
        "verdict": enforcement_pb2.VERDICT_RESTRICTED,
        "reason": enforcement_pb2.REASON_IN_FORCE,
        "outcome": enforcement_pb2.OUTCOME_DENIED,
    }
    made = enforcement_pb2.Report(**fields | changes)
    made.decided_at.FromDatetime(at)
    made.acted_at.FromDatetime(at)
    return made


__all__ = ["denial", "entry_message"]
