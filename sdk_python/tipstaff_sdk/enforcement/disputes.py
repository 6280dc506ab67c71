"""Opening a dispute from a decision, and following one by its case number: only ids travel, and
what the person says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tipstaff.v1 import dispute_pb2
from tipstaff_sdk.enums import Word
from tipstaff_sdk.errors import FormatError, NotDisputableError
from tipstaff_sdk.texts import Bilingual

if TYPE_CHECKING:
    from tipstaff_sdk.decision.decide import Decision, Restriction

__all__ = [
    "Dispute",
    "DisputeGround",
    "DisputeProgress",
    "DisputeState",
    "dispute_from",
    "dispute_request",
    "progress_from",
]

_MAX_STATEMENT: Final = 2_000


class DisputeGround(Word):
    """Why a restriction is said to be wrong; values as DisputeGround in the contract.

    One ground suspends once.
    """

    IDENTITY = 1
    """It is somebody else who is meant."""
    FACTS = 2
    """What it rests on did not happen so."""
    PERFORMED = 3
    """The obligation is performed already."""
    PROCEDURE = 4
    """It was not decided, announced or served as the law asks."""
    OTHER = 5


class DisputeState(Word):
    """Where a dispute stands; values as DisputeState in the contract."""

    OPEN = 1
    """To be examined."""
    REJECTED = 2
    """Answered: the restriction was right."""
    CORRECTED = 3
    """Answered: the restriction was corrected."""
    REVOKED = 4
    """Answered: the restriction was wrong, and is revoked."""
    CLOSED = 5
    """The restriction ended otherwise."""


@dataclass(frozen=True, slots=True)
class DisputeProgress:
    """Where a dispute stands, for the person who holds its case number.

    It says nothing about anybody.
    """

    state: DisputeState
    opened_at: datetime
    due: datetime
    """Until when it is to be answered."""
    answered_at: datetime | None
    overdue: bool
    """True when it is not answered and the time is over."""
    text: Bilingual
    """The same in words, from the operator."""

    def explain(self, lang: str) -> str:
        """In words, "zh" or "en"."""
        return self.text.get(lang)


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


def dispute_request(
    decision: Decision,
    statement: str,
    restriction: Restriction | None,
    ground: DisputeGround = DisputeGround.OTHER,
) -> dispute_pb2.OpenDisputeRequest:
    """The request.

    Its id follows from its content, so asking again, even after a restart, opens no second dispute.
    """
    chosen = _choose(decision, restriction)
    if not 0 < len(statement.strip()) <= _MAX_STATEMENT:
        raise NotDisputableError(
            f"a statement has 1 to {_MAX_STATEMENT:,} characters: write what the person says, in"
            " short"
        )
    said = b"" if ground is DisputeGround.OTHER else b"\0" + ground.name.encode("ascii")
    digest = hashlib.sha256(
        b"tipstaff/v1/dispute\0"
        + decision.decision_id
        + chosen.restriction_id
        + statement.encode()
        + said
    )
    return dispute_pb2.OpenDisputeRequest(
        request_id=digest.digest()[:16],
        restriction_id=chosen.restriction_id,
        decision_id=decision.decision_id,
        statement=statement,
        ground=dispute_pb2.DisputeGround.ValueType(ground),
    )


def _choose(decision: Decision, restriction: Restriction | None) -> Restriction:
    if restriction is not None:
        if restriction.restriction_id not in {
            known.restriction_id for known in decision.restrictions
        }:
            raise NotDisputableError(
                "that restriction is not one of this decision's: pass one of decision.restrictions"
            )
        return restriction
    known = list(decision.restrictions)
    if not known:
        raise NotDisputableError(
            "this decision rests on no restriction, so there is nothing to dispute; report what you"
            " did instead"
        )
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


def progress_from(message: dispute_pb2.FollowDisputeResponse) -> DisputeProgress:
    """The server's answer.

    Raises FormatError: a state that this version does not know, or a text in one language.
    """
    try:
        state = DisputeState(message.state)
    except ValueError:
        raise FormatError(
            "the server answered with a state of disputes that is newer than this program: update"
            " tipstaff"
        ) from None
    return DisputeProgress(
        state=state,
        opened_at=message.opened_at.ToDatetime(UTC),
        due=message.answer_due_at.ToDatetime(UTC),
        answered_at=(
            message.answered_at.ToDatetime(UTC) if message.HasField("answered_at") else None
        ),
        overdue=message.overdue,
        text=Bilingual.from_proto(message.text, "Where the dispute stands", FormatError),
    )
