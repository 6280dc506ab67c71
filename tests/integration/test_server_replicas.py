"""Two servers on one PostgreSQL, a database that is gone for a while, streams that break in the
middle, and streams without end.
"""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from sqlalchemy import select

from tests.integration.test_server_kills import check_everything_once, wait_for_relief
from tests.support.crowd import BEGAN, Crowd
from tests.support.databases import BACKENDS, make_on, own_postgres, working_directory
from tests.support.messages import entry_message
from tests.support.postgres import launch
from tests.support.provider_server import wait_for
from tests.support.server_process import free_port, serving
from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc, registry_pb2, registry_pb2_grpc
from tipstaff_server.audit.log import verify
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.storage.models import ProviderRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.server_process import Server
    from tipstaff_server.config import Config

COURT, AIRLINE, RAILWAY = "authorities/court", "providers/skyline-air", "providers/riverside-rail"
SECONDS = 30
TERM = timedelta(days=700)
ACTOR = Actor.authority("court")
MEBIBYTE = 1 << 20
REFUSED = registry_pb2.SUBMIT_STATUS_REJECTED


def submission(number: int) -> registry_pb2.SubmitRestrictionsRequest:
    return registry_pb2.SubmitRestrictionsRequest(
        idempotency_key=f"key-{number}", entry=entry_message(number, BEGAN, BEGAN + TERM)
    )


def submit(server: Server, numbers: range) -> list[bytes]:
    with server.channel(COURT) as channel:
        answers = registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
            map(submission, numbers), timeout=SECONDS
        )
        return [answer.restriction_id for answer in answers]


def ending(
    restriction: bytes,
    kind: registry_pb2.EndKind.ValueType = registry_pb2.END_KIND_RELEASE,
    **given: Any,
) -> Any:
    return registry_pb2.EndRestrictionRequest(
        restriction_id=restriction, kind=kind, reason="x", **given
    )


def end(
    server: Server, request: registry_pb2.EndRestrictionRequest
) -> registry_pb2.EndRestrictionResponse:
    with server.channel(COURT) as channel:
        return registry_pb2_grpc.RegistryServiceStub(channel).EndRestriction(
            request, timeout=SECONDS
        )


@pytest.fixture
def shared(tmp_path: Path) -> Config:
    return working_directory(tmp_path / "operator", "postgresql")


@pytest.fixture
def replicas(shared: Config) -> Iterator[tuple[Server, Server]]:
    with (
        serving(shared, listen=f"127.0.0.1:{free_port()}") as one,
        serving(shared, listen=f"127.0.0.1:{free_port()}") as other,
    ):
        yield one, other


