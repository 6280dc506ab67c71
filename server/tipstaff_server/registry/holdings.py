"""Everything that the registry holds on a restriction, or on a subject, as one JSON document: for
the archive, and for the person's right of access. These documents are full of personal data: they
go to a file of mode 0600, or to whoever asked, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from tipstaff.v1 import enforcement_pb2
from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_server.audit import reasons
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.errors import NotFoundError
from tipstaff_server.registry.restrictions.summary import measures_of
from tipstaff_server.storage.models import (
    AuditRow,
    DisputeRow,
    ExemptionRow,
    IdentifierRow,
    NameRow,
    RemedyRow,
    ReportRestrictionRow,
    ReportRow,
    ResponsibleLinkRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.vault.columns import (
    DISPUTE_STATEMENT,
    NAME,
    NUMBER,
    REMEDY_NOTE,
    blind_of,
    read_exemption_reason,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.unit import RegistryStore
    from tipstaff_server.vault.vault import Vault

__all__ = ["Holdings", "objects_of"]

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Holdings:
    """Reads within one session."""

    session: Session
    vault: Vault

    @staticmethod
    def of_person(store: RegistryStore, identifier: Identifier, actor: Actor) -> Document:
        """Gives everything that is held on the person whom this identifier belongs to.

        It is an act: the audit log keeps that somebody looked.

        Raises:
            NotFoundError: nothing is held on this number.
        """
        with store.act(actor) as unit:
            blind = blind_of(store.vault, identifier)
            subject = unit.session.scalar(
                select(IdentifierRow.subject_id).where(IdentifierRow.blind == blind)
            )
            if subject is None:
                raise NotFoundError("nothing is held on this number")
            unit.note(AuditAct.ACCESS, ("subject", subject))
            return Holdings(unit.session, store.vault).subject(subject)

    def subject(self, subject: bytes) -> Document:
        """A subject with all of its restrictions, and those that reach it through organisations."""
        own = self.session.scalars(
            select(RestrictionRow)
            .where(RestrictionRow.subject_id == subject)
            .order_by(RestrictionRow.id)
        )
        return self.identity(subject) | {
            "restrictions": [self.restriction(row) for row in own],
            "responsible_for": self._organisations(subject),
            "history": self._history([("subject", subject)]),
        }

    def identity(self, subject: bytes) -> Document:
        """Identifiers and names."""
        row = self.session.get_one(SubjectRow, subject)
        numbers = self.session.scalars(
            select(IdentifierRow).where(IdentifierRow.subject_id == subject)
        )
        names = self.session.scalars(
            select(NameRow).where(NameRow.subject_id == subject).order_by(NameRow.position)
        )
        opened = [self.vault.decrypt(NUMBER, item.blind, item.value) for item in numbers]
        return {
            "subject_id": subject.hex(),
            "type": row.type,
            "since": _time(row.created_at),
            "identifiers": sorted(
                [IdentifierKind(number[0]).name, number[1:].decode("ascii")] for number in opened
            ),
            "names": [
                self.vault.decrypt_text(NAME, item.subject_id + item.blind, item.value)
                for item in names
            ],
        }

    def restriction(self, row: RestrictionRow) -> Document:
        """A restriction with all that hangs on it, but without its subject's identity."""
        disputes = self.session.scalars(
            select(DisputeRow).where(DisputeRow.restriction_id == row.id)
        ).all()
        remedies = self.session.scalars(
            select(RemedyRow).where(RemedyRow.restriction_id == row.id)
        ).all()
        exemptions = self.session.scalars(
            select(ExemptionRow).where(ExemptionRow.restriction_id == row.id)
        ).all()
        return {
            "restriction_id": row.id.hex(),
            "authority": row.authority_id,
            "list": row.list_id,
            "measures": list(measures_of(self.session, row)),
            "state": row.state,
            "legal_basis": row.legal_basis,
            "case_number": row.case_number,
            "decided_by": row.decided_by,
            "times": {
                name: _time(getattr(row, name))
                for name in (
                    "case_opened_at",
                    "published_at",
                    "entered_at",
                    "effective_at",
                    "activated_at",
                    "expires_at",
                    "ended_at",
                )
            },
            "exemptions": [self._exemption(item) for item in exemptions],
            "disputes": [self._dispute(item) for item in disputes],
            "remedies": [self._remedy(item) for item in remedies],
            "reports": self._reports(row.id),
            "history": self._history(objects_of(row.id, disputes, remedies)),
        }

    def _organisations(self, person: bytes) -> list[Document]:
        links = self.session.scalars(
            select(ResponsibleLinkRow).where(ResponsibleLinkRow.person_id == person)
        ).all()
        return [
            self.identity(link.organisation_id)
            | {
                "capacity": link.capacity,
                "from": _time(link.valid_from),
                "until": _time(link.valid_until),
                "restrictions": [
                    {
                        "restriction_id": row.id.hex(),
                        "state": row.state,
                        "measures": list(measures_of(self.session, row)),
                    }
                    for row in self.session.scalars(
                        select(RestrictionRow).where(
                            RestrictionRow.subject_id == link.organisation_id
                        )
                    )
                ],
            }
            for link in links
        ]

    def _exemption(self, row: ExemptionRow) -> Document:
        span = {"from": _time(row.valid_from), "until": _time(row.valid_until)}
        return {
            "measures": row.measures.split(),
            "reason": list(read_exemption_reason(self.vault, row)),
        } | span

    def _dispute(self, row: DisputeRow) -> Document:
        statement = (
            self.vault.decrypt_text(DISPUTE_STATEMENT, row.case_number.encode(), row.statement)
            if row.statement
            else ""
        )
        times = {"opened": _time(row.opened_at), "answered": _time(row.answered_at)}
        return {
            "case_number": row.case_number,
            "by": row.opened_by,
            "ground": row.ground,
            "state": row.state,
            "statement": statement,
        } | times

    def _remedy(self, row: RemedyRow) -> Document:
        note = self.vault.decrypt_text(REMEDY_NOTE, row.id, row.note) if row.note else ""
        times = {"opened": _time(row.opened_at), "answered": _time(row.answered_at)}
        return {
            "provider": row.provider_id,
            "state": row.state,
            "outcome": row.outcome,
            "note": note,
        } | times

    def _reports(self, restriction: bytes) -> list[Document]:
        joined = (ReportRestrictionRow.provider_id == ReportRow.provider_id) & (
            ReportRestrictionRow.report_id == ReportRow.report_id
        )
        query = (
            select(ReportRow)
            .join(ReportRestrictionRow, joined)
            .where(ReportRestrictionRow.restriction_id == restriction)
        )
        return [
            {
                "provider": row.provider_id,
                "measure": row.measure,
                "outcome": enforcement_pb2.Outcome.Name(
                    enforcement_pb2.Outcome.ValueType(row.outcome)
                ),
                "acted_at": _time(row.acted_at),
            }
            for row in self.session.scalars(query.order_by(ReportRow.acted_at))
        ]

    def _history(self, objects: Sequence[tuple[str, bytes]]) -> list[Document]:
        which = or_(
            *(
                (AuditRow.object_kind == kind) & (AuditRow.object_id == item)
                for kind, item in objects
            )
        )
        rows = self.session.scalars(select(AuditRow).where(which).order_by(AuditRow.sequence)).all()
        told = reasons.read(self.session, self.vault, rows)
        return [
            {
                "entry": row.sequence,
                "at": _time(row.at),
                "actor": row.actor,
                "act": row.act,
                "detail": json.loads(row.detail),
                "reason": told.get(row.sequence, ""),
            }
            for row in rows
        ]


def objects_of(
    restriction: bytes, disputes: Sequence[DisputeRow], remedies: Sequence[RemedyRow]
) -> list[tuple[str, bytes]]:
    """What the audit log calls a restriction and what hangs on it."""
    objects = [("restriction", restriction)]
    objects += [("dispute", item.case_number.encode()) for item in disputes]
    return objects + [("remedy", item.id) for item in remedies]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
