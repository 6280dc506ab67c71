"""Entering restrictions, one or many at a time.

1. `prepare` looks up which identifiers are known and starts stretching the others, without a
   transaction.
2. `commit` takes one transaction: for each entry the rules, the subject, the case number; then
   everything is written in bulk.

One refused entry does not hold up the others. An entry that is there already changes nothing,
however often it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tipstaff_server.audit.log import detail_text
from tipstaff_server.domain.actors import DECIDERS, ActorKind, require
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.lifecycle import State, effective_after
from tipstaff_server.errors import EntryCode, EntryError, PermissionDeniedError, StretchChangedError
from tipstaff_server.registry.restrictions.drafts import draft_row
from tipstaff_server.registry.restrictions.entry import check
from tipstaff_server.registry.subjects.resolver import Resolver
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.bulk import Behind, one_of
from tipstaff_server.storage.models import (
    ApprovalMode,
    DraftRow,
    IdempotencyRow,
    IdentifierRow,
    MeasureSetRow,
    NameRow,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import blind_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.domain.parties import Responsible
    from tipstaff_server.registry.restrictions.entry import Entry
    from tipstaff_server.registry.unit import Unit

__all__ = ["Prepared", "Submission", "Submissions", "SubmitStatus"]

MAX_KEY = 64
CHUNK = 5_000
AT_ONCE = 32
_ENTRY = "restrictions.entry"
# Entries whose rows the database takes in while the next ones' are made.
PART = 250
WRITTEN = (
    SubjectRow,
    IdentifierRow,
    NameRow,
    ResponsibleLinkRow,
    RestrictionRow,
    DraftRow,
    IdempotencyRow,
)


class SubmitStatus(StrEnum):
    """How entering one restriction fared; named as in the contract."""

    CREATED = "CREATED"
    UNCHANGED = "UNCHANGED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to one entry.

    `code` and `detail` are set when it was rejected, `restriction_id` (16 bytes) when it was not.
    """

    status: SubmitStatus
    restriction_id: bytes = b""
    code: EntryCode | None = None
    detail: str = ""

    @classmethod
    def rejected(cls, error: EntryError) -> Submission:
        """From the reason."""
        return cls(SubmitStatus.REJECTED, code=error.code, detail=str(error))


@dataclass(slots=True)
class Prepared:
    """Entries on their way in, with the stretching of new identifiers under way."""

    entries: Sequence[Entry]
    keys: Sequence[str | None]
    authority_id: str
    actor: Actor
    stretching: Sequence[tuple[Sequence[bytes], Future[list[bytes]]]] = field(repr=False)
    stretch: int  # its number


@dataclass(slots=True)
class _Batch:
    """One transaction's entries: what is known, and what is to be written."""

    unit: Unit
    work: Prepared
    resolver: Resolver
    writing: Behind
    cases: dict[tuple[bytes, str], tuple[bytes, bytes]] = field(default_factory=dict)
    answered: dict[str, tuple[bytes, bytes, str]] = field(default_factory=dict)
    sets: dict[str, int] = field(default_factory=dict)
    details: dict[tuple[str, tuple[str, ...], State, int], str] = field(default_factory=dict)
    rows: dict[type, list[dict[str, Any]]] = field(default_factory=dict)

    def put(self, table: type, row: dict[str, Any]) -> None:
        self.rows.setdefault(table, []).append(row)

    def take(self) -> dict[type, list[dict[str, Any]]]:
        """The rows to write since this was asked last."""
        taken, self.rows = self.rows, {}
        for table, rows in self.resolver.take().items():
            taken.setdefault(table, []).extend(rows)
        return taken


