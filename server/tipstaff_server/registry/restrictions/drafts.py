"""Drafts: entries of a list that asks for two persons.

One enters, another one approves; nobody does both.

    entered ──► DRAFT ──approved──► NOTICED ──► ACTIVE
                  ├──withdrawn──► REVOKED
                  └──its term is over──► EXPIRED

A draft touches nothing (decision 0016): no listing, no relief, no provider, and no subject either.
A name, a second number or a responsible person would widen restrictions that are in force, so they
lie sealed until the approval. Whoever amends a draft counts as the one who entered it. The notice
period runs from the approval, because only then is there something to announce.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from tipstaff.v1 import registry_pb2
from tipstaff_server.domain.actors import DECIDERS, SYSTEM, Actor, require
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import check_id
from tipstaff_server.domain.lifecycle import Event, State, effective_after
from tipstaff_server.errors import (
    EntryError,
    InvalidRequestError,
    LifecycleError,
    PermissionDeniedError,
    ServerError,
    StorageError,
    VaultDataError,
)
from tipstaff_server.registry.idempotency import (
    ANY,
    Precondition,
)
from tipstaff_server.registry.restrictions.entry import Entry, check_measures
from tipstaff_server.registry.restrictions.summary import (
    RestrictionSummary,
    find,
    locked,
    measures_of,
    summary_of,
)
from tipstaff_server.registry.restrictions.transitions import apply
from tipstaff_server.registry.subjects.resolver import Resolver
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.bulk import insert_all
from tipstaff_server.storage.models import (
    DraftRow,
    IdentifierRow,
    NameRow,
    ResponsibleLinkRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import DRAFT_ENTRY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.parties import Party
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.storage.models import RestrictionRow
    from tipstaff_server.vault.vault import Vault

__all__ = ["Approval", "Approved", "Drafts", "RestrictionDraft", "draft_row"]

MAX_BATCH = 500
_REFUSAL = "drafts are for the authority that decides, and for the operator"


@dataclass(frozen=True, slots=True)
class RestrictionDraft:
    """A draft with everything that it will put in force. `entry` holds personal data."""

    restriction: RestrictionSummary
    entry: registry_pb2.RestrictionEntry = field(repr=False)
    entered_by: str
    entered_at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """One draft to approve, why, and what the caller says about it."""

    restriction_id: bytes
    reason: str
    given: Precondition = ANY


@dataclass(frozen=True, slots=True)
class Approved:
    """How approving one draft fared: the restriction, or why not."""

    restriction_id: bytes
    restriction: RestrictionSummary | None
    detail: str = ""


class Drafts(RegistryPart):
    """What takes a second person's word."""

    def read_draft(self, restriction_id: bytes, actor: Actor) -> RestrictionDraft:
        """Reads what a draft holds; who looked stands in the audit log.

        Raises:
            NotFoundError: no such restriction of this actor.
            LifecycleError: it is no draft.
            PermissionDeniedError: neither the authority that decides nor the operator.
        """
        check_id(restriction_id)
        require(actor, DECIDERS, _REFUSAL)
        with self._store.act(actor) as unit:
            row = find(unit.session, restriction_id, actor, self._store)
            draft = _draft_of(unit.session, row)
            message = self._message(draft)
            summary = summary_of(unit.session, row)
            # What was amended since it was entered counts as it is now.
            message.ClearField("measures")
            message.measures.extend(summary.measures)
            message.legal_basis = row.legal_basis
            message.expires_at.FromDatetime(row.expires_at)
            unit.note(AuditAct.READ_DRAFT, ("restriction", row.id))
            return RestrictionDraft(summary, message, draft.entered_by, row.entered_at)

    def approve(self, approval: Approval, actor: Actor) -> RestrictionSummary:
        """Puts one draft in force, after its list's notice.

        Raises:
            NotFoundError: no such restriction of this actor.
            LifecycleError: it is no draft, or cannot be put in force as it stands.
            StaleVersionError: somebody acted on it since the caller looked.
            InvalidRequestError: no reason, or a used idempotency key.
            PermissionDeniedError: the one who entered it, or nobody in particular.
        """
        check_id(approval.restriction_id)
        request = Request(
            actor,
            approval.reason,
            approval.given,
            words=["APPROVE", approval.restriction_id.hex(), approval.reason],
            refusal=_REFUSAL,
        )
        request.check()
        if not actor.is_person:
            raise PermissionDeniedError(
                "approving takes a person: use a certificate that names an officer (…/officer/…)"
            )
        identifiers = self._identifiers(approval.restriction_id, actor)
        with self._store.perform(request, identifiers) as unit:
            row = locked(unit, approval.restriction_id)
            if unit.is_new(row):
                self._approve(unit, row)
                unit.remember(row.id)
            return summary_of(unit.session, row)

    def approve_many(self, approvals: Sequence[Approval], actor: Actor) -> list[Approved]:
        """Each for itself, in order; one answer each.

        Raises InvalidRequestError: too many; PermissionDeniedError, StorageError.
        """
        if len(approvals) > MAX_BATCH:
            raise InvalidRequestError(
                f"at most {MAX_BATCH} drafts at a time; send the rest in another call"
            )
        require(actor, DECIDERS, _REFUSAL)
        answers: list[Approved] = []
        for approval in approvals:
            try:
                answers.append(Approved(approval.restriction_id, self.approve(approval, actor)))
            except (StorageError, VaultDataError):
                raise
            except ServerError as error:
                answers.append(Approved(approval.restriction_id, None, str(error)))
        return answers

    def _identifiers(self, restriction_id: bytes, actor: Actor) -> list[Identifier]:
        """The numbers that a draft would enter; none of what is no draft any more."""
        with self._store.read() as session:
            row = find(session, restriction_id, actor, self._store)
            if row.state is not State.DRAFT:
                return []
            entry = Entry.from_proto(self._message(_draft_of(session, row)))
        return [item for party in _parties(entry) for item in party.identifiers]

    def _approve(self, unit: Unit, row: RestrictionRow) -> None:
        draft = _draft_of(unit.session, row)
        if draft.entered_by == str(unit.actor):
            raise PermissionDeniedError(
                "whoever entered or amended a draft does not approve it; another person has to"
            )
        entry = Entry.from_proto(self._message(draft))
        notice_days = unit.policies.lists[row.list_id].notice_days
        effective = effective_after(row.effective_at, None, notice_days, unit.now)
        if row.expires_at <= max(unit.now, effective):
            raise LifecycleError(
                "its term would be over before the notice period ends; amend the draft, or withdraw"
                " it (revoke)"
            )
        try:
            check_measures(measures_of(unit.session, row), row.authority_id, unit.policies)
            self._keep(unit, row, entry)
        except EntryError as error:
            raise LifecycleError(
                f"it cannot be put in force as it stands: {error}; withdraw it (revoke) and enter"
                " it anew"
            ) from None
        row.effective_at, row.approved_at = effective, unit.now
        apply(unit, row, Event.ANNOUNCE)
        if effective <= unit.now:
            apply(unit, row, Event.ENTER_FORCE, by=SYSTEM)

    def _keep(self, unit: Unit, row: RestrictionRow, entry: Entry) -> None:
        """What the draft says of its subject and of who answers for it counts from here on."""
        resolver = Resolver.of(unit)
        resolver.load(_parties(entry))
        staged = resolver.stage()
        if staged.resolve(entry.party) != row.subject_id:
            raise LifecycleError(
                "its subject was merged or split since it was entered; withdraw it (revoke) and"
                " enter it anew"
            )
        for person in entry.responsible:
            staged.link(row.subject_id, staged.resolve(person.party), person.capacity)
        staged.keep()
        insert_all(
            unit.session, (SubjectRow, IdentifierRow, NameRow, ResponsibleLinkRow), resolver.take()
        )

    def _message(self, draft: DraftRow) -> registry_pb2.RestrictionEntry:
        try:
            return registry_pb2.RestrictionEntry.FromString(
                self._store.vault.decrypt(DRAFT_ENTRY, draft.restriction_id, draft.entry)
            )
        except DecodeError as error:
            raise VaultDataError("a draft's entry is not one of this program's") from error


