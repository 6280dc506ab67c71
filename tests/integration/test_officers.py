"""An officer leaves, over real sockets: the counter knows within seconds, and the organisation
stays restricted.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.registry import organisation, person
from tests.support.server import BEGAN, make
from tests.support.server_process import command, free_port, publish, serving
from tipstaff.v1 import identity_pb2, registry_pb2, registry_pb2_grpc
from tipstaff_sdk import Screener, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.server_process import Server
    from tipstaff_server.domain.parties import Party

SECONDS, PATIENCE = 20, 60
FIRM, CHIEF, CLERK = organisation(0), person(1), person(2)


def message(party: Party) -> dict[str, Any]:
    return {
        "identifiers": [item.to_proto() for item in party.identifiers],
        "names": list(party.names),
    }


def restrict(stub: registry_pb2_grpc.RegistryServiceStub) -> bytes:
    officers = [
        registry_pb2.ResponsiblePerson(capacity=capacity, **message(who))
        for who, capacity in (
            (CHIEF, identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE),
            (CLERK, identity_pb2.CAPACITY_DIRECTLY_RESPONSIBLE),
        )
    ]
    entry = registry_pb2.RestrictionEntry(
        subject=registry_pb2.Subject(
            type=identity_pb2.SUBJECT_TYPE_ORGANISATION,
            responsible_persons=officers,
            **message(FIRM),
        ),
        list_id="joint-discipline",
        measures=["AIR_TRAVEL"],
        legal_basis="示例规定",
        case_number="（2026）示1号",
    )
    entry.effective_at.FromDatetime(BEGAN)
    entry.expires_at.FromDatetime(BEGAN.replace(year=BEGAN.year + 1))
    request = registry_pb2.SubmitRestrictionsRequest(entry=entry)
    (answer,) = stub.SubmitRestrictions(iter([request]), timeout=SECONDS)
    assert not answer.detail
    return answer.restriction_id


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = make(
        tmp_path_factory.mktemp("officers") / "operator", listen=f"127.0.0.1:{free_port()}"
    )
    with serving(config) as made:
        with made.channel("authorities/court") as channel:
            made.restrictions.append(restrict(registry_pb2_grpc.RegistryServiceStub(channel)))
        publish(config, "aviation")
        yield made


def verdict(screener: Screener, party: Party) -> Verdict:
    return screener.check(party.identifiers[0], name=party.names[0], measure="AIR_TRAVEL").verdict


def wait_for(screener: Screener, party: Party, wanted: Verdict) -> None:
    deadline = time.monotonic() + PATIENCE
    while verdict(screener, party) is not wanted:
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)


def show(running: Server, party: Party) -> registry_pb2.SubjectSummary:
    with running.channel("operator") as channel:
        reference = registry_pb2.SubjectReference(identifier=party.identifiers[0].to_proto())
        request = registry_pb2.GetSubjectRequest(subject=reference)
        return (
            registry_pb2_grpc.RegistryServiceStub(channel)
            .GetSubject(request, timeout=SECONDS)
            .subject
        )


def test_who_leaves_is_clear_within_seconds_and_the_organisation_stays_restricted(
    running: Server,
) -> None:
    with Screener.open(running.kit("skyline-air") / "tipstaff.toml") as counter:
        assert counter.wait_ready(PATIENCE)
        for party in (FIRM, CHIEF, CLERK):
            wait_for(counter, party, Verdict.RESTRICTED)
        (post,) = [
            item
            for item in show(running, FIRM).posts
            if item.capacity == identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE
        ]
        with running.channel("authorities/court") as channel:
            stub = registry_pb2_grpc.RegistryServiceStub(channel)
            done = stub.EndPost(
                registry_pb2.EndPostRequest(post_id=post.post_id, reason="resigned"),
                timeout=SECONDS,
            )
        assert done.relief_sequence > 0
        assert done.post.state == registry_pb2.POST_STATE_LEFT
        wait_for(counter, CHIEF, Verdict.CLEAR)
        assert (verdict(counter, FIRM), verdict(counter, CLERK)) == (
            Verdict.RESTRICTED,
            Verdict.RESTRICTED,
        )
        before = counter.status().listing_version
        publish(running.config, "aviation")
        deadline = time.monotonic() + PATIENCE
        while counter.status().listing_version == before:
            assert time.monotonic() < deadline, "no listing came"
            time.sleep(0.05)
        assert [verdict(counter, party) for party in (FIRM, CLERK, CHIEF)] == [
            Verdict.RESTRICTED,
            Verdict.RESTRICTED,
            Verdict.CLEAR,
        ]


def test_private_spending_and_a_new_officer_come_with_the_next_listing(running: Server) -> None:
    newcomer = person(7)
    with running.channel("authorities/court") as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        exempt = registry_pb2.ExemptRestrictionRequest(
            restriction_id=running.restrictions[0], person=CLERK.identifiers[0].to_proto()
        )
        exempt.reason.zh, exempt.reason.en = "因私消费", "private spending with own money"
        exempt.valid_from.FromDatetime(BEGAN)
        exempt.valid_until.FromDatetime(BEGAN.replace(year=BEGAN.year + 1))
        assert len(stub.ExemptRestriction(exempt, timeout=SECONDS).exemption_id) == 16
        organisation_ = registry_pb2.SubjectReference(restriction_id=running.restrictions[0])
        who = registry_pb2.ResponsiblePerson(
            capacity=identity_pb2.CAPACITY_PRINCIPAL, **message(newcomer)
        )
        add = registry_pb2.AddPostRequest(
            organisation=organisation_, person=who, reason="appointed", idempotency_key="join"
        )
        assert stub.AddPost(add, timeout=SECONDS) == stub.AddPost(add, timeout=SECONDS)
    with Screener.open(running.kit("skyline-air") / "tipstaff.toml", background=False) as counter:
        counter.sync()
        assert verdict(counter, newcomer) is Verdict.CLEAR
        publish(running.config, "aviation")
        counter.sync()
        assert [verdict(counter, party) for party in (FIRM, CLERK, newcomer)] == [
            Verdict.RESTRICTED,
            Verdict.CLEAR,
            Verdict.RESTRICTED,
        ]


def test_a_wrong_number_goes_at_once_and_merging_and_splitting_are_the_operator_s(
    running: Server,
) -> None:
    newcomer = person(8)
    with running.channel("operator") as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        firm = registry_pb2.SubjectReference(restriction_id=running.restrictions[0])
        who = registry_pb2.ResponsiblePerson(
            capacity=identity_pb2.CAPACITY_ACTUAL_CONTROLLER, **message(newcomer)
        )
        post = stub.AddPost(
            registry_pb2.AddPostRequest(organisation=firm, person=who, reason="bought it"),
            timeout=SECONDS,
        ).post
        subject = registry_pb2.SubjectReference(subject_id=post.person_id)
        told = stub.GetSubject(
            registry_pb2.GetSubjectRequest(subject=subject, reveal=True, reason="to be sure"),
            timeout=SECONDS,
        )
        assert list(told.names) == list(newcomer.names)
        passport = identity_pb2.Identifier(
            kind=identity_pb2.IDENTIFIER_KIND_PASSPORT, number="E00000019"
        )
        correct = registry_pb2.CorrectSubjectRequest(
            subject=subject, add_identifiers=[passport], reason="has a passport"
        )
        assert len(stub.CorrectSubject(correct, timeout=SECONDS).subject.identifiers) == 2
        split = registry_pb2.SplitSubjectRequest(
            subject=subject,
            identifiers=[passport],
            shared_names=list(newcomer.names),
            reason="somebody else's",
        )
        done = stub.SplitSubject(split, timeout=SECONDS)
        assert done.relief_sequence > 0
        merge = registry_pb2.MergeSubjectsRequest(
            surviving=subject,
            absorbed=registry_pb2.SubjectReference(subject_id=done.split_off.subject_id),
            reason="theirs after all",
        )
        assert len(stub.MergeSubjects(merge, timeout=SECONDS).subject.identifiers) == 2
        held = next(item for item in show(running, newcomer).posts)
        amend = registry_pb2.AmendPostRequest(post_id=held.post_id, reason="a term")
        amend.valid_until.FromDatetime(BEGAN.replace(year=BEGAN.year + 1))
        assert stub.AmendPost(amend, timeout=SECONDS).relief_sequence == 0
    calls: list[tuple[str, Any]] = [
        ("MergeSubjects", merge),
        ("SplitSubject", split),
        ("CorrectSubject", correct),
    ]
    with running.channel("authorities/court") as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        for name, request in calls:
            with pytest.raises(grpc.RpcError) as refused:
                getattr(stub, name)(request, timeout=SECONDS)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as nobody:
            stub.GetSubject(registry_pb2.GetSubjectRequest(), timeout=SECONDS)
        assert nobody.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    shown = command(
        "subject",
        "show",
        "--restriction",
        running.restrictions[0].hex(),
        "--json",
        "--config",
        running.config.folder,
    )
    assert shown.returncode == 0, shown.stderr
    assert {item["state"] for item in json.loads(shown.stdout)["posts"]} == {"held", "left"}
    assert command("audit", "verify", "--config", running.config.folder).returncode == 0
