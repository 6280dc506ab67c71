"""Clients that submit, end, dispute and report at once, each act under a key of its own, and send
again whatever was not acknowledged.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc

from tests.support.databases import channel_to
from tests.support.messages import denial, entry_message
from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    enforcement_pb2,
    enforcement_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 10
STREAM = 5
BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
# What a broken connection, a restarting server or a database that is away looks like. Anything else
# is a fault.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def id_of(word: str, number: int) -> bytes:
    """16 bytes, the same for the same act."""
    return hashlib.sha256(f"{word}-{number}".encode()).digest()[:16]


@dataclass
class Acknowledged:
    """What the server said it has done."""

    restrictions: dict[str, bytes] = field(default_factory=dict[str, bytes])
    ended: dict[bytes, int] = field(default_factory=dict[bytes, int])
    disputes: dict[bytes, str] = field(default_factory=dict[bytes, str])
    reports: set[bytes] = field(default_factory=set[bytes])

    def count(self) -> int:
        """Returns the number of acts."""
        return len(self.restrictions) + len(self.ended) + len(self.disputes) + len(self.reports)


class Crowd:
    """The clients.

    `addresses`: of the servers; whoever is let down by one goes on with the next.
    """

    def __init__(self, folder: Path, addresses: list[str], *, first: int = 0) -> None:
        self.folder = folder
        self.addresses = addresses
        self.acknowledged = Acknowledged()
        self.retried = 0
        self._number = first
        self._faults: queue.Queue[BaseException] = queue.Queue()
        self._to_end: queue.Queue[bytes] = queue.Queue()
        self._to_dispute: queue.Queue[bytes] = queue.Queue()
        self._to_report: queue.Queue[bytes] = queue.Queue()
        self._stopping, self._abandoned = threading.Event(), threading.Event()
        work = (self._submit, self._end, self._dispute, self._report)
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in work]

    def start(self) -> None:
        """Starts all clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Acknowledged:
        """Each finishes the act that it is at, however often it has to be sent; what was
        acknowledged in all. Raises what went wrong.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        with suppress(queue.Empty):
            raise self._faults.get_nowait()
        return self.acknowledged

    def abandon(self) -> None:
        """They let go of what they are at; for the end of a test, also of one that failed.

        May be repeated.
        """
        self._abandoned.set()
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  told to the test by stop()
            self._faults.put(error)

    def _until_done(self, who: str, call: Callable[[grpc.Channel], None]) -> None:
        """Sends a request to one server after the other until one answers."""
        turn = 0
        while not self._abandoned.is_set():
            try:
                with channel_to(
                    self.addresses[turn % len(self.addresses)], self.folder / who
                ) as channel:
                    call(channel)
                    while not self._stopping.is_set():
                        call(channel)
                    return
            except grpc.RpcError as error:
                if error.code() not in PASSING:
                    raise AssertionError(f"{error.code()}: {error.details()}") from error
                self.retried += 1
                turn += 1
                self._abandoned.wait(0.1)

    def _submit(self) -> None:
        waiting: dict[str, registry_pb2.SubmitRestrictionsRequest] = {}

        def call(channel: grpc.Channel) -> None:
            while len(waiting) < STREAM:
                self._number += 1
                made = entry_message(self._number, BEGAN, BEGAN + timedelta(days=700))
                key = f"submit-{self._number}"
                waiting[key] = registry_pb2.SubmitRestrictionsRequest(
                    idempotency_key=key, entry=made
                )
            stub = registry_pb2_grpc.RegistryServiceStub(channel)
            for answer in stub.SubmitRestrictions(iter(list(waiting.values())), timeout=SECONDS):
                assert answer.status == registry_pb2.SUBMIT_STATUS_CREATED, answer.detail
                del waiting[answer.idempotency_key]
                self.acknowledged.restrictions[answer.idempotency_key] = answer.restriction_id
                turn = len(self.acknowledged.restrictions) % 4
                if turn < 3:
                    (self._to_end, self._to_dispute, self._to_report)[turn].put(
                        answer.restriction_id
                    )

        self._until_done("authorities/court", call)

    def _end(self) -> None:
        def act(channel: grpc.Channel, restriction: bytes) -> None:
            request = registry_pb2.EndRestrictionRequest(
                restriction_id=restriction,
                kind=registry_pb2.END_KIND_RELEASE,
                reason="履行完毕",
                idempotency_key=f"end-{restriction.hex()}",
            )
            answer = registry_pb2_grpc.RegistryServiceStub(channel).EndRestriction(
                request, timeout=SECONDS
            )
            self.acknowledged.ended[restriction] = answer.relief_sequence

        self._until_done("authorities/court", self._one_by_one(self._to_end, act))

    def _dispute(self) -> None:
        def act(channel: grpc.Channel, restriction: bytes) -> None:
            request = dispute_pb2.OpenDisputeRequest(
                request_id=restriction,
                restriction_id=restriction,
                decision_id=id_of("decision", 0),
                statement="不是我",
            )
            answer = dispute_pb2_grpc.DisputeServiceStub(channel).OpenDispute(
                request, timeout=SECONDS
            )
            assert answer.dispute.suspended
            self.acknowledged.disputes[restriction] = answer.dispute.case_number

        self._until_done("providers/skyline-air", self._one_by_one(self._to_dispute, act))

    def _report(self) -> None:
        def act(channel: grpc.Channel, restriction: bytes) -> None:
            report = denial(
                restriction,
                datetime.now(UTC),
                report_id=restriction,
                decision_id=restriction,
                listing_version=1,
            )
            request = enforcement_pb2.SubmitReportsRequest(reports=[report])
            (result,) = (
                enforcement_pb2_grpc.EnforcementServiceStub(channel)
                .SubmitReports(request, timeout=SECONDS)
                .results
            )
            assert result.status in {
                enforcement_pb2.EVENT_STATUS_ACCEPTED,
                enforcement_pb2.EVENT_STATUS_DUPLICATE,
            }, result.detail
            self.acknowledged.reports.add(report.report_id)

        self._until_done("providers/skyline-air", self._one_by_one(self._to_report, act))

    def _one_by_one(
        self, source: queue.Queue[bytes], act: Callable[[grpc.Channel, bytes], None]
    ) -> Callable[[grpc.Channel], None]:
        """The next one when the one before was answered; nothing to do is waited for a moment."""
        kept: list[bytes] = []

        def call(channel: grpc.Channel) -> None:
            if not kept:
                try:
                    kept.append(source.get(timeout=0.1))
                except queue.Empty:
                    return
            act(channel, kept[0])
            kept.clear()

        return call


__all__ = ["Acknowledged", "Crowd", "id_of"]
