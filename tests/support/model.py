"""The reference: everything that the system does about one audience, without filter, cryptography,
files or network.

Obviously right rather than fast. Restrictions are kept by their id, subjects by a word; a listing
is a copy of what stood there when it was built, relief is the ids lifted since, and a provider
knows what was published when it last synchronised.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

RELIEF_MAX_AGE, RELIEF_LIFETIME = timedelta(minutes=30), timedelta(hours=1)
LISTING_LIFETIME = HORIZON = timedelta(days=7)


@dataclass
class Subject:
    numbers: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    answers_for: set[str] = field(default_factory=set)  # organisations


@dataclass
class Restriction:
    subject: str
    measures: frozenset[str]
    starts: datetime
    ends: datetime
    state: str = "IN_FORCE"  # SUSPENDED, OVER, EXPIRED
    was_active: bool = False
    # How many lifts there were when it was last put in force again: those before are not of this
    # time
    reinstated: int = 0
    exemptions: list[tuple[frozenset[str], datetime, datetime]] = field(
        default_factory=list
    )  # no measures: all; from, until


@dataclass
class Published:
    built_at: datetime
    subjects: dict[str, Subject]
    restrictions: dict[bytes, Restriction]
    lifts_before: int
    lifts: list[bytes]  # all up to the last synchronisation
    relief_signed: datetime


class Model:
    def __init__(self, measures: frozenset[str], now: datetime) -> None:
        self.measures, self.now, self.relief_signed, self.listing_signed = measures, now, now, now
        self.subjects: dict[str, Subject] = {}
        self.restrictions: dict[bytes, Restriction] = {}
        self.lifts: list[tuple[bytes, datetime]] = []
        self.listing: Published | None = None
        self.provider: Published | None = None

    def lift(self, restriction_id: bytes, state: str) -> None:
        self.restrictions[restriction_id].state = state
        self.lifts.append((restriction_id, self.now))
        if self.restrictions[restriction_id].measures & self.measures:
            self.relief_signed = self.now

    def pass_time(self, step: timedelta) -> None:
        self.now += step
        for restriction in self.restrictions.values():
            if restriction.ends <= self.now:
                restriction.state = (
                    "EXPIRED" if restriction.state in {"IN_FORCE", "EXPIRED"} else "OVER"
                )
            elif restriction.starts <= self.now and restriction.state == "IN_FORCE":
                restriction.was_active = True

    def publish(self, lifts_before: int | None = None) -> None:
        """`lifts_before`: how many lifts the build knew of, where some came while it read."""
        listed = {
            restriction_id: restriction
            for restriction_id, restriction in self.restrictions.items()
            if restriction.state == "IN_FORCE"
            and restriction.measures & self.measures
            and restriction.starts <= self.now + HORIZON
        }
        parts = deepcopy((self.subjects, listed))
        self.listing = Published(
            self.now,
            *parts,
            lifts_before=len(self.lifts) if lifts_before is None else lifts_before,
            lifts=[],
            relief_signed=self.now,
        )
        self.listing_signed = self.now

    def sync(self) -> bool:
        """Synchronises; returns whether it worked: what is past its expiry is not believed."""
        if (
            self.now >= self.relief_signed + RELIEF_LIFETIME
            or self.now >= self.listing_signed + LISTING_LIFETIME
        ):
            return False
        if self.listing is not None:
            self.listing.lifts, self.listing.relief_signed = (
                [lifted for lifted, _ in self.lifts],
                self.relief_signed,
            )
            self.provider = deepcopy(self.listing)
        return True

    def check(
        self, clock: datetime, number: str, name: str, measure: str, *, covered: bool
    ) -> tuple[set[str], set[bytes]]:
        """Returns the possible reasons, and the restrictions that the answer rests on.

        `clock`: the provider's; `covered`: such a service is.
        """
        known = self.provider
        if known is None:
            return {"NO_DATA"}, set()
        now = max(clock, known.built_at, known.relief_signed)  # time does not run backwards
        if now >= known.built_at + LISTING_LIFETIME:
            return {"EXPIRED"}, set()
        here = [subject for subject in _listed(known) if number in known.subjects[subject].numbers]
        named = [subject for subject in here if name in known.subjects[subject].names]
        if not named:
            return ({"NAME_MISMATCH"} if here else {"NOT_LISTED", "FALSE_POSITIVE"}), set()
        covering = {
            i: r
            for i, r in known.restrictions.items()
            if covered and measure in r.measures and _reaches(known, r, named)
        }
        running = {i: r for i, r in covering.items() if r.starts <= now < r.ends}
        exempt = {
            i
            for i, r in running.items()
            if any(_permits(exemption, measure, now) for exemption in r.exemptions)
        }
        lifted = {
            i
            for i, r in running.items()
            if i in known.lifts[max(known.lifts_before, r.reinstated) :]
        }
        standing = set(running) - exempt - lifted
        if not running:
            coming = any(now < r.starts for r in covering.values())
            return {
                "NOT_YET_EFFECTIVE" if coming else "LAPSED" if covering else "NOT_COVERED"
            }, set()
        if not standing:
            return {"EXEMPT" if exempt else "LIFTED"}, set()
        fresh = abs(clock - known.relief_signed) <= RELIEF_MAX_AGE
        return {"IN_FORCE" if fresh else "STALE_RELIEF"}, standing

    def may_deny(
        self, clock: datetime, number: str, name: str, measure: str, restriction_id: bytes
    ) -> bool:
        """Returns whether the registry allows a denial now, whatever a provider knows.

        The restriction is this person's and runs, and it is in force, or was lifted so short a time
        ago that relief may be on its way.
        """
        restriction = self.restrictions[restriction_id]
        subjects = [
            key
            for key, subject in self.subjects.items()
            if number in subject.numbers and name in subject.names
        ]
        recently = RELIEF_MAX_AGE + abs(clock - self.now)
        return (
            (
                restriction.state in {"IN_FORCE", "EXPIRED"}
                or any(i == restriction_id and self.now - at <= recently for i, at in self.lifts)
            )
            and any(
                restriction.subject in {key, *self.subjects[key].answers_for} for key in subjects
            )
            and measure in restriction.measures
            and restriction.starts <= max(clock, self.now)
            and clock < restriction.ends
        )


def _reaches(known: Published, restriction: Restriction, subjects: list[str]) -> bool:
    return any(restriction.subject in {key, *known.subjects[key].answers_for} for key in subjects)


def _listed(known: Published) -> list[str]:
    return [
        key
        for key in known.subjects
        if any(_reaches(known, restriction, [key]) for restriction in known.restrictions.values())
    ]


def _permits(
    exemption: tuple[frozenset[str], datetime, datetime], measure: str, now: datetime
) -> bool:
    measures, first, until = exemption
    return (not measures or measure in measures) and first <= now < until
