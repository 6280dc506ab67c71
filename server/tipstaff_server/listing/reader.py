"""What the builder of a listing reads: every subject that an audience may see, one after another,
in bounded memory.

Subjects come in the order of their (random) ids, a page at a time, each page in a transaction of
its own: a build never holds up an act. So read the relief head *before* the first page. An act that
comes in between is then either in the page or behind that head, and relief carries it; each subject
is read in one state.

A restriction is visible from NOTICED on, if it takes effect within the horizon (a listing's
lifetime): the record says when it begins, so it begins on time without a rebuild. Suspended and
ended ones are not visible.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff.v1.identity_pb2 import BilingualText
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.administration.policies import Policies, visible_sets
from tipstaff_server.domain.lifecycle import LISTED
from tipstaff_server.domain.spans import EVERYBODY, Span
from tipstaff_server.storage.bulk import one_of
from tipstaff_server.storage.models import (
    DisputeEffect,
    ExemptionRow,
    IdentifierRow,
    NameRow,
    PostState,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import NAME, NUMBER, identifier_of, read_exemption_reason
from tipstaff_server.vault.stretch import IDENTIFIER, Stretched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.registry.unit import RegistryStore

__all__ = ["ListingIdentifier", "ListingReader", "ListingSubject"]

_Holds: TypeAlias = "Callable[[InstrumentedAttribute[bytes]], ColumnElement[bool]]"
KEPT = 4_096
# Columns rather than objects: an object for each row costs as much again as reading it.
_RESTRICTION = (
    RestrictionRow.id,
    RestrictionRow.subject_id,
    RestrictionRow.authority_id,
    RestrictionRow.list_id,
    RestrictionRow.measure_set_id,
    RestrictionRow.legal_basis,
    RestrictionRow.case_number,
    RestrictionRow.decided_by,
    RestrictionRow.effective_at,
    RestrictionRow.expires_at,
    RestrictionRow.relief_floor,
)


@dataclass(frozen=True, slots=True)
class ListingIdentifier:
    """An identifier and its stretched form S (32 bytes)."""

    identifier: Identifier
    stretched: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListingSubject:
    """One subject as one audience may see it: identifiers and canonical names sorted, restrictions
    sorted by id.
    """

    id: bytes
    subject_type: int
    identifiers: tuple[ListingIdentifier, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    restrictions: tuple[listing_pb2.RecordRestriction, ...] = field(repr=False)


@dataclass(slots=True)
class _Reach:
    """A restriction that reaches a subject: its own, or through posts.

    `row` has the columns of _RESTRICTION.

    `capacity`: of several posts in the organisation the first in the contract's order. `until`:
    when the last post ends, None: no end.
    """

    row: Any
    capacity: int = 0
    organisation: bytes = b""
    posts: list[bytes] = field(default_factory=list[bytes])
    until: datetime | None = None


@dataclass(slots=True)
class _Exempted:
    """An exemption with its reason, opened."""

    row: ExemptionRow
    zh: str = field(repr=False)
    en: str = field(repr=False)


@dataclass(slots=True)
class _Page:
    """What one transaction reads: some subjects (`holds`: whether a column names one of them), and
    what reaches them.
    """

    session: Session
    holds: _Holds
    policies: Policies
    sets: dict[int, tuple[str, ...]]
    types: dict[bytes, int]
    now: datetime
    stretched: Stretched
    reaches: dict[bytes, dict[bytes, _Reach]] = field(default_factory=lambda: defaultdict(dict))


class ListingReader:
    """Reads what a builder needs."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def subjects(
        self,
        audience: str,
        now: datetime,
        stretch: int | None = None,
        span: Span = EVERYBODY,
    ) -> Iterator[ListingSubject]:
        """Every subject of a span with a visible restriction.

        `stretch`: the number of the epoch's; None: the current one.

        Raises NotFoundError: no such audience; VaultDataError; StretchRetiredError.
        """
        last = span.after
        while last < span.last:
            with self._store.read() as session:
                ids = (
                    select(SubjectRow.id, SubjectRow.type)
                    .where(_between(last, span.last, SubjectRow.id))
                    .order_by(SubjectRow.id)
                )
                types = {
                    row.id: row.type
                    for row in session.execute(ids.limit(self._store.rules.page_size))
                }
                page = partial(_between, last, max(types, default=last))
                page_subjects = self._read(
                    session,
                    audience,
                    now,
                    types,
                    page,
                    Stretched(session, self._store.vault, stretch),
                )
            yield from page_subjects
            if not types:
                return
            last = max(types)

    def chosen(
        self, audience: str, now: datetime, ids: Sequence[bytes], stretch: int | None = None
    ) -> Iterator[ListingSubject]:
        """Reads some subjects, by ascending ids, as `subjects` does."""
        for start in range(0, len(ids), self._store.rules.page_size):
            some = ids[start : start + self._store.rules.page_size]
            with self._store.read() as session:
                rows = session.execute(
                    select(SubjectRow.id, SubjectRow.type).where(SubjectRow.id.in_(some))
                )
                stretched = Stretched(session, self._store.vault, stretch)
                page_subjects = self._read(
                    session,
                    audience,
                    now,
                    {row.id: row.type for row in rows},
                    partial(_one_of, some),
                    stretched,
                )
            yield from page_subjects

    def _read(
        self,
        session: Session,
        audience: str,
        now: datetime,
        types: dict[bytes, int],
        holds: _Holds,
        stretched: Stretched,
    ) -> list[ListingSubject]:
        policies = self._store.policies.get(session)
        sets = visible_sets(session, policies.audience(audience))
        page = _Page(session, holds, policies, sets, types, now, stretched)
        if types and sets:
            self._own(page)
            self._through_organisations(page)
        if not page.reaches:
            return []
        identifiers = self._identifiers(page)
        names = self._names(page)
        organisations = self._organisation_names(page)
        exemptions = self._exemptions(page)
        subjects: list[ListingSubject] = []
        for subject in sorted(page.reaches):
            restrictions = [
                _record(
                    page,
                    reach,
                    _for(subject, exemptions.get(reach.row.id, [])),
                    organisations.get(reach.organisation, ""),
                )
                for _, reach in sorted(page.reaches[subject].items())
            ]
            canonical = sorted({canonical_name(name) for name in names[subject]})
            subjects.append(
                ListingSubject(
                    subject,
                    page.types[subject],
                    tuple(identifiers[subject]),
                    tuple(canonical),
                    tuple(restrictions),
                )
            )
        return subjects

    def _visible(self, page: _Page) -> tuple[ColumnElement[bool], ...]:
        return (
            _unindexed(RestrictionRow.state).in_(sorted(LISTED)),
            RestrictionRow.expires_at > page.now,
            RestrictionRow.effective_at <= page.now + self._store.rules.horizon,
            RestrictionRow.measure_set_id.in_(list(page.sets)),
        )

    def _own(self, page: _Page) -> None:
        query = select(*_RESTRICTION).where(
            page.holds(RestrictionRow.subject_id), *self._visible(page)
        )
        for row in page.session.execute(query):
            page.reaches[row.subject_id][row.id] = _Reach(row)

    def _through_organisations(self, page: _Page) -> None:
        link = aliased(ResponsibleLinkRow)
        query = (
            select(
                link.person_id,
                link.organisation_id,
                link.capacity,
                link.id.label("post"),
                link.valid_until,
                *_RESTRICTION,
            )
            .join(RestrictionRow, RestrictionRow.subject_id == link.organisation_id)
            .where(page.holds(link.person_id), _unindexed(link.state) == PostState.HELD)
            .where(
                (link.valid_until.is_(None)) | (link.valid_until > page.now), *self._visible(page)
            )
            .order_by(link.capacity, link.id)
        )
        for row in page.session.execute(query):
            known = page.reaches[row.person_id].get(row.id)
            if known is None:
                reach = _Reach(row, row.capacity, row.organisation_id, [row.post], row.valid_until)
                page.reaches[row.person_id][row.id] = reach
            else:
                known.posts.append(row.post)
                known.until = _later(known.until, row.valid_until)

    def _identifiers(self, page: _Page) -> dict[bytes, list[ListingIdentifier]]:
        vault = self._store.vault
        by_subject: dict[bytes, list[ListingIdentifier]] = defaultdict(list)
        query = select(*IDENTIFIER).where(page.holds(IdentifierRow.subject_id))
        for row in page.session.execute(query):
            if row.subject_id in page.reaches:
                number = vault.decrypt(NUMBER, row.blind, row.value)
                identifier = identifier_of(number)
                by_subject[row.subject_id].append(
                    ListingIdentifier(identifier, page.stretched.of(row, identifier))
                )
        for items in by_subject.values():
            items.sort(key=lambda item: (item.identifier.kind, item.identifier.number))
        return by_subject

    def _names(self, page: _Page) -> dict[bytes, list[str]]:
        by_subject: dict[bytes, list[str]] = defaultdict(list)
        columns = (NameRow.subject_id, NameRow.blind, NameRow.value)
        query = select(*columns).where(page.holds(NameRow.subject_id))
        for row in page.session.execute(query):
            if row.subject_id in page.reaches:
                by_subject[row.subject_id].append(
                    self._store.vault.decrypt_text(NAME, row.subject_id + row.blind, row.value)
                )
        return by_subject

    def _organisation_names(self, page: _Page) -> dict[bytes, str]:
        wanted = {
            reach.organisation
            for reaches in page.reaches.values()
            for reach in reaches.values()
            if reach.organisation
        }
        names: dict[bytes, str] = {}
        for asked in one_of(page.session, NameRow.subject_id, wanted):
            for row in page.session.execute(
                select(NameRow.subject_id, NameRow.blind, NameRow.value).where(
                    asked, NameRow.position == 0
                )
            ):
                names[row.subject_id] = self._store.vault.decrypt_text(
                    NAME, row.subject_id + row.blind, row.value
                )
        return names

    def _exemptions(self, page: _Page) -> dict[bytes, list[_Exempted]]:
        wanted = {restriction for reaches in page.reaches.values() for restriction in reaches}
        by_restriction: dict[bytes, list[_Exempted]] = defaultdict(list)
        for asked in one_of(page.session, ExemptionRow.restriction_id, wanted):
            query = (
                select(ExemptionRow)
                .where(asked, ExemptionRow.valid_until > page.now)
                .order_by(ExemptionRow.id)
            )
            for row in page.session.scalars(query):
                by_restriction[row.restriction_id].append(
                    _Exempted(row, *read_exemption_reason(self._store.vault, row))
                )
        return by_restriction


