"""Making a document the current administration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from tipstaff_server.administration.in_use import refuse_in_use
from tipstaff_server.audit.act import act
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.storage.models import (
    AdministrationRow,
    AudienceMeasureRow,
    AudienceRow,
    AuthorityRow,
    EntitlementRow,
    ListMeasureRow,
    ListRow,
    MeasureRow,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tipstaff_server.administration.document import Administration
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.vault.store import Store

__all__ = ["set_administration"]


def set_administration(store: Store, administration: Administration, *, actor: Actor) -> int:
    """Makes an administration the current one. The same one again changes nothing.

    What is no longer in it is marked as retired, never deleted: restrictions and reports refer to
    it.

    Returns:
        Its version.

    Raises:
        AdministrationError: a restriction or a provider still rests on what is left out.
    """
    digest = administration.digest()
    with act(store, actor) as change:
        session = change.session
        last = session.execute(
            select(AdministrationRow.version, AdministrationRow.digest)
            .order_by(AdministrationRow.version.desc())
            .limit(1)
        ).first()
        if last is not None and last.digest == digest:
            return int(last.version)
        refuse_in_use(session, administration)
        version = 1 if last is None else int(last.version) + 1
        session.add(
            AdministrationRow(
                version=version,
                made_at=change.now,
                digest=digest,
                document=administration.document(),
            )
        )
        _rewrite(session, administration)
        thing = "administration", version.to_bytes(8, "big")
        change.note(AuditAct.ADMINISTRATION, thing, detail={"digest": digest.hex()})
    return version


def _rewrite(session: Session, administration: Administration) -> None:
    for link in (EntitlementRow, ListMeasureRow, AudienceMeasureRow):
        session.execute(delete(link))
    _retire(
        session,
        {item.code for item in administration.measures},
        {item.id for item in administration.authorities},
    )
    _retire_groups(
        session,
        {item.id for item in administration.lists},
        {item.id for item in administration.audiences},
    )
    for measure in administration.measures:
        session.merge(MeasureRow(code=measure.code, retired=False))
    for authority in administration.authorities:
        session.merge(
            AuthorityRow(
                id=authority.id,
                title_zh=authority.title.zh,
                title_en=authority.title.en,
                region=authority.region,
                retired=False,
            )
        )
    for item in administration.lists:
        session.merge(
            ListRow(
                id=item.id,
                title_zh=item.title.zh,
                title_en=item.title.en,
                dispute_effect=item.dispute_effect,
                dispute_zh=item.dispute.zh,
                dispute_en=item.dispute.en,
                answer_days=item.answer_days,
                notice_days=item.notice_days,
                default_term=item.default_term,
                default_legal_basis=item.default_legal_basis,
                approval=item.approval,
                retired=False,
            )
        )
    for audience in administration.audiences:
        session.merge(
            AudienceRow(
                id=audience.id,
                title_zh=audience.title.zh,
                title_en=audience.title.en,
                retired=False,
            )
        )
    session.flush()
    _link(session, administration)


def _retire(session: Session, measures: set[str], authorities: set[str]) -> None:
    for measure in session.scalars(select(MeasureRow)):
        measure.retired = measure.code not in measures
    for authority in session.scalars(select(AuthorityRow)):
        authority.retired = authority.id not in authorities


def _retire_groups(session: Session, lists: set[str], audiences: set[str]) -> None:
    for item in session.scalars(select(ListRow)):
        item.retired = item.id not in lists
    for audience in session.scalars(select(AudienceRow)):
        audience.retired = audience.id not in audiences


def _link(session: Session, administration: Administration) -> None:
    session.add_all(
        EntitlementRow(authority_id=item.id, measure=code)
        for item in administration.authorities
        for code in item.entitlements
    )
    session.add_all(
        ListMeasureRow(list_id=item.id, measure=code)
        for item in administration.lists
        for code in item.default_measures
    )
    session.add_all(
        AudienceMeasureRow(audience_id=item.id, measure=code)
        for item in administration.audiences
        for code in item.measures
    )
