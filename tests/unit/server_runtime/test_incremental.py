"""What a build keeps for the next one, when that goes on from it, and when it rather reads
everybody: never a wrong listing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import stat
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, update

from tests.support.builds import SEEDED, World, make_world
from tests.support.registry import COURT, OPERATOR, entry, organisation, person, responsible
from tests.support.signing import FaultyDisk, KilledError
from tipstaff.v1 import listing_pb2
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.audit.log import AuditLog
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.domain.lifecycle import Event
from tipstaff_server.errors import PublicationError, SignOffRefusedError
from tipstaff_server.listing import build as builder
from tipstaff_server.listing import incremental
from tipstaff_server.listing.build import build
from tipstaff_server.listing.changed_subjects import ACTS, Touches
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.repository.history import IdentifierChange
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_server.storage.models import AuditRow, ListingBuildRow, NameRow, ResponsibleLinkRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tipstaff_server.repository.history import Built

AVIATION = "aviation"


@pytest.fixture
def world() -> Iterator[World]:
    """One that has built a listing."""
    made = make_world()
    build(made.runtime, AVIATION)
    yield made
    made.close()


def enter(world: World, index: int, **options: Any) -> bytes:
    """A restriction more, on made-up person `index`."""
    options = {
        "effective_at": world.clock.now,
        "expires_at": world.clock.now + timedelta(days=300),
        **options,
    }
    party = options.pop("party", None) or person(index)
    item = entry(party, **{"case_number": f"（2026）虚02执{index}号", **options})
    answer = world.runtime.registry.restrictions.submit(item, authority="court", actor=COURT)
    assert not answer.detail
    return answer.restriction_id


def enter_many(world: World, indices: range) -> list[bytes]:
    """The same for many at once."""
    term = {
        "effective_at": world.clock.now,
        "expires_at": world.clock.now + timedelta(days=300),
    }
    items = [
        entry(person(index), case_number=f"（2026）虚02执{index}号", **term) for index in indices
    ]
    answers = world.runtime.registry.restrictions.submit_many(items, authority="court", actor=COURT)
    assert not any(answer.detail for answer in answers)
    return [answer.restriction_id for answer in answers]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# Going on


def test_who_was_touched_is_read_and_nobody_else(world: World) -> None:
    assert world.compare().touched == 0
    enter(world, SEEDED)
    enter(world, 0)
    built = world.compare()
    assert (built.touched, built.why, built.subjects, built.change) == (
        2,
        "",
        SEEDED + 1,
        IdentifierChange(1, 0),
    )
    assert world.compare().touched == 0


def test_a_build_that_was_not_published_is_gone_on_from(world: World) -> None:
    restriction = enter(world, SEEDED)
    build(world.runtime, AVIATION)
    world.runtime.registry.restrictions.end(restriction, EndKind.REVOKE, "x", actor=COURT)
    built = world.compare()
    assert (built.touched, built.change) == (1, IdentifierChange(0, 1))
    world.publish()
    assert world.compare().touched == 0


def test_each_audience_has_its_own_place_in_the_log(world: World) -> None:
    enter(world, SEEDED)
    assert build(world.runtime, "rail").touched is None
    enter(world, SEEDED + 1)
    assert (world.compare("rail").touched, world.compare().touched) == (1, 2)


def test_persons_follow_their_organisation_and_their_link(world: World) -> None:
    firm = enter(world, 0, party=organisation(0), responsible=(responsible(50), responsible(51)))
    assert world.compare().touched == 3
    with world.runtime.registry.store.database.write() as session:
        session.execute(
            update(ResponsibleLinkRow).values(valid_until=world.clock.now + timedelta(days=2))
        )
    build(world.runtime, AVIATION, from_scratch=True)
    world.clock.turn(days=1)
    assert world.compare().touched == 0
    world.clock.turn(days=1)
    built = world.compare()
    assert (built.touched, built.change) == (2, IdentifierChange(0, 2))
    world.runtime.registry.restrictions.end(firm, EndKind.REVOKE, "x", actor=COURT)
    built = world.compare()
    assert (built.touched, built.change) == (3, IdentifierChange(0, 1))


def test_time_alone_touches_who_comes_within_the_horizon_or_whose_term_or_exemption_ends(
    world: World,
) -> None:
    now = world.clock.now
    enter(world, 50, effective_at=now + timedelta(days=10), expires_at=now + timedelta(days=20))
    enter(world, 51, expires_at=now + timedelta(days=4))
    exempted = enter(world, 52)
    until = now + timedelta(days=5)
    world.runtime.registry.restrictions.exempt(
        exempted, measures=(), valid=(now, until), why=("就医", "hospital"), actor=COURT
    )
    world.compare()
    for days, touched, change in (
        (3, 1, IdentifierChange(1, 0)),
        (4, 1, IdentifierChange(0, 1)),
        (5, 1, IdentifierChange(0, 0)),
        (6, 0, IdentifierChange(0, 0)),
        (20, 1, IdentifierChange(0, 1)),
    ):
        world.clock.now = now + timedelta(days=days)
        built = world.compare()
        assert (built.touched, built.change) == (touched, change), days


def bucket_bits(world: World) -> int:
    return listing_pb2.ListingParameters.FromString(world.files()["parameters"]).buckets.bits


def test_a_listing_that_grows_takes_more_buckets_and_fewer_when_it_shrinks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "LEAST_NUMBERS", 3)
    monkeypatch.setattr("tipstaff_sdk.packs.builder.RECORDS_A_BUCKET", 3)
    world.compare()
    before = bucket_bits(world)
    world.publish()
    ids = enter_many(world, range(100, 500))
    assert world.compare().touched == 400
    grown = bucket_bits(world)
    world.publish()
    for restriction in ids:
        world.runtime.registry.restrictions.end(restriction, EndKind.REVOKE, "x", actor=COURT)
    assert world.compare().touched == 400
    assert grown > bucket_bits(world) >= before


# What is kept


def test_it_is_kept_for_nobody_else_and_nothing_of_before_stays(world: World) -> None:
    world.kept().joinpath("rows-0123456789abcdef").write_bytes(b"of a killed build")
    enter(world, SEEDED)
    build(world.runtime, AVIATION)
    assert stat.S_IMODE(world.kept().stat().st_mode) == 0o700
    names = sorted(path.name.partition("-")[0] for path in world.kept().iterdir())
    assert names == ["pack", "rows", "state"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in world.kept().iterdir()} == {0o600}
    assert not world.kept().with_suffix("").exists()


def damaged(file: str, change: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def damage(world: World) -> None:
        path = world.kept() / "state" if file == "state" else world.kept_file(file)
        path.write_bytes(change(path.read_bytes()))

    return damage


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def rewritten(**changes: Any) -> Callable[[World], None]:
    """The state with other contents and the right checksum."""

    def change(content: bytes) -> bytes:
        state = json.loads(content.partition(b"\n")[2]) | changes
        body = json.dumps(
            {name: value for name, value in state.items() if value is not None}
        ).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    return damaged("state", change)


def exchanged(world: World) -> None:
    """A whole pack of another build, named rightly: the rows do not fit it."""
    other = make_world()
    build(other.runtime, "rail")
    restrictions = [enter(world, index, case_number="x") for index in range(3)]
    assert restrictions
    content = other.kept_file("pack", "rail").read_bytes()
    other.close()
    world.kept_file("pack").write_bytes(content)
    name = world.kept_file("pack").name
    rewritten(
        pack={"name": name, "length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    )(world)


DAMAGES: dict[str, tuple[Callable[[World], object], str, bool]] = {
    "nothing there": (lambda world: shutil.rmtree(world.kept()), "no build to go on from", False),
    "state gone": (
        lambda world: (world.kept() / "state").unlink(),
        "no build to go on from",
        False,
    ),
    "state empty": (damaged("state", lambda _: b""), "state is damaged", True),
    "state cut off": (damaged("state", lambda content: content[:-1]), "state is damaged", True),
    "state with a flipped bit": (damaged("state", flipped), "state is damaged", True),
    "state grown": (damaged("state", lambda content: content + b" "), "state is damaged", True),
    "state without end": (damaged("state", lambda content: content * 200), "larger than any", True),
    "state of a later version": (rewritten(version=2), "another program's", False),
    "state with a field more": (rewritten(more=1), "another program's", False),
    "state with a field less": (rewritten(grounds=None), "another program's", False),
    "state that names a file elsewhere": (
        rewritten(rows={"name": "../x", "length": 0, "sha256": "0" * 64}),
        "another program's",
        False,
    ),
    "state with a negative count": (rewritten(subjects=-1), "another program's", False),
    "state with a moment without zone": (
        rewritten(built_at="2026-01-01T00:00:00"),
        "another program's",
        False,
    ),
    "rows gone": (lambda world: world.kept_file("rows").unlink(), "missing or cut off", True),
    "rows cut off": (damaged("rows", lambda content: content[:-44]), "missing or cut off", True),
    "rows with a flipped bit": (damaged("rows", flipped), "rows are", True),
    "rows turned round": (
        damaged("rows", lambda content: content[44:] + content[:44]),
        "rows are",
        True,
    ),
    "pack gone": (lambda world: world.kept_file("pack").unlink(), "missing or cut off", True),
    "pack grown": (damaged("pack", lambda content: content + b"0"), "missing or cut off", True),
    "pack with a flipped bit": (damaged("pack", flipped), "pack is damaged", True),
    "pack of another listing": (exchanged, "does not fit", True),
    "rows that count other records": (rewritten(records=7), "other records", True),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_leads_to_a_build_from_scratch(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    damage, reason, warned = DAMAGES[name]
    enter(world, 0)
    damage(world)
    built = world.compare()
    assert built.touched is None
    assert reason in built.why
    assert ("build_state_unusable" in warnings(caplog)) is warned
    enter(world, 1)
    assert world.compare().touched == 1
    world.publish()


def rule_changed(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(incremental, "RULES", 2)


def horizon_changed(world: World, patch: pytest.MonkeyPatch) -> None:
    config = world.runtime.config
    section = config.registry.model_copy(update={"listing_horizon_days": 3})
    reopened(world, {"registry": section})


def reopened(world: World, changes: dict[str, object]) -> None:
    clock = world.clock
    config = world.runtime.config.model_copy(update=changes)
    world.runtime.close()
    world.runtime = Deployment(config, clock=clock)


def always(world: World, patch: pytest.MonkeyPatch) -> None:
    reopened(
        world,
        {
            "publication": world.runtime.config.publication.model_copy(
                update={"from_scratch_interval_seconds": 0}
            )
        },
    )


def a_week(world: World, patch: pytest.MonkeyPatch) -> None:
    always_in_a_week = {"from_scratch_interval_seconds": 7 * 86_400}
    reopened(
        world, {"publication": world.runtime.config.publication.model_copy(update=always_in_a_week)}
    )
    world.clock.turn(days=6)
    assert build(world.runtime, AVIATION).touched == 0
    world.clock.turn(days=1)


def administration_changed(world: World, patch: pytest.MonkeyPatch) -> None:
    document = Administration.load().document().replace("air", "Air")
    registry = world.runtime.registry
    set_administration(registry.store, Administration.from_document(document, "x"), actor=OPERATOR)


def acted(world: World, *act: tuple[str, tuple[str, bytes]]) -> None:
    registry = world.runtime.registry
    with registry.store.database.write() as session:
        log = AuditLog(session, registry.store.vault)
        for name, subject in act:
            log.add(world.clock(), OPERATOR, name, subject)
        log.flush()


def key_of_the_same_number(world: World, patch: pytest.MonkeyPatch) -> None:
    """The database comes back from a backup, and the epoch is made anew: same number, another key,
    and no act in between.
    """
    runtime = world.runtime
    path = runtime.config.folder / "registry.db"
    backup = path.read_bytes()
    runtime.epochs.rotate(AVIATION, timedelta(days=7))
    assert build(runtime, AVIATION).epoch == 2
    runtime.close()
    path.write_bytes(backup)
    world.runtime = Deployment(runtime.config, clock=world.clock)
    world.runtime.epochs.rotate(AVIATION, timedelta(days=7))


def restored(world: World, patch: pytest.MonkeyPatch) -> None:
    """The same number of acts as before, but others."""
    runtime = world.runtime
    path = runtime.config.folder / "registry.db"
    backup = path.read_bytes()
    enter(world, 60)
    assert build(runtime, AVIATION).touched == 1
    runtime.close()
    path.write_bytes(backup)
    world.runtime = Deployment(runtime.config, clock=world.clock)
    enter(world, 61)


def shortened(world: World, patch: pytest.MonkeyPatch) -> None:
    """A backup that ends before the place that was kept."""
    runtime = world.runtime
    path = runtime.config.folder / "registry.db"
    backup = path.read_bytes()
    enter(world, 60)
    build(runtime, AVIATION)
    runtime.close()
    path.write_bytes(backup)
    world.runtime = Deployment(runtime.config, clock=world.clock)


def altered(world: World, patch: pytest.MonkeyPatch) -> None:
    first = enter(world, 60)
    enter(world, 61)
    with world.runtime.registry.store.database.write() as session:
        session.execute(
            update(AuditRow).where(AuditRow.object_id == first).values(object_id=bytes(16))
        )


def missing(world: World, patch: pytest.MonkeyPatch) -> None:
    first = enter(world, 60)
    enter(world, 61)
    with world.runtime.registry.store.database.write() as session:
        session.execute(delete(AuditRow).where(AuditRow.object_id == first))


def many_acts(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tipstaff_server.listing.changed_subjects.MANY_ENTRIES", 0)
    acted(world, *[("SEARCH", ("registry", b""))] * SEEDED)
    assert build(world.runtime, AVIATION).touched == 0
    acted(world, *[("SEARCH", ("registry", b""))] * (SEEDED + 1))


def many_subjects(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(incremental, "MANY_TOUCHED", 0)
    for bound in (SEEDED // 4, SEEDED // 4 + 1):
        assert build(world.runtime, AVIATION).why == ""
        for index in range(bound):
            enter(world, index, case_number=f"（2026）虚03执{bound}{index}号")


GROUNDS: dict[str, tuple[Callable[[World, pytest.MonkeyPatch], object], str, bool]] = {
    "another program": (rule_changed, "the program is another one", False),
    "another horizon": (horizon_changed, "the horizon is another one", False),
    "another epoch": (
        lambda world, _: world.runtime.epochs.rotate(AVIATION, timedelta(days=7)),
        "the epoch is another one",
        False,
    ),
    "another key of the same epoch": (
        key_of_the_same_number,
        "the epoch key is another one",
        False,
    ),
    "another administration": (administration_changed, "the administration is another one", False),
    "as configured, always": (always, "as old as configured", False),
    "as configured, weekly": (a_week, "as old as configured", False),
    "a clock that went back": (
        lambda world, _: world.clock.turn(hours=-1),
        "the clock went back",
        True,
    ),
    "an unknown act": (
        lambda world, _: acted(world, ("RENAME", ("subject", bytes(16)))),
        "RENAME on a subject",
        False,
    ),
    "a known act on something else": (
        lambda world, _: acted(world, ("AMEND", ("list", b"x"))),
        "AMEND on a list",
        False,
    ),
    "a restored database": (restored, "the database was restored", True),
    "a restored database without the place": (shortened, "the database was restored", True),
    "an altered audit entry": (altered, "a gap or an altered entry", True),
    "a missing audit entry": (missing, "a gap or an altered entry", True),
    "a flood of acts": (many_acts, "more happened since the last build", False),
    "a flood of subjects": (many_subjects, "much of the registry was touched", False),
}


@pytest.mark.parametrize("name", GROUNDS)
def test_what_is_not_certain_leads_to_a_build_from_scratch(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prepare, reason, warned = GROUNDS[name]
    prepare(world, monkeypatch)
    built = world.compare()
    assert built.touched is None
    assert reason in built.why
    assert ("build_state_unusable" in warnings(caplog)) is warned


def test_acts_without_effect_on_records_touch_nobody(world: World) -> None:
    acted(
        world,
        *(
            (act, (kind, b"x"))
            for (kind, act), touches in ACTS.items()
            if touches is Touches.NOTHING
        ),
    )
    assert world.compare().touched == 0


def test_acts_on_a_subject_touch_it_and_whoever_answers_or_answered_for_it(world: World) -> None:
    enter(world, 0, party=organisation(0), responsible=(responsible(50), responsible(51)))
    world.compare()
    with world.runtime.registry.store.database.write() as session:
        firm = session.scalars(select(ResponsibleLinkRow.organisation_id)).first() or b""
        session.execute(update(ResponsibleLinkRow).values(valid_until=world.clock.now))
    for act in (
        act
        for (kind, act), touches in ACTS.items()
        if (kind, touches) == ("subject", Touches.SUBJECT)
    ):
        acted(world, (act, ("subject", firm)))
        built = build(world.runtime, AVIATION)
        assert (built.touched, built.why) == (3, ""), act
    world.compare()


def test_every_event_of_a_restriction_is_understood() -> None:
    assert all(("restriction", event.value) in ACTS for event in Event)


def test_somebody_asks_for_it_and_the_history_says_so(world: World) -> None:
    built = build(world.runtime, AVIATION, from_scratch=True)
    assert (built.touched, built.why) == (None, "it was asked for")
    on_it = build(world.runtime, AVIATION)
    with world.runtime.registry.store.database.read() as session:
        rows = [session.get(ListingBuildRow, (AVIATION, made.version)) for made in (built, on_it)]
    details = [json.loads(row.detail) for row in rows if row]
    assert [(detail["touched"], detail["why"]) for detail in details] == [
        (None, "it was asked for"),
        (0, ""),
    ]


def forget_a_name(world: World) -> None:
    """Behind the registry's back: no act says so."""
    with world.runtime.registry.store.database.write() as session:
        subject = session.scalar(select(NameRow.subject_id).limit(1))
        session.execute(delete(NameRow).where(NameRow.subject_id == subject))


