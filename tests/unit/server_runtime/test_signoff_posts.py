"""What the sign-off makes of records that reach somebody through a post: of those that are wrong,
and of what happened since the build.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.deployment import Deployment
from tests.support.registry import COURT, OPERATOR, entry, organisation, person, responsible
from tipstaff.v1 import listing_pb2
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.errors import SignOffRefusedError
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction
from tipstaff_server.signoff.sign_off import sign_off as sign_off_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tipstaff_server.listing.reader import ListingSubject

FIRM, CHIEF, CLERK = organisation(0), person(1), person(2)
AUDIENCE = "aviation"


@pytest.fixture
def real() -> Iterator[Deployment]:
    """A firm with a chief and a clerk; the chief has a second name."""
    with Deployment(AUDIENCE) as made:
        now = made.clock.now
        chief = Responsible(1, Party(CHIEF.type, CHIEF.identifiers, (*CHIEF.names, "曾用名")))
        item = entry(
            FIRM,
            responsible=(chief, responsible(2, 3)),
            effective_at=now - timedelta(days=1),
            expires_at=now + timedelta(days=300),
        )
        assert not made.runtime.registry.restrictions.submit(
            item, authority="court", actor=COURT
        ).detail
        made.clock.turn(minutes=5)
        yield made


def post(real: Deployment, capacity: int = 1) -> bytes:
    view = real.runtime.registry.subjects.show(Reference(identifier=FIRM.identifiers[0]), OPERATOR)
    return next(item.post_id for item in view.posts if item.capacity == capacity)


def leave(real: Deployment, **until: float) -> None:
    moment = real.clock.now + timedelta(**until) if until else None
    real.runtime.registry.posts.end(post(real), moment, "left", COURT)


def sign_off(real: Deployment) -> int:
    return sign_off_one(real.runtime, AUDIENCE, accept_growth=True)


def test_an_honest_build_is_signed_off(real: Deployment) -> None:
    build(real.runtime, AUDIENCE)
    assert sign_off(real)


def later(real: Deployment) -> None:
    leave(real, days=3)


def join(real: Deployment) -> None:
    add = real.runtime.registry.posts.add
    add(
        Reference(identifier=FIRM.identifiers[0]),
        Responsible(2, person(5)),
        Dates(),
        "appointed",
        COURT,
    )


@pytest.mark.parametrize(
    "act", [leave, later, join], ids=["somebody left", "somebody is to leave", "somebody joined"]
)
def test_what_happened_since_the_build_is_covered_by_relief_or_waits(
    real: Deployment, act: Callable[[Deployment], None]
) -> None:
    build(real.runtime, AUDIENCE)
    real.clock.turn(minutes=1)
    act(real)
    assert sign_off(real)
    publishing.publish(real.runtime, AUDIENCE)
    real.relieve()
    real.screener.sync()
    decision = real.screener.check(CHIEF.identifiers[0], name=CHIEF.names[0], measure="AIR_TRAVEL")
    assert (decision.verdict.name == "CLEAR") == (act is leave)


def test_a_number_that_was_taken_away_since_the_build_refuses_it(real: Deployment) -> None:
    build(real.runtime, AUDIENCE)
    real.clock.turn(minutes=1)
    wrong = Correction(remove_names=("曾用名",))
    real.runtime.registry.subjects.correct(
        Reference(identifier=CHIEF.identifiers[0]), wrong, "not theirs", OPERATOR
    )
    with pytest.raises(SignOffRefusedError):
        sign_off(real)


def unknown(restriction: Any) -> None:
    restriction.post_ids.append(bytes(16))


def without(restriction: Any) -> None:
    del restriction.post_ids[:]


def longer(restriction: Any) -> None:
    restriction.expires_at.FromDatetime(restriction.expires_at.ToDatetime(UTC) + timedelta(days=1))


def another_capacity(restriction: Any) -> None:
    restriction.capacity = 4


TAMPERED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a post that nobody has": (unknown, "a post that is not held"),
    "no post, so that nothing could end it": (without, "a post that is not held"),
    "longer than the post": (longer, "something else than the registry"),
    "another capacity": (another_capacity, "something else than the registry"),
}


def propose(
    real: Deployment, monkeypatch: pytest.MonkeyPatch, subjects: list[ListingSubject]
) -> None:
    """A build by a builder that reads what it likes."""
    with monkeypatch.context() as patched:
        patched.setattr(ListingReader, "subjects", lambda *_: iter(subjects))
        build(real.runtime, AUDIENCE)


def read(real: Deployment) -> list[ListingSubject]:
    return list(ListingReader(real.runtime.registry.store).subjects(AUDIENCE, real.clock.now))


@pytest.mark.parametrize("name", TAMPERED)
def test_a_listing_with_a_post_that_the_registry_does_not_know_is_refused(
    real: Deployment, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    later(real)
    real.clock.turn(minutes=1)
    change, reason = TAMPERED[name]
    subjects = read(real)
    for index, subject in enumerate(subjects):
        if subject.restrictions[0].capacity == 1:
            changed = listing_pb2.RecordRestriction.FromString(
                subject.restrictions[0].SerializeToString()
            )
            change(changed)
            subjects[index] = replace(subject, restrictions=(changed,))
    propose(real, monkeypatch, subjects)
    with pytest.raises(SignOffRefusedError, match=reason):
        sign_off(real)


def test_who_left_before_the_build_is_refused_and_who_holds_a_post_is_missed(
    real: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(real)
    leave(real)
    real.clock.turn(minutes=1)
    propose(real, monkeypatch, before)
    with pytest.raises(SignOffRefusedError, match="a post that is not held"):
        sign_off(real)
    propose(
        real,
        monkeypatch,
        [subject for subject in read(real) if not subject.restrictions[0].capacity],
    )
    with pytest.raises(SignOffRefusedError, match="has no record in the pack"):
        sign_off(real)
