"""Who gets in, and what files and messages a provider can ask for: attacks as named cases, against
a real server.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.server import name_of, resident_id
from tests.support.server_process import PEOPLE, Server, command, serving
from tests.support.server_tls import Tls
from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    statistics_pb2,
    statistics_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable

AIRLINE, RAILWAY, COURT, OPERATOR = (
    "providers/skyline-air",
    "providers/riverside-rail",
    "authorities/court",
    "operator",
)
SECONDS = 20


def metadata(channel: grpc.Channel, name: str) -> bytes:
    stub = distribution_pb2_grpc.DistributionServiceStub(channel)
    return stub.GetMetadata(distribution_pb2.GetMetadataRequest(name=name), timeout=SECONDS).content


def artefact(channel: grpc.Channel, path: str, offset: int = 0) -> bytes:
    stub = distribution_pb2_grpc.DistributionServiceStub(channel)
    request = distribution_pb2.GetArtefactRequest(path=path, offset=offset)
    return b"".join(response.chunk for response in stub.GetArtefact(request, timeout=SECONDS))


def status(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


def outcome(call: Callable[[grpc.Channel], object], channel: grpc.Channel) -> grpc.StatusCode:
    try:
        call(channel)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def listing_path(server: Server, audience: str, what: str) -> str:
    (found,) = (
        server.config.folder / "repository" / audience / "targets" / "listing" / audience
    ).glob(f"*.{what}")
    return f"listing/{audience}/{found.name}"


def test_a_certificate_of_another_authority_gets_no_connection(server: Server):
    stranger = Tls().authority.issue_client("tipstaff://provider/aviation/skyline-air")
    ours = (server.kit("skyline-air") / "ca.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(ours, stranger.private_key, stranger.certificate)
    with server.channel(credentials) as channel:
        assert status(lambda: metadata(channel, "timestamp.json")) is grpc.StatusCode.UNAVAILABLE


def test_without_a_certificate_there_is_no_connection(server: Server):
    with server.channel(
        grpc.ssl_channel_credentials((server.kit("skyline-air") / "ca.pem").read_bytes())
    ) as channel:
        assert status(lambda: metadata(channel, "timestamp.json")) is grpc.StatusCode.UNAVAILABLE


def test_a_server_of_another_authority_is_not_believed(server: Server):
    kit = server.kit("skyline-air")
    files = ((kit / name).read_bytes() for name in ("private_key.pem", "certificate.pem"))
    with server.channel(
        grpc.ssl_channel_credentials(Tls().authority.certificate, *files)
    ) as channel:
        assert status(lambda: metadata(channel, "timestamp.json")) is grpc.StatusCode.UNAVAILABLE


CALLS: dict[str, Callable[[grpc.Channel], object]] = {
    "GetMetadata": lambda channel: metadata(channel, "timestamp.json"),
    "GetArtefact": lambda channel: artefact(channel, "x"),
    "Watch": lambda channel: next(
        distribution_pb2_grpc.DistributionServiceStub(channel).Watch(
            distribution_pb2.WatchRequest(), timeout=SECONDS
        )
    ),
    "Acknowledge": lambda channel: distribution_pb2_grpc.DistributionServiceStub(
        channel
    ).Acknowledge(distribution_pb2.AcknowledgeRequest(), timeout=SECONDS),
    "FetchBucket": lambda channel: distribution_pb2_grpc.DistributionServiceStub(
        channel
    ).FetchBucket(distribution_pb2.FetchBucketRequest(), timeout=SECONDS),
    "GetEpochKeys": lambda channel: distribution_pb2_grpc.DistributionServiceStub(
        channel
    ).GetEpochKeys(distribution_pb2.GetEpochKeysRequest(), timeout=SECONDS),
    "ListRemedies": lambda channel: distribution_pb2_grpc.DistributionServiceStub(
        channel
    ).ListRemedies(distribution_pb2.ListRemediesRequest(), timeout=SECONDS),
    "AnswerRemedy": lambda channel: distribution_pb2_grpc.DistributionServiceStub(
        channel
    ).AnswerRemedy(distribution_pb2.AnswerRemedyRequest(), timeout=SECONDS),
    "SubmitReports": lambda channel: enforcement_pb2_grpc.EnforcementServiceStub(
        channel
    ).SubmitReports(enforcement_pb2.SubmitReportsRequest(), timeout=SECONDS),
    "SubmitCoverage": lambda channel: enforcement_pb2_grpc.EnforcementServiceStub(
        channel
    ).SubmitCoverage(enforcement_pb2.SubmitCoverageRequest(), timeout=SECONDS),
    "OpenDispute": lambda channel: dispute_pb2_grpc.DisputeServiceStub(channel).OpenDispute(
        dispute_pb2.OpenDisputeRequest(), timeout=SECONDS
    ),
    "GetDispute": lambda channel: dispute_pb2_grpc.DisputeServiceStub(channel).GetDispute(
        dispute_pb2.GetDisputeRequest(), timeout=SECONDS
    ),
    "FollowDispute": lambda channel: dispute_pb2_grpc.DisputeServiceStub(channel).FollowDispute(
        dispute_pb2.FollowDisputeRequest(), timeout=SECONDS
    ),
    "ListDisputes": lambda channel: dispute_pb2_grpc.DisputeServiceStub(channel).ListDisputes(
        dispute_pb2.ListDisputesRequest(), timeout=SECONDS
    ),
    "AnswerDispute": lambda channel: dispute_pb2_grpc.DisputeServiceStub(channel).AnswerDispute(
        dispute_pb2.AnswerDisputeRequest(), timeout=SECONDS
    ),
    "SubmitRestrictions": lambda channel: list(
        registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
            iter([registry_pb2.SubmitRestrictionsRequest()]), timeout=SECONDS
        )
    ),
    "GetRestriction": lambda channel: registry_pb2_grpc.RegistryServiceStub(channel).GetRestriction(
        registry_pb2.GetRestrictionRequest(), timeout=SECONDS
    ),
    "EndRestriction": lambda channel: registry_pb2_grpc.RegistryServiceStub(channel).EndRestriction(
        registry_pb2.EndRestrictionRequest(), timeout=SECONDS
    ),
    "GetDraft": lambda channel: registry_pb2_grpc.RegistryServiceStub(channel).GetDraft(
        registry_pb2.GetDraftRequest(), timeout=SECONDS
    ),
    "ApproveRestriction": lambda channel: registry_pb2_grpc.RegistryServiceStub(
        channel
    ).ApproveRestriction(registry_pb2.ApproveRestrictionRequest(), timeout=SECONDS),
    "ApproveRestrictions": lambda channel: registry_pb2_grpc.RegistryServiceStub(
        channel
    ).ApproveRestrictions(registry_pb2.ApproveRestrictionsRequest(), timeout=SECONDS),
    "AmendRestriction": lambda channel: registry_pb2_grpc.RegistryServiceStub(
        channel
    ).AmendRestriction(registry_pb2.AmendRestrictionRequest(), timeout=SECONDS),
    "ExemptRestriction": lambda channel: registry_pb2_grpc.RegistryServiceStub(
        channel
    ).ExemptRestriction(registry_pb2.ExemptRestrictionRequest(), timeout=SECONDS),
    "SearchRestrictions": lambda channel: registry_pb2_grpc.RegistryServiceStub(
        channel
    ).SearchRestrictions(registry_pb2.SearchRestrictionsRequest(), timeout=SECONDS),
    "GetHistory": lambda channel: registry_pb2_grpc.RegistryServiceStub(channel).GetHistory(
        registry_pb2.GetHistoryRequest(), timeout=SECONDS
    ),
    "GetStatistics": lambda channel: statistics_pb2_grpc.StatisticsServiceStub(
        channel
    ).GetStatistics(statistics_pb2.GetStatisticsRequest(), timeout=SECONDS),
}
MAY = {
    AIRLINE: {
        "GetMetadata",
        "GetArtefact",
        "Watch",
        "Acknowledge",
        "GetEpochKeys",
        "ListRemedies",
        "AnswerRemedy",
        "FetchBucket",
        "SubmitReports",
        "SubmitCoverage",
        "OpenDispute",
        "FollowDispute",
    },
    COURT: {
        "OpenDispute",
        "GetDispute",
        "FollowDispute",
        "ListDisputes",
        "AnswerDispute",
        "GetDraft",
        "ApproveRestriction",
        "ApproveRestrictions",
        "SubmitRestrictions",
        "GetRestriction",
        "EndRestriction",
        "AmendRestriction",
        "ExemptRestriction",
        "SearchRestrictions",
        "GetHistory",
    },
    OPERATOR: {
        "OpenDispute",
        "GetDispute",
        "FollowDispute",
        "ListDisputes",
        "AnswerDispute",
        "GetDraft",
        "ApproveRestriction",
        "ApproveRestrictions",
        "GetRestriction",
        "EndRestriction",
        "AmendRestriction",
        "ExemptRestriction",
        "SearchRestrictions",
        "GetHistory",
        "GetStatistics",
    },
}


@pytest.mark.parametrize("who", MAY)
def test_each_role_reaches_its_methods_and_no_other(server: Server, who: str):
    with server.channel(who) as channel:
        for method, call in CALLS.items():
            code = outcome(call, channel)
            assert code not in {
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.UNKNOWN,
                grpc.StatusCode.UNIMPLEMENTED,
            }, method
            assert (code is grpc.StatusCode.PERMISSION_DENIED) is (method not in MAY[who]), method


@pytest.mark.parametrize(
    "name",
    {
        "unknown": "2.nothing.json",
        "version not there": "99.snapshot.json",
        "another audience's listing": "2.listing-rail.json",
        "another audience's relief": "1.relief-rail.json",
        "empty": "",
        "parent": "../metadata/timestamp.json",
        "another audience's folder": "../../rail/metadata/timestamp.json",
        "the signing keys": "../../../keys/timestamp.pem",
        "absolute": "/etc/passwd",
        "backslashes": "..\\..\\rail\\metadata\\timestamp.json",
        "NUL": "timestamp.json\0",
        "line end": "timestamp.json\n",
        "encoded": "%2e%2e/timestamp.json",
        "very long": "a" * 100_000,
    }.values(),
)
def test_a_metadata_name_that_is_none_is_not_found(server: Server, name: str):
    with server.channel(AIRLINE) as channel:
        assert status(lambda: metadata(channel, name)) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "path",
    {
        "unknown": "listing/aviation/" + "0" * 64 + ".filter",
        "empty": "",
        "a folder": "listing/aviation",
        "parent": "../metadata/timestamp.json",
        "another audience's folder": "../../rail/targets/catalogue",
        "inside": "listing/aviation/../../../metadata/timestamp.json",
        "the signing keys": "../../../keys/timestamp.pem",
        "the registry": "../../../registry.db",
        "absolute": "/etc/passwd",
        "NUL": "catalogue\0",
        "dots": "....//....//keys",
    }.values(),
)
def test_an_artefact_path_that_is_none_is_not_found(server: Server, path: str):
    with server.channel(AIRLINE) as channel:
        assert status(lambda: artefact(channel, path)) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("what", ["filter", "pack", "parameters"])
def test_another_audiences_artefacts_are_not_found(server: Server, what: str):
    path = listing_path(server, "rail", what)
    with server.channel(AIRLINE) as channel:
        assert status(lambda: artefact(channel, path)) is grpc.StatusCode.NOT_FOUND
    with server.channel(RAILWAY) as channel:
        assert artefact(channel, path)


def test_a_download_goes_on_from_any_offset(server: Server):
    path = listing_path(server, "aviation", "pack")
    whole = (server.config.folder / "repository" / "aviation" / "targets" / path).read_bytes()
    with server.channel(AIRLINE) as channel:
        assert artefact(channel, path) == whole
        for offset in (1, len(whole) // 2, len(whole) - 1, len(whole)):
            assert artefact(channel, path, offset) == whole[offset:]
        for offset in (len(whole) + 1, (1 << 64) - 1):
            assert (
                status(lambda offset=offset: artefact(channel, path, offset))
                is grpc.StatusCode.OUT_OF_RANGE
            )


def test_an_oversized_message_is_refused_and_the_connection_goes_on(server: Server):
    with server.channel(AIRLINE) as channel:
        huge = "a" * (server.config.server.max_message_bytes + 1)
        assert status(lambda: metadata(channel, huge)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert metadata(channel, "timestamp.json")


def test_too_many_events_are_refused_as_a_whole(server: Server):
    with server.channel(AIRLINE) as channel:
        stub = enforcement_pb2_grpc.EnforcementServiceStub(channel)
        request = enforcement_pb2.SubmitReportsRequest(reports=[enforcement_pb2.Report()] * 1_001)
        assert (
            status(lambda: stub.SubmitReports(request, timeout=SECONDS))
            is grpc.StatusCode.INVALID_ARGUMENT
        )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"", "INVALID_ARGUMENT"),
        (b"x" * 31, "INVALID_ARGUMENT"),
        (b"x" * 33, "INVALID_ARGUMENT"),
        (b"x" * 32, "PERMISSION_DENIED"),
    ],
    ids=["none", "short", "long", "not the registered one: a stolen certificate"],
)
def test_an_epoch_key_is_sealed_to_the_registered_key_only(
    server: Server, key: bytes, expected: str
):
    with server.channel(AIRLINE) as channel:
        stub = distribution_pb2_grpc.DistributionServiceStub(channel)
        request = distribution_pb2.GetEpochKeysRequest(recipient_public_key=key)
        assert status(lambda: stub.GetEpochKeys(request, timeout=SECONDS)).name == expected


def test_a_second_server_on_the_same_address_says_what_to_do(server: Server):
    done = command("serve", "--config", server.config.folder)
    assert done.returncode == 1
    assert "cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_streams_with_a_reason_and_the_process_with_status_0(server: Server):
    with serving(server.config, listen="127.0.0.1:0") as other, other.channel(AIRLINE) as channel:
        stream = distribution_pb2_grpc.DistributionServiceStub(channel).Watch(
            distribution_pb2.WatchRequest(), timeout=SECONDS
        )
        next(stream)
        assert other.stop() == 0
        with pytest.raises(grpc.RpcError) as ended:
            for _ in stream:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Watch again" in ended.value.details()


def test_the_log_is_lines_of_json_without_anybody_in_it(server: Server):
    text = server.log.read_text()
    lines = [
        json.loads(line)
        for line in text.splitlines()
        if not line.startswith("tipstaff-server: ready on ")
    ]
    assert {"ready"} <= {line["event"] for line in lines}
    for number in range(PEOPLE):
        assert resident_id(number).number not in text
        assert name_of(number) not in text
