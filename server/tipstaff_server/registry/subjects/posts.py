"""Posts: who answers for an organisation, in which capacity, from and until (落实到人).

An organisation's restrictions reach whoever holds a post in it, from the next listing on. Leaving
takes effect at once: records name the posts through which a restriction reaches somebody, so relief
that names the post lifts it for that person and for nobody else (docs/decisions/0015). A post that
was left never comes back under its id.

    COMING ──its first moment──► HELD ──its end, or somebody says so──► LEFT
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import ID_BYTES, check_id
from tipstaff_server.domain.lifecycle import LISTED
from tipstaff_server.domain.parties import EARLIEST, LATEST, ORGANISATION, check_party
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.idempotency import ANY, Precondition
from tipstaff_server.registry.subjects.reference import find_subject, restricts
from tipstaff_server.registry.subjects.resolver import Resolver
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.bulk import insert_all
from tipstaff_server.storage.models import (
    IdentifierRow,
    NameRow,
    PostState,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.domain.parties import Responsible
    from tipstaff_server.registry.subjects.reference import Reference
    from tipstaff_server.registry.unit import Unit

__all__ = ["Dates", "Post", "Posts", "Turned", "lift_post", "post_of"]

DUE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Post:
    """A post; fields as Post in the contract."""

    post_id: bytes
    organisation_id: bytes
    person_id: bytes
    capacity: int
    state: PostState
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Dates:
    """What is to be different about a post's dates; what is not given stays.

    `without_end`: no end is known after all.
    """

    valid_from: datetime | None = None
    valid_until: datetime | None = None
    without_end: bool = False


@dataclass(frozen=True, slots=True)
class Turned:
    """How many posts began and how many were left, because their time had come."""

    begun: int
    left: int


class Posts(RegistryPart):
    """What knows who answers for whom."""

    def add(
        self,
        organisation: Reference,
        person: Responsible,
        dates: Dates,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Post:
        """Gives somebody a post; the organisation's restrictions reach them from the next listing on.

        An authority may do so in organisations that it restricts.

        Raises:
            NotFoundError: no such organisation, as far as this actor may know.
            LifecycleError: the post is held already.
            EntryError: the person could not be entered either.
            InvalidRequestError: dates or the organisation do not fit, or no reason.
            PermissionDeniedError: neither an authority nor the operator.
        """
        vault = self._store.vault
        numbers = sorted([int(item.kind), item.number] for item in person.party.identifiers)
        who = [organisation.key(vault), numbers, person.party.names, person.capacity]
        request = Request(actor, reason, given, words=["POST_ADD", *who, dates, reason])
        request.check()
        _check_person(person)
        with self._store.perform(request, person.party.identifiers) as unit:
            if (answered := unit.first_answer()) is not None:
                return post_of(_find(unit, answered))
            target = find_subject(unit.session, vault, organisation, actor)
            if target.type != ORGANISATION:
                raise InvalidRequestError(
                    "this subject is a person: only an organisation has posts"
                )
            resolver = Resolver.of(unit)
            resolver.load([person.party])
            staged = resolver.stage()
            subject = staged.resolve(person.party)
            staged.keep()
            insert_all(unit.session, (SubjectRow, IdentifierRow, NameRow), resolver.take())
            row = _take(unit, (target.id, subject, person.capacity), dates)
            _note(unit, row, AuditAct.POST_ADD)
            unit.remember(row.id)
            return post_of(row)

    def end(
        self,
        post_id: bytes,
        valid_until: datetime | None,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> tuple[Post, int]:
        """Lets somebody leave a post, now (None) or at a moment.

        A post that was left already stays as it is. Another past moment corrects its date.

        Returns:
            The post, and the relief sequence (0: there is nothing to lift, or not yet).

        Raises:
            NotFoundError: no such post, as far as this actor may know.
            LifecycleError: it cannot end like this.
            InvalidRequestError: dates do not fit, no reason, or a used idempotency key.
            PermissionDeniedError: neither an authority nor the operator.
        """
        dates = Dates(valid_until=valid_until)
        return self._change(post_id, dates, AuditAct.POST_END, reason, actor, given)

    def amend(
        self, post_id: bytes, dates: Dates, reason: str, actor: Actor, given: Precondition = ANY
    ) -> tuple[Post, int]:
        """Corrects the dates of a post; answers and raises as `end`.

        One that begins later after all is lifted, and gets another id.
        """
        if dates == Dates():
            raise InvalidRequestError("say which date is to be different")
        return self._change(post_id, dates, AuditAct.POST_AMEND, reason, actor, given)

    def turn(self, now: datetime) -> Turned:
        """Lets posts begin and end whose time has come.

        Safe to run often and on several replicas.
        """
        link = ResponsibleLinkRow
        ended = and_(
            link.state != PostState.LEFT, link.valid_until.is_not(None), link.valid_until <= now
        )
        begun = and_(link.state == PostState.COMING, link.valid_from <= now)
        left = self._advance(ended, PostState.LEFT, AuditAct.POST_LEFT, now)
        return Turned(self._advance(begun, PostState.HELD, AuditAct.POST_BEGUN, now), left)

    def _advance(
        self, due: ColumnElement[bool], state: PostState, act: AuditAct, now: datetime
    ) -> int:
        done = 0
        while True:
            with self._store.read() as session:
                if session.scalar(select(ResponsibleLinkRow.id).where(due).limit(1)) is None:
                    return done
            with self._store.act() as unit:
                unit.now = now
                query = (
                    select(ResponsibleLinkRow)
                    .where(due)
                    .order_by(ResponsibleLinkRow.id)
                    .limit(DUE_BATCH)
                    .with_for_update()
                )
                for row in unit.session.scalars(query).all():
                    _set_state(unit, row, state)
                    _note(unit, row, act)
                    done += 1

    def _change(
        self,
        post_id: bytes,
        dates: Dates,
        act: AuditAct,
        reason: str,
        actor: Actor,
        given: Precondition,
    ) -> tuple[Post, int]:
        check_id(post_id)
        request = Request(actor, reason, given, words=[act.value, post_id.hex(), dates, reason])
        with self._store.perform(request) as unit:
            if (answered := unit.first_answer()) is not None:
                row = _find(unit, answered)
                return post_of(row), row.relief_sequence
            row = _find(unit, post_id)
            if act is AuditAct.POST_END and dates.valid_until is None:
                dates = Dates(
                    valid_until=row.valid_until if row.state is PostState.LEFT else unit.now
                )
            sequence = _date(unit, row, dates, act)
            unit.remember(row.id)
            return post_of(row), sequence


def post_of(row: ResponsibleLinkRow) -> Post:
    """A post as it stands."""
    return Post(
        row.id,
        row.organisation_id,
        row.person_id,
        row.capacity,
        row.state,
        row.valid_from,
        row.valid_until,
    )


def lift_post(unit: Unit, row: ResponsibleLinkRow, cause: str) -> int:
    """Lifts what reaches the person through this post, for every audience that may have it.

    Returns:
        The last relief sequence, or 0.
    """
    query = select(RestrictionRow.measure_set_id, RestrictionRow.id).where(
        RestrictionRow.subject_id == row.organisation_id,
        RestrictionRow.state.in_(sorted(LISTED)),
        RestrictionRow.expires_at > unit.now,
    )
    # One for each set of measures: audiences are told by the measures, and the post's id covers all
    # restrictions of the organisation.
    sets = {
        found.measure_set_id: found.id
        for found in unit.session.execute(query.order_by(RestrictionRow.id))
    }
    sequence = 0
    for measure_set, restriction in sorted(sets.items()):
        sequence = unit.lift(restriction, measure_set, cause, row.id)
    return sequence


def _date(unit: Unit, row: ResponsibleLinkRow, dates: Dates, act: AuditAct) -> int:
    """Other dates, and what follows from them; the relief sequence, or 0."""
    begin = dates.valid_from or row.valid_from
    end = None if dates.without_end else dates.valid_until or row.valid_until
    _check_dates(begin, end)
    if (begin, end) == (row.valid_from, row.valid_until):
        return row.relief_sequence
    left = row.state is PostState.LEFT
    if left and (end is None or end > unit.now):
        raise LifecycleError(
            "this post has been left; if that was wrong, enter it again: it comes with the next"
            " listing"
        )
    if (
        begin != row.valid_from
        and _same_post(unit, (row.organisation_id, row.person_id, row.capacity), begin) is not None
    ):
        raise LifecycleError("the same post from that moment is known already; correct that one")
    row.valid_from, row.valid_until = begin, end
    if left:
        _note(unit, row, act)
        return row.relief_sequence
    sequence = _set_state(unit, row, _state(begin, end, unit.now))
    _note(unit, row, act)
    return sequence


def _set_state(unit: Unit, row: ResponsibleLinkRow, state: PostState) -> int:
    """Puts the post into its next state, and lifts it when it is held no longer.

    A post that is to be held again later gets another id, because a lift is for good.
    """
    sequence = 0
    if row.state is PostState.HELD and state is not PostState.HELD:
        sequence = lift_post(unit, row, "POST")
    if row.state is PostState.HELD and state is PostState.COMING:
        row.id = secrets.token_bytes(ID_BYTES)
    else:
        row.relief_sequence = sequence
    row.state, row.changed_at = state, unit.now
    unit.session.flush()
    return sequence


def _state(begin: datetime, end: datetime | None, now: datetime) -> PostState:
    if end is not None and end <= now:
        return PostState.LEFT
    return PostState.COMING if begin > now else PostState.HELD


def _take(unit: Unit, who: tuple[bytes, bytes, int], dates: Dates) -> ResponsibleLinkRow:
    """The post of a person in an organisation, in a capacity, written.

    Raises LifecycleError: it is held, or to come, already.
    """
    link = ResponsibleLinkRow
    begin = dates.valid_from or unit.now
    _check_dates(begin, dates.valid_until)
    state = _state(begin, dates.valid_until, unit.now)
    if state is PostState.LEFT:
        raise InvalidRequestError(
            "this post is over already: there is nothing for restrictions to reach"
        )
    same = link.organisation_id == who[0], link.person_id == who[1], link.capacity == who[2]
    if (
        unit.session.scalar(select(link.id).where(*same, link.state != PostState.LEFT).limit(1))
        is not None
    ):
        raise LifecycleError(
            "this person holds that post already, or is to; correct its dates instead"
        )
    row = _same_post(unit, who, begin)
    if row is None:
        row = link(organisation_id=who[0], person_id=who[1], capacity=who[2], valid_from=begin)
        unit.session.add(row)
    # One that was left by mistake begins anew under another id: relief has ended the old one for
    # good.
    row.id = secrets.token_bytes(ID_BYTES)
    row.valid_until, row.state, row.changed_at, row.relief_sequence = (
        dates.valid_until,
        state,
        unit.now,
        0,
    )
    return row


def _same_post(
    unit: Unit, who: tuple[bytes, bytes, int], begin: datetime
) -> ResponsibleLinkRow | None:
    link = ResponsibleLinkRow
    same = (
        link.organisation_id == who[0],
        link.person_id == who[1],
        link.capacity == who[2],
        link.valid_from == begin,
    )
    return unit.session.scalar(select(link).where(*same))


def _find(unit: Unit, post_id: bytes) -> ResponsibleLinkRow:
    """The post, locked, if this actor may know of it. Raises NotFoundError."""
    row = unit.session.scalar(
        select(ResponsibleLinkRow).where(ResponsibleLinkRow.id == post_id).with_for_update()
    )
    if row is None or not restricts(unit.session, unit.actor, row.organisation_id):
        raise NotFoundError("there is no such post here; look at the organisation for its posts")
    return row


def _note(unit: Unit, row: ResponsibleLinkRow, act: AuditAct) -> None:
    """One entry for the person, and one for the organisation."""
    detail: Mapping[str, object] = {
        "post": row.id.hex(),
        "organisation": row.organisation_id.hex(),
        "person": row.person_id.hex(),
        "capacity": row.capacity,
        "state": row.state,
        "valid_from": row.valid_from.isoformat(),
        "valid_until": None if row.valid_until is None else row.valid_until.isoformat(),
        "relief_sequence": row.relief_sequence,
    }
    for subject in (row.person_id, row.organisation_id):
        unit.note(act, ("subject", subject), detail=detail)


def _check_person(person: Responsible) -> None:
    if not 1 <= person.capacity <= 4:  # noqa: PLR2004  the contract's capacities
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON,
            "say in which capacity this person answers for the organisation",
        )
    if person.party.type == ORGANISATION:
        raise EntryError(EntryCode.RESPONSIBLE_PERSON, "only a person holds a post")
    check_party(person.party)


def _check_dates(begin: datetime, end: datetime | None) -> None:
    """Raises InvalidRequestError.

    An end at the very beginning says that the post was never held.
    """
    if not (EARLIEST <= begin <= LATEST and (end is None or EARLIEST <= end <= LATEST)):
        raise InvalidRequestError(f"dates have to lie between {EARLIEST.year} and {LATEST.year}")
    if end is not None and end < begin:
        raise InvalidRequestError("the post ends before it begins")
