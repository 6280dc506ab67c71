"""Looking at a subject: in figures for whoever restricts it, with numbers and names for the
operator, who has to say why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.domain.actors import ActorKind
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_reason
from tipstaff_server.registry.subjects.posts import Post, post_of
from tipstaff_server.registry.subjects.reference import (
    find_subject,
    require_operator,
)
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import (
    IdentifierRow,
    NameRow,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import NAME, NUMBER

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.subjects.reference import Reference

__all__ = ["Revealed", "SubjectView", "SubjectViewer", "names_of", "view_of"]


@dataclass(frozen=True, slots=True)
class SubjectView:
    """A subject without numbers and names; fields as SubjectSummary in the contract."""

    subject_id: bytes
    type: int
    identifiers: dict[IdentifierKind, int]
    names: int
    restriction_ids: tuple[bytes, ...]
    posts: tuple[Post, ...]


@dataclass(frozen=True, slots=True)
class Revealed:
    """A subject with its numbers and names, the current name first."""

    view: SubjectView
    identifiers: tuple[Identifier, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)


class SubjectViewer(RegistryPart):
    """What shows subjects."""

    def show(self, reference: Reference, actor: Actor) -> SubjectView:
        """Shows a subject in figures.

        Looking up a number is an act: the audit log keeps who did it, and what was found.

        Raises:
            NotFoundError: no such subject, as far as this actor may know.
            PermissionDeniedError: neither an authority nor the operator.
            InvalidRequestError: the reference does not say one thing.
        """
        if reference.identifier is None:
            with self._store.read() as session:
                return view_of(
                    session, find_subject(session, self._store.vault, reference, actor), actor
                )
        with self._store.act(actor) as unit:
            row = find_subject(unit.session, self._store.vault, reference, actor)
            unit.note(AuditAct.SHOW, ("subject", row.id))
            return view_of(unit.session, row, actor)

    def reveal(self, reference: Reference, reason: str, actor: Actor) -> Revealed:
        """Shows the operator a subject with its numbers and names.

        The audit log keeps who was told, and why.

        Raises:
            NotFoundError: there is no such subject.
            PermissionDeniedError: not the operator.
            InvalidRequestError: no reason, or the reference does not say one thing.
        """
        require_operator(actor)
        check_reason(reason)
        vault = self._store.vault
        with self._store.act(actor, reason) as unit:
            row = find_subject(unit.session, vault, reference, actor)
            unit.note(AuditAct.REVEAL, ("subject", row.id))
            stored = unit.session.scalars(
                select(IdentifierRow)
                .where(IdentifierRow.subject_id == row.id)
                .order_by(IdentifierRow.blind)
            )
            numbers = [vault.decrypt(NUMBER, item.blind, item.value) for item in stored]
            identifiers = sorted((number[0], number[1:].decode("ascii")) for number in numbers)
            names = [
                vault.decrypt_text(NAME, row.id + item.blind, item.value)
                for item in names_of(unit.session, row.id)
            ]
            return Revealed(
                view_of(unit.session, row, actor),
                tuple(Identifier(IdentifierKind(kind), number) for kind, number in identifiers),
                tuple(names),
            )


def names_of(session: Session, subject: bytes) -> list[NameRow]:
    """A subject's names, the current one first."""
    return list(
        session.scalars(
            select(NameRow)
            .where(NameRow.subject_id == subject)
            .order_by(NameRow.position, NameRow.blind)
        )
    )


def view_of(session: Session, row: SubjectRow, actor: Actor) -> SubjectView:
    """Shows a subject in figures, as far as this actor may know.

    An authority sees its own restrictions, and posts in organisations where it has any.
    """
    link = ResponsibleLinkRow
    kinds = session.scalars(select(IdentifierRow.kind).where(IdentifierRow.subject_id == row.id))
    restrictions = (
        select(RestrictionRow.id)
        .where(RestrictionRow.subject_id == row.id)
        .order_by(RestrictionRow.id)
    )
    posts = (
        select(link)
        .where(or_(link.organisation_id == row.id, link.person_id == row.id))
        .order_by(link.valid_from, link.id)
    )
    if actor.kind is ActorKind.AUTHORITY:
        own = RestrictionRow.authority_id == actor.id
        restrictions = restrictions.where(own)
        posts = posts.where(link.organisation_id.in_(select(RestrictionRow.subject_id).where(own)))
    return SubjectView(
        subject_id=row.id,
        type=row.type,
        identifiers={IdentifierKind(kind): count for kind, count in sorted(Counter(kinds).items())},
        names=session.execute(
            select(func.count()).select_from(NameRow).where(NameRow.subject_id == row.id)
        ).scalar_one(),
        restriction_ids=tuple(session.scalars(restrictions)),
        posts=tuple(post_of(item) for item in session.scalars(posts)),
    )
