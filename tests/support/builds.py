"""Deployments in which listings are built again and again, on SQLite or on PostgreSQL, and held
against builds from scratch.
"""

from __future__ import annotations

import atexit
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from tests.support.folders import scratch
from tests.support.postgres import postgres
from tests.support.registry import COURT, TurnableClock, entry, person
from tests.support.server import make
from tipstaff.v1 import listing_pb2
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.signoff.sign_off import sign_off

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tipstaff_server.repository.history import Built

__all__ = ["SEEDED", "World", "make_world"]

SEEDED = 40
VARIABLE = "TIPSTAFF_SERVER__DATABASE__URL"


@contextmanager
def _database(url: str | None) -> Generator[None]:
    """Configures another database than the file beside the configuration, while the block runs."""
    if url is None:
        yield
        return
    os.environ[VARIABLE] = url
    try:
        yield
    finally:
        del os.environ[VARIABLE]


@cache
def _template(backend: str) -> tuple[Path, str, datetime]:
    """Makes a deployment with some people, once; returns its folder, database and moment."""
    folder, name = scratch(), "" if backend == "sqlite" else postgres().create()
    atexit.register(shutil.rmtree, folder)
    with _database(postgres().url(name) if name else None):
        make(folder / "operator", providers=("aviation/air-1", "rail/rail-1"))
        config = Config.load(folder / "operator")
    began = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    with Deployment(config, clock=TurnableClock(began)) as runtime:
        people = [
            entry(
                person(index),
                measures=("AIR_TRAVEL", "RAIL_HIGH_CLASS"),
                effective_at=began,
                expires_at=began + timedelta(days=400),
            )
            for index in range(SEEDED)
        ]
        runtime.registry.restrictions.submit_many(people, authority="court", actor=COURT)
    return folder / "operator", name, began


@dataclass
class World:
    """A deployment of its own. `clock` stands until it is turned."""

    folder: Path
    runtime: Deployment
    clock: TurnableClock
    database: str  # on PostgreSQL

    def kept(self, audience: str = "aviation") -> Path:
        """The folder that a build left for the next one."""
        return self.runtime.config.folder / ".build" / f"{audience}.kept"

    def kept_file(self, name: str, audience: str = "aviation") -> Path:
        """`rows` or `pack`."""
        (path,) = self.kept(audience).glob(f"{name}-*")
        return path

    def files(self, audience: str = "aviation") -> dict[str, bytes]:
        """What waits to be signed off: parameters without their number, filter, pack."""
        proposal = self.runtime.repository.proposal(audience)
        assert proposal is not None
        found = {
            path.rpartition("/")[2]: file.read_bytes()
            for path, file in proposal.artefacts.items()
            if path not in proposal.deltas
        }
        parameters = listing_pb2.ListingParameters.FromString(found["parameters"])
        parameters.version = 0
        return found | {"parameters": parameters.SerializeToString(deterministic=True)}

    def compare(self, audience: str = "aviation") -> Built:
        """Builds on the last build, then from scratch, and finds the same bytes; what was kept
        stays that of the first.
        """
        built = build(self.runtime, audience)
        made, rows, pack = (
            self.files(audience),
            self.kept_file("rows", audience).read_bytes(),
            self.kept_file("pack", audience).read_bytes(),
        )
        aside = self.folder / "aside"
        shutil.copytree(self.kept(audience), aside)
        again = build(self.runtime, audience, from_scratch=True)
        assert again.touched is None
        assert self.files(audience) == made
        assert (
            self.kept_file("rows", audience).read_bytes(),
            self.kept_file("pack", audience).read_bytes(),
        ) == (rows, pack)
        assert (again.subjects, again.records) == (built.subjects, built.records)
        shutil.rmtree(self.kept(audience))
        aside.rename(self.kept(audience))
        return built

    def publish(self, audience: str = "aviation") -> None:
        """Signs off and publishes the proposal that waits."""
        sign_off(self.runtime, audience, accept_growth=True)
        publishing.publish(self.runtime, audience)

    def close(self) -> None:
        """Ends everything and removes the folder and the database."""
        self.runtime.close()
        shutil.rmtree(self.folder)
        if self.database:
            postgres().drop(self.database)


def make_world(backend: str = "sqlite", *, scratch_days: float = 90) -> World:
    """Returns a copy of the template.

    `scratch_days`: after so many days a build reads everything again."""
    template, source, began = _template(backend)
    folder = scratch()
    shutil.copytree(template, folder / "operator")
    name = postgres().create(source) if source else ""
    with _database(postgres().url(name) if name else None):
        config = Config.load(folder / "operator")
    interval = {"from_scratch_interval_seconds": int(scratch_days * 86_400)}
    config = config.model_copy(
        update={"publication": config.publication.model_copy(update=interval)}
    )
    clock = TurnableClock(began)
    return World(folder, Deployment(config, clock=clock), clock, name)
