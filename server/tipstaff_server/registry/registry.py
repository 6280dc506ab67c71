"""The registry: one object for everything that may be done to it.

    with Registry.open(config) as registry:
        registry.submit(entry, authority="court", actor=Actor.authority("court"), idempotency_key="…")   # entering
        registry.end(restriction_id, EndKind.RELEASE, "performed", actor)                                # ending: relief follows
        for subject in registry.listing_subjects("aviation", now): ...                                   # building

All calls are synchronous and thread-safe; services call them in threads. Each act is one
transaction with its audit entries.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import select, update

from tipstaff_server.audit import log as audit
from tipstaff_server.clock import utc_now
from tipstaff_server.domain.spans import EVERYBODY, Span
from tipstaff_server.errors import NotFoundError
from tipstaff_server.listing.reader import Listing
from tipstaff_server.registry.disputes.answer import Answering
from tipstaff_server.registry.disputes.cases import Following
from tipstaff_server.registry.disputes.open import Disputing
from tipstaff_server.registry.erasure import Retention
from tipstaff_server.registry.facts import open_facts
from tipstaff_server.registry.holdings import Holdings
from tipstaff_server.registry.idempotency import ANY
from tipstaff_server.registry.keys.stretch_change import Restretching
from tipstaff_server.registry.restrictions.amendments import Amending
from tipstaff_server.registry.restrictions.drafts import Drafting
from tipstaff_server.registry.restrictions.remedies import Remedies
from tipstaff_server.registry.restrictions.search import Looking
from tipstaff_server.registry.restrictions.submission import Submitting
from tipstaff_server.registry.restrictions.transitions import Acting
from tipstaff_server.registry.subjects.merge import Merging
from tipstaff_server.registry.subjects.posts import Posts
from tipstaff_server.registry.subjects.split import Splitting
from tipstaff_server.registry.subjects.view import Showing
from tipstaff_server.registry.unit import Core
from tipstaff_server.storage.database import Database
from tipstaff_server.storage.models import DisputeGround, ProviderRow
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.stretch import Stretcher
from tipstaff_server.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from types import TracebackType

    from tipstaff.v1 import catalogue_pb2
    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.listing.sealing import Stretch
    from tipstaff_server.administration.policies import Policies
    from tipstaff_server.audit.checkpoints import Checkpoint
    from tipstaff_server.clock import Clock
    from tipstaff_server.config import Config, RetentionSection
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.listing.reader import ListingSubject
    from tipstaff_server.registry.disputes.answer import Outcome
    from tipstaff_server.registry.disputes.open import Chased, Dispute, OpenedDispute
    from tipstaff_server.registry.idempotency import Precondition
    from tipstaff_server.registry.relief_log import Lift
    from tipstaff_server.registry.restrictions.entry import Entry
    from tipstaff_server.registry.restrictions.submission import Prepared, Submission
    from tipstaff_server.registry.restrictions.summary import RestrictionSummary
    from tipstaff_server.registry.restrictions.transitions import Due, Ended, EndKind
    from tipstaff_server.vault.epochs import Epoch

__all__ = ["Registry"]


class Registry:
    """See the module.

    `database` and `vault` are also the builder's, for epoch keys and the history of builds.
    """

    def __init__(  # noqa: PLR0913  one for each bound of the deployment, all by name
        self,
        database: Database,
        vault: Vault,
        *,
        clock: Clock = utc_now,
        max_term: timedelta = timedelta(days=30 * 366),
        horizon: timedelta = timedelta(days=7),
        page_size: int = 1_000,
        remedy_days: int = 15,
        disputes_per_hour: int = 120,
        threads: int = 2,
    ) -> None:
        """Opens a registry that `setup.initialise` made.

        Raises SchemaVersionError, WrongVaultKeyError.
        """
        open_facts(database, vault)
        with database.read() as session:
            now = stretches.current(session)
        stretcher = Stretcher(now.stretch, threads=threads, number=now.number)
        self.database = database
        self.vault = vault
        self.clock = clock
        self._core = Core(
            database,
            vault,
            clock,
            stretcher,
            max_term,
            horizon,
            page_size,
            remedy_days,
            disputes_per_hour,
        )
        self._submitting = Submitting(self._core)
        self._acting = Acting(self._core)
        self._listing = Listing(self._core)
        self.remedies = Remedies(self._core)
        self.amending = Amending(self._core)
        self.drafting = Drafting(self._core)
        self.disputing = Disputing(self._core)
        self.answering = Answering(self._core, self.amending)
        self.following = Following(self._core)
        self.looking = Looking(self._core)
        self.posts = Posts(self._core)
        self.showing = Showing(self._core)
        self.merging = Merging(self._core)
        self.splitting = Splitting(self._core)
        self.restretching = Restretching(self._core)

    @classmethod
    def open(cls, config: Config, *, clock: Clock = utc_now) -> Registry:
        """The configured registry.

        Raises VaultError (no key, a wrong one), SchemaVersionError, DatabaseUnavailableError.
        """
        return cls(
            Database.open(config),
            Vault.configured(config),
            clock=clock,
            max_term=timedelta(days=config.registry.max_term_days),
            horizon=timedelta(days=config.registry.listing_horizon_days),
            page_size=config.registry.page_size,
            remedy_days=config.registry.remedy_days,
            disputes_per_hour=config.registry.disputes_per_hour,
            threads=config.stretch.threads,
        )

    def close(self) -> None:
        """Ends threads and connections. May be repeated."""
        self._core.stretcher.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What holds for the deployment

    @property
    def stretch(self) -> Stretch:
        """Salt and cost of stretching identifiers as they are entered now."""
        with self.database.read() as session:
            return stretches.current(session).stretch

    def stretch_of(self, epoch: Epoch) -> Stretch:
        """Salt and cost of an epoch's listings, for their ListingParameters."""
        with self.database.read() as session:
            return stretches.of_number(session, epoch.stretch).stretch

    def policies(self) -> Policies:
        """The current administration:

        `.audiences` (id → codes), `.lists`, `.authorities`, `.version`.
        """
        with self.database.read() as session:
            return self._core.policies.get(session)

    def catalogue(self) -> catalogue_pb2.Catalogue:
        """The catalogue of measures, for the targets role; `SerializeToString(deterministic=True)`
        gives the bytes to sign.
        """
        policies = self.policies()
        return policies.administration.catalogue(version=policies.version, made_at=policies.made_at)

    # Entering

    def submit(
        self, entry: Entry, *, authority: str, actor: Actor, idempotency_key: str | None = None
    ) -> Submission:
        """Enters one restriction.

        A refused entry is an answer, not an exception. Raises PermissionDeniedError.
        """
        return self.submit_many([entry], authority=authority, actor=actor, keys=[idempotency_key])[
            0
        ]

    def submit_many(
        self,
        entries: Sequence[Entry],
        *,
        authority: str,
        actor: Actor,
        keys: Sequence[str | None] | None = None,
    ) -> list[Submission]:
        """Enters many in one transaction; one answer each, in order.

        Raises PermissionDeniedError.
        """
        return self.commit(self.prepare(entries, authority=authority, actor=actor, keys=keys))

    def prepare(
        self,
        entries: Sequence[Entry],
        *,
        authority: str,
        actor: Actor,
        keys: Sequence[str | None] | None = None,
    ) -> Prepared:
        """The first half of `submit_many`: starts stretching in threads, so that it overlaps with
        the commit before.
        """
        return self._submitting.prepare(entries, authority=authority, actor=actor, keys=keys)

    def commit(self, work: Prepared) -> list[Submission]:
        """The second half of `submit_many`."""
        return self._submitting.commit(work)

    # Acting

    def get(self, restriction_id: bytes, *, actor: Actor) -> RestrictionSummary:
        """One restriction without its subject.

        Raises NotFoundError: none that this actor may know of.
        """
        return self._acting.get(restriction_id, actor)

    def end(
        self,
        restriction_id: bytes,
        kind: EndKind,
        reason: str,
        *,
        actor: Actor,
        given: Precondition = ANY,
    ) -> Ended:
        """Releases, repairs or revokes; see Acting.end."""
        return self._acting.end(restriction_id, kind, reason, actor, given)

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
        """Permits something inside a restriction, from the next listing on; see Acting.exempt."""
        return self._acting.exempt(
            restriction_id,
            measures=measures,
            valid=valid,
            why=why,
            actor=actor,
            given=given,
            person=person,
        )

    def expire_due(self, now: datetime) -> Due:
        """Lets restrictions enter into force and expire, and posts begin and end, whose time has
        come.
        """
        self.posts.turn(now)
        return self._acting.expire_due(now)

    # Disputing

    def open_dispute(
        self,
        restriction_id: bytes,
        statement: str,
        *,
        request_id: bytes,
        actor: Actor,
        decision_id: bytes = b"",
        ground: DisputeGround = DisputeGround.OTHER,
    ) -> OpenedDispute:
        """Opens a dispute; see Disputing.open_dispute."""
        return self.disputing.open_dispute(
            restriction_id,
            statement,
            request_id=request_id,
            actor=actor,
            decision_id=decision_id,
            ground=ground,
        )

    def get_dispute(self, case_number: str, *, actor: Actor) -> Dispute:
        """Where a dispute stands. Raises NotFoundError."""
        return self.disputing.get_dispute(case_number, actor)

    def answer_dispute(
        self, case_number: str, outcome: Outcome, reason: str, *, actor: Actor
    ) -> Dispute:
        """Answers a dispute; see Answering.answer, which also corrects."""
        return self.answering.answer(case_number, outcome, reason, actor).dispute

    def chase_disputes(self, now: datetime) -> Chased:
        """Reminds of disputes that are to be answered; see Disputing.follow_up."""
        return self.disputing.follow_up(now)

    # Listing and relief

    def listing_subjects(
        self, audience: str, now: datetime, stretch: int | None = None, span: Span = EVERYBODY
    ) -> Iterator[ListingSubject]:
        """Every subject that the audience may see, in order of random ids, in bounded memory.

        Read `relief_head` before.

        `stretch`: the number of the epoch's, `Epoch.stretch`; by default the current one.
        """
        return self._listing.subjects(audience, now, stretch, span)

    def listing_chosen(
        self, audience: str, now: datetime, subjects: Sequence[bytes], stretch: int | None = None
    ) -> Iterator[ListingSubject]:
        """Those of some subjects (ids ascending) that the audience may see, as `listing_subjects`
        gives them.
        """
        return self._listing.chosen(audience, now, subjects, stretch)

    def relief_head(self) -> int:
        """The last relief sequence; 0 before the first."""
        return self._listing.relief_head()

    def relief_since(self, audience: str, sequence: int) -> list[Lift]:
        """Lifts after `sequence` that concern the audience, in order."""
        return self._listing.relief_since(audience, sequence)

    # Providers and supervision

    def acknowledge(self, provider_id: str, *, listing_version: int, relief_sequence: int) -> None:
        """Keeps what a provider says it enforces. Raises NotFoundError: no such provider."""
        with self.database.write() as session:
            done = session.execute(
                update(ProviderRow)
                .where(ProviderRow.id == provider_id)
                .values(
                    enforced_listing=listing_version,
                    enforced_relief_sequence=relief_sequence,
                    acknowledged_at=self._core.clock(),
                )
                .returning(ProviderRow.id)
            ).first()
            if done is None:
                raise NotFoundError(f"there is no provider {provider_id!r}; add it first")

    def retention(self, rules: RetentionSection) -> Retention:
        """Erasing what was kept for long enough."""
        return Retention(self._core, rules)

    def held_on(self, identifier: Identifier, *, actor: Actor) -> dict[str, Any]:
        """Everything that is held on one person, for their right of access; see holdings.

        Raises NotFoundError.
        """
        return Holdings.of_person(self._core, identifier, actor)

    def provider_audiences(self) -> dict[str, str]:
        """Every provider that is known and not removed, and its audience."""
        query = select(ProviderRow.id, ProviderRow.audience_id).where(
            ProviderRow.removed_at.is_(None)
        )
        with self.database.read() as session:
            return {row.id: row.audience_id for row in session.execute(query)}

    def verify_audit(self, checkpoints: Sequence[Checkpoint] = ()) -> int:
        """Recomputes the audit log's chain; the number of its entries.

        Raises AuditError at the first wrong one, see audit.verify.
        """
        return audit.verify(self.database, self.vault, checkpoints)
