"""Another stretch, while everything goes on: computed beside the old one, used by new epochs, taken
over when nothing else is in use.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from tests.support.registry import COURT, OPERATOR, World, entry, listed, make_world, person, submit
from tipstaff_sdk.listing.sealing import Stretch
from tipstaff_server.audit.log import verify
from tipstaff_server.errors import InvalidRequestError, LifecycleError, StretchRetiredError
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry import facts as setup
from tipstaff_server.registry.keys import reencryption as sealed
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.keys import stretch_change as restretching
from tipstaff_server.signoff import reader as standing
from tipstaff_server.storage import migrations
from tipstaff_server.storage.models import AuditRow, IdentifierRow, StretchState
from tipstaff_server.vault.epochs import EpochKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.registry.keys.stretch_change import StretchChange
    from tipstaff_server.registry.registry import Registry

OVERLAP = timedelta(days=7)
PEOPLE = 7


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restretching, "BATCH", 2)


@pytest.fixture
def peopled(world: World) -> World:
    for index in range(PEOPLE):
        submit(world, entry(person(index)))
    return world


@pytest.fixture
def epochs(peopled: World) -> EpochKeys:
    made = EpochKeys(peopled.store)
    made.current("aviation")
    return made


def begin(world: World, n: int = 4, **options: bool) -> int:
    options = {"new_salt": True, "weaker": True, **options}
    return world.registry.stretch_change.begin(n=n, r=1, p=1, actor=OPERATOR, **options).number


def ready(world: World, n: int = 4) -> int:
    number = begin(world, n)
    world.registry.stretch_change.fill(number)
    return number


def stretch_of(world: World, number: int) -> Stretch:
    with world.database.read() as session:
        return restretching.stretches.of_number(session, number).stretch


def state_of(world: World, number: int) -> StretchState:
    with world.database.read() as session:
        return restretching.stretches.of_number(session, number).state


def values(world: World) -> int:
    """How many identifiers have a value of the stretch to come."""
    with world.database.read() as session:
        return session.scalar(select(func.count(IdentifierRow.next_stretched))) or 0


def right(world: World, number: int, people: int = PEOPLE) -> bool:
    """Builder and sign-off read everybody's S under this stretch, and it is the one that a provider
    computes.
    """
    stretch, now = stretch_of(world, number), world.clock()
    built = {
        item.identifier: item.stretched
        for one in ListingReader(world.registry.store).subjects("aviation", now, number)
        for item in one.identifiers
    }
    checked = {
        identifier: value
        for one in standing.read(world.store, "aviation", number)
        for identifier, value in one.identifiers
    }
    return (
        len(built) == people
        and built == checked
        and all(value == stretch.stretch(identifier) for identifier, value in built.items())
    )


def take_over(world: World, epochs: EpochKeys, number: int) -> None:
    """Rotates, and lets the overlap go by."""
    assert epochs.rotate("aviation", OVERLAP).stretch == number
    world.clock.turn(days=8)


def test_both_are_right_while_the_next_one_is_computed_and_after(peopled: World) -> None:
    seen: list[tuple[int, int]] = []
    number = begin(peopled)

    def look(done: int, every: int) -> None:
        seen.append((done, every))
        assert right(peopled, 1)
        with pytest.raises(StretchRetiredError):
            list(
                ListingReader(peopled.registry.store).subjects("aviation", peopled.clock(), number)
            )

    peopled.registry.stretch_change.fill(number, look)
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]
    assert state_of(peopled, number) is StretchState.READY
    assert right(peopled, 1)
    assert right(peopled, number)
    assert stretch_of(peopled, 1).salt != stretch_of(peopled, number).salt


def test_what_was_computed_before_an_end_is_not_computed_again(
    peopled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begin(peopled)

    class Killed(BaseException):
        pass

    def die(done: int, _every: int) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        peopled.registry.stretch_change.fill(number, die)
    assert values(peopled) == 4
    computed: Counter[int] = Counter()
    real = Stretch.stretch
    monkeypatch.setattr(
        Stretch,
        "stretch",
        lambda self, identifier: computed.update([self.n]) or real(self, identifier),
    )
    again = peopled.replica()
    assert (
        again.stretch_change.begin(n=4, r=1, p=1, new_salt=True, weaker=True, actor=OPERATOR).number
        == number
    )
    again.stretch_change.fill(number)
    assert computed == {4: PEOPLE - 4}
    assert right(peopled, number)


def test_two_processes_may_compute_at_once(peopled: World) -> None:
    number = begin(peopled)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda registry: registry.stretch_change.fill(number),
                [peopled.replica(), peopled.replica()],
            )
        )
    assert right(peopled, number)
    with peopled.database.read() as session:
        assert session.scalar(select(func.count()).where(AuditRow.act == "STRETCH_READY")) == 1


def test_who_is_entered_meanwhile_is_in_the_listings_of_both(peopled: World) -> None:
    number = begin(peopled)
    submit(peopled, entry(person(20)))
    peopled.registry.stretch_change.fill(
        number, lambda done, _every: submit(peopled, entry(person(21))) if done == 2 else None
    )
    assert values(peopled) == PEOPLE + 2
    submit(peopled, entry(person(22)))
    # Not computed yet: a build does so itself, and the server's loop for good.
    assert right(peopled, 1, PEOPLE + 3)
    assert right(peopled, number, PEOPLE + 3)
    assert peopled.registry.stretch_change.tend() is StretchState.READY
    assert values(peopled) == PEOPLE + 3
    assert right(peopled, number, PEOPLE + 3)


def test_a_new_epoch_uses_it_once_it_is_ready_and_the_one_before_does_not(
    peopled: World, epochs: EpochKeys
) -> None:
    number = begin(peopled)
    assert epochs.rotate("aviation", OVERLAP).stretch == 1
    peopled.registry.stretch_change.fill(number)
    assert epochs.rotate("aviation", OVERLAP).stretch == number
    assert [epoch.stretch for epoch in epochs.in_use("aviation")] == [1, 1, number]
    assert epochs.current("rail").stretch == number
    assert peopled.registry.stretch_of(epochs.newest("aviation")) == stretch_of(peopled, number)


def test_it_takes_over_when_no_epoch_of_another_is_in_use(
    peopled: World, epochs: EpochKeys
) -> None:
    registry, number = peopled.registry, ready(peopled)
    assert registry.stretch_change.tend() is StretchState.READY  # no epoch uses it
    epochs.rotate("aviation", OVERLAP)
    peopled.clock.turn(days=6)
    assert (
        registry.stretch_change.tend() is StretchState.READY
    )  # a provider may hold the old listing
    assert right(peopled, 1)
    assert right(peopled, number)
    peopled.clock.turn(days=2)
    assert registry.stretch_change.tend() is None
    assert state_of(peopled, number) is StretchState.CURRENT
    assert state_of(peopled, 1) is StretchState.RETIRED
    assert registry.stretch == stretch_of(peopled, number)
    assert values(peopled) == 0
    assert right(peopled, number)
    with pytest.raises(StretchRetiredError, match="build again"):
        list(ListingReader(registry.store).subjects("aviation", peopled.clock(), 1))
    with pytest.raises(StretchRetiredError):
        list(standing.read(registry.store, "aviation", 1))


def test_an_audience_that_stays_behind_holds_it_up(peopled: World, epochs: EpochKeys) -> None:
    epochs.current("rail")
    number = ready(peopled)
    take_over(peopled, epochs, number)
    assert peopled.registry.stretch_change.tend() is StretchState.READY
    epochs.rotate("rail", OVERLAP)
    peopled.clock.turn(days=8)
    assert peopled.registry.stretch_change.tend() is None


def test_every_value_is_right_while_they_move(peopled: World, epochs: EpochKeys) -> None:
    number = ready(peopled)
    take_over(peopled, epochs, number)
    assert peopled.registry.stretch_change.tend(batches=1) is StretchState.TAKING_OVER
    assert values(peopled) == PEOPLE - 2
    assert right(peopled, number)
    submit(peopled, entry(person(30)))
    assert right(peopled, number, PEOPLE + 1)
    with pytest.raises(LifecycleError, match="under way"):
        begin(peopled, 8)
    with pytest.raises(LifecycleError, match="could be cancelled"):
        peopled.registry.stretch_change.cancel(actor=OPERATOR)
    assert peopled.replica().stretch_change.tend() is None
    assert right(peopled, number, PEOPLE + 1)


def test_a_build_in_the_middle_reads_the_same_stretch_to_its_end(tmp_path: Path) -> None:
    world = make_world(tmp_path, page_size=2)
    try:
        for index in range(PEOPLE):
            submit(world, entry(person(index)))
        old = world.registry.stretch
        reading = ListingReader(world.registry.store).subjects("aviation", world.clock(), 1)
        found = [next(reading) for _ in range(2)]
        ready(world)
        found += reading
        assert len(found) == PEOPLE
        assert all(
            item.stretched == old.stretch(item.identifier)
            for one in found
            for item in one.identifiers
        )
        # What is no longer kept ends a build that still asks for it: half of it would be of another
        # stretch.
        epochs = EpochKeys(world.store)
        reading = ListingReader(world.registry.store).subjects("aviation", world.clock(), 1)
        next(reading)
        assert epochs.current("aviation").stretch == 2
        assert world.registry.stretch_change.tend() is None
        with pytest.raises(StretchRetiredError):
            list(reading)
    finally:
        world.close()


def test_entries_stretched_before_the_take_over_and_written_after_it_are_stretched_again(
    peopled: World, epochs: EpochKeys
) -> None:
    elsewhere = peopled.replica()
    number = ready(peopled)
    waiting = elsewhere.restrictions.prepare(
        [entry(person(40)), entry(person(41))], authority="court", actor=COURT
    )
    take_over(peopled, epochs, number)
    assert peopled.registry.stretch_change.tend() is None
    assert [answer.detail for answer in elsewhere.restrictions.commit(waiting)] == ["", ""]
    assert right(peopled, number, PEOPLE + 2)
    elsewhere.restrictions.submit(entry(person(42)), authority="court", actor=COURT)
    assert right(peopled, number, PEOPLE + 3)


def test_a_cancelled_change_leaves_nothing_and_the_next_one_is_another(peopled: World) -> None:
    number = begin(peopled)
    steps: Iterator[int] = iter(range(9))

    def cancel(_done: int, _every: int) -> None:
        if next(steps) == 1:
            peopled.replica().stretch_change.cancel(actor=OPERATOR)

    with pytest.raises(LifecycleError, match="by now"):
        peopled.registry.stretch_change.fill(number, cancel)
    assert values(peopled) == 0
    assert state_of(peopled, number) is StretchState.CANCELLED
    assert peopled.registry.stretch_change.under_way() is None
    assert right(peopled, 1)
    later = ready(peopled, 8)
    assert later == number + 1
    assert right(peopled, later)


def test_a_cancel_that_was_interrupted_is_finished_by_the_server(
    peopled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ready(peopled)

    def die(_self: StretchChange, _number: int) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restretching.StretchChange, "_clear", die)
        with pytest.raises(KeyboardInterrupt):
            peopled.registry.stretch_change.cancel(actor=OPERATOR)
    with pytest.raises(LifecycleError):
        begin(peopled, 8)
    assert peopled.registry.stretch_change.tend(batches=1) is StretchState.CANCELLING
    assert peopled.registry.stretch_change.tend() is None
    assert state_of(peopled, number) is StretchState.CANCELLED
    assert values(peopled) == 0


def test_what_an_epoch_uses_is_not_cancelled(peopled: World, epochs: EpochKeys) -> None:
    ready(peopled)
    epochs.rotate("aviation", OVERLAP)
    with pytest.raises(LifecycleError, match="an epoch uses the new stretch already"):
        peopled.registry.stretch_change.cancel(actor=OPERATOR)


REFUSED = {
    "the one in use": ({"n": 2, "new_salt": False}, "in use"),
    "weaker than what is in use": ({"n": 2, "r": 1}, "the least"),
    "weaker than what is sensible": ({"n": 1 << 11, "r": 8}, "the least"),
    "no power of two": ({"n": 5000, "r": 8}, "no scrypt cost"),
    "too much memory": ({"n": 1 << 20, "r": 8}, "no scrypt cost"),
    "negative": ({"n": 1 << 12, "r": -1}, "no scrypt cost"),
    "too many at once": ({"n": 1 << 12, "r": 8, "p": 17}, "no scrypt cost"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_stretch_that_is_refused_changes_nothing(sqlite_world: World, case: str) -> None:
    given, why = REFUSED[case]
    wanted = {"n": 2, "r": 1, "p": 1, "new_salt": True, "weaker": False, **given}
    with pytest.raises(InvalidRequestError, match=why):
        sqlite_world.registry.stretch_change.begin(**wanted, actor=OPERATOR)  # type: ignore[arg-type]
    assert sqlite_world.registry.stretch_change.under_way() is None


def test_the_sensible_least_is_taken_without_a_word(sqlite_world: World) -> None:
    begun = sqlite_world.registry.stretch_change.begin(
        n=1 << 12, r=8, p=1, new_salt=False, weaker=False, actor=OPERATOR
    )
    assert begun.stretch.salt == sqlite_world.registry.stretch.salt
    with pytest.raises(LifecycleError, match="another change"):
        sqlite_world.registry.stretch_change.begin(
            n=1 << 13, r=8, p=1, new_salt=False, weaker=False, actor=OPERATOR
        )
    with pytest.raises(LifecycleError, match="another change"):
        sqlite_world.registry.stretch_change.begin(
            n=1 << 12, r=8, p=1, new_salt=True, weaker=False, actor=OPERATOR
        )


def test_a_registry_of_nobody_changes_too(world: World) -> None:
    number = ready(world)
    assert state_of(world, number) is StretchState.READY
    assert world.registry.stretch_change.tend() is StretchState.READY


def test_every_step_stands_in_the_audit_log_and_the_values_nowhere(
    peopled: World, epochs: EpochKeys
) -> None:
    number = ready(peopled)
    take_over(peopled, epochs, number)
    peopled.registry.stretch_change.tend()
    with peopled.database.read() as session:
        acts = session.scalars(
            select(AuditRow.act)
            .where(AuditRow.object_kind == "stretch")
            .order_by(AuditRow.sequence)
        ).all()
    assert acts == ["BEGIN_STRETCH", "STRETCH_READY", "STRETCH_TAKES_OVER"]
    verify(peopled.registry.store)
    stretch = stretch_of(peopled, number)
    everything = peopled.raw()
    assert all(stretch.stretch(identifier) not in everything for identifier in listed(peopled))


def test_entries_and_a_change_at_the_same_time(peopled: World, epochs: EpochKeys) -> None:
    """Whoever comes first: in the end everybody is found under the new stretch."""
    elsewhere, finished = peopled.replica(), threading.Event()
    entered: list[int] = []

    def keep_entering(registry: Registry) -> None:
        while not finished.is_set() and len(entered) < 200:
            index = 100 + len(entered)
            registry.restrictions.submit(entry(person(index)), authority="court", actor=COURT)
            entered.append(index)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(keep_entering, elsewhere)
        try:
            number = ready(peopled)
            take_over(peopled, epochs, number)
            while peopled.registry.stretch_change.tend() is not None:
                pass
        finally:
            finished.set()
        done.result(30)
    assert entered
    assert right(peopled, number, PEOPLE + len(entered))


def test_the_schema_goes_back_with_the_stretch_in_use_and_not_in_the_middle_of_a_change(
    peopled: World, epochs: EpochKeys
) -> None:
    before = import_module(
        "tipstaff_server.storage.migrations.versions.0009_stretches"
    ).down_revision
    number = ready(peopled)
    with pytest.raises(RuntimeError, match="under way"):
        migrations.downgrade(peopled.database, before)
    take_over(peopled, epochs, number)
    peopled.registry.stretch_change.tend()
    wanted = stretch_of(peopled, number)
    migrations.downgrade(peopled.database, before)
    migrations.upgrade(peopled.database)
    assert setup.open_facts(peopled.store) == wanted
    assert epochs.current("aviation").stretch == 1
    assert right(peopled, 1)


def test_the_registry_s_keys_may_change_in_the_middle(peopled: World) -> None:
    number = begin(peopled)
    steps: Iterator[int] = iter(range(9))

    def rekey(_done: int, _every: int) -> None:
        match next(steps):
            case 0:
                rekeying.reindex(peopled.store, actor=OPERATOR)
            case 1:
                rekeying.rotate(peopled.store, actor=OPERATOR)
                assert list(sealed.reencrypt(peopled.store))
            case _:
                pass

    peopled.registry.stretch_change.fill(number, rekey)
    assert right(peopled, 1)
    assert right(peopled, number)
    with peopled.database.read() as session:
        assert len(sealed.counts(session)) == 1
