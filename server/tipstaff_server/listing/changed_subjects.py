"""Whom acts and time have touched since a build: the audit log read as a feed of changes.

1. The entry of the log up to which that build worked acts in is the one it was; otherwise this is
   another database, or a restored one.
2. The entries after it continue its chain up to the head, and each is an act that is known here,
   with what it may change (`ACTS`).
3. Acts on a restriction touch its subject, and acts on an organisation whoever answers or answered
   for it.
4. Time has touched whom a restriction came within the horizon of or ran out for, whose exemption
   ended, whose link began or ended.

Everything is read in one transaction, so it is one state of the registry. Who was touched is read
again as a whole, so it does no harm to name somebody too many; to forget somebody would keep an old
record. So whatever is not understood is a BuildStateError, and the build is from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, or_, select

from tipstaff_server.audit.log import START, chain
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.lifecycle import LISTED, Event
from tipstaff_server.errors import BuildStateError
from tipstaff_server.storage.models import (
    HEAD,
    AdministrationRow,
    AuditHeadRow,
    AuditRow,
    ExemptionRow,
    ResponsibleLinkRow,
    RestrictionRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

__all__ = ["ACTS", "Head", "Since", "head_of", "touched_since"]

CHUNK: Final = 5_000
# More entries than this, and than subjects that are listed: reading everything is no slower.
MANY_ENTRIES: Final = 50_000


class Touches(Enum):
    """What an act may change in records: nothing, those of the subject that a restriction is on, or
    those of a subject.

    A subject's are also those of whoever answers or answered for it.
    """

    NOTHING = auto()
    RESTRICTION = auto()
    SUBJECT = auto()


_KNOWN: Final[tuple[tuple[Touches, str, tuple[AuditAct, ...]], ...]] = (
    (
        Touches.RESTRICTION,
        "restriction",
        (
            AuditAct.SUBMIT,
            AuditAct.AMEND,
            AuditAct.EXEMPT,
            AuditAct.MOVE,
            AuditAct.SPLIT,
            AuditAct.CORRECT,
            AuditAct.ERASE,
            *(AuditAct(event.value) for event in Event),
        ),
    ),
    (Touches.NOTHING, "restriction", (AuditAct.READ_DRAFT,)),
    (
        Touches.SUBJECT,
        "subject",
        (
            AuditAct.EXEMPT,
            AuditAct.MERGE,
            AuditAct.SPLIT,
            AuditAct.CORRECT,
            AuditAct.ERASE,
            AuditAct.POST_ADD,
            AuditAct.POST_END,
            AuditAct.POST_AMEND,
            AuditAct.POST_BEGUN,
            AuditAct.POST_LEFT,
        ),
    ),
    (Touches.NOTHING, "subject", (AuditAct.SHOW, AuditAct.REVEAL, AuditAct.ACCESS)),
    (
        Touches.NOTHING,
        "dispute",
        (
            AuditAct.DISPUTE_OPEN,
            AuditAct.DISPUTE_REJECTED,
            AuditAct.DISPUTE_CORRECTED,
            AuditAct.DISPUTE_REVOKED,
            AuditAct.DISPUTE_REMIND,
            AuditAct.DISPUTE_OVERDUE,
            AuditAct.ERASE,
        ),
    ),
    (
        Touches.NOTHING,
        "remedy",
        (
            AuditAct.REMEDY_OPEN,
            AuditAct.REMEDY_REOPEN,
            AuditAct.REMEDY_DELIVER,
            AuditAct.REMEDY_ANSWER,
            AuditAct.REMEDY_REMIND,
            AuditAct.REMEDY_OVERDUE,
            AuditAct.ERASE,
        ),
    ),
    (Touches.NOTHING, "registry", (AuditAct.SEARCH,)),
    (
        Touches.NOTHING,
        "provider",
        (
            AuditAct.ADD_PROVIDER,
            AuditAct.REMOVE_PROVIDER,
            AuditAct.RESTORE_PROVIDER,
            AuditAct.MOVE_PROVIDER,
            AuditAct.REGISTER_WRAPPING_KEY,
        ),
    ),
    (
        Touches.NOTHING,
        "vault",
        (
            AuditAct.VAULT_REWRAP,
            AuditAct.VAULT_ROTATE,
            AuditAct.VAULT_RETIRE,
            AuditAct.VAULT_REINDEX,
        ),
    ),
    (
        Touches.NOTHING,
        "stretch",
        (AuditAct.BEGIN_STRETCH, AuditAct.STRETCH_READY, AuditAct.CANCEL_STRETCH),
    ),
)
ACTS: Final = {(kind, str(act)): touches for touches, kind, acts in _KNOWN for act in acts}
"""Kind of object and act → what it may change. Any other leads to a build from scratch."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the audit log ends, and the administration in force there."""

    sequence: int
    digest: bytes
    administration: int


