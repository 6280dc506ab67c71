"""The lean profile over real sockets: the same decisions as the full one, and a server that cannot
tell who was asked about.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.provider_server import wait_for
from tests.support.server import enter, entry, make, name_of, resident_id
from tests.support.server_process import Server, free_port, publish, serving
from tipstaff.v1 import distribution_pb2, enforcement_pb2
from tipstaff_sdk import Reason, Screener, Verdict, errors
from tipstaff_sdk.packs.bucket_tree import open_answer
from tipstaff_sdk.sync.buckets import BucketCache
from tipstaff_sdk.sync.transport import GrpcTransport
from tipstaff_server.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

PEOPLE = 400
CHECKS = 10_000
HITS = 300
STRANGERS = 100_000
"""Numbers from here on are nobody's on the list."""
MEASURE = "AIR_TRAVEL"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("lean") / "operator"
    config = make(folder, listen=f"127.0.0.1:{free_port()}")
    with Deployment(config) as runtime:
        enter(runtime.registry, [entry(number) for number in range(PEOPLE)])
    publish(config, "aviation")
    with serving(config, arguments=("--log-level", "debug", "--heartbeat", "0.3")) as running:
        yield running


@contextmanager
def counter(
    server: Server, state: Path, profile: str = "lean", **options: Any
) -> Iterator[Screener]:
    options = {"background": False, "profile": profile, "state_dir": state, **options}
    with Screener.open(server.kit("skyline-air") / "tipstaff.toml", **options) as screener:
        if not options["background"]:
            screener.sync()
        assert screener.wait_ready(30)
        yield screener


def said(screener: Screener, number: int, name: str | None = None) -> Any:
    return screener.check(resident_id(number), name=name or name_of(number), measure=MEASURE)


def test_it_decides_as_the_full_profile_does_and_keeps_no_record(
    server: Server, tmp_path: Path
) -> None:
    with (
        counter(server, tmp_path / "full", "full") as full,
        counter(server, tmp_path / "lean") as lean,
    ):
        for number in [*range(0, PEOPLE, 3), *range(STRANGERS, STRANGERS + 300)]:
            expected, decision = said(full, number), said(lean, number)
            assert (decision.reason, decision.restrictions) == (
                expected.reason,
                expected.restrictions,
            )
        assert said(lean, 7, name_of(8)).reason is Reason.NAME_MISMATCH
        rows = [(resident_id(number).number, name_of(number)) for number in range(20)]
        assert [entry.reason for entry in lean.check_many(rows, measure=MEASURE)] == [
            Reason.IN_FORCE
        ] * 20  # type: ignore[union-attr]
        assert lean.status().ready

        def kept(profile: str) -> int:
            return sum(
                file.stat().st_size
                for file in (tmp_path / profile / "verified" / "cache" / "artefacts").iterdir()
            )

        with Deployment(server.config) as runtime:
            pack = runtime.published("aviation").path("listing/aviation/pack").stat().st_size
        assert kept("full") - kept("lean") == pack


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Message, Message]]:
    """Everything that goes to the server, and what it answers.

    The cache holds nothing, so that every hit is asked for.
    """
    recorded: list[tuple[str, Message, Message]] = []
    unary = GrpcTransport._unary

    def recording(
        self: GrpcTransport, method: Any, request: Any, timeout: float | None = None
    ) -> Any:
        response = unary(self, method, request, timeout)
        recorded.append((type(request).__name__, request, response))
        return response

    monkeypatch.setattr(GrpcTransport, "_unary", recording)
    monkeypatch.setattr(BucketCache, "get", lambda self, number: None)
    return recorded


def traffic(sent: list[tuple[str, Message, Message]]) -> list[tuple[str, bytes]]:
    """What was sent, without ids that are drawn at random and the hour; and without counts' order."""
    found: list[tuple[str, bytes]] = []
    for kind, request, _ in sent:
        if isinstance(request, enforcement_pb2.SubmitCoverageRequest):
            for count in request.counts:
                count.ClearField("count_id")
                count.ClearField("hour")
        if isinstance(request, distribution_pb2.GetEpochKeysRequest):
            continue  # one key, registered, whoever is checked
        found.append((kind, request.SerializeToString(deterministic=True)))
    return found