def draft_row(vault: Vault, restriction_id: bytes, entry: Entry, actor: Actor) -> dict[str, Any]:
    """The row of a new draft."""
    sealed = vault.encrypt(DRAFT_ENTRY, restriction_id, _to_message(entry).SerializeToString())
    return {"restriction_id": restriction_id, "entered_by": str(actor), "entry": sealed}


def _draft_of(session: Session, row: RestrictionRow) -> DraftRow:
    draft = session.get(DraftRow, row.id)
    if row.state is not State.DRAFT:
        raise LifecycleError(f"this restriction is no draft: it is {row.state}")
    if draft is None:
        raise LifecycleError(
            "what this draft would add was lost in a downgrade; withdraw it (revoke) and enter it"
            " anew"
        )
    return draft


def _parties(entry: Entry) -> list[Party]:
    return [entry.party, *(person.party for person in entry.responsible)]


def _to_message(entry: Entry) -> registry_pb2.RestrictionEntry:
    message = registry_pb2.RestrictionEntry(
        list_id=entry.list_id,
        measures=entry.measures,
        legal_basis=entry.legal_basis,
        case_number=entry.case_number,
    )
    message.subject.type = entry.party.type  # type: ignore[assignment]  # checked at entry
    message.subject.identifiers.extend(item.to_proto() for item in entry.party.identifiers)
    message.subject.names.extend(entry.party.names)
    for person in entry.responsible:
        added = message.subject.responsible_persons.add(names=person.party.names)
        added.capacity = person.capacity  # type: ignore[assignment]  # checked at entry
        added.identifiers.extend(item.to_proto() for item in person.party.identifiers)
    message.effective_at.FromDatetime(entry.effective_at)
    message.expires_at.FromDatetime(entry.expires_at)
    for name in ("case_opened_at", "published_at"):
        if (moment := getattr(entry, name)) is not None:
            getattr(message, name).FromDatetime(moment)
    return message