@dataclass(frozen=True, slots=True)
class Since:
    """A build, as far as the feed needs to know it: its place in the audit log, its moment, and how
    many subjects it listed.
    """

    sequence: int
    digest: bytes
    built_at: datetime
    subjects: int


@dataclass(slots=True)
class _Touched:
    restrictions: set[bytes] = field(default_factory=set[bytes])
    subjects: set[bytes] = field(default_factory=set[bytes])


def head_of(session: Session) -> Head:
    """The head, read in a transaction."""
    head = session.execute(
        select(AuditHeadRow.sequence, AuditHeadRow.digest).where(AuditHeadRow.id == HEAD)
    ).one()
    version = session.scalar(
        select(AdministrationRow.version).order_by(AdministrationRow.version.desc()).limit(1)
    )
    return Head(head.sequence, head.digest, version or 0)


def touched_since(
    session: Session, head: Head, since: Since, now: datetime, horizon: timedelta
) -> set[bytes]:
    """Ids of all subjects whose records may differ from those of a build; `head` and everything
    else is of this session's one state.

    Raises BuildStateError: whom cannot be said for certain.
    """
    if now < since.built_at:
        raise BuildStateError("the clock went back behind the last build")
    touched = _Touched()
    _check_place(session, since)
    _read_acts(session, head, since, touched)
    _read_time(session, since.built_at, now, horizon, touched)
    _reach(session, touched)
    return touched.subjects


def _check_place(session: Session, since: Since) -> None:
    digest = (
        START
        if not since.sequence
        else session.scalar(select(AuditRow.digest).where(AuditRow.sequence == since.sequence))
    )
    if digest != since.digest:
        raise BuildStateError(
            "the audit log is not the one that the last build read: the database was restored, or"
            " is another one"
        )


def _read_acts(session: Session, head: Head, since: Since, found: _Touched) -> None:
    if head.sequence - since.sequence > max(MANY_ENTRIES, since.subjects):
        raise BuildStateError("more happened since the last build than it lists", damaged=False)
    digest = since.digest
    entries = select(AuditRow.__table__).where(
        AuditRow.sequence > since.sequence, AuditRow.sequence <= head.sequence
    )
    for row in session.execute(
        entries.order_by(AuditRow.sequence).execution_options(yield_per=CHUNK)
    ).mappings():
        digest = chain(digest, {str(name): value for name, value in row.items()})
        touches = ACTS.get((row["object_kind"], row["act"]))
        if touches is None:
            raise BuildStateError(
                f"{row['act']} on a {row['object_kind']} is an act that may change anything",
                damaged=False,
            )
        if touches is Touches.RESTRICTION:
            found.restrictions.add(row["object_id"])
        elif touches is Touches.SUBJECT:
            found.subjects.add(row["object_id"])
    if digest != head.digest:
        raise BuildStateError(
            "the audit log has a gap or an altered entry since the last build; run `tipstaff-server"
            " audit verify`"
        )


def _read_time(
    session: Session, since: datetime, now: datetime, horizon: timedelta, found: _Touched
) -> None:
    """What was visible at one moment and is not at the other, or the other way round, without
    anybody acting.
    """
    row, link = RestrictionRow, ResponsibleLinkRow
    listed = row.state.in_(sorted(LISTED))
    for column, ahead in ((row.effective_at, horizon), (row.expires_at, timedelta(0))):
        passed = and_(column > since + ahead, column <= now + ahead)
        found.subjects.update(session.scalars(select(row.subject_id).where(listed, passed)))
        # The persons who answer for the organisation come with it in `_reach`.
    ended = (ExemptionRow.valid_until > since, ExemptionRow.valid_until <= now)
    found.restrictions.update(session.scalars(select(ExemptionRow.restriction_id).where(*ended)))
    moved = or_(_within(link.valid_from, since, now), _within(link.valid_until, since, now))
    found.subjects.update(session.scalars(select(link.person_id).where(moved)))


def _within(column: Any, since: datetime, now: datetime) -> ColumnElement[bool]:
    return and_(column > since, column <= now)


def _reach(session: Session, found: _Touched) -> None:
    """From restrictions to their subjects, and from those to whoever answers or answered for them."""
    row, link = RestrictionRow, ResponsibleLinkRow
    for some in _chunks(found.restrictions):
        found.subjects.update(session.scalars(select(row.subject_id).where(row.id.in_(some))))
    for some in _chunks(found.subjects):
        found.subjects.update(
            session.scalars(select(link.person_id).where(link.organisation_id.in_(some)))
        )


def _chunks(ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    ordered = sorted(ids)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