def log_since(server: Server, position: int) -> set[str]:
    """The distinct lines of the server's log, without their time."""
    lines = [
        json.loads(line)
        for line in server.log.read_bytes()[position:].decode().splitlines()
        if line.startswith("{")
    ]
    return {
        json.dumps({name: value for name, value in line.items() if name != "at"}, sort_keys=True)
        for line in lines
    }


def test_traffic_and_log_are_the_same_whoever_in_a_bucket_is_checked(
    server: Server, tmp_path: Path, sent: list[tuple[str, Message, Message]]
) -> None:
    """10,000 checks, and again with everybody on the list replaced by somebody of the same bucket:
    nobody outside sees a difference.
    """
    with counter(server, tmp_path / "look") as screener:
        loaded = screener._session.loaded
        assert loaded is not None
        parameters, key, stretch = loaded.state.parameters, loaded.state.key, loaded.state.stretch
    assert key is not None
    assert parameters.buckets.bits >= 2
    assert parameters.buckets.least_numbers >= 16

    def bucket_of(number: int) -> int:
        locator = key.derive(stretch.stretch(resident_id(number))).locator
        return int.from_bytes(locator, "big") >> (64 - parameters.buckets.bits)

    sharing: dict[int, list[int]] = defaultdict(list)
    for number in range(PEOPLE):
        sharing[bucket_of(number)].append(number)
    assert min(map(len, sharing.values())) == parameters.buckets.least_numbers
    chosen = random.Random(11)
    listed = chosen.sample(range(PEOPLE), HITS)
    mates = [
        chosen.choice([other for other in sharing[bucket_of(number)] if other != number])
        for number in listed
    ]
    crowd = [*listed, *range(STRANGERS, STRANGERS + CHECKS - HITS)]
    order = list(range(CHECKS))
    chosen.shuffle(order)

    def run(name: str, people: list[int]) -> tuple[list[tuple[str, bytes]], set[str], list[Reason]]:
        sent.clear()
        before = server.log.stat().st_size
        with counter(server, tmp_path / name) as screener:
            reasons = [said(screener, people[position]).reason for position in order]
            screener.sync()
        return traffic(sent), log_since(server, before), reasons

    first_sent, first_log, first_reasons = run("first", crowd)
    answers = [
        response
        for _, _, response in sent
        if isinstance(response, distribution_pb2.FetchBucketResponse)
    ]
    requests = [
        request
        for _, request, _ in sent
        if isinstance(request, distribution_pb2.FetchBucketRequest)
    ]
    second_sent, second_log, second_reasons = run("second", [*mates, *crowd[HITS:]])

    assert first_reasons == second_reasons
    assert first_reasons.count(Reason.IN_FORCE) == HITS
    assert first_sent == second_sent
    assert first_log == second_log
    # One request for each hit, false positives among them; all requests of one size, and all
    # answers.
    assert len(requests) == HITS + first_reasons.count(Reason.FALSE_POSITIVE)
    assert {request.ByteSize() for request in requests} == {requests[0].ByteSize()}
    assert {answer.ByteSize() for answer in answers} == {answers[0].ByteSize()}
    assert {request.bucket for request in requests} == set(sharing)
    # And the log does not even say which bucket.
    log = server.log.read_text()
    assert "bucket" not in log.lower()
    assert not any(resident_id(number).number in log or name_of(number) in log for number in listed)