def _unindexed(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """The column, compared without an index:

    SQLite would go by that on states, which most rows share, and read everybody's each time.
    """
    return func.coalesce(column, column)


def _between(low: bytes, high: bytes, column: InstrumentedAttribute[bytes]) -> ColumnElement[bool]:
    return (column > low) & (column <= high)


def _one_of(ids: Sequence[bytes], column: InstrumentedAttribute[bytes]) -> ColumnElement[bool]:
    return column.in_(ids)


def _record(
    page: _Page, reach: _Reach, exemptions: Sequence[_Exempted], organisation: str
) -> listing_pb2.RecordRestriction:
    row = reach.row
    shown = page.sets[row.measure_set_id]
    policy = page.policies.lists[row.list_id]
    title = page.policies.authorities[row.authority_id].title
    return listing_pb2.RecordRestriction(
        restriction_id=row.id,
        measures=shown,
        authority_id=row.authority_id,
        authority_name=BilingualText(zh=row.decided_by, en=f"{title.en}: {row.decided_by}")
        if row.decided_by
        else title,
        legal_basis=row.legal_basis,
        case_number=row.case_number,
        exemptions=[
            _exemption(item, shown)
            for item in exemptions
            if not item.row.measures or set(item.row.measures.split()) & set(shown)
        ],
        effective_at=_timestamp(row.effective_at),
        expires_at=_timestamp(
            row.expires_at if reach.until is None else min(row.expires_at, reach.until)
        ),
        dispute=listing_pb2.DisputeInstructions(
            text=policy.dispute.to_proto(), suspends=policy.dispute_effect is DisputeEffect.SUSPEND
        ),
        capacity=identity_pb2.Capacity.ValueType(reach.capacity),
        organisation_name=organisation,
        relief_floor=row.relief_floor,
        post_ids=sorted(reach.posts),
    )


@lru_cache(KEPT)
def _timestamp(moment: datetime) -> Timestamp:
    """Days come again and again. For copying only: nobody may change it."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later end of two posts; None is no end."""
    return None if one is None or other is None else max(one, other)


def _for(subject: bytes, exemptions: Sequence[_Exempted]) -> list[_Exempted]:
    """Those for everybody, and those for this subject alone."""
    return [item for item in exemptions if item.row.subject_id in {None, subject}]


def _exemption(item: _Exempted, shown: tuple[str, ...]) -> listing_pb2.Exemption:
    """An exemption with those of its measures that the audience enforces; none named means all."""
    row = item.row
    measures = [code for code in row.measures.split() if code in shown]
    message = listing_pb2.Exemption(
        exemption_id=row.id, measures=measures, reason=BilingualText(zh=item.zh, en=item.en)
    )
    message.valid_from.FromDatetime(row.valid_from)
    message.valid_until.FromDatetime(row.valid_until)
    return message
