"""Which subject is meant: by its id, by one of its numbers, or by a restriction that it has itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.domain.actors import DECIDERS, ActorKind, require
from tipstaff_server.domain.checks import check_id
from tipstaff_server.domain.lifecycle import State
from tipstaff_server.errors import InvalidRequestError, NotFoundError
from tipstaff_server.registry.unit import Request
from tipstaff_server.storage.models import IdentifierRow, RestrictionRow, SubjectRow
from tipstaff_server.vault.columns import blind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.idempotency import Precondition
    from tipstaff_server.vault.vault import Vault

__all__ = [
    "Reference",
    "find_subject",
    "operator_request",
    "require_operator",
    "restricts",
]

_OPERATOR = frozenset({ActorKind.OPERATOR})
_REFUSAL = "this is for the operator: it concerns restrictions of several authorities at once"


@dataclass(frozen=True, slots=True)
class Reference:
    """Exactly one of the three. Ids have 16 bytes."""

    subject_id: bytes = b""
    identifier: Identifier | None = field(default=None, repr=False)
    restriction_id: bytes = b""

    def key(self, vault: Vault) -> list[str]:
        """What tells this reference from others, without a number in it."""
        blind = b"" if self.identifier is None else blind_of(vault, self.identifier)
        return [self.subject_id.hex(), blind.hex(), self.restriction_id.hex()]

    def query(self, vault: Vault) -> Select[bytes]:
        """The subject's id.

        Raises InvalidRequestError: none of the three, several, or an id of another length.
        """
        given = [bool(self.subject_id), self.identifier is not None, bool(self.restriction_id)]
        if sum(given) != 1:
            raise InvalidRequestError(
                "say which subject is meant: by its id, by one of its numbers, or by one of its"
                " restrictions"
            )
        if self.identifier is not None:
            return select(IdentifierRow.subject_id).where(
                IdentifierRow.blind == blind_of(vault, self.identifier)
            )
        if self.subject_id:
            check_id(self.subject_id)
            return select(SubjectRow.id).where(SubjectRow.id == self.subject_id)
        check_id(self.restriction_id)
        return select(RestrictionRow.subject_id).where(RestrictionRow.id == self.restriction_id)


def find_subject(session: Session, vault: Vault, reference: Reference, actor: Actor) -> SubjectRow:
    """Finds the subject that is meant, if this actor may know of it.

    An authority knows the subjects that it restricts, the operator knows all.

    Raises:
        NotFoundError: there is none, or none that this actor may know of; the words are the same.
        InvalidRequestError: the reference says none of the three, or several.
        PermissionDeniedError: neither an authority nor the operator.
    """
    require(actor, DECIDERS, "only authorities and the operator act on subjects")
    subject = session.scalar(reference.query(vault))
    row = None if subject is None else session.get(SubjectRow, subject)
    if row is None or not restricts(session, actor, row.id):
        raise NotFoundError("there is no such subject here; check its number or id")
    return row


def restricts(session: Session, actor: Actor, subject: bytes) -> bool:
    """Says whether an authority has ever put a restriction on this subject.

    A draft does not count, because it touches nothing. Always true for the operator.
    """
    if actor.kind is not ActorKind.AUTHORITY:
        return True
    own = (
        RestrictionRow.subject_id == subject,
        RestrictionRow.authority_id == actor.id,
        RestrictionRow.state != State.DRAFT,
    )
    return session.scalar(select(RestrictionRow.id).where(*own).limit(1)) is not None


def operator_request(
    actor: Actor, reason: str, given: Precondition, words: Sequence[object]
) -> Request:
    """A request that only the operator may make: it concerns several authorities at once."""
    return Request(actor, reason, given, words=words, kinds=_OPERATOR, refusal=_REFUSAL)


def require_operator(actor: Actor) -> None:
    """Raises PermissionDeniedError: not the operator."""
    require(actor, _OPERATOR, _REFUSAL)