def test_another_listing_is_refused_by_name_and_the_client_goes_after_it(
    server: Server, tmp_path: Path
) -> None:
    with counter(server, tmp_path) as screener:
        version = screener.status().listing_version
        assert said(screener, 1).verdict is Verdict.RESTRICTED
        loaded = screener._session.loaded
        assert loaded is not None
        assert loaded.buckets is not None
        transport = screener._session.transport()
        for wrong in (0, version + 1, version - 1, 1 << 60):  # type: ignore[operator]
            with pytest.raises(errors.StaleListingError):
                transport.bucket(wrong, 0, 5.0)
        with pytest.raises(errors.RequestRefusedError, match="no bucket of that number"):
            transport.bucket(version, 1 << 30, 5.0)  # type: ignore[arg-type]

        # While others use the next listing, this one is still answered for; when they use the next
        # but one, it is not.
        for newer, reason in ((1, Reason.IN_FORCE), (2, Reason.UNCONFIRMED)):
            publish(server.config, "aviation")
            with counter(server, tmp_path / f"other-{newer}") as other:
                wait_for(
                    lambda other=other, newer=newer: other.sync().listing_version == version + newer
                )
                wait_for(
                    lambda other=other: said(other, 2).verdict is Verdict.RESTRICTED
                )  # REVIEW while the server takes it up
            loaded.buckets.cache._buckets.clear()
            assert said(screener, 2).reason is reason
        screener.sync()
        assert said(screener, 2).verdict is Verdict.RESTRICTED
        assert screener.status().listing_version == version + 2  # type: ignore[operator]


def test_with_background_sync_a_refusal_brings_the_new_listing_by_itself(
    server: Server, tmp_path: Path
) -> None:
    with counter(server, tmp_path, background=True, flush_interval=0.1) as screener:
        session = screener._session
        fetched: list[object] = []
        refresh, session.refresh = session.refresh, lambda: fetched.append(refresh())  # type: ignore[method-assign]
        with pytest.raises(errors.StaleListingError):
            session._fetch_bucket(1 << 40, 0)
        wait_for(lambda: fetched)
        wait_for(lambda: not session._behind)
        assert said(screener, 3).verdict is Verdict.RESTRICTED


def test_no_server_no_proof_and_nobody_is_refused(server: Server, tmp_path: Path) -> None:
    with counter(server, tmp_path) as screener:
        assert said(screener, 4).verdict is Verdict.RESTRICTED
        screener._session.disconnect()
    options: dict[str, Any] = {
        "profile": "lean",
        "state_dir": tmp_path,
        "background": False,
        "key_store": "file",
    }
    with Screener.open(server.kit("skyline-air") / "tipstaff.toml", **options) as screener:
        screener.sync()
    options |= {"server": f"127.0.0.1:{free_port()}", "bucket_timeout": 0.3}
    with Screener.open(server.kit("skyline-air") / "tipstaff.toml", **options) as screener:
        assert said(screener, STRANGERS + 1).verdict is Verdict.CLEAR
        assert said(screener, 4).reason is Reason.UNCONFIRMED


FORGED: dict[str, Callable[[bytes, bytes], tuple[bytes, bytes]]] = {
    "an empty bucket": lambda bucket, path: (bytes(len(bucket)), path),
    "a flipped bit": lambda bucket, path: (
        bucket[:50] + bytes([bucket[50] ^ 1]) + bucket[51:],
        path,
    ),
    "another path": lambda bucket, path: (bucket, bytes(len(path))),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_server_that_makes_buckets_up_clears_and_restricts_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with counter(server, tmp_path) as screener:
        honest = GrpcTransport.bucket
        monkeypatch.setattr(
            GrpcTransport, "bucket", lambda self, *asked: FORGED[name](*honest(self, *asked))
        )
        assert said(screener, 5).reason is Reason.UNCONFIRMED
        monkeypatch.undo()
        assert said(screener, 5).verdict is Verdict.RESTRICTED


def test_lean_needs_a_server() -> None:
    with pytest.raises(errors.ConfigurationError, match="profile = lean asks the server"):
        Screener.open(
            audience="aviation",
            state_dir="x",
            trusted_root_file="x",
            mirror_dir="x",
            profile="lean",
        )


def test_answers_verify_by_the_signed_parameters(server: Server, tmp_path: Path) -> None:
    with counter(server, tmp_path) as screener:
        loaded = screener._session.loaded
        assert loaded is not None
        said_of = loaded.state.parameters.buckets
        buckets = [
            open_answer(
                *screener._session.transport().bucket(loaded.listing_version, number, 5.0),
                number,
                said_of,
            )
            for number in range(1 << said_of.bits)
        ]
    with Deployment(server.config) as runtime:
        path = runtime.published("aviation").path("listing/aviation/pack")
    assert path.read_bytes().endswith(b"".join(buckets))
