"""Erasing what has been kept for long enough: restrictions a term after their end, then subjects
that nothing is left of.

1. `due` finds restrictions that ended long enough ago; `blocked` says what else stands against
   erasing one.
2. `erase` takes a batch in one act: written to the archive and synced first, if there is one; then
   numbers, names, statements, notes, reasons, case number and deciding court go; last the subjects
   of whom nothing is left.

What stays names nobody: a random id, list, measures, state and times, for statistics; reports of
providers; the audit log, which says with `ERASE` what was erased, and whose chain still verifies,
because it covers commitments to reasons (audit/reasons.py), not the reasons.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, or_, select, update

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.bounds import MOST_STEPS
from tipstaff_server.domain.lifecycle import TERMINAL
from tipstaff_server.errors import Blocked, RetentionError
from tipstaff_server.registry.holdings import Holdings, objects_of
from tipstaff_server.registry.restrictions.summary import locked
from tipstaff_server.storage.models import (
    AudienceRow,
    AuditReasonRow,
    AuditRow,
    BuildState,
    DisputeRow,
    DisputeState,
    DraftRow,
    ExemptionRow,
    IdempotencyRow,
    IdentifierRow,
    ListingBuildRow,
    NameRow,
    RemedyRow,
    RemedyState,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from tipstaff_server.config import RetentionSection
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import RegistryStore, Unit

__all__ = ["Erased", "Retention", "append"]

BATCH = 100
DIGEST_BYTES = 32
_WORDS = {
    Blocked.ERASED: "it was erased already",
    Blocked.IN_FORCE: "it has not ended: release, repair or revoke it, or wait for its term",
    Blocked.TERM: "its retention term is not over yet",
    Blocked.DISPUTED: "a dispute about it is open: answer that first",
    Blocked.REMEDY: "a provider has not answered its remedy yet",
    Blocked.LISTED: (
        "a listing that held it may still be in use: publish its audiences' listings, nine of them"
        " since its end"
    ),
    Blocked.OLD_REASONS: (
        "reasons in the audit log are under the first key: run `vault rotate`, then `vault"
        " re-encrypt`"
    ),
}


@dataclass(slots=True)
class Erased:
    """What `erase` did, or would do: counts, and how many were due but stood against it, by why."""

    restrictions: int = 0
    subjects: int = 0
    blocked: dict[Blocked, int] = field(default_factory=dict[Blocked, int])


class Retention:
    """Erases, for the operator. `rules`: how long what is kept."""

    def __init__(self, store: RegistryStore, rules: RetentionSection) -> None:
        self._store = store
        self._rules = rules

    def due(self) -> Erased:
        """What erasing would do now; subjects are not counted ahead."""
        erased = Erased()
        with self._store.read() as session:
            for row in session.scalars(self._due(self._store.clock())):
                self._count(erased, self._blocked(session, row, self._store.clock()))
        return erased

    def export(self, path: Path) -> int:
        """Appends everything that may be erased now to a file: JSON Lines, mode 0600.

        Returns:
            How many restrictions.

        Raises:
            RetentionError: the file cannot be written, or others can read it.
        """
        with self._store.read() as session:
            rows = [
                row
                for row in session.scalars(self._due(self._store.clock()))
                if self._blocked(session, row, self._store.clock()) is None
            ]
            append(path, [_line(session, self._store, row) for row in rows])
        return len(rows)

    def erase(self, actor: Actor, archive: Path | None) -> Erased:
        """Erases all that is due and that nothing stands against, a batch at a time.

        Killed, it can be run again.

        Args:
            actor: who erases.
            archive: appended to before anything of a batch goes, as `export` does; None: nothing is kept.

        Raises:
            RetentionError: the archive cannot be written.
        """
        found, last = Erased(), b""
        while True:
            with self._store.act(actor) as unit:
                query = (
                    self._due(unit.now)
                    .where(RestrictionRow.id > last)
                    .order_by(RestrictionRow.id)
                    .limit(BATCH)
                    .with_for_update()
                )
                rows = unit.session.scalars(query).all()
                free: list[RestrictionRow] = []
                for row in rows:
                    blocked = self._blocked(unit.session, row, unit.now)
                    self._count(found, blocked)
                    free += [row] if blocked is None else []
                found.subjects += self._take(unit, free, archive)
            if not rows:
                return found
            last = rows[-1].id

    def erase_one(self, restriction_id: bytes, actor: Actor, archive: Path | None) -> Erased:
        """Erases one restriction.

        Raises RetentionError: something stands against it; NotFoundError.
        """
        with self._store.act(actor) as unit:
            row = locked(unit, restriction_id)
            blocked = self._blocked(unit.session, row, unit.now)
            if blocked is not None:
                raise RetentionError(
                    blocked, f"this restriction may not be erased: {_WORDS[blocked]}"
                )
            return Erased(1, self._take(unit, [row], archive))

    def _take(self, unit: Unit, rows: Sequence[RestrictionRow], archive: Path | None) -> int:
        if archive is not None:
            append(archive, [_line(unit.session, self._store, row) for row in rows])
        subjects = {row.subject_id for row in rows}
        for row in rows:
            _erase_restriction(unit, row)
        unit.session.flush()
        return _erase_subjects(unit, subjects)

    def _due(self, now: datetime) -> Select[RestrictionRow]:
        days = self._rules.lists
        ended = RestrictionRow.ended_at
        terms: list[ColumnElement[bool]] = [
            and_(RestrictionRow.list_id == name, ended <= now - timedelta(days=term))
            for name, term in sorted(days.items())
        ]
        terms.append(
            and_(
                RestrictionRow.list_id.not_in(sorted(days)),
                ended <= now - timedelta(days=self._rules.days),
            )
        )
        return select(RestrictionRow).where(
            RestrictionRow.state.in_(sorted(TERMINAL)),
            RestrictionRow.erased_at.is_(None),
            or_(*terms),
        )

    def _blocked(self, session: Session, row: RestrictionRow, now: datetime) -> Blocked | None:
        """What stands against erasing it, the gravest first."""
        if row.erased_at is not None:
            return Blocked.ERASED
        if row.state not in TERMINAL or row.ended_at is None:
            return Blocked.IN_FORCE
        if row.ended_at > now - timedelta(
            days=self._rules.lists.get(row.list_id, self._rules.days)
        ):
            return Blocked.TERM
        if _exists(
            session, DisputeRow.restriction_id == row.id, DisputeRow.state == DisputeState.OPEN
        ):
            return Blocked.DISPUTED
        if _exists(
            session, RemedyRow.restriction_id == row.id, RemedyRow.state != RemedyState.ANSWERED
        ):
            return Blocked.REMEDY
        if (oldest := _oldest_listing(session)) is not None and row.ended_at >= oldest:
            return Blocked.LISTED
        return Blocked.OLD_REASONS if self._old_reasons(session, row) else None

    def _old_reasons(self, session: Session, row: RestrictionRow) -> bool:
        """Whether the log itself still holds a reason that a key of this registry opens: erasing
        would not erase it.
        """
        first = func.substr(AuditRow.reason, 1, 1)
        opens = [bytes([version]) for version in self._store.vault.keys.columns]
        return _exists(
            session, _named(_objects(session, row)), AuditRow.reason.is_not(None), first.in_(opens)
        )

    @staticmethod
    def _count(found: Erased, blocked: Blocked | None) -> None:
        if blocked is None:
            found.restrictions += 1
        else:
            found.blocked[blocked] = found.blocked.get(blocked, 0) + 1


def append(path: Path, lines: Sequence[str]) -> None:
    """Appends lines to a file of mode 0600 and syncs it.

    Raises RetentionError: it cannot be written, or others can read it.
    """
    try:
        handle = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(handle, "ab") as file:
            if os.fstat(handle).st_mode & 0o077:
                raise RetentionError(
                    Blocked.ARCHIVE,
                    f"{path} can be read by others; give a file of your own: it will be full of"
                    " names",
                )
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise RetentionError(
            Blocked.ARCHIVE,
            f"{path} cannot be written: {error.strerror}; nothing of this batch was erased",
        ) from None


def _line(session: Session, store: RegistryStore, row: RestrictionRow) -> str:
    holdings = Holdings(session, store.vault)
    return json.dumps(
        holdings.restriction(row) | {"subject": holdings.identity(row.subject_id)},
        ensure_ascii=False,
    )


def _erase_restriction(unit: Unit, row: RestrictionRow) -> None:
    session, objects = unit.session, _objects(unit.session, row)
    exemptions = session.scalars(
        select(ExemptionRow.id).where(ExemptionRow.restriction_id == row.id)
    ).all()
    session.execute(
        update(DisputeRow).where(DisputeRow.restriction_id == row.id).values(statement=b"")
    )
    session.execute(update(RemedyRow).where(RemedyRow.restriction_id == row.id).values(note=None))
    session.execute(delete(DraftRow).where(DraftRow.restriction_id == row.id))
    session.execute(delete(ExemptionRow).where(ExemptionRow.restriction_id == row.id))
    session.execute(
        delete(IdempotencyRow).where(IdempotencyRow.restriction_id.in_([row.id, *exemptions]))
    )
    row.case_number, row.legal_basis, row.decided_by = f"erased-{row.id.hex()}", "", None
    row.case_opened_at = row.published_at = None
    row.entry_digest = secrets.token_bytes(DIGEST_BYTES)
    row.erased_at = unit.now
    row.version += 1
    _forget(unit, objects, {"list": row.list_id, "version": row.version})


def _erase_subjects(unit: Unit, subjects: Collection[bytes]) -> int:
    """Those of whom nothing is left; then the persons who answered for organisations among them."""
    done, session = 0, unit.session
    waiting = sorted(subjects)
    while waiting:
        subject = waiting.pop()
        row = session.get(SubjectRow, subject, with_for_update=True)
        if row is None or row.erased_at is not None or _needed(session, subject):
            continue
        links = or_(
            ResponsibleLinkRow.organisation_id == subject, ResponsibleLinkRow.person_id == subject
        )
        waiting += session.scalars(
            select(ResponsibleLinkRow.person_id).where(
                ResponsibleLinkRow.organisation_id == subject
            )
        )
        session.execute(delete(ResponsibleLinkRow).where(links))
        session.execute(delete(NameRow).where(NameRow.subject_id == subject))
        session.execute(delete(IdentifierRow).where(IdentifierRow.subject_id == subject))
        row.erased_at = unit.now
        everybody = _absorbed(session, subject)
        session.execute(delete(IdempotencyRow).where(IdempotencyRow.restriction_id.in_(everybody)))
        session.flush()
        _forget(unit, [("subject", item) for item in everybody], {})
        done += 1
    return done


def _absorbed(session: Session, subject: bytes) -> list[bytes]:
    """The subject, and those that were merged into it: what people wrote about them is about this
    one.
    """
    subjects = [subject]
    for item in subjects:
        query = select(AuditRow.detail).where(
            AuditRow.object_kind == "subject",
            AuditRow.object_id == item,
            AuditRow.act == AuditAct.MERGE,
        )
        merges = [json.loads(detail) for detail in session.scalars(query)]
        subjects += [
            bytes.fromhex(merge["absorbed"])
            for merge in merges
            if merge.get("surviving") == item.hex()
        ]
    return subjects


def _needed(session: Session, subject: bytes) -> bool:
    """Whether a restriction that is not erased is on the subject, or on an organisation that it
    answers for.
    """
    kept = RestrictionRow.erased_at.is_(None)
    organisations = select(ResponsibleLinkRow.organisation_id).where(
        ResponsibleLinkRow.person_id == subject
    )
    return _exists(
        session,
        kept,
        or_(RestrictionRow.subject_id == subject, RestrictionRow.subject_id.in_(organisations)),
    )


def _forget(unit: Unit, objects: Sequence[tuple[str, bytes]], detail: dict[str, object]) -> None:
    """The reasons of everything that was done with these go; the log says so."""
    entries = select(AuditRow.sequence).where(_named(objects))
    unit.session.execute(
        delete(AuditReasonRow)
        .where(AuditReasonRow.sequence.in_(entries))
        .execution_options(synchronize_session=False)
    )
    for item in objects:
        unit.note(AuditAct.ERASE, item, detail=detail)


def _objects(session: Session, row: RestrictionRow) -> list[tuple[str, bytes]]:
    disputes = session.scalars(select(DisputeRow).where(DisputeRow.restriction_id == row.id)).all()
    remedies = session.scalars(select(RemedyRow).where(RemedyRow.restriction_id == row.id)).all()
    return objects_of(row.id, disputes, remedies)


def _named(objects: Sequence[tuple[str, bytes]]) -> ColumnElement[bool]:
    return or_(
        *(and_(AuditRow.object_kind == kind, AuditRow.object_id == item) for kind, item in objects)
    )


def _exists(session: Session, *conditions: ColumnElement[bool]) -> bool:
    return bool(session.scalar(select(select(1).where(*conditions).exists())))


def _oldest_listing(session: Session) -> datetime | None:
    """When the oldest listing was built that a provider may hold, or reach the newest from by
    deltas; None: nothing is published.
    """
    oldest: datetime | None = None
    for audience in session.scalars(select(AudienceRow.id).where(AudienceRow.retired.is_(False))):
        query = select(ListingBuildRow.built_at).where(
            ListingBuildRow.audience_id == audience, ListingBuildRow.state == BuildState.PUBLISHED
        )
        times = session.scalars(
            query.order_by(ListingBuildRow.version.desc()).limit(MOST_STEPS + 1)
        ).all()
        if times and (oldest is None or times[-1] < oldest):
            oldest = times[-1]
    return oldest
