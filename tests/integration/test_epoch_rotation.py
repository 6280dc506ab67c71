"""A new epoch over real sockets: its key comes before the first listing that uses it, and no check
on the way goes without an answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.provider_server import wait_for
from tests.support.server import enter, entry, make, name_of, resident_id
from tests.support.server_process import Server, command, free_port, publish, serving
from tipstaff_sdk import ConfigurationError, Screener, Verdict, errors
from tipstaff_sdk.keys.store import MemoryKeyStore
from tipstaff_sdk.sync.transport import connect
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.workdir.wrapping_keys import read_public, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEASURE = "AIR_TRAVEL"
LEAD = timedelta(seconds=1.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("epochs") / "operator"
    config = make(folder, listen=f"127.0.0.1:{free_port()}")
    with Deployment(config) as runtime:
        enter(runtime.registry, [entry(number) for number in range(20)])
    publish(config, "aviation")
    with serving(config) as running:
        yield running


def opened(server: Server, state: Path, **options: Any) -> Screener:
    options = {"keys_interval": 0.1, "flush_interval": 0.05, "backoff_maximum": 0.2, **options}
    return Screener.open(server.kit("skyline-air") / "tipstaff.toml", state_dir=state, **options)


def verdict(screener: Screener, number: int = 3) -> Verdict:
    return screener.check(resident_id(number), name=name_of(number), measure=MEASURE).verdict


def epoch(screener: Screener) -> int:
    loaded = screener._session.loaded
    assert loaded is not None
    return loaded.state.parameters.epoch


@pytest.mark.parametrize("profile", ["full", "lean"])
def test_the_key_comes_before_its_listing_and_every_check_is_answered(
    server: Server, tmp_path: Path, profile: str
) -> None:
    seen: Counter[Verdict] = Counter()
    done = threading.Event()
    with (
        opened(server, tmp_path / "following", profile=profile) as screener,
        opened(server, tmp_path / "old", background=False) as old,
    ):
        assert screener.wait_ready(30)
        old.sync()
        before = epoch(screener)

        def ask() -> None:
            while not done.is_set():
                seen[verdict(screener)] += 1
                seen[verdict(old)] += 1

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            with Deployment(server.config) as runtime:
                made = runtime.epochs.rotate("aviation", timedelta(days=7), LEAD)
            begins = time.monotonic() + LEAD.total_seconds()
            # The key is here, and listings go on using the one before.
            wait_for(lambda: made.number in screener._session._keys.load())
            assert time.monotonic() < begins
            assert epoch(screener) == before
            time.sleep(max(0.0, begins - time.monotonic()) + 0.05)
            # No key is asked for any more: what is here has to do.
            with screener._session._updating:  # not in the middle of asking
                screener._session._keys_due = float("inf")
                screener._session._fetch_keys = lambda: pytest.fail("a key was missing")  # type: ignore[method-assign]
            publish(server.config, "aviation")
            wait_for(lambda: epoch(screener) == made.number)
        finally:
            done.set()
            asking.join()
        # The listing before stays readable for who has not fetched the new one; then it fetches
        # that.
        assert epoch(old) == before
        assert verdict(old) is Verdict.RESTRICTED
        old.sync()
        assert epoch(old) == made.number
        assert verdict(old) is Verdict.RESTRICTED
    if profile == "full":
        assert set(seen) == {Verdict.RESTRICTED}
    else:
        # Between two listings a terminal may ask for a person; it never clears anybody, and never
        # knows nothing.
        assert set(seen) <= {Verdict.RESTRICTED, Verdict.REVIEW}
    assert seen[Verdict.RESTRICTED] > 100


def test_a_stolen_certificate_yields_no_epoch_key(server: Server, tmp_path: Path) -> None:
    """Everything of the kit but its wrapping key."""
    for options in ({"wrapping_key_file": None}, {"wrapping_key_file": tmp_path / "other.pem"}):
        if options["wrapping_key_file"]:
            write_private(tmp_path / "other.pem")
        with opened(server, tmp_path / "state", background=False, **options) as thief:
            with pytest.raises(errors.PermissionDeniedError, match="registered key only"):
                thief.sync()
            assert verdict(thief) is Verdict.UNKNOWN


def test_a_registered_key_replaces_the_kit_s(server: Server, tmp_path: Path) -> None:
    write_private(tmp_path / "own.pem")
    kit = server.kit("skyline-air")
    done = command(
        "provider",
        "wrapping-key",
        "--config",
        server.config.folder,
        "skyline-air",
        tmp_path / "own.pem",
    )
    assert done.returncode == 0, done.stderr
    try:
        with (
            opened(server, tmp_path / "old", background=False) as screener,
            pytest.raises(errors.PermissionDeniedError),
        ):
            screener.sync()
        with opened(
            server, tmp_path / "new", background=False, wrapping_key_file=tmp_path / "own.pem"
        ) as screener:
            screener.sync()
            assert verdict(screener) is Verdict.RESTRICTED
    finally:
        with Deployment(server.config) as runtime:
            public = read_public((kit / "wrapping_key.pem").read_bytes())
            runtime.registry.providers.register_wrapping_key(
                "skyline-air", public, actor=Actor.operator("test")
            )
    refused = command(
        "provider",
        "wrapping-key",
        "--config",
        server.config.folder,
        "skyline-air",
        kit / "private_key.pem",
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "another kind of key" in refused.stderr


def test_a_wrapping_key_that_cannot_be_used_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_bytes(b"junk")
    for file, reason in (
        (tmp_path / "junk.pem", "no private key in PEM"),
        (server.kit("skyline-air") / "private_key.pem", "another kind of key"),
        (tmp_path / "none.pem", "cannot read"),
    ):
        options: dict[str, Any] = {"background": False, "wrapping_key_file": file}
        with (
            opened(server, tmp_path / "state", **options) as screener,
            pytest.raises(ConfigurationError, match=reason),
        ):
            connect(screener._settings)


def test_keys_live_where_the_application_says(server: Server, tmp_path: Path) -> None:
    with opened(server, tmp_path / "first", background=False) as screener:
        settings = screener._settings
    vault = MemoryKeyStore()
    with Screener(settings, keys=vault) as screener:
        screener.sync()
        assert verdict(screener) is Verdict.RESTRICTED
    assert vault.load()
    assert not (tmp_path / "first" / "epoch-keys.json").exists()
