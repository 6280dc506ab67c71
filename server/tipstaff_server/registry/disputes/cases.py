"""Looking at disputes: whoever answers them sees the case, whoever holds a case number sees where
it stands.

A case number is 80 random bits, so holding it is the right to ask. The answer says a state and
dates and nothing about anybody: not what is restricted, nor by whom, nor whether the restriction is
enforced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Select, and_, func, or_, select

from tipstaff_sdk.texts import text
from tipstaff_server.domain.actors import DECIDERS, Actor, ActorKind, require
from tipstaff_server.errors import InvalidRequestError, NotFoundError
from tipstaff_server.registry.disputes.open import DisputeView, view_of
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import DisputeGround, DisputeRow, DisputeState, RestrictionRow
from tipstaff_server.vault.columns import DISPUTE_STATEMENT

if TYPE_CHECKING:
    from tipstaff_server.vault.store import Store


__all__ = [
    "CaseProgress",
    "DisputeCase",
    "DisputeCases",
    "DisputeCounts",
    "WantedDisputes",
    "dispute_counts",
]

DEFAULT_PAGE, MAX_PAGE = 100, 500
UNKNOWN = "there is no such dispute here; check the case number"
_CASE = re.compile(r"YY[A-Z2-7]{16}")
_BETWEEN = re.compile(r"[\s\-\u2010-\u2015\u2212\uff0d]")
# What people read or type for the letters that base 32 has.
_MISREAD = str.maketrans("018", "OIB")


@dataclass(frozen=True, slots=True)
class DisputeCase:
    """A dispute for whoever answers it; fields as DisputeCase in the contract.

    `statement` is what a person said.
    """

    dispute: DisputeView
    restriction_id: bytes
    authority_id: str
    ground: DisputeGround
    overdue: bool
    answered_at: datetime | None
    statement: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CaseProgress:
    """Where a dispute stands, for the person; fields as FollowDisputeResponse in the contract."""

    state: DisputeState
    opened_at: datetime
    answer_due_at: datetime
    answered_at: datetime | None
    overdue: bool

    def text(self, lang: str) -> str:
        """In words, "zh" or "en"."""
        key = "OVERDUE" if self.overdue else self.state.value
        moment = self.answered_at or self.answer_due_at
        return text(f"dispute.{key}", lang, day=f"{moment:%Y-%m-%d}")


@dataclass(frozen=True, slots=True)
class WantedDisputes:
    """Which disputes to list; `after`: the page token of the answer before."""

    state: DisputeState | None = None
    overdue: bool = False
    after: bytes = b""
    limit: int = DEFAULT_PAGE


@dataclass(frozen=True, slots=True)
class DisputeCounts:
    """How many disputes of one authority's restrictions are open, overdue among them, and answered."""

    authority_id: str
    open: int
    overdue: int
    answered: int


