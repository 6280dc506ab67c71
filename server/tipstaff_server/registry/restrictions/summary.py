"""Finding a restriction that the caller may know of, and showing it without its subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.domain.actors import Actor, ActorKind
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import NotFoundError
from tipstaff_server.storage.models import MeasureSetRow, RestrictionRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.registry.unit import RegistryStore, Unit

__all__ = ["RestrictionSummary", "find", "locked", "measures_of", "summary_of"]


@dataclass(frozen=True, slots=True)
class RestrictionSummary:
    """A restriction without its subject; fields as RestrictionSummary in the contract.

    `measures` is sorted.
    """

    restriction_id: bytes
    state: State
    authority_id: str
    list_id: str
    measures: tuple[str, ...]
    case_number: str
    effective_at: datetime
    expires_at: datetime
    version: int


def find(
    session: Session,
    restriction_id: bytes,
    actor: Actor,
    store: RegistryStore,
    *,
    lock: bool = False,
) -> RestrictionRow:
    """The restriction, if this actor may know of it.

    Raises NotFoundError otherwise, in the same words as when there is none.
    """
    query = select(RestrictionRow).where(RestrictionRow.id == restriction_id)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None or not _may_know(session, row, actor, store):
        raise NotFoundError("there is no such restriction here; check its id")
    return row


def locked(unit: Unit, restriction_id: bytes) -> RestrictionRow:
    """The restriction that an act is about, locked until its end; raises as `find` does."""
    return find(unit.session, restriction_id, unit.actor, unit.store, lock=True)


def _may_know(session: Session, row: RestrictionRow, actor: Actor, store: RegistryStore) -> bool:
    if actor.kind is ActorKind.AUTHORITY:
        return row.authority_id == actor.id
    if actor.kind is ActorKind.PROVIDER:
        enforced = store.policies.get(session).audiences.get(actor.audience, frozenset())
        return row.state is not State.DRAFT and not enforced.isdisjoint(measures_of(session, row))
    return True


def measures_of(session: Session, row: RestrictionRow) -> tuple[str, ...]:
    """Its codes, sorted."""
    codes: str = session.execute(
        select(MeasureSetRow.codes).where(MeasureSetRow.id == row.measure_set_id)
    ).scalar_one()
    return tuple(codes.split())


def summary_of(session: Session, row: RestrictionRow) -> RestrictionSummary:
    """A restriction without its subject."""
    return RestrictionSummary(
        restriction_id=row.id,
        state=row.state,
        authority_id=row.authority_id,
        list_id=row.list_id,
        measures=measures_of(session, row),
        case_number=row.case_number,
        effective_at=row.effective_at,
        expires_at=row.expires_at,
        version=row.version,
    )
