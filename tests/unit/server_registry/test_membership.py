"""Providers come, go and move; what the administration may leave out; what differs between its
versions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.registry import AIRLINE, COURT, NOW, OPERATOR, World, entry, person, submit
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.administration.providers import Providers
from tipstaff_server.administration.versions import differences, load_version, versions
from tipstaff_server.audit.log import verify
from tipstaff_server.errors import (
    AdministrationError,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
)
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.restrictions.transitions import EndKind

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Administration.load()
BY = {"actor": OPERATOR}


def changed(change: Callable[[Any], object]) -> Administration:
    values = json.loads(SHIPPED.document())
    change(values)
    return Administration.from_document(json.dumps(values), "changed")


def without(kind: str, name: str) -> Administration:
    """The shipped administration without one thing, and without whatever names it."""

    def change(values: Any) -> None:
        values[kind] = [
            item for item in values[kind] if name not in {item.get("id"), item.get("code")}
        ]
        if kind == "measures":
            for items, field in (
                ("authorities", "entitlements"),
                ("lists", "default_measures"),
                ("audiences", "measures"),
            ):
                for item in values[items]:
                    item[field] = [code for code in item.get(field, []) if code != name]
            values["audiences"] = [item for item in values["audiences"] if item["measures"]]

    return changed(change)


def load(world: World, administration: Administration) -> int:
    return set_administration(world.store, administration, actor=OPERATOR)


def members(world: World) -> Providers:
    return Providers(world.store)


def test_a_removed_provider_is_not_among_those_that_are_let_in(world: World) -> None:
    world.registry.providers.acknowledge(AIRLINE.id, listing_version=3, relief_sequence=4)
    members(world).remove(AIRLINE.id, "its licence ended", **BY)
    assert world.registry.providers.audiences() == {"rail-1": "rail"}
    assert [(item.provider_id, item.removed_at) for item in members(world).all()] == [
        ("air-1", NOW),
        ("rail-1", None),
    ]
    with pytest.raises(LifecycleError, match="removed already"):
        members(world).remove(AIRLINE.id, "x", **BY)
    with pytest.raises(AdministrationError, match="provider restore"):
        members(world).add(AIRLINE.id, "aviation", **BY)
    members(world).restore(AIRLINE.id, "licence renewed", **BY)
    assert world.registry.providers.audiences()[AIRLINE.id] == "aviation"
    with pytest.raises(LifecycleError, match="not removed"):
        members(world).restore(AIRLINE.id, "x", **BY)
    found = members(world).history(AIRLINE.id)
    assert [(item.act, item.reason) for item in found] == [
        ("ADD_PROVIDER", ""),
        ("REMOVE_PROVIDER", "its licence ended"),
        ("RESTORE_PROVIDER", "licence renewed"),
    ]
    verify(world.registry.store)


def test_a_moved_provider_belongs_to_the_other_audience_and_enforces_nothing_of_it_yet(
    world: World,
) -> None:
    world.registry.providers.acknowledge(AIRLINE.id, listing_version=3, relief_sequence=4)
    members(world).move(AIRLINE.id, "rail", "now runs trains", **BY)
    assert world.registry.providers.audiences() == {"air-1": "rail", "rail-1": "rail"}
    assert [item.act for item in members(world).history(AIRLINE.id)] == [
        "ADD_PROVIDER",
        "MOVE_PROVIDER",
    ]
    with pytest.raises(LifecycleError, match="already"):
        members(world).move(AIRLINE.id, "rail", "x", **BY)
    with pytest.raises(NotFoundError, match="no audience"):
        members(world).move(AIRLINE.id, "space", "x", **BY)
    with pytest.raises(AdministrationError, match="provider move"):
        members(world).add(AIRLINE.id, "aviation", **BY)


def test_who_is_not_known_is_not_found_and_a_reason_is_needed(world: World) -> None:
    for act in (members(world).remove, members(world).restore):
        with pytest.raises(NotFoundError, match="provider list"):
            act("nobody", "x", **BY)
        with pytest.raises(InvalidRequestError, match="reason"):
            act(AIRLINE.id, " ", **BY)
    with pytest.raises(NotFoundError):
        members(world).history("nobody")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (
            "lists",
            "joint-discipline",
            (
                "list 'joint-discipline' is left out, but 2 restrictions that rest on it have not"
                " ended"
            ),
        ),
        ("authorities", "court", "authority 'court' is left out, but 2 restrictions"),
        ("measures", "AIR_TRAVEL", "measure 'AIR_TRAVEL' is left out, but 2 restrictions"),
        ("audiences", "aviation", "audience 'aviation' is left out, but 1 providers belong to it"),
    ],
)
def test_what_something_rests_on_cannot_be_left_out(
    world: World, kind: str, name: str, said: str
) -> None:
    restrictions = [submit(world, entry(person(index))) for index in range(2)]
    with pytest.raises(AdministrationError, match=said) as refused:
        load(world, without(kind, name))
    assert "nothing was changed" in str(refused.value)
    assert load(world, SHIPPED) == 1
    for restriction in restrictions:
        world.registry.restrictions.end(restriction, EndKind.REVOKE, "x", actor=COURT)
    members(world).remove(AIRLINE.id, "x", **BY)
    assert load(world, without(kind, name)) == 2
    assert list(ListingReader(world.registry.store).subjects("rail", NOW)) == []
    verify(world.registry.store)


def test_a_draft_and_a_suspended_one_rest_on_their_list_too(world: World) -> None:
    restriction = submit(world, entry())
    world.registry.disputes.open(restriction, "x", request_id=bytes(16), actor=AIRLINE)
    with pytest.raises(AdministrationError, match="1 restrictions"):
        load(world, without("lists", "joint-discipline"))


def test_versions_are_kept_with_who_loaded_them_and_can_be_compared(world: World) -> None:
    def change(values: Any) -> None:
        next(item for item in values["lists"] if item["id"] == "exit-ban").update(
            approval="ONE_PERSON", notice_days=5
        )
        values["authorities"] = [item for item in values["authorities"] if item["id"] != "customs"]
        values["audiences"].append(
            {"id": "chain", "title": {"zh": "连锁", "en": "Chain"}, "measures": ["STAR_HOTEL"]}
        )
        values["audiences"][0]["measures"].append("TOURISM")

    assert load(world, changed(change)) == 2
    found = versions(world.store)
    assert [(item.version, item.actor) for item in found] == [
        (1, str(OPERATOR)),
        (2, str(OPERATOR)),
    ]
    old, new = load_version(world.store, 1), load_version(world.store)
    assert old.digest() == found[0].digest == SHIPPED.digest()
    assert differences(old, new) == [
        "- authority customs",
        "~ list exit-ban: notice_days: 0 -> 5",
        '~ list exit-ban: approval: "TWO_PERSONS" -> "ONE_PERSON"',
        "~ audience aviation: measures: +TOURISM",
        "+ audience chain",
    ]
    assert differences(new, new) == []
    with pytest.raises(NotFoundError, match="administration history"):
        load_version(world.store, 9)
