"""One subject turns out to be two (拆分), or has numbers and names that are not its own (更正).

Records stand under every number and name of a subject. Once one of these goes, the restrictions in
its record must stop at once, and relief has no word for "under this number": so each restriction of
the subject is lifted as it was, its floor is raised to that lift, and the next listing brings it
back where it belongs. Until then providers see nothing of it, which is the right way to be wrong
for a while. What reaches a person through posts is lifted by the posts, which then go on under
other ids: the organisation stays restricted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import ID_BYTES
from tipstaff_server.domain.lifecycle import LISTED
from tipstaff_server.domain.parties import MAX_IDENTIFIERS, MAX_NAMES, ORGANISATION
from tipstaff_server.errors import (
    EntryCode,
    EntryError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.registry.idempotency import ANY, Precondition
from tipstaff_server.registry.subjects.merge import give_name, move_restriction, note_officers
from tipstaff_server.registry.subjects.posts import lift_post
from tipstaff_server.registry.subjects.reference import (
    Reference,
    find_subject,
    operator_request,
)
from tipstaff_server.registry.subjects.resolver import identifier_row
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
from tipstaff_server.vault.columns import (
    NAME,
    blind_of,
    name_blind,
    read_exemption_reason,
    seal_exemption_reason,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.vault.vault import Vault

__all__ = ["Correction", "Parts", "Split", "SubjectSplitter"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What is the new subject's.

    `names` are its alone, `shared_names` both have; ids of restrictions and posts have 16 bytes.
    """

    identifiers: tuple[Identifier, ...] = field(repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    shared_names: tuple[str, ...] = field(default=(), repr=False)
    restriction_ids: tuple[bytes, ...] = ()
    post_ids: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """Numbers and names that are not the subject's own, and those that are."""

    remove_identifiers: tuple[Identifier, ...] = field(default=(), repr=False)
    remove_names: tuple[str, ...] = field(default=(), repr=False)
    add_identifiers: tuple[Identifier, ...] = field(default=(), repr=False)
    add_names: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Split:
    """Both subjects, and the last relief sequence that carries it (0: nothing was in a listing)."""

    subject: SubjectView
    split_off: SubjectView
    relief_sequence: int


class SubjectSplitter(RegistryPart):
    """What splits and corrects subjects."""

    def split(
        self,
        reference: Reference,
        parts: Parts,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Split:
        """Makes one subject two. What no longer reaches a number or a name is lifted at once.

        Raises:
            NotFoundError: no such subject, or a part is not the subject's.
            LifecycleError: nothing would stay, or nothing would go.
            InvalidRequestError: no reason, or a used idempotency key.
            PermissionDeniedError: not the operator.

        Nothing has changed when it raises.
        """
        vault = self._store.vault
        ids = [[item.hex() for item in some] for some in (parts.restriction_ids, parts.post_ids)]
        whose = [_plain(parts.identifiers), parts.names, parts.shared_names]
        words = ["SPLIT", reference.key(vault), *whose, *ids, reason]
        with self._store.perform(operator_request(actor, reason, given, words)) as unit:
            if (answered := unit.first_answer()) is not None:
                subject, split_off = (
                    view_of(unit.session, find_subject(unit.session, vault, half, actor), actor)
                    for half in (reference, Reference(answered))
                )
                return Split(subject, split_off, 0)
            row = find_subject(unit.session, vault, reference, actor)
            made = SubjectRow(id=secrets.token_bytes(ID_BYTES), type=row.type, created_at=unit.now)
            unit.session.add(made)
            unit.session.flush()
            sequence = self._part(unit, row, made.id, parts)
            detail = {
                "subject": row.id.hex(),
                "split_off": made.id.hex(),
                "relief_sequence": sequence,
            }
            for subject_id in (row.id, made.id):
                unit.note(AuditAct.SPLIT, ("subject", subject_id), detail=detail)
                note_officers(unit, subject_id, AuditAct.SPLIT)
            unit.remember(made.id)
            return Split(
                view_of(unit.session, row, actor), view_of(unit.session, made, actor), sequence
            )

    def correct(
        self,
        reference: Reference,
        correction: Correction,
        reason: str,
        actor: Actor,
        given: Precondition = ANY,
    ) -> tuple[SubjectView, int]:
        """Takes wrong numbers and names away, and adds right ones.

        Returns:
            The subject, and the last relief sequence (0: there was nothing to lift).

        Raises:
            NotFoundError: no such subject, or what is to go is not the subject's.
            EntryError: what is to come cannot be entered.
            LifecycleError: nothing would stay.
            InvalidRequestError: nothing is to change, no reason, or a used idempotency key.
            PermissionDeniedError: not the operator.

        Nothing has changed when it raises.
        """
        vault = self._store.vault
        going = [_plain(correction.remove_identifiers), correction.remove_names]
        coming = [_plain(correction.add_identifiers), correction.add_names]
        words = ["CORRECT", reference.key(vault), *going, *coming, reason]
        request = operator_request(actor, reason, given, words)
        request.check()
        _check_correction(correction)
        with self._store.perform(request, correction.add_identifiers) as unit:
            if (answered := unit.first_answer()) is not None:
                row = find_subject(unit.session, vault, Reference(answered), actor)
                return view_of(unit.session, row, actor), 0
            row = find_subject(unit.session, vault, reference, actor)
            sequence = self._correct(unit, row, correction)
            unit.remember(row.id)
            return view_of(unit.session, row, actor), sequence

    def _part(self, unit: Unit, row: SubjectRow, made: bytes, parts: Parts) -> int:
        session, vault = unit.session, self._store.vault
        if not parts.identifiers or not (parts.names or parts.shared_names):
            raise InvalidRequestError("the new subject needs at least one number and one name")
        shown = {
            item.blind: vault.decrypt_text(NAME, row.id + item.blind, item.value)
            for item in names_of(session, row.id)
        }
        wanted = [
            self._name(row.id, name, shown.keys()) for name in (*parts.names, *parts.shared_names)
        ]
        # What is to be lifted is what stands in listings now, so before anything moves.
        sequence = _lift_all(unit, row, AuditAct.SPLIT)
        for number in self._numbers(session, row.id, parts.identifiers):
            number.subject_id = made
        for blind in wanted:
            give_name(session, vault, made, shown[blind])
        _drop_names(session, row.id, wanted[: len(parts.names)])
        for restriction in _restrictions(session, row.id, parts.restriction_ids):
            move_restriction(unit, restriction, made)
        for post in _posts(session, row.id, parts.post_ids):
            if row.type == ORGANISATION:
                post.organisation_id = made
            else:
                post.person_id = made
            post.changed_at = unit.now
        if row.type != ORGANISATION:
            _rename_posts(unit, row.id)
            _rename_posts(unit, made)
            _share_exemptions(unit, vault, row.id, made)
        session.flush()
        _check_left(session, row.id)
        return sequence

    def _correct(self, unit: Unit, row: SubjectRow, correction: Correction) -> int:
        session, vault = unit.session, self._store.vault
        sequence = 0
        if correction.remove_identifiers or correction.remove_names:
            sequence = _lift_all(unit, row, AuditAct.CORRECT)
            known = {item.blind for item in names_of(session, row.id)}
            for number in self._numbers(session, row.id, correction.remove_identifiers):
                session.delete(number)
            _drop_names(
                session,
                row.id,
                [self._name(row.id, name, known) for name in correction.remove_names],
            )
            if row.type != ORGANISATION:
                _rename_posts(unit, row.id)
        session.flush()
        for identifier in dict.fromkeys(correction.add_identifiers):
            self._add(unit, row, identifier)
        for name in correction.add_names:
            give_name(session, vault, row.id, name)
        _check_left(session, row.id)
        detail = {
            "removed": [len(correction.remove_identifiers), len(correction.remove_names)],
            "added": [len(correction.add_identifiers), len(correction.add_names)],
            "relief_sequence": sequence,
        }
        unit.note(AuditAct.CORRECT, ("subject", row.id), detail=detail)
        note_officers(unit, row.id, AuditAct.CORRECT)
        return sequence

    def _add(self, unit: Unit, row: SubjectRow, identifier: Identifier) -> None:
        session, vault = unit.session, self._store.vault
        if (identifier.kind is IdentifierKind.ORGANISATION_CODE) != (row.type == ORGANISATION):
            raise EntryError(
                EntryCode.SUBJECT_TYPE,
                "an organisation has a unified social credit code, a person any other kind of"
                " number",
            )
        blind = blind_of(vault, identifier)
        owner = session.scalar(select(IdentifierRow.subject_id).where(IdentifierRow.blind == blind))
        if owner is not None and owner != row.id:
            raise EntryError(
                EntryCode.IDENTIFIER_CONFLICT,
                "this number is another subject's here: merge the two, or correct that one",
            )
        if owner is None:
            stretch = self._store.stretcher.stretch.stretch
            value = unit.stretched.get(blind) or stretch(identifier)
            session.execute(
                insert(IdentifierRow), [identifier_row(vault, row.id, identifier, value, blind)]
            )

    def _numbers(
        self, session: Session, subject: bytes, identifiers: Sequence[Identifier]
    ) -> list[IdentifierRow]:
        blinds = {blind_of(self._store.vault, identifier) for identifier in identifiers}
        query = select(IdentifierRow).where(
            IdentifierRow.subject_id == subject, IdentifierRow.blind.in_(sorted(blinds))
        )
        rows = list(session.scalars(query))
        if len(rows) != len(blinds):
            raise NotFoundError(
                "one of these numbers is not this subject's; look at the subject first"
            )
        return rows

    def _name(self, subject: bytes, name: str, known: Collection[bytes]) -> bytes:
        """The blind index of one of the subject's names. Raises NotFoundError, InvalidNameError."""
        blind = name_blind(self._store.vault, subject, canonical_name(name))
        if blind not in known:
            raise NotFoundError(
                "one of these names is not this subject's; look at the subject first"
            )
        return blind


def _lift_all(unit: Unit, row: SubjectRow, cause: AuditAct) -> int:
    """Lifts what stands under the subject's numbers and names, as it was; the last sequence, or 0."""
    sequence = 0
    query = select(RestrictionRow).where(
        RestrictionRow.subject_id == row.id, RestrictionRow.state.in_(sorted(LISTED))
    )
    for restriction in unit.session.scalars(
        query.order_by(RestrictionRow.id).with_for_update()
    ).all():
        sequence = restriction.relief_sequence = unit.lift(
            restriction.id, restriction.measure_set_id, cause
        )
        restriction.relief_floor = sequence
        restriction.version += 1
        detail = {"version": restriction.version, "relief_sequence": sequence}
        unit.note(cause, ("restriction", restriction.id), detail=detail)
    held = select(ResponsibleLinkRow).where(
        ResponsibleLinkRow.person_id == row.id, ResponsibleLinkRow.state == PostState.HELD
    )
    for post in unit.session.scalars(held.order_by(ResponsibleLinkRow.id)).all():
        sequence = max(sequence, lift_post(unit, post, cause))
    return sequence


def _rename_posts(unit: Unit, person: bytes) -> None:
    """Posts that were lifted and are held all the same go on under other ids."""
    held = select(ResponsibleLinkRow).where(
        ResponsibleLinkRow.person_id == person, ResponsibleLinkRow.state == PostState.HELD
    )
    for post in unit.session.scalars(held).all():
        post.id, post.changed_at = secrets.token_bytes(ID_BYTES), unit.now
    unit.session.flush()


def _share_exemptions(unit: Unit, vault: Vault, subject: bytes, made: bytes) -> None:
    """Exemptions go where the posts went; where both have one in the organisation, both keep them."""
    query = select(ExemptionRow, RestrictionRow.subject_id).join(
        RestrictionRow, RestrictionRow.id == ExemptionRow.restriction_id
    )
    for row, organisation in unit.session.execute(
        query.where(ExemptionRow.subject_id == subject)
    ).all():
        link = ResponsibleLinkRow
        holders = set(
            unit.session.scalars(
                select(link.person_id).where(
                    link.organisation_id == organisation, link.state != PostState.LEFT
                )
            )
        )
        if made not in holders:
            continue
        if subject not in holders:
            row.subject_id = made
            continue
        copied = {column.key: getattr(row, column.key) for column in ExemptionRow.__table__.columns}
        identity = secrets.token_bytes(ID_BYTES)
        # Its reason is bound to the exemption's id, so it is encrypted anew.
        reason = seal_exemption_reason(vault, identity, read_exemption_reason(vault, row))
        unit.session.add(
            ExemptionRow(
                **copied
                | {
                    "id": identity,
                    "subject_id": made,
                    "reason": reason,
                    "reason_zh": "",
                    "reason_en": "",
                }
            )
        )


def _restrictions(session: Session, subject: bytes, ids: Sequence[bytes]) -> list[RestrictionRow]:
    wanted = sorted(set(ids))
    rows = list(
        session.scalars(
            select(RestrictionRow).where(
                RestrictionRow.subject_id == subject, RestrictionRow.id.in_(wanted)
            )
        )
    )
    if len(rows) != len(wanted):
        raise NotFoundError(
            "one of these restrictions is not this subject's own; look at the subject first"
        )
    return rows


def _posts(session: Session, subject: bytes, ids: Sequence[bytes]) -> list[ResponsibleLinkRow]:
    link, wanted = ResponsibleLinkRow, sorted(set(ids))
    rows = list(
        session.scalars(
            select(link).where(
                (link.person_id == subject) | (link.organisation_id == subject), link.id.in_(wanted)
            )
        )
    )
    if len(rows) != len(wanted):
        raise NotFoundError("one of these posts is not this subject's; look at the subject first")
    return rows


def _drop_names(session: Session, subject: bytes, blinds: Collection[bytes]) -> None:
    """Takes names away; those that stay close up, because the first one is the one shown."""
    stay = [name for name in names_of(session, subject) if name.blind not in blinds]
    session.execute(
        delete(NameRow).where(NameRow.subject_id == subject, NameRow.blind.in_(sorted(blinds)))
    )
    for position, name in enumerate(stay):
        name.position = position
    session.flush()


def _check_left(session: Session, subject: bytes) -> None:
    """Raises LifecycleError: the subject would have no number, or no name."""
    for table, what in ((IdentifierRow, "number"), (NameRow, "name")):
        if session.scalar(select(table.blind).where(table.subject_id == subject).limit(1)) is None:
            raise LifecycleError(
                f"the subject would be left without a {what}; leave it one, or end its restrictions"
                " instead"
            )


def _plain(identifiers: Sequence[Identifier]) -> list[list[object]]:
    return sorted([int(item.kind), item.number] for item in identifiers)


def _check_correction(correction: Correction) -> None:
    if correction == Correction():
        raise InvalidRequestError("say which numbers or names are to go or to come")
    if len(correction.add_identifiers) > MAX_IDENTIFIERS or len(correction.add_names) > MAX_NAMES:
        raise InvalidRequestError(
            f"at most {MAX_IDENTIFIERS} numbers and {MAX_NAMES} names at a time"
        )
