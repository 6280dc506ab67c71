"""The registry: one object for everything that may be done to it, one attribute for each domain.

    with Registry.open(config) as registry:
        registry.restrictions.submit(entry, authority="court", actor=actor)           # entering
        registry.restrictions.end(restriction_id, EndKind.RELEASE, "performed", actor)  # ending
        registry.relief.since("aviation", 17)                                         # what follows

All calls are synchronous and thread-safe; services call them in threads. Each act is one
transaction with its audit entries (`unit.py`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from tipstaff_server.administration.providers import Providers
from tipstaff_server.clock import utc_now
from tipstaff_server.registry.disputes.disputes import Disputes
from tipstaff_server.registry.erasure import Retention
from tipstaff_server.registry.facts import open_facts
from tipstaff_server.registry.holdings import Holdings
from tipstaff_server.registry.keys.stretch_change import StretchChange
from tipstaff_server.registry.relief_log import ReliefLog
from tipstaff_server.registry.restrictions.remedies import Remedies
from tipstaff_server.registry.restrictions.restrictions import Restrictions
from tipstaff_server.registry.subjects.posts import Posts
from tipstaff_server.registry.subjects.subjects import Subjects
from tipstaff_server.registry.unit import RegistryStore, Rules
from tipstaff_server.storage.database import Database
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.stretch import StretchPool
from tipstaff_server.vault.vault import Vault

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from tipstaff.v1 import catalogue_pb2
    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.listing.sealing import Stretch
    from tipstaff_server.administration.policies import Policies
    from tipstaff_server.clock import Clock
    from tipstaff_server.config import Config, RetentionSection
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.registry.restrictions.transitions import Due
    from tipstaff_server.vault.epochs import Epoch

__all__ = ["Registry"]


class Registry:
    """See the module.

    Attributes:
        store: database, vault and clock, for whoever reads what the registry keeps.
        restrictions: entering, approving, ending, correcting, exempting, searching.
        subjects: showing, merging, splitting and correcting subjects.
        posts: who answers for which organisation.
        disputes: opening, answering and following disputes.
        remedies: what follows a wrongful enforcement.
        relief: every lift, in one sequence.
        providers: who belongs to which audience, and what it enforces.
        stretch_change: another cost or salt of stretching, while everything runs.
    """

    def __init__(self, store: Store, rules: Rules | None = None, *, threads: int = 2) -> None:
        """Opens a registry that `facts.initialise` made.

        Args:
            store: database, vault and clock.
            rules: the deployment's bounds; None: the usual ones.
            threads: how many identifiers are stretched at once.

        Raises:
            SchemaVersionError: the database is not this program's.
            WrongVaultKeyError: the vault's key is not this registry's.
        """
        open_facts(store)
        with store.read() as session:
            current = stretches.current(session)
        self.store = RegistryStore(
            store.database,
            store.vault,
            store.clock,
            stretcher=StretchPool(current.stretch, threads=threads, number=current.number),
            rules=rules or Rules(),
        )
        self.restrictions = Restrictions(self.store)
        self.subjects = Subjects(self.store)
        self.posts = Posts(self.store)
        self.disputes = Disputes(self.store)
        self.remedies = Remedies(self.store)
        self.relief = ReliefLog(self.store)
        self.providers = Providers(self.store)
        self.stretch_change = StretchChange(self.store)

    @classmethod
    def open(cls, config: Config, *, clock: Clock = utc_now) -> Registry:
        """Opens the configured registry.

        Raises:
            VaultError: there is no key, or a wrong one.
            SchemaVersionError: the database is not this program's.
            DatabaseUnavailableError: it does not answer.
        """
        rules = Rules(
            max_term=timedelta(days=config.registry.max_term_days),
            horizon=timedelta(days=config.registry.listing_horizon_days),
            page_size=config.registry.page_size,
            remedy_days=config.registry.remedy_days,
            disputes_per_hour=config.registry.disputes_per_hour,
        )
        store = Store(Database.open(config), Vault.configured(config), clock)
        return cls(store, rules, threads=config.stretch.threads)

    def close(self) -> None:
        """Ends threads and connections. May be repeated."""
        self.store.stretcher.close()
        self.store.database.close()

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
        with self.store.read() as session:
            return stretches.current(session).stretch

    def stretch_of(self, epoch: Epoch) -> Stretch:
        """Salt and cost of an epoch's listings, for their ListingParameters."""
        with self.store.read() as session:
            return stretches.of_number(session, epoch.stretch).stretch

    def policies(self) -> Policies:
        """The current administration: its lists, authorities and audiences, and its version."""
        with self.store.read() as session:
            return self.store.policies.get(session)

    def catalogue(self) -> catalogue_pb2.Catalogue:
        """The catalogue of measures, for the targets role.

        `SerializeToString(deterministic=True)` gives the bytes to sign.
        """
        policies = self.policies()
        return policies.administration.catalogue(version=policies.version, made_at=policies.made_at)

    # What concerns several domains

    def expire_due(self, now: datetime) -> Due:
        """Lets restrictions enter into force and expire, and posts begin and end, in due time."""
        self.posts.turn(now)
        return self.restrictions.expire_due(now)

    def retention(self, rules: RetentionSection) -> Retention:
        """Erasing what was kept for long enough."""
        return Retention(self.store, rules)

    def held_on(self, identifier: Identifier, *, actor: Actor) -> dict[str, Any]:
        """Everything that is held on one person, for their right of access.

        Raises:
            NotFoundError: nothing is held on this number.
        """
        return Holdings.of_person(self.store, identifier, actor)
