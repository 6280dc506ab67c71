"""A catalogue that drops a measure in use: refused, and where it comes nevertheless, nobody is
denied by it.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.support.deployment import Deployment
from tests.support.registry import COURT, OPERATOR, entry, person
from tipstaff_sdk import MeasureNotCoveredError, Reason, Verdict
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.errors import AdministrationError
from tipstaff_server.listing import publish as publishing

LISTED, CLEAR = person(0), person(1)


def without(code: str) -> Administration:
    """The administration that comes with the program, less a measure and all that refers to it."""
    values = json.loads(Administration.load().document())
    values["measures"] = [item for item in values["measures"] if item["code"] != code]
    for group, field in (
        ("authorities", "entitlements"),
        ("lists", "default_measures"),
        ("audiences", "measures"),
    ):
        for item in values[group]:
            item[field] = [one for one in item.get(field, []) if one != code]
    return Administration.from_document(json.dumps(values), "without one")


def enter(deployment: Deployment) -> None:
    now = deployment.clock.now
    term = {"effective_at": now - timedelta(days=1), "expires_at": now + timedelta(days=300)}
    item = entry(LISTED, measures=("STAR_HOTEL", "TOURISM"), **term)
    assert deployment.runtime.registry.restrictions.submit(
        item, authority="court", actor=COURT
    ).restriction_id


def reason(deployment: Deployment, measure: str, party: object = LISTED) -> Reason:
    assert party in (LISTED, CLEAR)
    who = LISTED if party is LISTED else CLEAR
    service = {"stars": 4} if measure == "STAR_HOTEL" else None
    return deployment.screener.check(
        who.identifiers[0], name=who.names[0], measure=measure, service=service
    ).reason


def test_a_measure_in_use_that_the_catalogue_drops_denies_nobody_and_the_others_go_on() -> None:
    with Deployment("hospitality") as deployment:
        runtime, now = deployment.runtime, deployment.clock.now
        enter(deployment)
        deployment.publish()
        deployment.screener.sync()
        assert [reason(deployment, measure) for measure in ("TOURISM", "STAR_HOTEL")] == [
            Reason.IN_FORCE
        ] * 2

        # The registry does not let go of it.
        with pytest.raises(AdministrationError, match="'TOURISM' is left out, but 1 restrictions"):
            set_administration(runtime.registry.store, without("TOURISM"), actor=OPERATOR)
        # Signed by the targets keys nevertheless: a person looks, and who is clear is clear.
        dropped = (
            without("TOURISM")
            .catalogue(version=2, made_at=now)
            .SerializeToString(deterministic=True)
        )
        runtime.repository.set_catalogue(dropped, runtime.keys)
        deployment.sign_again()
        deployment.screener.sync()
        assert reason(deployment, "TOURISM") is Reason.UNCONFIRMED
        assert Reason.UNCONFIRMED.verdict is Verdict.REVIEW
        assert reason(deployment, "TOURISM", CLEAR) is Reason.NOT_LISTED
        assert reason(deployment, "STAR_HOTEL") is Reason.IN_FORCE
        # The registry's own goes out with the next publication.
        assert publishing.refresh_catalogue(runtime)
        deployment.sign_again()
        deployment.screener.sync()
        assert [reason(deployment, measure) for measure in ("TOURISM", "STAR_HOTEL")] == [
            Reason.IN_FORCE
        ] * 2


def test_a_measure_that_the_audience_no_longer_enforces_is_a_wrong_call_from_the_next_listing_on() -> (
    None
):
    with Deployment("hospitality") as deployment:
        runtime = deployment.runtime
        enter(deployment)
        deployment.publish()
        deployment.screener.sync()
        values = json.loads(Administration.load().document())
        for audience in values["audiences"]:
            audience["measures"] = [code for code in audience["measures"] if code != "TOURISM"]
        narrower = Administration.from_document(json.dumps(values), "narrower")
        set_administration(runtime.registry.store, narrower, actor=OPERATOR)
        assert publishing.refresh_catalogue(runtime)
        deployment.sign_again()
        deployment.screener.sync()
        assert reason(deployment, "TOURISM") is Reason.IN_FORCE  # the listing in use still says so
        deployment.publish()
        deployment.screener.sync()
        with pytest.raises(MeasureNotCoveredError):
            reason(deployment, "TOURISM")
        assert reason(deployment, "STAR_HOTEL") is Reason.IN_FORCE
