"""The administration file: what comes with the program, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.registry import COURT, NOW, OPERATOR, World, entry, submit
from tipstaff.v1 import catalogue_pb2
from tipstaff_sdk.errors import InvalidServiceError
from tipstaff_sdk.listing.catalogue import Catalogue
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.audit.log import verify
from tipstaff_server.errors import AdministrationError, EntryCode, NotFoundError
from tipstaff_server.storage.models import AuthorityRow, DisputeEffect, MeasureRow
from tipstaff_server.vault.store import Store

SHIPPED = Administration.load()


def changed(change: Any) -> bytes:
    """The shipped file, changed."""
    values = json.loads(SHIPPED.document())
    change(values)
    return json.dumps(values).encode()  # JSON is YAML


def test_the_shipped_file_has_the_measures_of_the_policy() -> None:
    codes = {item.code for item in SHIPPED.measures}
    assert codes >= {
        "AIR_TRAVEL",
        "RAIL_HIGH_CLASS",
        "SHIP_HIGH_CLASS",
        "STAR_HOTEL",
        "LOAN_PRICING",
        "EXIT",
        "REAL_ESTATE",
        "TOURISM",
    }
    assert codes >= {"INSURANCE_PREMIUM", "GREEN_CHANNEL"}
    assert {item.id for item in SHIPPED.audiences} >= {
        "aviation",
        "rail",
        "hospitality",
        "banking",
        "border",
        "incentives",
    }
    assert {code for item in SHIPPED.audiences for code in item.measures} == codes
    effects = {item.id: item.dispute_effect for item in SHIPPED.lists}
    assert effects["joint-discipline"] is DisputeEffect.SUSPEND
    assert effects["court-high-consumption"] is DisputeEffect.CONTINUE


def test_the_catalogue_is_deterministic_and_the_sdk_takes_it() -> None:
    made = [
        SHIPPED.catalogue(version=3, made_at=NOW).SerializeToString(deterministic=True)
        for _ in range(2)
    ]
    again = Administration.parse(SHIPPED.document().encode()).catalogue(version=3, made_at=NOW)
    assert made[0] == made[1] == again.SerializeToString(deterministic=True)
    message = catalogue_pb2.Catalogue.FromString(made[0])
    assert [item.code for item in message.measures] == sorted(
        item.code for item in message.measures
    )
    assert Catalogue.from_bytes(made[0]).measure("AIR_TRAVEL").code == "AIR_TRAVEL"


@pytest.mark.parametrize(
    ("train_class", "seat", "covered"),
    [
        ("G", "SECOND", True),
        ("G", "NO_SEAT", True),
        ("D", "SECOND", False),
        ("D", "FIRST", True),
        ("C", "BUSINESS", True),
        ("D", "SOFT_SLEEPER", True),
        ("OTHER", "SOFT_SLEEPER", True),
        ("OTHER", "HARD_SLEEPER", False),
        ("OTHER", "SOFT_SEAT", False),
    ],
)
def test_rail_follows_article_3_of_the_courts_rule(
    train_class: str, seat: str, *, covered: bool
) -> None:
    catalogue = Catalogue.from_bytes(
        SHIPPED.catalogue(version=1, made_at=NOW).SerializeToString(deterministic=True)
    )
    assert (
        catalogue.measure("RAIL_HIGH_CLASS").covers({"train_class": train_class, "seat": seat})
        is covered
    )
    with pytest.raises(InvalidServiceError):
        catalogue.measure("RAIL_HIGH_CLASS").covers({"train_class": train_class})


@pytest.mark.parametrize(("stars", "covered"), [(0, False), (1, True), (5, True)])
def test_hotels_are_covered_from_one_star(stars: int, *, covered: bool) -> None:
    catalogue = Catalogue.from_bytes(
        SHIPPED.catalogue(version=1, made_at=NOW).SerializeToString(deterministic=True)
    )
    assert catalogue.measure("STAR_HOTEL").covers({"stars": stars}) is covered


CASES = {
    "a measure twice": (
        lambda v: v["measures"].append(v["measures"][0]),
        "measure 'AIR_TRAVEL' is given twice",
    ),
    "an authority twice": (
        lambda v: v["authorities"].append(v["authorities"][0]),
        "authority 'court' is given twice",
    ),
    "an unknown entitlement": (
        lambda v: v["authorities"][0]["entitlements"].append("NO_SUCH"),
        "authority court: no such measure: NO_SUCH",
    ),
    "an unknown default": (
        lambda v: v["lists"][1]["default_measures"].append("NO_SUCH"),
        "list court-dishonest: no such measure",
    ),
    "an unknown audience measure": (
        lambda v: v["audiences"][0]["measures"].append("NO_SUCH"),
        "audience aviation: no such measure",
    ),
    "incentive with restriction": (
        lambda v: v["audiences"][0]["measures"].append("GREEN_CHANNEL"),
        "separate audiences",
    ),
    "one language": (lambda v: v["measures"][0]["title"].pop("en"), r"measures\.0\.title\.en"),
    "an empty text": (
        lambda v: v["measures"][0]["title"].update(en=" "),
        r"measures\.0\.title\.en",
    ),
    "unknown key": (lambda v: v["lists"][0].update(notise_days=1), "unknown key"),
    "unknown force": (lambda v: v["measures"][0].update(force="MAYBE"), r"measures\.0\.force"),
    "bad code": (lambda v: v["measures"][0].update(code="air travel"), r"measures\.0\.code"),
    "bad id": (lambda v: v["audiences"][0].update(id="Aviation!"), r"audiences\.0\.id"),
    "open-ended default term": (
        lambda v: v["lists"][0].update(default_term="P"),
        r"lists\.0\.default_term",
    ),
    "rules that are not total": (
        lambda v: v["measures"][1]["rules"].pop(),
        "last rule must have no condition",
    ),
    "a rule that hides others": (
        lambda v: v["measures"][1]["rules"][0].pop("all_of"),
        "only the last rule",
    ),
    "an unknown attribute": (
        lambda v: v["measures"][1]["rules"][0]["all_of"][0].update(attribute="wagon"),
        "no attribute 'wagon'",
    ),
    "an unknown choice": (
        lambda v: v["measures"][1]["rules"][0]["all_of"][0].update(any_of=["X"]),
        "no such choice: X",
    ),
    "bounds on a choice": (
        lambda v: v["measures"][1]["rules"][0].update(all_of=[{"attribute": "seat", "below": 1}]),
        "bounds are for numbers",
    ),
    "inverted bounds": (
        lambda v: v["measures"][1]["rules"][0].update(
            all_of=[{"attribute": "seat", "below": 1, "at_least": 2}]
        ),
        "at_least has to be less than below",
    ),
    "attributes without rules": (lambda v: v["measures"][1].pop("rules"), "go together"),
    "no measures": (lambda v: v.update(measures=[]), "measures"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_refused_with_the_place(case: str) -> None:
    change, hint = CASES[case]
    with pytest.raises(AdministrationError, match=hint):
        Administration.parse(changed(change))


@pytest.mark.parametrize(
    "text",
    [b"a: 1\na: 2\n", b"x: &a [1]\ny: *a\n", b"- [", b"\xff\xfe", b"[]", b"", b"x" * (5 << 20)],
)
def test_yaml_s_traps_are_refused(text: bytes) -> None:
    with pytest.raises(AdministrationError):
        Administration.parse(text)


def test_the_same_administration_again_changes_nothing(world: World) -> None:
    assert set_administration(world.store, SHIPPED, actor=OPERATOR) == 1
    assert world.registry.catalogue().version == 1


def test_a_changed_one_is_a_new_version_and_retires_what_is_gone(world: World) -> None:
    def change(values: Any) -> None:
        values["authorities"] = [item for item in values["authorities"] if item["id"] != "customs"]
        values["authorities"][0]["entitlements"].remove("AIR_TRAVEL")

    submit(world, entry())
    later = datetime(2026, 6, 1, tzinfo=UTC)
    newer = Administration.parse(changed(change))
    store = Store(world.database, world.vault, lambda: later)
    assert set_administration(store, newer, actor=OPERATOR) == 2
    assert world.registry.catalogue().version == 2
    assert world.registry.catalogue().made_at.ToDatetime(UTC) == later
    with world.database.read() as session:
        retired = session.scalars(
            select(AuthorityRow.id).where(AuthorityRow.retired.is_(True))
        ).all()
        assert (
            session.scalars(select(MeasureRow.code).where(MeasureRow.retired.is_(True))).all() == []
        )
    assert retired == ["customs"]
    refused = world.registry.restrictions.submit(
        entry(case_number="2"), authority="court", actor=COURT
    )
    assert refused.code is EntryCode.MEASURE_NOT_ENTITLED
    assert verify(world.registry.store) > 0


def test_a_provider_belongs_to_one_audience(world: World) -> None:
    add = world.registry.providers.add
    add("air-1", "aviation", actor=OPERATOR)
    with pytest.raises(AdministrationError, match="belongs to audience 'aviation'"):
        add("air-1", "rail", actor=OPERATOR)
    with pytest.raises(NotFoundError, match="no audience 'space'"):
        add("rocket-1", "space", actor=OPERATOR)
