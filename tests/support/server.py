"""A deployment for tests: a working directory, people with valid numbers, entries about them."""

from __future__ import annotations

import atexit
import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from tests.support.folders import scratch
from tipstaff.v1 import identity_pb2
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.domain.actors import Actor
from tipstaff_server.domain.parties import Party
from tipstaff_server.registry.restrictions.entry import Entry
from tipstaff_server.workdir.layout import Provider, WorkDirPlan
from tipstaff_server.workdir.make import initialise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tipstaff_server.registry.registry import Registry

AUDIENCES = ("aviation", "rail", "hospitality", "banking")
MEASURES = ("AIR_TRAVEL", "RAIL_HIGH_CLASS", "STAR_HOTEL", "LOAN_PRICING")
LISTEN = "127.0.0.1:7443"
COURT = Actor.authority("court")
# One moment for the whole run: the same entry made twice is the same entry.
BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident_id(number: int) -> Identifier:
    """A made-up resident ID with a right check character (GB 11643), different for each number
    below 10^7.
    """
    day = datetime(1950, 1, 1, tzinfo=UTC) + timedelta(days=number // 1000)
    body = f"110105{day:%Y%m%d}{number % 1000:03d}"
    remainder = sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True)) % 11
    return Identifier.resident_id(body + "10X98765432"[remainder])


def name_of(number: int) -> str:
    """A made-up name, the same for the same number."""
    family = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"
    given = "子涵浩宇欣怡诗琪俊杰梓萱建国志强"
    return family[number % 16] + given[number // 16 % 16] + given[number // 256 % 16]


def entry(
    number: int, measures: Sequence[str] = MEASURES, *, case: str | None = None, days: int = 700
) -> Entry:
    """A court's restriction on person `number`, in force since yesterday."""
    party = Party(int(identity_pb2.SUBJECT_TYPE_PERSON), (resident_id(number),), (name_of(number),))
    return Entry(
        party=party,
        list_id="joint-discipline",
        measures=tuple(sorted(measures)),
        legal_basis="《最高人民法院关于限制被执行人高消费及有关消费的若干规定》第三条",
        case_number=case or f"(2026)京0105执{number}号",
        effective_at=BEGAN,
        expires_at=BEGAN + timedelta(days=days),
    )


def enter(registry: Registry, entries: Sequence[Entry]) -> list[bytes]:
    """Enters everything for the court; returns the restrictions' ids."""
    ids: list[bytes] = []
    for start in range(0, len(entries), 1_000):
        submissions = registry.restrictions.submit_many(
            entries[start : start + 1_000], authority="court", actor=COURT
        )
        refused = [submission for submission in submissions if not submission.restriction_id]
        assert not refused, refused[0]
        ids += [submission.restriction_id for submission in submissions]
    return ids


def make(
    folder: Path,
    *,
    providers: Sequence[str] = ("aviation/skyline-air", "rail/riverside-rail"),
    listen: str = LISTEN,
) -> Config:
    """Copies a working directory that is made once, with the cheapest stretch.

    Where the environment changes the configuration, it is really made.
    """
    if any(name.startswith("TIPSTAFF_SERVER__") for name in os.environ):
        return _make(folder, tuple(providers), listen)
    shutil.copytree(_template(tuple(providers)), folder, dirs_exist_ok=True)
    for file in (folder / CONFIG_NAME, *folder.glob("providers/*/tipstaff.toml")):
        file.write_text(file.read_text("utf-8").replace(LISTEN, listen), "utf-8")
    return Config.load(folder)


@cache
def _template(providers: tuple[str, ...]) -> Path:
    """Makes the directory that is copied: keys, certificates and tables take a second."""
    folder = scratch()
    atexit.register(shutil.rmtree, folder)
    _make(folder / "operator", providers, LISTEN)
    return folder / "operator"


def _make(folder: Path, providers: tuple[str, ...], listen: str) -> Config:
    plan = WorkDirPlan.of([], [Provider.parse(each) for each in providers], listen, 2)
    return initialise(folder, plan)