def test_two_replicas_that_decide_at_once_decide_once_and_the_loser_is_told_what_to_do(
    replicas: tuple[Server, Server],
) -> None:
    restrictions = submit(replicas[0], range(10))
    kinds = (registry_pb2.END_KIND_RELEASE, registry_pb2.END_KIND_REVOKE)
    answers: dict[tuple[bytes, int], Any] = {}
    together = threading.Barrier(2)

    def decide(which: int) -> None:
        with replicas[which].channel(COURT) as channel:
            stub = registry_pb2_grpc.RegistryServiceStub(channel)
            for restriction in restrictions:
                together.wait(SECONDS)
                try:
                    answers[restriction, which] = stub.EndRestriction(
                        ending(restriction, kinds[which], expected_version=1), timeout=SECONDS
                    )
                except grpc.RpcError as error:
                    answers[restriction, which] = error

    threads = [threading.Thread(target=decide, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for restriction in restrictions:
        won, lost = sorted(
            (answers[restriction, which] for which in (0, 1)),
            key=lambda answer: isinstance(answer, grpc.RpcError),
        )
        assert won.restriction.version == 2
        assert lost.code() in {grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION}
        assert "look at it again" in lost.details() or "possible:" in lost.details()
    with Deployment(replicas[0].config) as runtime:
        assert runtime.registry.relief.head() == len(restrictions)
        verify(runtime.registry.store)


def test_relief_made_at_one_replica_reaches_those_who_watch_at_the_other(
    replicas: tuple[Server, Server],
) -> None:
    acting, watched = replicas
    restrictions = submit(acting, range(12))
    took: list[float] = []
    with watched.channel(AIRLINE) as channel:
        stream = distribution_pb2_grpc.DistributionServiceStub(channel).Watch(
            distribution_pb2.WatchRequest(), timeout=4 * SECONDS
        )
        next(stream)
        for restriction in restrictions:
            end(acting, ending(restriction))
            done = time.monotonic()
            for message in stream:
                if restriction in message.SerializeToString():
                    break
            took.append(time.monotonic() - done)
    print(
        f"relief over two replicas: median {statistics.median(took) * 1_000:.0f} ms, most"
        f" {max(took) * 1_000:.0f} ms"
    )
    assert len(took) == len(restrictions)


@pytest.mark.timeout(300)
def test_clients_of_a_killed_replica_go_on_with_the_other_and_nothing_is_lost_or_doubled(
    shared: Config,
) -> None:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(serving(shared, listen=f"127.0.0.1:{free_port()}"))
            for _ in range(2)
        )
        crowd = Crowd(shared.folder, [one.address, other.address])
        stack.callback(crowd.abandon)
        crowd.start()
        for enough in (40, 80):
            wait_for(lambda enough=enough: crowd.acknowledged.count() >= enough, 2 * SECONDS)
            if one.process.poll() is None:
                one.process.kill()
        acknowledged = crowd.stop()
        assert crowd.retried > 0
        wait_for_relief(shared)
    check_everything_once(shared, acknowledged)


@pytest.mark.timeout(300)
def test_a_database_that_is_gone_for_a_while_is_waited_for_and_nothing_is_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIPSTAFF_SERVER__PUBLICATION__RELIEF_REFRESH_SECONDS", "1")
    # Its transactions survive a crash: what was acknowledged is in its log.
    with own_postgres(launch(synchronous_commit="on")) as postgres:
        config = make_on(tmp_path / "operator", postgres.url(postgres.create()))
        with (
            serving(config, listen=f"127.0.0.1:{free_port()}") as server,
            server.channel(COURT) as court,
            ExitStack() as stack,
        ):
            stub = registry_pb2_grpc.RegistryServiceStub(court)
            first, second = submit(server, range(2))
            assert (
                stub.EndRestriction(
                    ending(first, idempotency_key="a"), timeout=SECONDS
                ).relief_sequence
                == 1
            )
            early = watch(server, stack, AIRLINE)
            until_carries(early, first)
            postgres.crash()
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.EndRestriction(ending(second, idempotency_key="b"), timeout=SECONDS)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "try again" in refused.value.details()
            # Relief stays fresh meanwhile, for those who watched and for those who come.
            until_signed_again(early)
            late = watch(server, stack, RAILWAY)
            until_signed_again(late)
            until_signed_again(late)
            postgres.start()
            wait_for(
                lambda: succeeds(
                    lambda: stub.EndRestriction(
                        ending(second, idempotency_key="b"), timeout=SECONDS
                    )
                ),
                2 * SECONDS,
            )
            assert (
                stub.EndRestriction(
                    ending(second, idempotency_key="b"), timeout=SECONDS
                ).relief_sequence
                == 2
            )
            until_carries(early, second)
            wait_for(lambda: acknowledged(config), 2 * SECONDS)
        with Deployment(config) as runtime:
            verify(runtime.registry.store)
            acts = [entry.act for entry in runtime.registry.restrictions.history(second, ACTOR)]
            assert acts == ["SUBMIT", "RELEASE"]


def succeeds(call: Any) -> bool:
    try:
        call()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def watch(server: Server, stack: ExitStack, who: str) -> Iterator[distribution_pb2.WatchResponse]:
    channel = stack.enter_context(server.channel(who))
    stream: Iterator[distribution_pb2.WatchResponse] = (
        distribution_pb2_grpc.DistributionServiceStub(channel).Watch(
            distribution_pb2.WatchRequest(), timeout=5 * SECONDS
        )
    )
    return stream


def until_carries(stream: Iterator[distribution_pb2.WatchResponse], restriction: bytes) -> None:
    for message in stream:
        if restriction in message.SerializeToString():
            return


def until_signed_again(stream: Iterator[distribution_pb2.WatchResponse]) -> None:
    before = next(stream).current.timestamp
    for message in stream:
        if message.current.timestamp > before:
            return


def acknowledged(config: Config) -> bool:
    """Whether the registry knows what the one who came late enforces: it could not be kept at
    first.
    """
    with Deployment(config) as runtime, runtime.registry.store.database.read() as session:
        return (
            session.scalar(
                select(ProviderRow.acknowledged_at).where(ProviderRow.id == "riverside-rail")
            )
            is not None
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_a_stream_is_in_as_far_as_it_was_answered_and_sending_it_again_does_nothing_twice(
    tmp_path: Path, backend: str
) -> None:
    config = working_directory(tmp_path / "operator", backend)
    with serving(config, listen=f"127.0.0.1:{free_port()}") as server:
        answered: dict[str, bytes] = {}
        for attempt in range(4):
            with server.channel(COURT) as channel:
                stream = registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
                    map(submission, range(30)), timeout=SECONDS
                )
                for _ in range(3 + attempt):
                    answer = next(stream)
                    assert answer.status == registry_pb2.SUBMIT_STATUS_CREATED
                    assert (
                        answered.setdefault(answer.idempotency_key, answer.restriction_id)
                        == answer.restriction_id
                    )
                # The connection breaks here: more was sent than was answered.
        whole = submit(server, range(30))
        assert whole[: len(answered)] == list(answered.values())
        assert submit(server, range(30)) == whole
    with Deployment(config) as runtime:
        # Numbers and names, cases, audit entries: each once, and none by half.
        assert len(set(whole)) == 30
        for restriction in whole:
            assert [
                entry.act for entry in runtime.registry.restrictions.history(restriction, ACTOR)
            ] == ["SUBMIT"]
        verify(runtime.registry.store)


def stream_of(server: Server, megabytes: int) -> tuple[int, int]:
    """Sends so much in entries as large as a message may be; how many MiB the server grew by at
    most, and how many were answered.
    """
    entry = entry_message(1, BEGAN, BEGAN + TERM)
    entry.subject.names.extend("赵" * 1_000 for _ in range(7 * MEBIBYTE // 3_004))
    request = registry_pb2.SubmitRestrictionsRequest(entry=entry)
    size = request.ByteSize()
    count = megabytes * MEBIBYTE // size
    before = resident(server)
    most = answers = 0
    with server.channel(COURT) as channel:
        for answer in registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
            (request for _ in range(count)), timeout=3_000
        ):
            assert answer.status == REFUSED
            assert answer.detail
            answers += 1
            most = max(most, resident(server) - before)
    assert answers == count
    return most // MEBIBYTE, answers


def resident(server: Server) -> int:
    """Bytes of memory that the server holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    return (
        int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        * 1_024
    )


def test_a_stream_of_large_messages_needs_the_memory_of_a_few_and_larger_ones_are_refused(
    shared: Config,
) -> None:
    with serving(shared, listen=f"127.0.0.1:{free_port()}") as server:
        grown, _ = stream_of(server, 64)
        print(f"64 MiB in one stream: the server grew by {grown} MiB")
        assert grown < 128
        entry = entry_message(1, BEGAN, BEGAN + TERM)
        entry.subject.names.append("赵" * (3 * MEBIBYTE))
        with server.channel(COURT) as channel, pytest.raises(grpc.RpcError) as refused:
            list(
                registry_pb2_grpc.RegistryServiceStub(channel).SubmitRestrictions(
                    iter([_request(entry)]), timeout=SECONDS
                )
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert submit(server, range(3))[2]


def _request(entry: registry_pb2.RestrictionEntry) -> registry_pb2.SubmitRestrictionsRequest:
    return registry_pb2.SubmitRestrictionsRequest(entry=entry)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_stream_of_a_gigabyte_needs_no_more_memory(shared: Config) -> None:
    with serving(shared, listen=f"127.0.0.1:{free_port()}") as server:
        grown, _ = stream_of(server, 1_024)
        print(f"1 GiB in one stream: the server grew by {grown} MiB")
        assert grown < 128
