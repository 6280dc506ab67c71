"""Exempting (例外): a narrow permission inside a restriction, from the next listing on."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.checks import ID_BYTES, check_id, check_reason
from tipstaff_server.domain.lifecycle import TERMINAL
from tipstaff_server.errors import InvalidRequestError, LifecycleError
from tipstaff_server.registry.idempotency import ANY
from tipstaff_server.registry.restrictions.summary import locked, measures_of
from tipstaff_server.registry.subjects.resolver import holder
from tipstaff_server.registry.unit import RegistryPart, Request
from tipstaff_server.storage.models import ExemptionRow
from tipstaff_server.vault.columns import blind_of, seal_exemption_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.idempotency import Precondition
    from tipstaff_server.registry.unit import Unit
    from tipstaff_server.storage.models import RestrictionRow

__all__ = ["Exemptions"]


class Exemptions(RegistryPart):
    """What permits something inside a restriction."""

    def exempt(
        self,
        restriction_id: bytes,
        *,
        measures: Sequence[str],
        valid: tuple[datetime, datetime],
        why: tuple[str, str],
        actor: Actor,
        given: Precondition = ANY,
        person: Identifier | None = None,
    ) -> bytes:
        """Permits something inside a restriction, from the next listing on.

        Args:
            restriction_id: 16 bytes.
            measures: codes; none: all that the restriction has.
            valid: from, and until (exclusive).
            why: what the counter shows, in Chinese and English.
            actor: who permits it.
            given: the version that the caller has seen, and its idempotency key.
            person: whom alone it is for, when the restriction reaches them through an organisation
                (因私消费); None: everybody whom the restriction reaches.

        Returns:
            The exemption's id.

        Raises:
            NotFoundError: no such restriction of this actor.
            LifecycleError: it has ended.
            StaleVersionError: somebody acted on it since the caller looked.
            InvalidRequestError: texts, dates, measures or the person do not fit.
            PermissionDeniedError: neither the authority that decided nor the operator.
        """
        check_id(restriction_id)
        blind = None if person is None else blind_of(self._store.vault, person)
        words = ["EXEMPT", restriction_id.hex(), sorted(measures), *valid, *why]
        request = Request(
            actor,
            why[0],
            given,
            words=words + ([blind.hex()] if blind else []),
            refusal="only the authority that decided, or the operator, exempts",
        )
        request.check()
        check_reason(why[1])
        if valid[0] >= valid[1]:
            raise InvalidRequestError("the exemption ends before it begins")
        with self._store.perform(request) as unit:
            row = locked(unit, restriction_id)
            subject = None if blind is None else _reached(unit, row, blind)
            if (answered := unit.first_answer(row)) is not None:
                return answered
            _check_exemptible(unit, row, measures)
            exemption = secrets.token_bytes(ID_BYTES)
            unit.session.add(
                ExemptionRow(
                    id=exemption,
                    restriction_id=row.id,
                    measures=" ".join(sorted(set(measures))),
                    valid_from=valid[0],
                    valid_until=valid[1],
                    reason_zh="",
                    reason_en="",
                    reason=seal_exemption_reason(self._store.vault, exemption, why),
                    created_at=unit.now,
                    subject_id=subject,
                )
            )
            row.version += 1
            if subject:
                detail = {"exemption": exemption.hex(), "restriction": row.id.hex()}
                unit.note(AuditAct.EXEMPT, ("subject", subject), detail=detail)
            detail = {"exemption": exemption.hex()}
            unit.note(AuditAct.EXEMPT, ("restriction", row.id), detail=detail)
            unit.remember(exemption)
        return exemption


def _check_exemptible(unit: Unit, row: RestrictionRow, measures: Sequence[str]) -> None:
    if row.state in TERMINAL:
        raise LifecycleError(
            f"this restriction is {row.state} already: nothing needs to be permitted"
        )
    if not set(measures) <= set(measures_of(unit.session, row)):
        raise InvalidRequestError(
            "the restriction does not hold all of these measures; exempt from those that it holds"
        )


def _reached(unit: Unit, row: RestrictionRow, blind: bytes) -> bytes:
    """The subject whom the restriction reaches through a post. Raises InvalidRequestError."""
    person = holder(unit.session, row.subject_id, blind)
    if person is None:
        raise InvalidRequestError(
            "the restriction does not reach this person through a post: there is nothing to exempt"
            " from"
        )
    return person
