"""The administration as the registry works with it: look-ups by id, kept for one version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from tipstaff_server.administration.document import Administration
from tipstaff_server.errors import AdministrationError, NotFoundError, PermissionDeniedError
from tipstaff_server.storage.models import AdministrationRow, MeasureSetRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff.v1.identity_pb2 import BilingualText
    from tipstaff_server.administration import document as spec

__all__ = ["AuthorityPolicy", "Policies", "PolicyCache", "visible_sets"]


@dataclass(frozen=True, slots=True)
class AuthorityPolicy:
    """An authority: its title, and the measures that it may impose."""

    id: str
    title: BilingualText
    entitlements: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policies:
    """One version of the administration.

    `measures`: all codes; `audiences`: id → codes that it enforces.
    """

    version: int
    made_at: datetime
    administration: Administration
    measures: frozenset[str]
    authorities: dict[str, AuthorityPolicy]
    lists: dict[str, spec.ListSpec]
    audiences: dict[str, frozenset[str]]

    def authority(self, authority_id: str) -> AuthorityPolicy:
        """Raises PermissionDeniedError for an authority that the administration does not know."""
        authority = self.authorities.get(authority_id)
        if authority is None:
            raise PermissionDeniedError(
                f"{authority_id!r} is not an authority of this deployment; see `authorities` in its"
                " administration"
            )
        return authority

    def audience(self, audience: str) -> frozenset[str]:
        """The codes that an audience enforces. Raises NotFoundError."""
        codes = self.audiences.get(audience)
        if codes is None:
            raise NotFoundError(
                f"there is no audience {audience!r}; audiences: {', '.join(sorted(self.audiences))}"
            )
        return codes


class PolicyCache:
    """The current policies: read again only when the version in the database has moved on."""

    def __init__(self) -> None:
        self._policies: Policies | None = None

    def get(self, session: Session) -> Policies:
        """Raises AdministrationError when none was loaded yet."""
        version = session.scalar(
            select(AdministrationRow.version).order_by(AdministrationRow.version.desc()).limit(1)
        )
        if version is None:
            raise AdministrationError("no administration is loaded; run `tipstaff-server init`")
        if self._policies is None or self._policies.version != version:
            self._policies = _read(session, version)
        return self._policies


def visible_sets(session: Session, measures: frozenset[str]) -> dict[int, tuple[str, ...]]:
    """Id of each set of measures that has any of `measures` → those of `measures` in it, sorted."""
    shown_by_set: dict[int, tuple[str, ...]] = {}
    for row in session.execute(select(MeasureSetRow.id, MeasureSetRow.codes)):
        if shown := tuple(code for code in row.codes.split() if code in measures):
            shown_by_set[row.id] = shown
    return shown_by_set


def _read(session: Session, version: int) -> Policies:
    row = session.execute(
        select(AdministrationRow.document, AdministrationRow.made_at).where(
            AdministrationRow.version == version
        )
    ).one()
    administration = Administration.from_document(row.document, f"administration version {version}")
    return Policies(
        version=version,
        made_at=row.made_at,
        administration=administration,
        measures=frozenset(item.code for item in administration.measures),
        authorities={
            item.id: AuthorityPolicy(item.id, item.title.to_proto(), frozenset(item.entitlements))
            for item in administration.authorities
        },
        lists={item.id: item for item in administration.lists},
        audiences={item.id: frozenset(item.measures) for item in administration.audiences},
    )
