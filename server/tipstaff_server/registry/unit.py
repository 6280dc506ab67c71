"""One act on the registry, and the store that acts are made on.

Every act follows one ritual; `RegistryStore.perform` does all of it but the change itself:

1. Who may: the kind of actor, and whether it gave a reason.
2. Stretching what is to be entered, before the transaction, which holds locks.
3. The transaction, with the policies in force and the moment that counts as now.
4. `Unit.is_new`: was the same request answered before, and does the caller know the latest version?
   `Unit.first_answer` gives the answer itself, where it is needed.
5. The change, with `Unit.note` for the audit log.
6. `Unit.remember`: the answer, for whoever sends the same request again.

    request = Request(actor, reason, given, words=["END", restriction_id.hex(), reason])
    with store.perform(request) as unit:
        row = find(unit, restriction_id)
        if unit.is_new(row):
            ...
            unit.note(AuditAct.AMEND, ("restriction", row.id))
            unit.remember(row.id)
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from tipstaff_server.administration.policies import Policies, PolicyCache
from tipstaff_server.audit.act import Act
from tipstaff_server.audit.log import AuditLog
from tipstaff_server.domain.actors import DECIDERS, SYSTEM, require
from tipstaff_server.domain.checks import check_reason
from tipstaff_server.registry.idempotency import ANY, check_version, first_answer, remember
from tipstaff_server.storage.models import HEAD, IdentifierRow, ReliefHeadRow, ReliefRow
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.columns import blind_of
from tipstaff_server.vault.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.domain.actors import Actor, ActorKind
    from tipstaff_server.registry.idempotency import Precondition
    from tipstaff_server.storage.models import RestrictionRow
    from tipstaff_server.vault.stretch import StretchPool

__all__ = ["RegistryPart", "RegistryStore", "Request", "Rules", "Unit"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The deployment's bounds.

    Attributes:
        max_term: the longest term that a restriction may have.
        horizon: how far ahead of its first moment a restriction comes into a listing.
        page_size: subjects that are read in one transaction.
        remedy_days: how long a provider may take to answer a remedy.
        disputes_per_hour: how many disputes one provider may open within an hour.
    """

    max_term: timedelta = timedelta(days=30 * 366)
    horizon: timedelta = timedelta(days=7)
    page_size: int = 1_000
    remedy_days: int = 15
    disputes_per_hour: int = 120


@dataclass(frozen=True, slots=True)
class Request:
    """An act as its caller asks for it.

    Attributes:
        actor: who acts.
        reason: why; it goes into the audit log.
        given: the version that the caller has seen, and its idempotency key.
        words: plain values that tell this request from any other under the same key.
        kinds: which kinds of actors may.
        refusal: what the others are told.
    """

    actor: Actor
    reason: str
    given: Precondition = ANY
    words: Sequence[object] = ()
    kinds: frozenset[ActorKind] = DECIDERS
    refusal: str = "only authorities and the operator act on subjects"

    def check(self) -> None:
        """Checks what can be checked without the registry.

        Raises:
            PermissionDeniedError: another kind of actor.
            InvalidRequestError: no reason, or one that is too long.
        """
        require(self.actor, self.kinds, self.refusal)
        check_reason(self.reason)


