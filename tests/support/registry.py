"""A registry on SQLite or on PostgreSQL, with a clock that tests turn, and entries with valid
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.support.postgres import PostgresServer, postgres
from tipstaff_sdk.listing.relief import Relief, Segment
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.administration.providers import Providers
from tipstaff_server.config import StretchSection
from tipstaff_server.domain.actors import Actor
from tipstaff_server.domain.parties import ORGANISATION, PERSON, Party, Responsible
from tipstaff_server.importing.synthetic.lists import Synthetic
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry import facts as setup
from tipstaff_server.registry.registry import Registry
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.registry.unit import RegistryStore, Rules
from tipstaff_server.storage.database import Database
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault, create_key_file

if TYPE_CHECKING:
    from tipstaff_sdk.identity.identifier import Identifier

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
OPERATOR = Actor.operator("test")
COURT = Actor.authority("court")
TAX = Actor.authority("tax")
AIRLINE = Actor.provider("air-1", "aviation")
RAILWAY = Actor.provider("rail-1", "rail")
PEOPLE = Synthetic(99, date(2026, 5, 4))


@dataclass
class TurnableClock:
    """A clock that stands still until it is turned."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **step: float) -> datetime:
        """Moves the clock on; `step` as for timedelta."""
        self.now += timedelta(**step)
        return self.now


@dataclass
class World:
    """A registry that is set up, with the address of its database and its clock."""

    registry: Registry
    database: Database
    vault: Vault
    folder: Path
    url: str
    clock: TurnableClock = field(default_factory=TurnableClock)
    server: PostgresServer | None = None
    _more: list[Registry] = field(default_factory=list[Registry])

    @property
    def store(self) -> RegistryStore:
        """What the registry is made on, as product code is handed it."""
        return self.registry.store

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file."""
        return self.database.is_sqlite

    def replica(self, *, busy_timeout_seconds: float = 30, **options: Any) -> Registry:
        """Returns another server's registry on the same database."""
        database = Database(self.url, busy_timeout_seconds=busy_timeout_seconds)
        made = make_registry(Store(database, self.vault, self.clock), **options)
        self._more.append(made)
        return made

    def raw(self) -> bytes:
        """Returns every byte that the database has on disk."""
        if self.is_sqlite:
            return b"".join(path.read_bytes() for path in self.folder.glob("registry.db*"))
        assert self.server is not None
        return self.server.raw(self.database.engine.url.database or "")

    def close(self) -> None:
        """Closes the registries; the database goes with the folder, or is dropped."""
        for registry in (*self._more, self.registry):
            registry.close()
        if self.server is not None:
            self.server.drop(self.database.engine.url.database or "")


def make_registry(store: Store, **options: Any) -> Registry:
    """A registry that stretches in one thread; `options` as for Rules."""
    return Registry(store, Rules(**options), threads=1)


def make_world(folder: Path, backend: str | PostgresServer = "sqlite", **options: Any) -> World:
    """Makes a registry in `folder`.

    Args:
        folder: Where its files lie.
        backend: "sqlite", "postgresql" (this process's server), or a server.
        options: As for Rules.
    """
    server = postgres() if backend == "postgresql" else None
    if isinstance(backend, PostgresServer):
        server = backend
    clock = TurnableClock()
    for name, content in _template().items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    url = (
        f"sqlite:///{folder}/registry.db"
        if server is None
        else server.url(server.create(_postgres_template(server)))
    )
    database = Database(url, busy_timeout_seconds=5)
    vault = Vault.open(folder / "registry.key")
    return World(
        make_registry(Store(database, vault, clock), **options),
        database,
        vault,
        folder,
        url,
        clock,
        server,
    )


@cache
def _postgres_template(server: PostgresServer) -> str:
    """Sets up a database to make copies of; returns its name."""
    name = server.create()
    with TemporaryDirectory() as folder:
        key = Path(folder) / "registry.key"
        key.write_bytes(_template()["registry.key"])
        key.chmod(0o600)
        _set_up(Database(server.url(name)), Vault.open(key))
    return name


@cache
def _template() -> dict[str, bytes]:
    """Files of a registry that was just set up: made once, because migrating takes a third of a
    second.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        _set_up(
            Database(f"sqlite:///{folder}/registry.db"), create_key_file(folder / "registry.key")
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _set_up(database: Database, vault: Vault) -> None:
    store = Store(database, vault, lambda: NOW)
    setup.initialise(store, StretchSection(n=2, r=1))
    set_administration(store, Administration.load(), actor=OPERATOR)
    for actor in (AIRLINE, RAILWAY):
        Providers(store).add(actor.id, actor.audience, actor=OPERATOR)
    database.close()


def person(index: int, *names: str) -> Party:
    """Returns made-up person `index`, under their own name or under `names`."""
    found = PEOPLE.clear(index)
    return Party(PERSON, (found.identifier,), names or (found.name,))


def organisation(index: int, *names: str) -> Party:
    """Returns made-up organisation `index`."""
    found = PEOPLE._organisation(index)
    return Party(ORGANISATION, (found.identifier,), names or (found.name,))


def entry(party: Party | None = None, **changes: Any) -> Entry:
    """An entry that the court may make: in force since yesterday, for 300 days, of the list that
    suspends on dispute.
    """
    base = Entry(
        party=party or person(0),
        list_id="joint-discipline",
        measures=("AIR_TRAVEL", "LOAN_PRICING"),
        legal_basis="国发〔2016〕33号",
        case_number="（2026）虚01执1号",
        effective_at=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=300),
    )
    return replace(base, **changes)


def responsible(index: int, capacity: int = 1) -> Responsible:
    """Returns made-up person `index` as one who answers for an organisation."""
    return Responsible(capacity, person(index))


def submit(world: World, item: Entry, **options: Any) -> bytes:
    """Enters a restriction, which has to be accepted; returns its id."""
    answer = world.registry.restrictions.submit(
        item, **({"authority": "court", "actor": COURT} | options)
    )
    assert not answer.detail
    return answer.restriction_id


def listed(world: World, audience: str = "aviation") -> dict[Identifier, Any]:
    """Returns what the audience's listing would hold: identifier → subject."""
    found = ListingReader(world.registry.store).subjects(audience, world.clock())
    return {item.identifier: subject for subject in found for item in subject.identifiers}


def relief(world: World, audience: str, since: int = 0) -> Relief:
    """Returns the relief of a provider whose listing has this sequence."""
    lifts = tuple(
        (lift.sequence, lift.restriction_id)
        for lift in world.registry.relief.since(audience, since)
    )
    head = max(world.registry.relief.head(), 1)
    return Relief.from_segments([Segment(1, head, lifts)], since, NOW)


def enforced(world: World, before: dict[Any, Any], audience: str = "aviation") -> set[Any]:
    """Returns who of an earlier listing is still restricted, after relief."""
    now = relief(world, audience)
    return {
        number
        for number, subject in before.items()
        if any(
            not now.lifts(item.restriction_id, item.relief_floor)
            and not now.ends(frozenset(item.post_ids))
            for item in subject.restrictions
        )
    }
