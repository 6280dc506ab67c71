"""What clients of the registry send, about made-up people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.server import name_of, resident_id
from tipstaff.v1 import identity_pb2, registry_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def entry_message(
    number: int, begins: datetime, ends: datetime, *, measures: Sequence[str] = ("AIR_TRAVEL",), list_id: str = "joint-discipline"
) -> registry_pb2.RestrictionEntry:
    """A restriction on person `number`, under a case number of its own."""
    made = registry_pb2.RestrictionEntry(
        list_id=list_id, measures=measures, legal_basis="国发〔2016〕33号", case_number=f"（2026）虚01执{number}号"
    )
    made.subject.type = identity_pb2.SUBJECT_TYPE_PERSON
    made.subject.identifiers.append(resident_id(number).to_proto())
    made.subject.names.append(name_of(number))
    made.effective_at.FromDatetime(begins)
    made.expires_at.FromDatetime(ends)
    return made


__all__ = ["entry_message"]