@dataclass(slots=True)
class Unit(Act):
    """One act on the registry.

    Attributes:
        store: what it is made on.
        policies: the administration in force.
        request: what the caller asked for; None: the act answers to nobody.
        stretched: stretched forms of new identifiers, by blind index.
    """

    store: RegistryStore
    policies: Policies
    request: Request | None = None
    stretched: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes], repr=False)

    def first_answer(self, row: RestrictionRow | None = None) -> bytes | None:
        """Gives the id that the same request was answered with before; None: it is new.

        Args:
            row: the restriction whose version the caller may have given. A new request is held
                against it.

        Raises:
            InvalidRequestError: the idempotency key was used for another request.
            StaleVersionError: somebody acted on the restriction since the caller looked.
        """
        if self.request is None:
            return None
        given, words = self.request.given, self.request.words
        answer = first_answer(self.session, self.store.vault, self.actor, given, words)
        if answer is None and row is not None:
            self.check_version(row)
        return answer

    def is_new(self, row: RestrictionRow | None = None) -> bool:
        """Says whether the request is to be carried out; raises as `first_answer` does."""
        return self.first_answer(row) is None

    def check_version(self, row: RestrictionRow) -> None:
        """Raises StaleVersionError: somebody acted on the restriction since the caller looked."""
        if self.request is not None:
            check_version(row, self.request.given)

    def remember(self, answer: bytes) -> None:
        """Keeps the answer (an id of 16 bytes) under the caller's key, and writes what was done."""
        if self.request is not None:
            given, words = self.request.given, self.request.words
            remember(self.session, self.store.vault, self.actor, given, words, answer, self.now)
        self.session.flush()

    def lift(
        self, restriction_id: bytes, measure_set_id: int, cause: str, post_id: bytes | None = None
    ) -> int:
        """Takes the next relief sequence and lifts a restriction under it.

        The head's row stays locked until the commit, so sequences commit in order.

        Args:
            restriction_id: what is lifted.
            measure_set_id: its measures, which say what audiences are told.
            cause: why, in a word.
            post_id: given, only what reaches somebody through that post is lifted.
        """
        sequence = self.session.execute(
            update(ReliefHeadRow)
            .where(ReliefHeadRow.id == HEAD)
            .values(sequence=ReliefHeadRow.sequence + 1)
            .returning(ReliefHeadRow.sequence)
            .execution_options(synchronize_session=False)
        ).scalar_one()
        self.session.add(
            ReliefRow(
                sequence=sequence,
                restriction_id=restriction_id,
                at=self.now,
                cause=cause,
                measure_set_id=measure_set_id,
                post_id=post_id,
            )
        )
        return sequence

    def relief_head(self) -> int:
        """The last relief sequence, locked until the commit."""
        return self.session.execute(
            select(ReliefHeadRow.sequence).where(ReliefHeadRow.id == HEAD).with_for_update()
        ).scalar_one()


@dataclass(slots=True, kw_only=True)
class RegistryStore(Store):
    """The store with what acts on the registry need besides: rules, policies, the stretcher."""

    stretcher: StretchPool
    rules: Rules
    policies: PolicyCache = field(default_factory=PolicyCache)

    @contextmanager
    def act(self, actor: Actor = SYSTEM, reason: str = "") -> Generator[Unit]:
        """Opens a transaction that commits with its audit entries, or not at all."""
        with self.write() as session:
            log, policies = AuditLog(session, self.vault), self.policies.get(session)
            unit = Unit(session, log, actor, reason, self.clock(), self, policies)
            yield unit
            unit.flush()

    @contextmanager
    def perform(self, request: Request, identifiers: Iterable[Identifier] = ()) -> Generator[Unit]:
        """Opens the transaction of an act that somebody asks for; see the module.

        Args:
            request: who asks, why, and what.
            identifiers: what may be new to the registry. They are stretched before the transaction,
                which holds locks; `Unit.stretched` has the values.

        Raises:
            PermissionDeniedError, InvalidRequestError: as `Request.check` says.
        """
        request.check()
        wanted = list(identifiers)
        number, computed = self._stretch_unknown(wanted) if wanted else (0, {})
        with self.act(request.actor, request.reason) as unit:
            unit.request = request
            # Values of a stretch that was replaced meanwhile are worth nothing.
            if wanted and self.refresh_stretch(unit.session) == number:
                unit.stretched = computed
            yield unit

    def refresh_stretch(self, session: Session) -> int:
        """Takes over the stretch that identifiers are entered with, should it have changed.

        Returns:
            Its number.
        """
        current = stretches.current(session)
        # Never back, for a session that began earlier: what is computed next would be taken for
        # what is current.
        if current.number > self.stretcher.number:
            self.stretcher.stretch, self.stretcher.number = current.stretch, current.number
        return current.number

    def _stretch_unknown(self, identifiers: Sequence[Identifier]) -> tuple[int, dict[bytes, bytes]]:
        """Stretches those that the registry does not know: the stretch's number, and the values."""
        wanted = {blind_of(self.vault, identifier): identifier for identifier in identifiers}
        with self.read() as session:
            number = self.refresh_stretch(session)
            known = set(
                session.scalars(
                    select(IdentifierRow.blind).where(IdentifierRow.blind.in_(list(wanted)))
                )
            )
        futures = {
            blind: self.stretcher.submit(identifier)
            for blind, identifier in wanted.items()
            if blind not in known
        }
        return number, {blind: future.result() for blind, future in futures.items()}


class RegistryPart:
    """A part of the registry. Each part stands in the module of what it may do."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
