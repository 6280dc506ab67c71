"""Remedies: restrictions that this provider acted on and that turned out to be wrong.

They are to be made good, and answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from tipstaff.v1 import distribution_pb2
from tipstaff_sdk.decision.decide import Outcome
from tipstaff_sdk.enums import Word
from tipstaff_sdk.errors import RequestRefusedError

__all__ = ["Affected", "Remedy", "RemedyClient", "RemedyOutcome", "answer", "fetch"]

_MAX_NOTE: Final = 500


class RemedyOutcome(Word):
    """What was done to make good; values as RemedyOutcome in the contract."""

    RESTORED = 1
    """Put back as if it had not happened: rebooked, the difference paid back, entries in own files
    removed.
    """
    COMPENSATED = 2
    """It could not be undone; the person was compensated otherwise."""
    DECLINED = 3
    """The person was told, and wanted nothing."""
    NOT_FOUND = 4
    """The person could not be found from what is still kept here."""
    NOTHING_DONE = 5
    """Nothing had been done to the person after all."""


@dataclass(frozen=True, slots=True)
class Affected:
    """One act of this provider on the restriction: the ids lead to the booking."""

    report_id: bytes
    decision_id: bytes
    measure: str
    outcome: Outcome
    acted_at: datetime


@dataclass(frozen=True, slots=True)
class Remedy:
    """A restriction that was wrong, and what this provider did because of it, earliest first."""

    remedy_id: bytes
    restriction_id: bytes
    affected: tuple[Affected, ...]
    affected_count: int
    """How many acts there are; `affected` names the first 1,000."""
    opened_at: datetime
    due: datetime
    """Until when it is to be answered."""
    outcome: RemedyOutcome | None
    """The answer, if there was one."""


class RemedyClient(Protocol):
    """The calls to the server that remedies need.

    Raises:
        TransportError: the server cannot be reached, or refuses.
    """

    def remedies(
        self, request: distribution_pb2.ListRemediesRequest
    ) -> distribution_pb2.ListRemediesResponse:
        """Returns one page of this provider's remedies."""
        ...

    def answer_remedy(
        self, request: distribution_pb2.AnswerRemedyRequest
    ) -> distribution_pb2.Remedy:
        """Records the answer and returns the remedy with it."""
        ...


def fetch(transport: RemedyClient, *, include_answered: bool) -> list[Remedy]:
    """Returns all remedies, asking for them a page at a time.

    Raises:
        TransportError: the server cannot be reached, or refuses.
    """
    remedies: list[Remedy] = []
    token = b""
    while True:
        response = transport.remedies(
            distribution_pb2.ListRemediesRequest(
                include_answered=include_answered, page_token=token
            )
        )
        remedies += [_remedy(message) for message in response.remedies]
        if not response.next_page_token or response.next_page_token == token:
            return remedies
        token = response.next_page_token


def answer(
    transport: RemedyClient, remedy: Remedy | bytes, outcome: RemedyOutcome, note: str
) -> Remedy:
    """Tells the server what was done to make good.

    Raises:
        RequestRefusedError: the note is too long, or the server refuses the answer.
        NotFoundError: there is no such remedy.
        TransportError: the server cannot be reached.
    """
    if len(note) > _MAX_NOTE:
        raise RequestRefusedError(
            f"a note has at most {_MAX_NOTE} characters: write what was done, in short, and no"
            " names"
        )
    identity = remedy.remedy_id if isinstance(remedy, Remedy) else remedy
    request = distribution_pb2.AnswerRemedyRequest(
        remedy_id=identity,
        outcome=distribution_pb2.RemedyOutcome.ValueType(RemedyOutcome(outcome)),
        note=note,
    )
    return _remedy(transport.answer_remedy(request))


def _remedy(message: distribution_pb2.Remedy) -> Remedy:
    return Remedy(
        remedy_id=message.remedy_id,
        restriction_id=message.restriction_id,
        affected=tuple(
            Affected(
                item.report_id,
                item.decision_id,
                item.measure,
                Outcome(item.outcome),
                item.acted_at.ToDatetime(UTC),
            )
            for item in message.affected
        ),
        affected_count=message.affected_count,
        opened_at=message.opened_at.ToDatetime(UTC),
        due=message.due_at.ToDatetime(UTC),
        outcome=RemedyOutcome(message.outcome) if message.outcome else None,
    )
