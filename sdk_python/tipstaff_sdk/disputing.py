"""Opening a dispute from a decision: only ids travel, and what the person says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tipstaff.v1 import dispute_pb2
from tipstaff_sdk.errors import NotDisputableError

if TYPE_CHECKING:
    from tipstaff_sdk.decision import Decision, Restriction

__all__ = ["Dispute", "dispute_from", "dispute_request"]

_MAX_STATEMENT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute as the operator took it."""

    case_number: str
    """For the person to follow it by."""
    suspended: bool
    """True when the restriction is not enforced meanwhile; relief brings that to every provider."""
    opened_at: datetime
    due: datetime
    """Until when it is to be answered."""


def dispute_request(decision: Decision, statement: str, restriction: Restriction | None) -> dispute_pb2.OpenDisputeRequest:
    """The request. Its id follows from its content, so asking again, even after a restart, opens no second dispute."""
    chosen = _choose(decision, restriction)
    if not 0 < len(statement.strip()) <= _MAX_STATEMENT:
        raise NotDisputableError(f"a statement has 1 to {_MAX_STATEMENT:,} characters: write what the person says, in short")
    digest = hashlib.sha256(b"tipstaff/v1/dispute\0" + decision.decision_id + chosen.restriction_id + statement.encode())
    return dispute_pb2.OpenDisputeRequest(
        request_id=digest.digest()[:16],
        restriction_id=chosen.restriction_id,
        decision_id=decision.decision_id,
        statement=statement,
    )


def _choose(decision: Decision, restriction: Restriction | None) -> Restriction:
    if restriction is not None:
        if restriction.restriction_id not in {known.restriction_id for known in decision.restrictions}:
            raise NotDisputableError("that restriction is not one of this decision's: pass one of decision.restrictions")
        return restriction
    known = list(decision.restrictions)
    if not known:
        raise NotDisputableError("this decision rests on no restriction, so there is nothing to dispute; report what you did instead")
    if len(known) > 1:
        raise NotDisputableError(
            f"this decision rests on {len(known)} restrictions: "
            "pass the one that is disputed as restriction=, once for each that the person disputes"
        )
    return known[0]


def dispute_from(message: dispute_pb2.Dispute) -> Dispute:
    """The server's answer."""
    return Dispute(
        case_number=message.case_number,
        suspended=message.suspended,
        opened_at=message.opened_at.ToDatetime(UTC),
        due=message.answer_due_at.ToDatetime(UTC),
    )
