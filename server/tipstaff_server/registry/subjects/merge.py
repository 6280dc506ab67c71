"""Two subjects turn out to be one (归并): everything of the one goes over to the other.

Nothing becomes less by that, so nothing is lifted, and what newly reaches a number or a name comes
with the next listing. The one exception is a post that both were entered with: one of the two
stays, the other is ended for whoever was listed under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, or_, select, update

from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.errors import InvalidRequestError, LifecycleError
from tipstaff_server.registry.idempotency import ANY, Precondition
from tipstaff_server.registry.subjects.posts import lift_post
from tipstaff_server.registry.subjects.reference import (
    Reference,
    find_subject,
    operator_request,
)
from tipstaff_server.registry.subjects.view import SubjectView, names_of, view_of
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import (
    ExemptionRow,
    IdentifierRow,
    NameRow,
    PostState,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import NAME, name_blind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.vault.vault import Vault

__all__ = ["SubjectMerger", "give_name", "move_restriction", "note_officers"]


class SubjectMerger(RegistryPart):
    """What merges subjects."""

    def merge(
        self,
        surviving: Reference,
        absorbed: Reference,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> tuple[SubjectView, int]:
        """Makes two subjects one.

        Returns:
            The subject that stays, and the relief sequence (0: no post was entered twice).

        Raises:
            NotFoundError: there is no such subject.
            LifecycleError: they cannot be one.
            InvalidRequestError: they are one already, no reason, or a used idempotency key.
            PermissionDeniedError: not the operator.

        Nothing has changed when it raises.
        """
        vault = self._store.vault
        words = ["MERGE", surviving.key(vault), absorbed.key(vault), reason]
        with self._store.perform(operator_request(actor, reason, given, words)) as unit:
            if (answered := unit.first_answer()) is not None:
                stays = find_subject(unit.session, vault, Reference(answered), actor)
                return view_of(unit.session, stays, actor), 0
            stays = find_subject(unit.session, vault, surviving, actor)
            goes = find_subject(unit.session, vault, absorbed, actor)
            _check(unit, stays, goes)
            sequence = self._move(unit, stays.id, goes.id)
            unit.remember(stays.id)
            return view_of(unit.session, stays, actor), sequence

    def _move(self, unit: Unit, stays: bytes, goes: bytes) -> int:
        session = unit.session
        # What is to be lifted is what stands in listings now, so before the restrictions move.
        sequence = _merge_posts(unit, stays, goes)
        numbers = session.scalars(
            select(IdentifierRow.blind).where(IdentifierRow.subject_id == goes)
        ).all()
        session.execute(
            update(IdentifierRow).where(IdentifierRow.subject_id == goes).values(subject_id=stays)
        )
        names = names_of(session, goes)
        for name in names:
            give_name(
                session,
                self._store.vault,
                stays,
                self._store.vault.decrypt_text(NAME, goes + name.blind, name.value),
            )
        session.execute(delete(NameRow).where(NameRow.subject_id == goes))
        restrictions = session.scalars(
            select(RestrictionRow)
            .where(RestrictionRow.subject_id == goes)
            .order_by(RestrictionRow.id)
        ).all()
        for row in restrictions:
            move_restriction(unit, row, stays)
        session.execute(
            update(ExemptionRow).where(ExemptionRow.subject_id == goes).values(subject_id=stays)
        )
        session.flush()
        session.execute(delete(SubjectRow).where(SubjectRow.id == goes))
        detail = {
            "surviving": stays.hex(),
            "absorbed": goes.hex(),
            "identifiers": len(numbers),
            "names": len(names),
            "restrictions": len(restrictions),
            "relief_sequence": sequence,
        }
        for subject in (stays, goes):
            unit.note(AuditAct.MERGE, ("subject", subject), detail=detail)
        note_officers(unit, stays, AuditAct.MERGE)
        return sequence


def give_name(session: Session, vault: Vault, subject: bytes, shown: str) -> None:
    """Gives a subject one more name, at the end; does nothing when the name is known.

    A name is bound to its subject, so it is encrypted anew.
    """
    blind = name_blind(vault, subject, canonical_name(shown))
    known = names_of(session, subject)
    if all(name.blind != blind for name in known):
        position = max((name.position for name in known), default=-1) + 1
        session.add(
            NameRow(
                subject_id=subject,
                blind=blind,
                position=position,
                value=vault.encrypt_text(NAME, subject + blind, shown),
            )
        )
        session.flush()


def move_restriction(unit: Unit, row: RestrictionRow, subject: bytes) -> None:
    """A restriction is on another subject from here on."""
    detail = {"from": row.subject_id.hex(), "to": subject.hex(), "version": row.version + 1}
    row.subject_id = subject
    row.version += 1
    unit.note(AuditAct.MOVE, ("restriction", row.id), detail=detail)


def note_officers(unit: Unit, organisation: bytes, act: AuditAct) -> None:
    """Enters the act for everybody who holds a post in an organisation.

    What reaches them, or how it is named, changes with the organisation.
    """
    link = ResponsibleLinkRow
    query = select(link.person_id).where(
        link.organisation_id == organisation, link.state != PostState.LEFT
    )
    for person in unit.session.scalars(query.distinct().order_by(link.person_id)).all():
        detail = {"organisation": organisation.hex()}
        # These entries never had the reason: it stands with the organisation's own.
        unit.log.add(unit.now, unit.actor, act, ("subject", person), detail=detail)


def _check(unit: Unit, stays: SubjectRow, goes: SubjectRow) -> None:
    """Raises what `SubjectMerger.merge` raises when they cannot be one."""
    if stays.id == goes.id:
        raise InvalidRequestError("these are one subject already")
    if stays.type != goes.type:
        raise LifecycleError("a person and an organisation cannot be one subject")
    row = RestrictionRow
    by_case: dict[tuple[str, str], list[bytes]] = {}
    query = (
        select(row.id, row.authority_id, row.case_number)
        .where(row.subject_id.in_([stays.id, goes.id]))
        .order_by(row.id)
    )
    for item in unit.session.execute(query):
        by_case.setdefault((item.authority_id, item.case_number), []).append(item.id)
    twice = [ids for ids in by_case.values() if len(ids) > 1]
    if twice:
        examples = "; ".join(" and ".join(item.hex() for item in ids) for ids in twice[:3])
        raise LifecycleError(
            "both have a restriction of the same authority under the same case number"
            f" ({len(twice)}: {examples}), and a subject has each case once: move numbers and names"
            " over by correcting both subjects, and end the restriction that is not needed"
        )


def _merge_posts(unit: Unit, stays: bytes, goes: bytes) -> int:
    """Moves all posts of the one subject to the other.

    Of a post that both were entered with, one stays, with the earlier of the two ends.
    """
    link = ResponsibleLinkRow
    query = (
        select(link)
        .where(or_(link.person_id.in_([stays, goes]), link.organisation_id.in_([stays, goes])))
        .order_by(link.id)
    )
    rows = unit.session.scalars(query.with_for_update()).all()
    kept = [row for row in rows if goes not in {row.person_id, row.organisation_id}]
    sequence = 0
    # What has been left goes first: who left a post and was appointed again later holds it, in
    # whatever order the rows lie.
    for row in sorted(
        rows, key=lambda item: (item.state is not PostState.LEFT, item.valid_from, item.id)
    ):
        if row in kept:
            continue
        who = (
            _renamed(row.organisation_id, goes, stays),
            _renamed(row.person_id, goes, stays),
            row.capacity,
        )
        twin = _twin(kept, row, who)
        if twin is None:
            row.organisation_id, row.person_id = who[0], who[1]
            row.changed_at = unit.now
            kept.append(row)
            continue
        sequence = max(sequence, _absorb(unit, twin, row))
    unit.session.flush()
    return sequence


def _renamed(subject: bytes, goes: bytes, stays: bytes) -> bytes:
    return stays if subject == goes else subject


def _twin(
    kept: Sequence[ResponsibleLinkRow], row: ResponsibleLinkRow, who: tuple[bytes, bytes, int]
) -> ResponsibleLinkRow | None:
    """The same post, entered twice: from the same moment, or else both held."""
    same = [
        other for other in kept if (other.organisation_id, other.person_id, other.capacity) == who
    ]
    twin = next((other for other in same if other.valid_from == row.valid_from), None)
    return twin or next(
        (other for other in same if {other.state, row.state} == {PostState.HELD}), None
    )


def _absorb(unit: Unit, twin: ResponsibleLinkRow, row: ResponsibleLinkRow) -> int:
    """Lets `row` go, and ends `twin` when the first of the two ends.

    A contradiction is read in the person's favour.
    """
    sequence = lift_post(unit, row, "MERGE") if row.state is PostState.HELD else 0
    ends = [end for end in (twin.valid_until, row.valid_until) if end is not None]
    if row.state is PostState.LEFT and twin.state is PostState.HELD:
        sequence = max(sequence, lift_post(unit, twin, "MERGE"))
    if row.state is PostState.LEFT and twin.state is not PostState.LEFT:
        twin.state, twin.relief_sequence = PostState.LEFT, sequence
    twin.valid_until = min(ends) if ends else None
    twin.changed_at = unit.now
    unit.session.delete(row)
    unit.session.flush()
    return sequence
