"""Another stretch over real sockets: who holds the old listing and who holds the new one both
decide right, each by its own parameters.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from tests.support.provider_server import wait_for
from tests.support.server import enter, entry, make, name_of, resident_id
from tests.support.server_process import Server, command, free_port, publish, serving
from tipstaff_sdk import Screener, Verdict
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import IdentifierRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_sdk.listing.sealing import Stretch

MEASURE = "AIR_TRAVEL"
OPERATOR = Actor.operator("test")
LISTED, CLEAR, LATER = 3, 900, 500
CHANGE = ("keys", "change-stretch", "--n", "4", "--new-salt", "--weaker", "--lead-hours", "0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = make(tmp_path / "operator", listen=f"127.0.0.1:{free_port()}")
    with Deployment(config) as runtime:
        enter(runtime.registry, [entry(number) for number in range(20)])
    publish(config, "aviation")
    with serving(config) as running:
        yield running


def opened(server: Server, state: Path, **options: Any) -> Screener:
    return Screener.open(
        server.kit("skyline-air") / "tipstaff.toml", state_dir=state, background=False, **options
    )


def verdict(screener: Screener, number: int, name: str | None = None) -> Verdict:
    return screener.check(
        resident_id(number), name=name or name_of(number), measure=MEASURE
    ).verdict


def stretch(screener: Screener) -> Stretch:
    loaded = screener._session.loaded
    assert loaded is not None
    return loaded.state.stretch  # type: ignore[return-value]


def changed(server: Server, *arguments: str) -> str:
    done = command(*CHANGE[:2], "--config", server.config.folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("profile", ["full", "lean"])
def test_the_old_listing_and_the_new_one_both_decide_right(
    server: Server, tmp_path: Path, profile: str
) -> None:
    with (
        opened(server, tmp_path / "old", profile=profile) as old,
        opened(server, tmp_path / "new", profile=profile) as new,
    ):
        old.sync()
        # A terminal of the lean profile has asked before, and goes on with what it has: buckets of
        # old listings are no longer given out.
        assert verdict(old, LISTED) is Verdict.RESTRICTED
        output = changed(server, *CHANGE[2:])
        assert "aviation: epoch 2 uses stretch 2" in output
        with Deployment(server.config) as runtime:
            enter(runtime.registry, [entry(LATER)])
        publish(server.config, "aviation")
        new.sync()
        assert (stretch(old).n, stretch(new).n) == (2, 4)
        assert stretch(old).salt != stretch(new).salt
        for screener in (old, new):
            assert verdict(screener, LISTED) is Verdict.RESTRICTED
            assert verdict(screener, LISTED, "另一个人") is Verdict.REVIEW
            assert verdict(screener, CLEAR) is Verdict.CLEAR
        assert verdict(new, LATER) is Verdict.RESTRICTED
        # Relief reaches both.
        with Deployment(server.config) as runtime:
            runtime.registry.restrictions.end(
                enter(runtime.registry, [entry(LISTED)])[0], EndKind.REVOKE, "示例", actor=OPERATOR
            )
        for screener in (old, new):
            wait_for(
                lambda screener=screener: (
                    screener.sync() or verdict(screener, LISTED) is Verdict.CLEAR
                )
            )
        assert stretch(old).n == 4
        assert verdict(old, LATER) is Verdict.RESTRICTED


@pytest.mark.timeout(300)
def test_a_change_that_is_killed_goes_on_where_it_was(server: Server) -> None:
    folder = str(server.config.folder)
    slow = (
        "import sys, tipstaff_server.registry.keys.stretch_change as r; r.BATCH = 1; "
        "from tipstaff_server.cli import main; sys.argv = sys.argv[1:]; main()"
    )
    arguments = [
        sys.executable,
        "-c",
        slow,
        "tipstaff-server",
        *CHANGE[:2],
        "--config",
        folder,
        "--n",
        str(1 << 15),
        "--r",
        "8",
    ]
    with Deployment(server.config) as runtime:

        def computed() -> int:
            with runtime.registry.store.database.read() as session:
                return session.scalar(select(func.count(IdentifierRow.next_stretched))) or 0

        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: computed() >= 2, 60)
        finally:
            process.kill()
            process.wait()
        before = computed()
        assert 2 <= before < 20
        status = changed(server, "--status")
        assert f"stretch 2: preparing, n={1 << 15} r=8 p=1; {before} of 20 identifiers" in status
        output = changed(server, "--lead-hours", "0", "--audience", "aviation")
        assert "aviation: epoch 2 uses stretch 2" in output
        assert computed() == 20
        assert runtime.epochs.get("rail", 2) is None
        # Once more changes nothing.
        assert "aviation: epoch 2 uses stretch 2" in changed(server, "--audience", "aviation")


@pytest.mark.timeout(300)
def test_a_change_is_cancelled_or_refused_in_one_line(server: Server) -> None:
    folder = server.config.folder
    for arguments, why in (
        ((), "no change of stretch is under way"),
        (("--cancel",), "could be cancelled"),
        (("--n", "2048"), "the least"),
        (("--n", "5", "--weaker"), "no scrypt cost"),
        (("--n", "8", "--audience", "nobody", "--weaker"), "there is no audience"),
    ):
        done = command(*CHANGE[:2], "--config", folder, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert why in done.stderr
    assert changed(server, "--status") == "in use: n=2 r=8 p=1\n"
    with Deployment(server.config) as runtime:
        begun = runtime.registry.stretch_change.begin(
            n=4, r=8, p=1, new_salt=False, weaker=True, actor=OPERATOR
        )
    assert "stretch 2: preparing" in changed(server, "--status")
    assert changed(server, "--cancel") == f"stretch {begun.number} is cancelled; nothing uses it\n"
    assert changed(server, "--status") == "in use: n=2 r=8 p=1\n"