def test_what_no_act_says_is_refused_by_the_sign_off_and_then_everybody_is_read(
    world: World,
) -> None:
    forget_a_name(world)
    assert build(world.runtime, AVIATION).touched == 0
    with pytest.raises(SignOffRefusedError):
        sign_off(world.runtime, AVIATION)
    built = build(world.runtime, AVIATION)
    assert (built.why, built.records) == ("the sign-off refused the last listing", SEEDED - 1)


def test_somebody_without_a_name_is_not_gone_on_from(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    forget_a_name(world)
    build(world.runtime, AVIATION, from_scratch=True)
    assert "build_not_kept" in warnings(caplog)
    assert not list(world.kept().iterdir())
    assert build(world.runtime, AVIATION).why == "there is no build to go on from"


# Faults


@pytest.mark.parametrize("mode", ["kill", "full", "eio", "fsync"])
def test_a_fault_at_every_step_of_keeping_leaves_what_can_be_gone_on_from(
    world: World, mode: str
) -> None:
    at, fired, outcomes = 0, True, set[bool]()
    while fired:
        at += 1
        enter(world, 100 + at)
        disk = FaultyDisk(mode, at)
        with suppress(KilledError):
            build(world.runtime, AVIATION, disk=disk)
        fired = disk.fired
        built = world.compare()
        assert built.touched in {0, 1}, built.why
        outcomes.add(built.touched == 1)
    assert False in outcomes
    assert True in outcomes


@pytest.mark.parametrize(
    "step",
    [
        "seal_subjects",
        "_write_filter",
        "_parameters",
        "make_deltas",
        "record_build",
        "_keep",
        "describe",
    ],
)
def test_killed_between_its_steps_a_build_leaves_what_can_be_gone_on_from(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    enter(world, 50)

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(builder, step, killed)
        with pytest.raises(KilledError):
            build(world.runtime, AVIATION)
    enter(world, 51)
    assert world.compare().touched == 2
    world.publish()


def test_a_build_that_cannot_be_proposed_changes_nothing_of_what_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(world, 50)
    before = {path.name: path.read_bytes() for path in world.kept().iterdir()}
    monkeypatch.setattr(builder, "ATTEMPTS", 0)
    with pytest.raises(PublicationError, match="keep coming in"):
        build(world.runtime, AVIATION)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in world.kept().iterdir()} == before
    assert world.compare().touched == 1


def test_a_listing_on_the_last_build_is_signed_off_like_any_other(world: World) -> None:
    world.publish()
    built: list[Built] = []
    for number in range(3):
        world.runtime.registry.restrictions.end(
            enter(world, 50 + number), EndKind.RELEASE, "x", actor=COURT
        )
        enter(world, 60 + number)
        built.append(build(world.runtime, AVIATION))
        world.publish()
    assert [made.touched for made in built] == [2, 2, 2]


def test_every_act_says_what_it_changes_or_is_known_to_change_everything() -> None:
    """A new act that nobody thought about would cost a build from scratch, and be seen here."""
    everything = {AuditAct.ADMINISTRATION, AuditAct.STRETCH_TAKES_OVER}
    assert {act for _, act in ACTS} == set(AuditAct) - everything
