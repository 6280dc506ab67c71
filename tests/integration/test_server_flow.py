"""From an act in the registry to a provider's verified state, over real sockets: watch, relief,
disputes, reports, epoch keys.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tests.support.messages import denial
from tests.support.server import MEASURES, enter, entry, name_of, resident_id
from tests.support.server_process import command, publish
from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
    identity_pb2,
    listing_pb2,
    registry_pb2,
    registry_pb2_grpc,
    statistics_pb2,
    statistics_pb2_grpc,
)
from tipstaff_sdk.listing.relief import Relief, parse_segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch, open_sealed
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_sdk.packs.pack import Pack
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.transport import connect, load_wrapping_key
from tipstaff_server.deployment import Deployment
from tipstaff_signing.reader.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.server_process import Server
    from tipstaff_signing.model import VerifiedState

AIRLINE, RAILWAY, COURT, OPERATOR = (
    "providers/skyline-air",
    "providers/riverside-rail",
    "authorities/court",
    "operator",
)
# How long anything may take before it counts as lost. What is promised is a second; this machine
# may be busy.
SECONDS = 20


def end(
    server: Server,
    restriction: bytes,
    kind: registry_pb2.EndKind.ValueType = registry_pb2.END_KIND_RELEASE,
) -> int:
    with server.channel(COURT) as channel:
        request = registry_pb2.EndRestrictionRequest(
            restriction_id=restriction, kind=kind, reason="obligation performed"
        )
        return (
            registry_pb2_grpc.RegistryServiceStub(channel)
            .EndRestriction(request, timeout=SECONDS)
            .relief_sequence
        )


@dataclass
class Watching:
    """A provider that verifies what it is sent with the same reader as the SDK."""

    reader: Reader
    audience: str
    stream: Iterator[distribution_pb2.WatchResponse]

    def next_bundle(self) -> tuple[distribution_pb2.WatchResponse, VerifiedState]:
        """The next message with a bundle, verified."""
        deadline = time.monotonic() + SECONDS
        for message in self.stream:
            if message.HasField("bundle"):
                metadata = {file.name: file.content for file in message.bundle.metadata}
                artefacts = {file.path: file.content for file in message.bundle.artefacts}
                return message, self.reader.apply(metadata, artefacts)
            assert time.monotonic() < deadline, "nothing came"
        raise AssertionError("the stream ended")

    def until_lifted(self, restriction: bytes) -> Relief:
        """Bundles until one lifts `restriction`."""
        while True:
            _, state = self.next_bundle()
            relief = relief_of(state, self.audience)
            if relief.lifts(restriction, 0):
                return relief


def relief_of(state: VerifiedState, audience: str) -> Relief:
    role = state.roles[f"relief-{audience}"]
    parameters = parameters_of(state, audience)
    return Relief.from_segments(
        [parse_segment(target.file.read_bytes()) for target in role.targets.values()],
        parameters.relief_sequence,
        role.signed_at,
    )


def parameters_of(state: VerifiedState, audience: str) -> listing_pb2.ListingParameters:
    target = state.roles[f"listing-{audience}"].targets[f"listing/{audience}/parameters"]
    return listing_pb2.ListingParameters.FromString(target.file.read_bytes())


@contextmanager
def watching(server: Server, provider: str, state: Path) -> Iterator[Watching]:
    """A provider that has synchronised, and watches."""
    settings = Settings.load(server.kit(provider) / "tipstaff.toml", environment={})
    transport = connect(settings)
    roles = (f"listing-{settings.audience}", f"relief-{settings.audience}")
    reader = Reader(
        state,
        view=settings.audience,
        trusted_root=settings.read("trusted_root_file"),
        roles=roles,
        assemble=assemble,
    )
    try:
        verified = reader.refresh(transport.fetcher())
        held = distribution_pb2.StateVersion(
            timestamp=verified.timestamp_version, listing=verified.roles[roles[0]].version
        )
        yield Watching(reader, settings.audience, iter(transport.watch(held)))
    finally:
        transport.close()


def test_a_watch_opens_with_what_differs_and_then_beats(server: Server):
    with server.channel(AIRLINE) as channel:
        stub = distribution_pb2_grpc.DistributionServiceStub(channel)
        first = next(iter(stub.Watch(distribution_pb2.WatchRequest(), timeout=SECONDS)))
        assert {file.name for file in first.bundle.metadata} >= {"timestamp.json", "1.root.json"}
        assert any(file.path.endswith(".parameters") for file in first.bundle.artefacts)
        again = iter(
            stub.Watch(distribution_pb2.WatchRequest(enforced=first.current), timeout=SECONDS)
        )
        beats = [next(again) for _ in range(3)]
        assert beats[0].current.timestamp >= first.current.timestamp
        assert any(not beat.HasField("bundle") for beat in beats)
        assert all(beat.current.listing == first.current.listing for beat in beats)


def test_what_a_watcher_enforces_is_recorded(server: Server):
    with server.channel(AIRLINE) as channel:
        stub = distribution_pb2_grpc.DistributionServiceStub(channel)
        enforced = distribution_pb2.StateVersion(
            timestamp=1, listing=2, relief_sequence=(1 << 64) - 1
        )
        stream = iter(stub.Watch(distribution_pb2.WatchRequest(enforced=enforced), timeout=SECONDS))
        for _ in range(2):
            next(stream)
        stub.Acknowledge(
            distribution_pb2.AcknowledgeRequest(enforced=distribution_pb2.StateVersion(listing=3)),
            timeout=SECONDS,
        )
    with server.channel(OPERATOR) as channel:
        found = statistics_pb2_grpc.StatisticsServiceStub(channel).GetStatistics(
            statistics_pb2.GetStatisticsRequest(), timeout=SECONDS
        )
    (airline,) = [provider for provider in found.providers if provider.provider_id == "skyline-air"]
    assert airline.enforced_listing == 3
    assert airline.HasField("acknowledged_at")


def test_a_release_through_the_service_reaches_a_watcher_verified_and_without_a_gap(
    server: Server, tmp_path: Path
):
    with watching(server, "skyline-air", tmp_path) as airline:
        sequence = end(server, server.restrictions[0])
        relief = airline.until_lifted(server.restrictions[0])
        assert relief.complete
        assert relief.head >= sequence


def test_a_release_by_another_process_reaches_a_watcher(server: Server, tmp_path: Path):
    with watching(server, "riverside-rail", tmp_path) as railway:
        done = command(
            "release",
            "--config",
            server.config.folder,
            server.restrictions[1].hex(),
            "--reason",
            "case closed",
        )
        assert done.returncode == 0, done.stderr
        assert railway.until_lifted(server.restrictions[1]).complete


def test_many_releases_at_once_all_arrive(server: Server, tmp_path: Path):
    wanted = server.restrictions[2:8]
    with watching(server, "skyline-air", tmp_path) as airline:
        for restriction in wanted:
            end(server, restriction)
        relief = airline.until_lifted(wanted[-1])
        assert all(relief.lifts(restriction, 0) for restriction in wanted)
        assert relief.complete


def test_an_audience_that_a_lift_does_not_concern_is_told_nothing(server: Server, tmp_path: Path):
    with Deployment(server.config) as runtime:
        (restriction,) = enter(runtime.registry, [entry(901, ["RAIL_HIGH_CLASS"])])
        before = runtime.repository.versions("aviation")
        with watching(server, "riverside-rail", tmp_path) as railway:
            end(server, restriction)
            railway.until_lifted(restriction)
        assert runtime.repository.versions("aviation").relief == before.relief


def test_a_dispute_at_the_counter_suspends_and_clears_at_another_provider(
    server: Server, tmp_path: Path
):
    restriction, request_id = server.restrictions[8], secrets.token_bytes(16)
    request = dispute_pb2.OpenDisputeRequest(
        request_id=request_id,
        restriction_id=restriction,
        decision_id=secrets.token_bytes(16),
        statement="I paid this in March.",
    )
    with (
        watching(server, "riverside-rail", tmp_path) as railway,
        server.channel(AIRLINE) as channel,
    ):
        stub = dispute_pb2_grpc.DisputeServiceStub(channel)
        opened = stub.OpenDispute(request, timeout=SECONDS)
        assert opened.dispute.suspended
        assert opened.relief_sequence
        assert railway.until_lifted(restriction).complete
        again = stub.OpenDispute(request, timeout=SECONDS)
        assert again.dispute.case_number == opened.dispute.case_number
        assert again.relief_sequence == opened.relief_sequence
    with server.channel(COURT) as channel:
        found = dispute_pb2_grpc.DisputeServiceStub(channel).GetDispute(
            dispute_pb2.GetDisputeRequest(case_number=opened.dispute.case_number), timeout=SECONDS
        )
    assert found.dispute.state == dispute_pb2.DISPUTE_STATE_OPEN


def test_a_provider_cannot_dispute_what_its_audience_does_not_see(server: Server):
    with Deployment(server.config) as runtime:
        (restriction,) = enter(runtime.registry, [entry(902, ["RAIL_HIGH_CLASS"])])
    request = dispute_pb2.OpenDisputeRequest(
        request_id=bytes(16), restriction_id=restriction, statement="not mine"
    )
    with server.channel(AIRLINE) as channel, pytest.raises(grpc.RpcError) as refused:
        dispute_pb2_grpc.DisputeServiceStub(channel).OpenDispute(request, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_restriction_ends_once(server: Server):
    end(server, server.restrictions[9])
    with pytest.raises(grpc.RpcError) as refused:
        end(server, server.restrictions[9])
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_another_authority_knows_nothing_of_it(server: Server):
    request = registry_pb2.GetRestrictionRequest(restriction_id=server.restrictions[10])
    with server.channel("authorities/tax") as channel, pytest.raises(grpc.RpcError) as refused:
        registry_pb2_grpc.RegistryServiceStub(channel).GetRestriction(request, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with server.channel(COURT) as channel:
        found = registry_pb2_grpc.RegistryServiceStub(channel).GetRestriction(
            request, timeout=SECONDS
        )
    assert found.restriction.state == registry_pb2.RESTRICTION_STATE_ACTIVE
    assert list(found.restriction.measures) == sorted(MEASURES)


def submission(number: int, key: str, **changes: object) -> registry_pb2.SubmitRestrictionsRequest:
    made = entry(number)
    message = registry_pb2.RestrictionEntry(
        subject=registry_pb2.Subject(
            type=identity_pb2.SUBJECT_TYPE_PERSON,
            identifiers=[resident_id(number).to_proto()],
            names=[name_of(number)],
        ),
        list_id=made.list_id,
        measures=made.measures,
        legal_basis=made.legal_basis,
        case_number=made.case_number,
    )
    message.effective_at.FromDatetime(made.effective_at)
    message.expires_at.FromDatetime(made.expires_at)
    for name, value in changes.items():
        if value is None:
            message.ClearField(name)  # type: ignore[arg-type]
        else:
            setattr(message, name, value)
    return registry_pb2.SubmitRestrictionsRequest(idempotency_key=key, entry=message)


def test_an_authority_enters_restrictions_each_answered_for_itself(server: Server):
    requests = [
        submission(910, "a"),
        submission(910, "a"),
        submission(911, "b", legal_basis=""),
        submission(912, "c", expires_at=None),
        submission(913, "d", list_id="no-such-list"),
        submission(914, "e"),
    ]
    requests[5].entry.subject.identifiers[0].number = "110105199001011234"
    with server.channel(COURT) as channel:
        answers = list(
            registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
                iter(requests), timeout=SECONDS
            )
        )
    created, unchanged, rejected = (
        registry_pb2.SUBMIT_STATUS_CREATED,
        registry_pb2.SUBMIT_STATUS_UNCHANGED,
        registry_pb2.SUBMIT_STATUS_REJECTED,
    )
    assert [answer.status for answer in answers[2:]] == [rejected] * 4
    assert answers[0].status == created
    assert answers[1].status in {created, unchanged}
    assert answers[1].restriction_id == answers[0].restriction_id
    assert [answer.idempotency_key for answer in answers] == list("aabcde")
    assert all(answer.detail for answer in answers[2:])
    assert "110105199001011234" not in "".join(answer.detail for answer in answers)


def test_the_operator_cannot_enter_for_an_authority_that_it_is_not(server: Server):
    with server.channel(OPERATOR) as channel, pytest.raises(grpc.RpcError) as refused:
        list(
            registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
                iter([submission(920, "x")]), timeout=SECONDS
            )
        )
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def report(server: Server) -> enforcement_pb2.Report:
    return denial(server.restrictions[11], datetime.now(UTC), listing_version=2)


def test_reports_and_counts_count_once(server: Server):
    first, second = report(server), report(server)
    wrong = report(server)
    wrong.measure = "RAIL_HIGH_CLASS"
    count = enforcement_pb2.CoverageCount(
        count_id=secrets.token_bytes(16), measure="AIR_TRAVEL", checked=7, clear=7
    )
    count.hour.seconds = int(time.time()) // 3600 * 3600
    accepted, duplicate, rejected = (
        enforcement_pb2.EVENT_STATUS_ACCEPTED,
        enforcement_pb2.EVENT_STATUS_DUPLICATE,
        enforcement_pb2.EVENT_STATUS_REJECTED,
    )
    checked, denied = airline_counts(server)
    with server.channel(AIRLINE) as channel:
        stub = enforcement_pb2_grpc.EnforcementServiceStub(channel)
        one = stub.SubmitReports(
            enforcement_pb2.SubmitReportsRequest(reports=[first]), timeout=SECONDS
        )
        two = stub.SubmitReports(
            enforcement_pb2.SubmitReportsRequest(reports=[first, wrong, second]), timeout=SECONDS
        )
        counts = [
            stub.SubmitCoverage(
                enforcement_pb2.SubmitCoverageRequest(counts=[count]), timeout=SECONDS
            )
            for _ in range(2)
        ]
    assert [result.status for result in one.results] == [accepted]
    assert [result.status for result in two.results] == [duplicate, rejected, accepted]
    assert [answer.results[0].status for answer in counts] == [accepted, duplicate]
    assert airline_counts(server) == (checked + 7, denied + 2)


def airline_counts(server: Server) -> tuple[int, int]:
    """How many the airline has checked and denied so far; other tests report to the same server."""
    with server.channel(OPERATOR) as channel:
        found = statistics_pb2_grpc.StatisticsServiceStub(channel).GetStatistics(
            statistics_pb2.GetStatisticsRequest(), timeout=SECONDS
        )
    rows = [
        row
        for row in found.measures
        if row.provider_id == "skyline-air" and row.measure == "AIR_TRAVEL"
    ]
    outcomes = [item for row in rows for item in row.outcomes]
    denied = sum(item.count for item in outcomes if item.outcome == enforcement_pb2.OUTCOME_DENIED)
    return sum(row.checked for row in rows), denied


def test_an_epoch_key_opens_and_makes_the_listings_tokens_and_records(
    server: Server, tmp_path: Path
):
    settings = Settings.load(server.kit("skyline-air") / "tipstaff.toml", environment={})
    transport = connect(settings)
    keys = transport.epoch_keys()
    roles = ("listing-aviation", "relief-aviation")
    reader = Reader(
        tmp_path,
        view="aviation",
        trusted_root=settings.read("trusted_root_file"),
        roles=roles,
        assemble=assemble,
    )
    state = reader.refresh(transport.fetcher())
    transport.close()
    parameters = parameters_of(state, "aviation")
    stretched = Stretch.from_proto(parameters.stretch).stretch(resident_id(12))
    subject = EpochKey("aviation", parameters.epoch, keys[parameters.epoch]).derive(stretched)
    with Pack.open(state.roles["listing-aviation"].targets["listing/aviation/pack"].file) as pack:
        name_keys = subject.name_keys(name_of(12))
        (copy,) = [
            found
            for found in pack.find(subject.locator)
            if found.commitment == name_keys.commitment
        ]
        record = open_sealed(name_keys, copy.sealed)
    assert [restriction.restriction_id for restriction in record.restrictions] == [
        server.restrictions[12]
    ]
    assert list(record.restrictions[0].measures) == ["AIR_TRAVEL"]


def test_another_audience_gets_another_key_and_info_binds_it(server: Server):
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    opened: list[bytes] = []
    for who, audience in ((AIRLINE, "aviation"), (RAILWAY, "rail")):
        private = load_wrapping_key(
            (server.kit(who.rpartition("/")[2]) / "wrapping_key.pem").read_bytes()
        )
        request = distribution_pb2.GetEpochKeysRequest(
            recipient_public_key=private.public_key().public_bytes_raw()
        )
        with server.channel(who) as channel:
            (sealed,) = (
                distribution_pb2_grpc.DistributionServiceStub(channel)
                .GetEpochKeys(request, timeout=SECONDS)
                .keys
            )
        opened.append(
            suite.decrypt(
                sealed.sealed,
                private,
                info=f"tipstaff/v1/epoch-key\0{audience}\0{sealed.epoch}".encode(),
            )
        )
        assert sealed.HasField("valid_from")
    assert len(opened[0]) == 32
    assert opened[0] != opened[1]


def test_a_new_listing_by_another_process_is_pushed_and_has_worked_the_relief_in(
    server: Server, tmp_path: Path
):
    with watching(server, "skyline-air", tmp_path) as airline:
        sequence = end(server, server.restrictions[13])
        airline.until_lifted(server.restrictions[13])
        publish(server.config, "aviation")
        while True:
            message, state = airline.next_bundle()
            if parameters_of(state, "aviation").relief_sequence >= sequence:
                break
    assert message.current.relief_sequence >= sequence
    assert relief_of(state, "aviation").complete
