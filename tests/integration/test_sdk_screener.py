"""A screener over real files and a real server: from the first sync to reports, disputes and
relief, and whatever goes wrong between.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import signal
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.provider_fixtures import NAME, operator, people, server
from tests.support.provider_server import ProviderServer, wait_for
from tests.support.provider_world import AUDIENCE, HOTEL, MEASURE, Operator, resident_id, utc_now
from tipstaff_sdk.decision.decide import Decision, Outcome, Reason, Verdict
from tipstaff_sdk.enforcement.disputes import DisputeGround, DisputeState
from tipstaff_sdk.errors import (
    ClosedError,
    ConfigurationError,
    FormatError,
    InvalidIdentifierError,
    InvalidNameError,
    InvalidServiceError,
    MeasureNotCoveredError,
    NotDisputableError,
    NotFoundError,
    NotReadyError,
    OutboxFullError,
    StorageError,
    UnavailableError,
    UnknownMeasureError,
    UntrustedError,
)
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.status import Availability, SyncState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["operator", "server"]

CLEAR_ID = resident_id(500)
LISTED_ID = resident_id(0)


@pytest.fixture
def kit(operator: Operator, server: ProviderServer, tmp_path: Path) -> Path:
    return operator.kit(tmp_path / "kit", server=server.address)


@pytest.fixture
def screener(kit: Path) -> Iterator[Screener]:
    """Manual: nothing happens but what the test does."""
    with Screener.open(kit, background=False) as made:
        yield made


@pytest.fixture
def follower(kit: Path) -> Iterator[Screener]:
    """Follows the server in the background, and is ready."""
    with Screener.open(kit) as made:
        assert made.wait_ready(15)
        yield made


def verdict(
    screener: Screener, number: str = LISTED_ID, name: str = NAME
) -> tuple[Verdict, Reason]:
    decision = screener.check(number, name=name, measure=MEASURE)
    return decision.verdict, decision.reason


def test_before_the_first_sync_nothing_is_known_and_after_it_all_is_fresh(
    screener: Screener,
) -> None:
    assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)
    assert not screener.status().ready
    status = screener.sync()
    assert status.ready
    assert (status.availability, status.listing_version, status.relief_sequence) == (
        Availability.FRESH,
        1,
        0,
    )
    assert status.key_present
    assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)
    assert verdict(screener, name="李四") == (Verdict.REVIEW, Reason.NAME_MISMATCH)
    assert verdict(screener, CLEAR_ID) == (Verdict.CLEAR, Reason.NOT_LISTED)
    assert (
        screener.check(Identifier.resident_id(LISTED_ID), name=NAME, measure=MEASURE).verdict
        is Verdict.RESTRICTED
    )


def test_opening_never_waits_for_the_network(operator: Operator, tmp_path: Path) -> None:
    """The server here takes connections and never says a word."""
    begin = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        Screener.open(
            operator.kit(tmp_path / "kit", server=f"127.0.0.1:{mute.getsockname()[1]}"),
            close_timeout=0.5,
        ) as screener,
    ):
        assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)
        assert not screener.wait_ready(0.1)
        assert screener.status().sync_state is SyncState.STARTING
    # Generous, but far below any network timeout (connect_timeout is 10 s).
    assert time.monotonic() - begin < 8


def test_restart_answers_from_disk_at_once_and_needs_only_the_key(
    kit: Path, server: ProviderServer
) -> None:
    with Screener.open(kit, background=False, key_store="file") as screener:
        screener.sync()
    server.stop()
    with Screener.open(kit, background=False, key_store="file") as screener:
        assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)
    with Screener.open(kit, background=False) as screener:
        assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)
        assert screener.status().key_present is False


def test_restarted_follower_gets_its_key_although_nothing_changed(
    kit: Path, server: ProviderServer
) -> None:
    with Screener.open(kit, background=False) as screener:
        screener.sync()
    with Screener.open(kit) as screener:
        assert screener.wait_ready(15)
        assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)


def test_wrong_calls_raise_typed_errors(screener: Screener) -> None:
    screener.sync()
    with pytest.raises(InvalidIdentifierError):
        screener.check(LISTED_ID[:-1] + "0", name=NAME, measure=MEASURE)
    for name in ("", "张" * 201):
        with pytest.raises(InvalidNameError):
            screener.check(LISTED_ID, name=name, measure=MEASURE)
    with pytest.raises(UnknownMeasureError):
        screener.check(LISTED_ID, name=NAME, measure="TELEPORT")
    with pytest.raises(InvalidServiceError):
        screener.check(LISTED_ID, name=NAME, measure=HOTEL)
    assert not issubclass(MeasureNotCoveredError, UnknownMeasureError)


def test_many_at_once_agree_with_one_at_a_time(screener: Screener) -> None:
    rows: list[tuple[Identifier | str, str]] = [
        (LISTED_ID, NAME),
        (CLEAR_ID, NAME),
        (LISTED_ID[:-1] + "0", NAME),
        (CLEAR_ID, ""),
        (Identifier.resident_id(LISTED_ID), NAME),
        (Identifier.resident_id(CLEAR_ID), NAME),
        (LISTED_ID, "李四"),
        (LISTED_ID.lower(), NAME),
        ("not a number", NAME),
        *((resident_id(number), NAME) for number in range(600, 700)),
    ]
    for _ in range(2):  # without data, then with data
        entries = screener.check_many(rows, measure=MEASURE)
        assert len(entries) == len(rows)
        for (identifier, name), entry in zip(rows, entries, strict=True):
            if not isinstance(entry, Decision):
                with pytest.raises(type(entry)):
                    screener.check(identifier, name=name, measure=MEASURE)
                continue
            one = screener.check(identifier, name=name, measure=MEASURE)
            assert (entry.verdict, entry.reason) == (one.verdict, one.reason)
        assert [
            position for position, entry in enumerate(entries) if not isinstance(entry, Decision)
        ] == [2, 3, 8]
        screener.sync()
    with pytest.raises(UnknownMeasureError):
        screener.check_many(rows, measure="TELEPORT")
    with pytest.raises(InvalidServiceError):
        screener.check_many([], measure=HOTEL)
    assert screener.check_many([], measure=MEASURE) == []
    assert [
        e.verdict for e in screener.check_many(rows[:1], measure=MEASURE) if isinstance(e, Decision)
    ] == [Verdict.RESTRICTED]


def test_service_decides_and_coverage_counts_it_all(
    screener: Screener, server: ProviderServer, operator: Operator
) -> None:
    listed = people(1)
    listed[0].measures = (HOTEL,)
    operator.publish(listed)
    screener.sync()
    assert (
        screener.check(LISTED_ID, name=NAME, measure=HOTEL, service={"stars": 4}).verdict
        is Verdict.RESTRICTED
    )
    assert (
        screener.check(LISTED_ID, name=NAME, measure=HOTEL, service={"stars": 2}).reason
        is Reason.NOT_COVERED
    )
    screener.check_many(
        [(CLEAR_ID, NAME)] * 10 + [("bad", NAME)], measure=HOTEL, service={"stars": 5}
    )
    screener.sync()
    (count,) = server.counts.values()
    assert (count.measure, count.checked, count.clear, count.filter_hits, count.restricted) == (
        HOTEL,
        12,
        11,
        2,
        1,
    )
    hour = count.hour.ToDatetime(UTC)
    assert (hour.minute, hour.second) == (0, 0)
    assert abs(hour - utc_now()) < timedelta(hours=2)


def test_report_dispute_and_relief_on_the_way_round(
    follower: Screener, server: ProviderServer
) -> None:
    decision = follower.check(LISTED_ID, name=NAME, measure=MEASURE)
    report_id = follower.report(decision, Outcome.DENIED)
    wait_for(lambda: report_id in server.reports)
    report = server.reports[report_id]
    assert report.decision_id == decision.decision_id
    assert list(report.restriction_ids) == [people()[0].restriction_ids[0]]
    assert (report.measure, report.verdict, report.reason, report.outcome) == (
        MEASURE,
        Verdict.RESTRICTED,
        Reason.IN_FORCE,
        Outcome.DENIED,
    )
    assert (report.listing_version, report.relief_sequence) == (1, 0)
    dispute = follower.dispute(decision, "不是我")
    assert dispute.case_number == "D-1"
    assert dispute.suspended
    assert dispute.due - dispute.opened_at == timedelta(days=15)
    assert follower.dispute(decision, "不是我") == dispute
    progress = follower.follow_dispute(dispute.case_number)
    assert (progress.state, progress.due, progress.answered_at, progress.overdue) == (
        DisputeState.OPEN,
        dispute.due,
        None,
        False,
    )
    assert progress.explain("en") == "The dispute is being examined."
    with pytest.raises(NotFoundError, match="check the case number"):
        follower.follow_dispute("D-2")
    wait_for(lambda: verdict(follower) == (Verdict.CLEAR, Reason.LIFTED))
    wait_for(lambda: follower.status().outbox_pending == 0)


def test_another_ground_is_another_dispute_and_travels_with_it(
    follower: Screener, server: ProviderServer
) -> None:
    decision = follower.check(LISTED_ID, name=NAME, measure=MEASURE)
    plain = follower.dispute(decision, "不是我")
    named = follower.dispute(decision, "不是我", ground=DisputeGround.IDENTITY)
    assert plain.case_number != named.case_number
    assert follower.dispute(decision, "不是我", ground=DisputeGround.IDENTITY) == named
    assert server.grounds == ["OTHER", "IDENTITY", "IDENTITY"]


def test_dispute_needs_a_restriction_a_statement_and_the_network(
    follower: Screener, server: ProviderServer
) -> None:
    clear = follower.check(CLEAR_ID, name=NAME, measure=MEASURE)
    restricted = follower.check(LISTED_ID, name=NAME, measure=MEASURE)
    with pytest.raises(NotDisputableError, match="rests on no restriction"):
        follower.dispute(clear, "no")
    with pytest.raises(NotDisputableError, match="1 to 2,000"):
        follower.dispute(restricted, " ")
    with pytest.raises(NotDisputableError, match="1 to 2,000"):
        follower.dispute(restricted, "x" * 2_001)
    server.stop()
    with pytest.raises(UnavailableError):
        follower.dispute(restricted, "no")


def test_several_restrictions_have_to_be_disputed_by_name(
    operator: Operator, server: ProviderServer, screener: Screener
) -> None:
    listed = people(1)
    listed[0].restriction_ids = [b"a" * 16, b"b" * 16]
    operator.publish(listed)
    screener.sync()
    decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    assert len(decision.restrictions) == 2
    with pytest.raises(NotDisputableError, match="rests on 2 restrictions"):
        screener.dispute(decision, "no")
    assert (
        screener.dispute(decision, "no", restriction=decision.restrictions[1]).case_number == "D-1"
    )
    other = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    foreign = operator_restriction(decision)
    with pytest.raises(NotDisputableError, match="not one of this decision's"):
        screener.dispute(other, "no", restriction=foreign)


def operator_restriction(decision: Decision) -> object:
    from dataclasses import replace  # noqa: PLC0415

    return replace(decision.restrictions[0], restriction_id=b"z" * 16)


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "announced"])
def test_every_change_reaches_a_follower_and_is_acknowledged(
    operator: Operator, server: ProviderServer, kit: Path, push: bool
) -> None:
    server.push = push
    with Screener.open(kit, flush_interval=0.2) as screener:
        assert screener.wait_ready(15)
        operator.lift(people()[0].restriction_ids[0])
        wait_for(lambda: verdict(screener) == (Verdict.CLEAR, Reason.LIFTED))
        assert verdict(screener, resident_id(1)) == (Verdict.RESTRICTED, Reason.IN_FORCE)
        operator.publish(people(2))
        wait_for(lambda: screener.status().listing_version == 2)
        wait_for(
            lambda: any(
                enforced.listing == operator.repository.versions(AUDIENCE).listing
                for enforced in server.enforced
            )
        )
    assert server.calls["Watch"] == 1
    assert (server.calls["GetMetadata"] == 0) is push


def test_broken_download_is_resumed_where_it_stopped(
    operator: Operator, server: ProviderServer, screener: Screener
) -> None:
    server.chunk = 1_000
    server.break_artefacts = 2
    assert screener.sync().ready
    assert any(offset > 0 for offset in server.offsets)


def test_server_down_at_sync_keeps_the_last_data_and_says_so(
    server: ProviderServer, screener: Screener
) -> None:
    screener.sync()
    server.stop()
    with pytest.raises(UnavailableError):
        screener.sync()
    assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)
    status = screener.status()
    assert status.last_error is not None
    assert "cannot be reached" in status.last_error
    server.start()
    assert screener.sync().last_error is None


def test_failed_first_sync_is_never_ready(operator: Operator, tmp_path: Path) -> None:
    with Screener.open(operator.kit(tmp_path / "kit", server="127.0.0.1:1")) as screener:
        wait_for(lambda: screener.status().sync_state is SyncState.RETRYING)
        assert not screener.wait_ready(0.2)
        assert screener.status().availability is Availability.NONE


def test_follower_survives_a_restart_of_the_server(
    server: ProviderServer, follower: Screener
) -> None:
    server.stop()
    wait_for(lambda: follower.status().sync_state is SyncState.RETRYING)
    report_id = follower.report(
        follower.check(LISTED_ID, name=NAME, measure=MEASURE), Outcome.DENIED
    )
    status = follower.status()
    assert status.ready
    assert status.outbox_pending is not None
    assert status.outbox_pending >= 1
    server.start()
    wait_for(lambda: report_id in server.reports)
    wait_for(lambda: follower.status().sync_state is SyncState.FOLLOWING)


def test_silent_watch_is_opened_again(server: ProviderServer, kit: Path) -> None:
    with Screener.open(kit, heartbeat_timeout=0.4) as screener:
        assert screener.wait_ready(15)
        server.silent.set()
        seen = server.calls["Watch"]
        wait_for(lambda: server.calls["Watch"] > seen)
        server.silent.clear()
        wait_for(lambda: screener.status().sync_state is SyncState.FOLLOWING)


def test_wrong_certificate_and_no_certificate_are_refused(
    operator: Operator, server: ProviderServer, tmp_path: Path
) -> None:
    stranger = Operator(tmp_path / "stranger")
    kit = operator.kit(tmp_path / "kit", server=server.address)
    stranger.authority.issue_client("tipstaff://provider/aviation/x").write(tmp_path)
    with (
        Screener.open(
            kit,
            background=False,
            certificate_file=tmp_path / "certificate.pem",
            private_key_file=tmp_path / "private_key.pem",
        ) as screener,
        pytest.raises(UnavailableError, match="certificates"),
    ):
        screener.sync()
    with Screener.open(kit, background=False, certificate_file=None) as screener:
        with pytest.raises(ConfigurationError, match="certificate_file is not set"):
            screener.sync()
        assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)


def test_foreign_root_is_not_believed(
    operator: Operator, server: ProviderServer, tmp_path: Path
) -> None:
    stranger = Operator(tmp_path / "stranger")
    kit = operator.kit(tmp_path / "kit", server=server.address)
    (kit.parent / "root.json").write_bytes(stranger.repository.root_bytes())
    with Screener.open(kit, background=False) as screener:
        with pytest.raises(UntrustedError):
            screener.sync()
        assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)


def test_damaged_root_file_is_a_configuration_error(operator: Operator, tmp_path: Path) -> None:
    kit = operator.kit(tmp_path / "kit", server="127.0.0.1:1")
    (kit.parent / "root.json").write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match="trusted_root_file"):
        Screener.open(kit)


def test_freshness_goes_by_the_clock(operator: Operator, kit: Path) -> None:
    now = [utc_now()]
    with Screener(
        Settings.load(kit, options={"background": False}), clock=lambda: now[0]
    ) as screener:
        assert screener.sync().ready
        now[0] += timedelta(minutes=31)
        assert verdict(screener) == (Verdict.REVIEW, Reason.STALE_RELIEF)
        assert screener.status().availability is Availability.CACHED
        assert not screener.status().ready
        assert verdict(screener, CLEAR_ID) == (Verdict.CLEAR, Reason.NOT_LISTED)
        now[0] += timedelta(days=8)
        assert verdict(screener, CLEAR_ID) == (Verdict.UNKNOWN, Reason.EXPIRED)
        assert screener.status().availability is Availability.NONE


def test_gap_in_relief_asks_for_a_person(operator: Operator, screener: Screener) -> None:
    operator.publish_segment(3, 4, [(4, b"x" * 16)])
    status = screener.sync()
    assert not status.relief_complete
    assert status.availability is Availability.CACHED
    assert verdict(screener) == (Verdict.REVIEW, Reason.STALE_RELIEF)


def test_new_epoch_waits_for_its_key_on_the_old_listing(
    operator: Operator, server: ProviderServer, screener: Screener
) -> None:
    screener.sync()
    operator.epochs[2] = os.urandom(32)
    server.withheld_epochs.add(2)
    operator.publish(people(1))
    with pytest.raises(NotReadyError, match="no key for epoch 2"):
        screener.sync()
    assert verdict(screener, resident_id(1)) == (Verdict.RESTRICTED, Reason.IN_FORCE)
    server.withheld_epochs.clear()
    screener.sync()
    assert verdict(screener, resident_id(1)) == (Verdict.CLEAR, Reason.NOT_LISTED)
    assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)


def test_refused_events_are_set_aside_and_the_others_arrive(
    server: ProviderServer, screener: Screener
) -> None:
    screener.sync()
    decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    ids = [
        screener.report(decision, outcome)
        for outcome in (Outcome.DENIED, Outcome.NOTED, Outcome.OVERRIDDEN)
    ]
    server.refuse = lambda event: getattr(event, "outcome", None) == Outcome.NOTED
    status = screener.sync()
    assert set(server.reports) == {ids[0], ids[2]}
    assert (status.outbox_pending, status.outbox_set_aside) == (0, 1)
    ((event, reason),) = screener.set_aside()
    assert (event.event_id, reason) == (ids[1], "not this one")
    server.refuse = lambda event: False
    assert screener.retry_set_aside() == 1
    assert screener.sync().outbox_set_aside == 0
    assert set(server.reports) == set(ids)


def test_event_that_spoils_its_batch_is_found_and_set_aside(
    operator: Operator, server: ProviderServer, screener: Screener
) -> None:
    screener.sync()
    decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    good = [screener.report(decision, Outcome.DENIED) for _ in range(6)]
    bad = screener.report(
        screener.check(CLEAR_ID, name=NAME, measure=HOTEL, service={"stars": 5}), Outcome.NOTED
    )
    server.poison = HOTEL
    status = screener.sync()
    assert (status.outbox_pending, status.outbox_set_aside) == (0, 1)
    assert set(server.reports) == set(good)
    assert screener.set_aside()[0][0].event_id == bad


def test_reports_travel_in_batches_of_a_thousand(
    server: ProviderServer, screener: Screener
) -> None:
    screener.sync()
    decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    threads = [
        threading.Thread(
            target=lambda: [screener.report(decision, Outcome.DENIED) for _ in range(150)]
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    screener.sync()
    assert len(server.reports) == 1_200
    assert server.batches == [1_000, 200]


def test_full_outbox_refuses_aloud_and_coverage_leaves_room_for_reports(
    kit: Path, server: ProviderServer
) -> None:
    with Screener.open(kit, background=False, outbox_limit=4) as screener:
        screener.sync()
        server.stop()
        decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
        for _ in range(4):
            screener.report(decision, Outcome.DENIED)
        with pytest.raises(OutboxFullError):
            screener.report(decision, Outcome.DENIED)
        with pytest.raises(UnavailableError):
            screener.sync()
        assert screener.status().outbox_pending == 4
        server.start()
        screener.sync()
        assert len(server.reports) == 4
        screener.sync()  # the counts found no room until the reports had left
        assert server.checked() == 1


def test_disk_full_while_syncing_is_an_error_and_the_last_data_stays(
    operator: Operator, screener: Screener
) -> None:
    screener.sync()
    operator.publish(people(200))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(StorageError):
            screener.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)
    assert screener.status().listing_version == 1
    assert screener.sync().listing_version == 2


@pytest.mark.parametrize("name", ["filter", "pack"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_damaged_file_on_disk_is_not_used_and_the_next_sync_repairs_it(
    kit: Path, operator: Operator, name: str, harm: str
) -> None:
    with Screener.open(kit, background=False, key_store="file") as screener:
        screener.sync()
        artefact = getattr(screener._session.loaded, name).content
        del artefact
        path = (
            screener._session.loaded.verified.roles[f"listing-{AUDIENCE}"]
            .targets[f"listing/{AUDIENCE}/{name}"]
            .file
        )
    content = bytearray(path.read_bytes())
    path.chmod(0o600)
    path.unlink()
    if harm == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "truncate":
        path.write_bytes(content[:-7])
    with Screener.open(kit, background=False, key_store="file") as screener:
        assert verdict(screener) == (Verdict.UNKNOWN, Reason.NO_DATA)
        screener.sync()
        assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)


def test_signed_listing_that_is_no_listing_is_refused_and_the_last_one_stays(
    operator: Operator, screener: Screener
) -> None:
    screener.sync()
    work = operator.folder / "nonsense"
    shutil.copytree(operator.folder / "build-1", work)
    (work / "filter").write_bytes(b"signed nonsense")
    artefacts = {
        f"listing/{AUDIENCE}/{name}": work / name for name in ("filter", "pack", "parameters")
    }
    proposal = operator.repository.propose_listing(
        AUDIENCE, artefacts, operator.keys.signer(f"listing-{AUDIENCE}-builder")
    )
    proposal = operator.repository.sign_off(
        proposal, operator.keys.signer(f"listing-{AUDIENCE}-signoff")
    )
    operator.repository.publish_listing(
        proposal, operator.keys.signer("snapshot"), operator.keys.signer("timestamp")
    )
    with pytest.raises(FormatError, match="filter"):
        screener.sync()
    assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)


def test_site_without_a_network_reads_a_mirror(operator: Operator, tmp_path: Path) -> None:
    kit = operator.kit(
        tmp_path / "kit", mirror_dir=str(operator.repository.path / AUDIENCE), key_store="file"
    )
    with Screener.open(kit) as screener:
        screener._session._keys.save(operator.epochs)
        assert screener.sync().ready
        decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
        assert decision.verdict is Verdict.RESTRICTED
        screener.report(decision, Outcome.DENIED)
        assert screener.sync().outbox_pending is not None


def test_nowhere_to_fetch_from_is_a_configuration_error(operator: Operator, tmp_path: Path) -> None:
    with (
        Screener.open(operator.kit(tmp_path / "kit"), background=False) as screener,
        pytest.raises(ConfigurationError, match="nowhere to fetch from"),
    ):
        screener.sync()


def test_unusable_state_dir_is_a_configuration_error(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="state_dir"):
        Screener.open(operator.kit(tmp_path / "kit"), state_dir=tmp_path / "file" / "state")


def test_listeners_hear_of_changes_until_they_stop_listening(
    operator: Operator, screener: Screener
) -> None:
    heard: list[int | None] = []
    stop = screener.on_change(lambda status: heard.append(status.listing_version))
    screener.on_change(lambda status: 1 / 0)
    screener.sync()
    assert heard == [1]
    operator.publish(people(2))
    screener.sync()
    assert heard == [1, 2]
    stop()
    stop()
    operator.publish(people(3))
    screener.sync()
    assert heard == [1, 2]


def test_closing_leaves_no_thread_descriptor_or_socket_and_keeps_the_counts(
    kit: Path, server: ProviderServer
) -> None:
    def cycle() -> None:
        with Screener.open(kit) as screener:
            assert screener.wait_ready(15)
            screener.report(screener.check(LISTED_ID, name=NAME, measure=MEASURE), Outcome.DENIED)

    cycle()  # grpc makes a few descriptors of its own, once
    server.stop()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names are enough
    server.start()
    for _ in range(3):
        cycle()
    server.stop()
    assert {
        thread.name for thread in threading.enumerate() if thread.name.startswith("tipstaff")
    } == set()
    wait_for(lambda: threading.active_count() <= threads)
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208  names are enough
    assert len(server.reports) == 4
    assert server.checked() == 4


def test_closing_is_idempotent_and_later_calls_say_so(screener: Screener) -> None:
    screener.sync()
    decision = screener.check(LISTED_ID, name=NAME, measure=MEASURE)
    screener.close()
    screener.close()
    assert screener.status().sync_state is SyncState.CLOSED
    assert screener.status().outbox_error is not None
    assert not screener.wait_ready(0.1)
    for call in (
        lambda: screener.check(LISTED_ID, name=NAME, measure=MEASURE),
        lambda: screener.check_many([], measure=MEASURE),
        lambda: screener.report(decision, Outcome.DENIED),
        lambda: screener.dispute(decision, "no"),
        screener.sync,
        screener.set_aside,
    ):
        with pytest.raises(ClosedError):
            call()


def test_closing_is_bounded_when_the_server_hangs(kit: Path, server: ProviderServer) -> None:
    screener = Screener.open(kit, close_timeout=0.5)
    assert screener.wait_ready(15)
    screener.report(screener.check(LISTED_ID, name=NAME, measure=MEASURE), Outcome.DENIED)
    with server.lock:  # the server takes reports under this lock, so sending hangs
        time.sleep(0.3)
        screener.report(screener.check(LISTED_ID, name=NAME, measure=MEASURE), Outcome.DENIED)
        begin = time.monotonic()
        screener.close()
        took = time.monotonic() - begin
    assert took < 10  # request_timeout alone is 30 s
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tipstaff")]
    with Screener.open(kit, background=False) as again:
        again.sync()
    assert len(server.reports) == 2


def test_async_lifecycle_does_not_block_the_loop(kit: Path, server: ProviderServer) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        async with await Screener.aopen(kit) as screener:
            assert await asyncio.to_thread(screener.wait_ready, 15)
            assert verdict(screener) == (Verdict.RESTRICTED, Reason.IN_FORCE)
            with server.lock:
                screener.report(
                    screener.check(LISTED_ID, name=NAME, measure=MEASURE), Outcome.DENIED
                )
                before = ticks
                closing = asyncio.create_task(screener.__aexit__(None, None, None))
                await asyncio.sleep(0.2)
                assert ticks > before + 5
            await closing
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tipstaff")]


def test_threads_check_while_data_changes(operator: Operator, follower: Screener) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def check() -> None:
        while not stop.is_set():
            made = follower.check(resident_id(1), name=NAME, measure=MEASURE)
            if made.verdict is not Verdict.RESTRICTED:
                wrong.append(made)
            time.sleep(0.0005)

    threads = [threading.Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    for count in range(3, 8):
        operator.publish(people(count))
        operator.lift(bytes([count]) * 16)
    wait_for(lambda: follower.status().listing_version == 6)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_identifier_or_name_in_any_log_record(
    follower: Screener, server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    decision = follower.check(LISTED_ID, name=NAME, measure=MEASURE)
    follower.report(decision, Outcome.DENIED)
    with pytest.raises(InvalidIdentifierError) as caught:
        follower.check(LISTED_ID[:-1] + "0", name=NAME, measure=MEASURE)
    follower.dispute(decision, "不是我")
    server.stop()
    wait_for(lambda: follower.status().sync_state is SyncState.RETRYING)
    follower.close()
    said = (
        caplog.text + repr(follower) + repr(decision) + str(caught.value) + repr(follower.status())
    )
    assert LISTED_ID[:14] not in said
    assert NAME not in said
    assert "不是我" not in said
    ours = {
        record.name
        for record in caplog.records
        if record.name.startswith("tipstaff") and "signing" not in record.name
    }
    assert ours == {"tipstaff"}


def test_open_without_settings_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="missing setting audience"):
        Screener.open()
    assert datetime.now(UTC).tzinfo is not None