class Submissions(RegistryPart):
    """What takes entries."""

    def submit(
        self, entry: Entry, *, authority: str, actor: Actor, idempotency_key: str | None = None
    ) -> Submission:
        """Enters one restriction. A refused entry is an answer, not an exception.

        Raises:
            PermissionDeniedError: not this actor's authority.
        """
        return self.submit_many([entry], authority=authority, actor=actor, keys=[idempotency_key])[
            0
        ]

    def submit_many(
        self,
        entries: Sequence[Entry],
        *,
        authority: str,
        actor: Actor,
        keys: Sequence[str | None] | None = None,
    ) -> list[Submission]:
        """Enters many in one transaction; one answer each, in order.

        Raises:
            PermissionDeniedError: not this actor's authority.
        """
        return self.commit(self.prepare(entries, authority=authority, actor=actor, keys=keys))

    def prepare(
        self,
        entries: Sequence[Entry],
        *,
        authority: str,
        actor: Actor,
        keys: Sequence[str | None] | None = None,
    ) -> Prepared:
        """Step 1. Raises PermissionDeniedError: not this actor's authority."""
        if actor.kind is ActorKind.AUTHORITY and actor.id != authority:
            raise PermissionDeniedError(f"{actor} may not enter restrictions of another authority")
        require(actor, DECIDERS, "only authorities and the operator enter restrictions")
        wanted = {
            blind_of(self._store.vault, identifier): identifier
            for entry in entries
            for party in (entry.party, *(person.party for person in entry.responsible))
            for identifier in party.identifiers
        }
        known: set[bytes] = set()
        with self._store.read() as session:
            self._store.policies.get(session).authority(authority)
            stretch = self._store.refresh_stretch(session)
            for asked in one_of(session, IdentifierRow.blind, wanted):
                known.update(session.scalars(select(IdentifierRow.blind).where(asked)))
        new = [(blind, identifier) for blind, identifier in wanted.items() if blind not in known]
        # So many to a thread that handing them over costs little, and so few that all threads have
        # work.
        parts = [new[start : start + AT_ONCE] for start in range(0, len(new), AT_ONCE)]
        stretching = [
            (
                [blind for blind, _ in part],
                self._store.stretcher.submit_many([identifier for _, identifier in part]),
            )
            for part in parts
        ]
        return Prepared(
            entries, keys or [None] * len(entries), authority, actor, stretching, stretch
        )

    def commit(self, work: Prepared) -> list[Submission]:
        """Step 2: one submission for each entry, in order.

        Raises DatabaseUnavailableError; then nothing was entered.
        """
        try:
            return self._commit(work)
        except StretchChangedError:
            # Once in years, at the moment at which another stretch takes over.
            return self._commit(
                self.prepare(
                    work.entries, authority=work.authority_id, actor=work.actor, keys=work.keys
                )
            )

    def _commit(self, work: Prepared) -> list[Submission]:
        # Waiting for threads happens before the transaction, which holds locks.
        stretched = {
            blind: value
            for blinds, values in work.stretching
            for blind, value in zip(blinds, values.result(), strict=True)
        }
        with self._store.act(work.actor) as unit:
            if self._store.refresh_stretch(unit.session) != work.stretch:
                raise StretchChangedError(
                    "identifiers are stretched otherwise by now: enter them again"
                )
            unit.stretched = stretched
            resolver = Resolver.of(unit)
            resolver.load(
                [
                    party
                    for entry in work.entries
                    for party in (entry.party, *(p.party for p in entry.responsible))
                ]
            )
            answers: list[Submission] = []
            with Behind(unit.session, WRITTEN, many=len(work.entries) > PART) as writing:
                batch = _Batch(unit, work, resolver, writing)
                self._load(batch)
                waiting = zip(work.entries, work.keys, strict=True)
                while some := [
                    self._one(batch, entry, key) for entry, key in islice(waiting, PART)
                ]:
                    answers += some
                    writing.put(batch.take())
        return answers

    def _load(self, batch: _Batch) -> None:
        session, work = batch.unit.session, batch.work
        for asked in one_of(
            session, RestrictionRow.subject_id, list(batch.resolver.known_subjects())
        ):
            entered = session.execute(
                select(
                    RestrictionRow.subject_id,
                    RestrictionRow.case_number,
                    RestrictionRow.id,
                    RestrictionRow.entry_digest,
                ).where(asked, RestrictionRow.authority_id == work.authority_id)
            )
            batch.cases.update(
                {(row.subject_id, row.case_number): (row.id, row.entry_digest) for row in entered}
            )
        keys = [key for key in work.keys if key]
        for some in _chunks(keys):
            answered = session.execute(
                select(
                    IdempotencyRow.key,
                    IdempotencyRow.entry_digest,
                    IdempotencyRow.restriction_id,
                    IdempotencyRow.status,
                ).where(IdempotencyRow.scope == str(work.actor), IdempotencyRow.key.in_(some))
            )
            batch.answered.update(
                {row.key: (row.entry_digest, row.restriction_id, row.status) for row in answered}
            )
        batch.sets = {
            row.codes: row.id
            for row in session.execute(select(MeasureSetRow.codes, MeasureSetRow.id))
        }

    def _one(self, batch: _Batch, entry: Entry, key: str | None) -> Submission:
        try:
            _check_key(key)
            check(entry, batch.work.authority_id, batch.unit.policies, self._store.rules.max_term)
            told = entry.canonical(batch.work.authority_id)
            if key is not None and key in batch.answered:
                return self._first_answer(batch.answered[key], told)
            digest = self._store.vault.index(_ENTRY, told)
            answer = self._enter(batch, entry, digest)
        except EntryError as error:
            return Submission.rejected(error)
        if key is not None:
            self._remember(batch, key, digest, answer)
        return answer

    def _first_answer(self, answered: tuple[bytes, bytes, str], told: bytes) -> Submission:
        if not self._store.vault.made(answered[0], _ENTRY, told):
            raise EntryError(
                EntryCode.IDEMPOTENCY_KEY,
                "this idempotency key was used for another entry; choose a new one",
            )
        return Submission(SubmitStatus(answered[2]), answered[1])

    def _enter(self, batch: _Batch, entry: Entry, digest: bytes) -> Submission:
        staged = batch.resolver.stage()
        two_persons = batch.unit.policies.lists[entry.list_id].approval is ApprovalMode.TWO_PERSONS
        if two_persons and not batch.work.actor.is_person:
            raise EntryError(
                EntryCode.OFFICER_MISSING,
                "this list needs two persons: enter with a certificate that names an officer"
                " (…/officer/…)",
            )
        subject = staged.anchor(entry.party) if two_persons else staged.resolve(entry.party)
        known = batch.cases.get((subject, entry.case_number))
        if known is not None:
            if known[1] != digest and not self._store.vault.made(
                known[1], _ENTRY, entry.canonical(batch.work.authority_id)
            ):
                raise EntryError(
                    EntryCode.CASE_CONFLICT,
                    "this case number is entered for this subject already, with other content;"
                    " amend that one, or give another number",
                )
            return Submission(SubmitStatus.UNCHANGED, known[0])
        row = self._restriction(batch, entry, subject, digest)
        left: list[Responsible] = []
        if two_persons:
            trial = batch.resolver.stage()
            for person in entry.responsible:
                trial.resolve(person.party)
            row |= {"state": State.DRAFT, "effective_at": entry.effective_at, "activated_at": None}
            batch.put(DraftRow, draft_row(self._store.vault, row["id"], entry, batch.work.actor))
        else:
            left = [
                person
                for person in entry.responsible
                if not staged.link(subject, staged.resolve(person.party), person.capacity)
            ]
        staged.keep()
        batch.cases[subject, entry.case_number] = (row["id"], digest)
        batch.put(RestrictionRow, row)
        batch.unit.note(
            AuditAct.SUBMIT,
            ("restriction", row["id"]),
            detail=_detail(batch, entry, row["state"], len(left)),
        )
        return Submission(SubmitStatus.CREATED, row["id"])

    def _restriction(
        self, batch: _Batch, entry: Entry, subject: bytes, digest: bytes
    ) -> dict[str, Any]:
        now = batch.unit.now
        effective = effective_after(
            entry.effective_at,
            entry.published_at,
            batch.unit.policies.lists[entry.list_id].notice_days,
            now,
        )
        if entry.expires_at <= max(now, effective):
            raise EntryError(
                EntryCode.TERM_OVER,
                "the term is over already, or would be before the notice period ends; correct"
                " expires_at",
            )
        state = State.ACTIVE if effective <= now else State.NOTICED
        return {
            "id": batch.resolver.new_id(),
            "subject_id": subject,
            "authority_id": batch.work.authority_id,
            "list_id": entry.list_id,
            "measure_set_id": _measure_set(batch, entry.measures),
            "state": state,
            "legal_basis": entry.legal_basis,
            "case_number": entry.case_number,
            "decided_by": entry.decided_by or None,
            "effective_at": effective,
            "expires_at": entry.expires_at,
            "case_opened_at": entry.case_opened_at,
            "published_at": entry.published_at,
            "entered_at": now,
            "approved_at": None,
            "activated_at": now if state is State.ACTIVE else None,
            "ended_at": None,
            "version": 1,
            "relief_floor": 0,
            "relief_sequence": 0,
            "entry_digest": digest,
        }

    @staticmethod
    def _remember(batch: _Batch, key: str, digest: bytes, answer: Submission) -> None:
        batch.answered[key] = (digest, answer.restriction_id, answer.status)
        batch.put(
            IdempotencyRow,
            {
                "scope": str(batch.work.actor),
                "key": key,
                "entry_digest": digest,
                "restriction_id": answer.restriction_id,
                "status": answer.status,
                "at": batch.unit.now,
            },
        )


def _detail(batch: _Batch, entry: Entry, state: State, left: int) -> str:
    """What the audit log says of an entry; the same for most of a batch."""
    key = entry.list_id, entry.measures, state, left
    known = batch.details.get(key)
    if known is None:
        facts = {
            "authority": batch.work.authority_id,
            "list": entry.list_id,
            "measures": entry.measures,
            "state": state,
        }
        known = batch.details[key] = detail_text(
            facts | ({"posts_left_before": left} if left else {})
        )
    return known


def _measure_set(batch: _Batch, measures: Sequence[str]) -> int:
    codes = " ".join(sorted(measures))
    known = batch.sets.get(codes)
    if known is None:
        batch.writing.wait()
        row = MeasureSetRow(codes=codes)
        batch.unit.session.add(row)
        batch.unit.session.flush()
        known = batch.sets[codes] = row.id
    return known


def _check_key(key: str | None) -> None:
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise EntryError(
            EntryCode.IDEMPOTENCY_KEY, f"an idempotency key has 1 to {MAX_KEY} characters"
        )


def _chunks(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
