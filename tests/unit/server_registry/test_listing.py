"""What a builder reads: who is visible to whom, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update

from tests.support.registry import (
    COURT,
    NOW,
    World,
    entry,
    listed,
    make_world,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.sealing import Stretch
from tipstaff_server.errors import NotFoundError, VaultDataError
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.unit import Rules
from tipstaff_server.storage.models import ResponsibleLinkRow

if TYPE_CHECKING:
    from pathlib import Path


def test_a_record_holds_what_the_audience_enforces_and_nothing_else(world: World) -> None:
    restriction = submit(
        world,
        entry(
            measures=("AIR_TRAVEL", "LOAN_PRICING", "RAIL_HIGH_CLASS"),
            decided_by="示例法院（虚构）",
        ),
    )
    one = person(0)
    air = listed(world)[one.identifiers[0]]
    assert air.names == (canonical_name(one.names[0]),)
    record = air.restrictions[0]
    assert record.restriction_id == restriction
    assert list(record.measures) == ["AIR_TRAVEL"]
    assert record.authority_id == "court"
    assert record.authority_name.zh == "示例法院（虚构）"
    assert record.authority_name.en.endswith("示例法院（虚构）")
    assert record.legal_basis == "国发〔2016〕33号"
    assert record.effective_at.ToDatetime(NOW.tzinfo) == NOW - timedelta(days=1)
    assert record.expires_at.ToDatetime(NOW.tzinfo) == NOW + timedelta(days=300)
    assert record.dispute.suspends
    assert list(listed(world, "banking")[one.identifiers[0]].restrictions[0].measures) == [
        "LOAN_PRICING"
    ]
    assert listed(world, "border") == {}
    with pytest.raises(NotFoundError, match="aviation"):
        list(ListingReader(world.registry.store).subjects("space", NOW))


def test_the_stretched_identifier_is_the_sdk_s(world: World) -> None:
    submit(world, entry())
    item = listed(world)[person(0).identifiers[0]].identifiers[0]
    assert isinstance(world.registry.stretch, Stretch)
    assert item.stretched == world.registry.stretch.stretch(item.identifier)


def test_a_restriction_is_visible_from_its_notice_on_within_the_horizon_until_its_end(
    world: World,
) -> None:
    submit(world, entry(person(1), effective_at=NOW + timedelta(days=7)))
    submit(world, entry(person(2), effective_at=NOW + timedelta(days=7, seconds=1)))
    submit(world, entry(person(3), expires_at=NOW + timedelta(seconds=1)))
    assert set(listed(world)) == {person(1).identifiers[0], person(3).identifiers[0]}
    world.clock.turn(seconds=1)
    assert set(listed(world)) == {person(1).identifiers[0], person(2).identifiers[0]}


def test_an_organisation_s_restriction_reaches_its_people_with_their_capacity(world: World) -> None:
    org = organisation(0, "示例商贸有限公司")
    restriction = submit(world, entry(org, responsible=(responsible(1, 1), responsible(2, 3))))
    found = listed(world)
    own = found[org.identifiers[0]].restrictions[0]
    assert (own.capacity, own.organisation_name) == (0, "")
    for index, capacity in ((1, 1), (2, 3)):
        subject = found[person(index).identifiers[0]]
        record = subject.restrictions[0]
        assert (record.restriction_id, record.capacity, record.organisation_name) == (
            restriction,
            capacity,
            "示例商贸有限公司",
        )
        assert subject.subject_type == 1
    world.registry.restrictions.end(restriction, EndKind.REPAIR, "paid", actor=COURT)
    assert listed(world) == {}


def test_it_leaves_them_when_they_leave_the_post(world: World) -> None:
    submit(world, entry(organisation(0), responsible=(responsible(1), responsible(2))))
    with world.database.write() as session:
        session.execute(update(ResponsibleLinkRow).values(valid_until=NOW + timedelta(days=1)))
    assert len(listed(world)) == 3
    world.clock.turn(days=1)
    assert set(listed(world)) == {organisation(0).identifiers[0]}


def test_own_and_inherited_restrictions_stand_side_by_side_sorted(world: World) -> None:
    own = submit(world, entry(person(1)))
    inherited = [
        submit(
            world, entry(organisation(index), case_number=f"{index}", responsible=(responsible(1),))
        )
        for index in range(4)
    ]
    ids = [record.restriction_id for record in listed(world)[person(1).identifiers[0]].restrictions]
    assert ids == sorted([own, *inherited])


def test_pages_give_the_same_as_one_read_whatever_their_size(tmp_path: Path) -> None:
    world = make_world(tmp_path, page_size=1)
    for index in range(23):
        submit(
            world,
            entry(organisation(index), responsible=(responsible(index),) if index % 2 else ()),
        )
    seen = []
    for size in (1, 2, 7, 1000):
        world.registry.store.rules = Rules(page_size=size)
        found = list(ListingReader(world.registry.store).subjects("aviation", NOW))
        seen.append(
            [
                [record.SerializeToString(deterministic=True) for record in subject.restrictions]
                for subject in found
            ]
        )
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert len(seen[0]) == 23 + 11
    world.registry.close()


def test_a_build_under_way_holds_up_no_act(tmp_path: Path) -> None:
    world = make_world(tmp_path, page_size=2)
    ids = [submit(world, entry(person(index))) for index in range(10)]
    reading = ListingReader(world.registry.store).subjects("aviation", NOW)
    head = world.registry.relief.head()
    seen = [next(reading)]
    for item in ids:
        world.registry.restrictions.end(item, EndKind.RELEASE, "x", actor=COURT)
    seen += list(reading)
    lifted = {lift.restriction_id for lift in world.registry.relief.since("aviation", head)}
    # Whatever was read before its lift is lifted behind the head that was read first.
    assert {record.restriction_id for subject in seen for record in subject.restrictions} <= lifted
    world.registry.close()


def test_an_altered_value_stops_the_build_instead_of_listing_somebody_else(world: World) -> None:
    submit(world, entry(person(0)))
    submit(world, entry(person(1)))
    with world.database.write() as session:
        session.execute(
            text(
                "UPDATE identifiers SET value = (SELECT value FROM identifiers ORDER BY value DESC"
                " LIMIT 1)"
            )
        )
    with pytest.raises(VaultDataError):
        listed(world)