class DisputeCases(RegistryPart):
    """What tells where disputes stand."""

    def follow(self, case_number: str) -> CaseProgress:
        """For whoever holds the number.

        Raises NotFoundError, in the same words whatever is wrong.
        """
        written = case_number.upper().translate(_MISREAD)
        plain = _BETWEEN.sub("", written)[:32]
        if not _CASE.fullmatch(plain):
            raise NotFoundError(UNKNOWN)
        stored = "-".join(["YY", *(plain[start : start + 4] for start in range(2, 18, 4))])
        with self._store.read() as session:
            row = session.get(DisputeRow, stored)
            if row is None:
                raise NotFoundError(UNKNOWN)
            return CaseProgress(
                row.state,
                row.opened_at,
                row.answer_due_at,
                row.answered_at,
                _overdue(row, self._store.clock()),
            )

    def case(self, case_number: str, actor: Actor) -> DisputeCase:
        """With what the person said.

        Raises NotFoundError: none that this actor answers; PermissionDeniedError.
        """
        with self._store.read() as session:
            row = session.execute(
                _cases(actor).where(DisputeRow.case_number == case_number)
            ).first()
            if row is None:
                raise NotFoundError(UNKNOWN)
            kept = row[0].statement  # empty once it was erased
            statement = (
                self._store.vault.decrypt_text(DISPUTE_STATEMENT, case_number.encode(), kept)
                if kept
                else ""
            )
            return self._case(row[0], row[1], statement)

    def page(self, wanted: WantedDisputes, actor: Actor) -> tuple[list[DisputeCase], bytes]:
        """A page by the time that answers are due, and the token of the next page (empty: this was
        the last).

        Raises PermissionDeniedError; InvalidRequestError: no such token.
        """
        limit = min(wanted.limit or DEFAULT_PAGE, MAX_PAGE)
        query = (
            _cases(actor).order_by(DisputeRow.answer_due_at, DisputeRow.case_number).limit(limit)
        )
        if wanted.state is not None:
            query = query.where(DisputeRow.state == wanted.state)
        if wanted.overdue:
            query = query.where(
                DisputeRow.state == DisputeState.OPEN,
                DisputeRow.answer_due_at <= self._store.clock(),
            )
        if wanted.after:
            due, number = _parse(wanted.after)
            later = and_(DisputeRow.answer_due_at == due, DisputeRow.case_number > number)
            query = query.where(or_(DisputeRow.answer_due_at > due, later))
        with self._store.read() as session:
            rows = session.execute(query).all()
            page_cases = [self._case(row, restriction) for row, restriction in rows]
        return page_cases, _token(rows[-1][0]) if len(rows) == limit else b""

    def _case(
        self, row: DisputeRow, restriction: RestrictionRow, statement: str = ""
    ) -> DisputeCase:
        return DisputeCase(
            dispute=view_of(row, restriction),
            restriction_id=row.restriction_id,
            authority_id=restriction.authority_id,
            ground=row.ground,
            overdue=_overdue(row, self._store.clock()),
            answered_at=row.answered_at,
            statement=statement,
        )


def dispute_counts(store: Store) -> list[DisputeCounts]:
    """Of every authority with disputes, sorted."""
    now = store.clock()
    query = (
        select(
            RestrictionRow.authority_id,
            func.count().filter(DisputeRow.state == DisputeState.OPEN).label("open"),
            func.count()
            .filter(DisputeRow.state == DisputeState.OPEN, DisputeRow.answer_due_at <= now)
            .label("overdue"),
            func.count().filter(DisputeRow.state != DisputeState.OPEN).label("answered"),
        )
        .join(RestrictionRow, RestrictionRow.id == DisputeRow.restriction_id)
        .group_by(RestrictionRow.authority_id)
        .order_by(RestrictionRow.authority_id)
    )
    with store.read() as session:
        return [
            DisputeCounts(row.authority_id, row.open, row.overdue, row.answered)
            for row in session.execute(query)
        ]


def _cases(actor: Actor) -> Select[DisputeRow, RestrictionRow]:
    require(
        actor,
        DECIDERS,
        "disputes are listed to the authority that decided, and to the operator; follow one by"
        " its case number",
    )
    query = select(DisputeRow, RestrictionRow).join(
        RestrictionRow, RestrictionRow.id == DisputeRow.restriction_id
    )
    return (
        query.where(RestrictionRow.authority_id == actor.id)
        if actor.kind is ActorKind.AUTHORITY
        else query
    )


def _overdue(row: DisputeRow, now: datetime) -> bool:
    return row.state is DisputeState.OPEN and row.answer_due_at <= now


def _token(row: DisputeRow) -> bytes:
    return f"{row.answer_due_at.isoformat()} {row.case_number}".encode()


def _parse(token: bytes) -> tuple[datetime, str]:
    try:
        due, number = token.decode("ascii").split(" ")
        return datetime.fromisoformat(due).astimezone(UTC), number
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            "this is no page token of an answer before; start again without one"
        ) from None
