"""How things stand in the registry, read by the sign-off with its own queries: what the builder
reads wrongly is not read wrongly twice.

Unlike the builder's reader this one gives every restriction that reaches a subject, whatever its
state, with the marks from which the sign-off can tell what changed before the build and what after
it. A page of subjects at a time, each in a transaction of its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.administration.policies import visible_sets
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.domain.spans import EVERYBODY, Span
from tipstaff_server.storage.bulk import one_of
from tipstaff_server.storage.models import (
    ExemptionRow,
    IdentifierRow,
    NameRow,
    PostState,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import NAME, NUMBER, identifier_of
from tipstaff_server.vault.stretch import IDENTIFIER, Stretched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from tipstaff_server.registry.unit import RegistryStore
    from tipstaff_server.vault.vault import Vault

__all__ = ["Exempted", "Held", "Reached", "StandingRestriction", "read"]

PAGE = 1_000
_COLUMNS = (
    RestrictionRow.id,
    RestrictionRow.subject_id,
    RestrictionRow.authority_id,
    RestrictionRow.measure_set_id,
    RestrictionRow.state,
    RestrictionRow.legal_basis,
    RestrictionRow.case_number,
    RestrictionRow.effective_at,
    RestrictionRow.expires_at,
    RestrictionRow.entered_at,
    RestrictionRow.approved_at,
    RestrictionRow.relief_floor,
    RestrictionRow.relief_sequence,
)


@dataclass(frozen=True, slots=True)
class Exempted:
    """An exemption inside a restriction.

    `measures` as stored: sorted, separated by spaces, none for all.
    """

    id: bytes
    measures: str
    valid_until: datetime
    created_at: datetime
    subject_id: bytes | None


@dataclass(frozen=True, slots=True)
class Held:
    """A post through which a restriction reaches somebody: columns as in ResponsibleLinkRow."""

    capacity: int
    state: PostState
    valid_until: datetime | None
    changed_at: datetime
    relief_sequence: int

    def was_held(self, moment: datetime) -> bool:
        """Whether it was held already at a moment before now, and still is."""
        ends = self.valid_until is not None and self.valid_until <= moment
        return self.state is PostState.HELD and self.changed_at < moment and not ends

    def is_covered(self, relief_sequence: int) -> bool:
        """Held, or left so late that relief after this sequence carries it."""
        return self.state is PostState.HELD or self.relief_sequence > relief_sequence


@dataclass(frozen=True, slots=True)
class StandingRestriction:
    """One restriction as it stands now.

    `measures`: those that the audience enforces, sorted; `posts`: by id, none for its own.
    """

    id: bytes
    state: State
    measures: tuple[str, ...]
    authority_id: str
    legal_basis: str
    case_number: str
    effective_at: datetime
    expires_at: datetime
    entered_at: datetime
    relief_floor: int
    relief_sequence: int
    exemptions: tuple[Exempted, ...]
    posts: dict[bytes, Held]


@dataclass(slots=True)
class Reached:
    """A subject with the restrictions that reach it: identifiers with their stretched form,
    canonical names, restrictions by id.
    """

    subject_type: int
    identifiers: list[tuple[Identifier, bytes]] = field(
        default_factory=list[tuple[Identifier, bytes]], repr=False
    )
    names: set[str] = field(default_factory=set[str], repr=False)
    restrictions: dict[bytes, StandingRestriction] = field(
        default_factory=dict[bytes, StandingRestriction], repr=False
    )


def read(
    store: RegistryStore, audience: str, stretch: int | None = None, span: Span = EVERYBODY
) -> Iterator[Reached]:
    """Every subject of a span that a restriction with a measure of the audience reaches, also
    through posts that were left or are to come.

    `stretch`: the number of the epoch's; by default the current one. Raises StretchRetiredError.
    """
    with store.read() as session:
        measures = store.policies.get(session).audience(audience)
    last = span.after
    while last < span.last:
        with store.read() as session:
            ids = select(SubjectRow.id, SubjectRow.type).where(
                _within(SubjectRow.id, (last, span.last))
            )
            types = {
                row.id: row.type for row in session.execute(ids.order_by(SubjectRow.id).limit(PAGE))
            }
            if not types:
                return
            low, last = last, max(types)
            sets = visible_sets(session, measures)
            reached = _page(session, sets, types, (low, last))
            _identify(
                session,
                store.vault,
                Stretched(session, store.vault, stretch),
                reached,
                (low, last),
            )
        yield from reached.values()


def _page(
    session: Session,
    sets: dict[int, tuple[str, ...]],
    types: dict[bytes, int],
    span: tuple[bytes, bytes],
) -> dict[bytes, Reached]:
    reached: dict[bytes, Reached] = {}
    reaching = _reaching(session, sets, span)
    exemptions = _exemptions(session, {row.id for row, _ in reaching.values()})
    for (subject, _), (row, posts) in reaching.items():
        standing = StandingRestriction(
            id=row.id,
            state=row.state,
            measures=sets[row.measure_set_id],
            authority_id=row.authority_id,
            legal_basis=row.legal_basis,
            case_number=row.case_number,
            effective_at=row.effective_at,
            expires_at=row.expires_at,
            # For a build it is there from the moment on that the second person approved it.
            entered_at=row.approved_at or row.entered_at,
            relief_floor=row.relief_floor,
            relief_sequence=row.relief_sequence,
            exemptions=tuple(
                item for item in exemptions.get(row.id, ()) if item.subject_id in {None, subject}
            ),
            posts=posts,
        )
        reached.setdefault(subject, Reached(types[subject])).restrictions[row.id] = standing
    return reached


def _reaching(
    session: Session, sets: dict[int, tuple[str, ...]], span: tuple[bytes, bytes]
) -> dict[tuple[bytes, bytes], tuple[Any, dict[bytes, Held]]]:
    """By subject of the page and restriction: the restriction's columns, and the posts through
    which it reaches (none: their own).
    """
    seen = (
        RestrictionRow.measure_set_id.in_(sets),
        RestrictionRow.state != State.DRAFT,
        RestrictionRow.erased_at.is_(None),
    )
    link = ResponsibleLinkRow
    held: tuple[Any, ...] = tuple(
        column.label(f"post_{column.key}")
        for column in (
            link.capacity,
            link.state,
            link.valid_until,
            link.changed_at,
            link.relief_sequence,
        )
    )
    through = (
        select(link.person_id, link.id.label("post"), *held, *_COLUMNS)
        .join(RestrictionRow, RestrictionRow.subject_id == link.organisation_id)
        .where(_within(link.person_id, span), *seen)
    )
    reaching: dict[tuple[bytes, bytes], tuple[Any, dict[bytes, Held]]] = {}
    for row in session.execute(through):
        post = Held(
            row.post_capacity,
            row.post_state,
            row.post_valid_until,
            row.post_changed_at,
            row.post_relief_sequence,
        )
        reaching.setdefault((row.person_id, row.id), (row, {}))[1][row.post] = post
    for row in session.execute(
        select(*_COLUMNS).where(_within(RestrictionRow.subject_id, span), *seen)
    ):
        reaching[row.subject_id, row.id] = (row, {})
    return reaching


def _exemptions(session: Session, restrictions: set[bytes]) -> dict[bytes, tuple[Exempted, ...]]:
    by_restriction: dict[bytes, list[Exempted]] = defaultdict(list)
    query = select(
        ExemptionRow.id,
        ExemptionRow.restriction_id,
        ExemptionRow.measures,
        ExemptionRow.valid_until,
        ExemptionRow.created_at,
    )
    query = query.add_columns(ExemptionRow.subject_id)
    for asked in one_of(session, ExemptionRow.restriction_id, restrictions):
        for row in session.execute(query.where(asked)):
            by_restriction[row.restriction_id].append(
                Exempted(row.id, row.measures, row.valid_until, row.created_at, row.subject_id)
            )
    return {restriction: tuple(items) for restriction, items in by_restriction.items()}


def _identify(
    session: Session,
    vault: Vault,
    stretched: Stretched,
    reached: dict[bytes, Reached],
    span: tuple[bytes, bytes],
) -> None:
    for row in session.execute(select(*IDENTIFIER).where(_within(IdentifierRow.subject_id, span))):
        if subject := reached.get(row.subject_id):
            number = vault.decrypt(NUMBER, row.blind, row.value)
            identifier = identifier_of(number)
            subject.identifiers.append((identifier, stretched.of(row, identifier)))
    names = select(NameRow.subject_id, NameRow.blind, NameRow.value).where(
        _within(NameRow.subject_id, span)
    )
    for named in session.execute(names):
        if subject := reached.get(named.subject_id):
            subject.names.add(
                canonical_name(
                    vault.decrypt_text(NAME, named.subject_id + named.blind, named.value)
                )
            )


def _within(column: InstrumentedAttribute[bytes], span: tuple[bytes, bytes]) -> ColumnElement[bool]:
    return (column > span[0]) & (column <= span[1])
