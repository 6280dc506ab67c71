"""Over real sockets: after a change a provider transfers what changed, and never ends with anything
but the signed listing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.provider_server import wait_for
from tests.support.server import COURT, enter, entry, make, name_of, resident_id
from tests.support.server_process import command, free_port, publish, serving
from tipstaff_sdk.decision.decide import Verdict
from tipstaff_sdk.screener import Screener
from tipstaff_sdk.sync.status import SyncState
from tipstaff_sdk.sync.transport import GrpcFetcher
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_signing.keys.files import builder_key, signoff_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.server_process import Server

AUDIENCE, PROVIDER, MEASURE = "aviation", "skyline-air", "AIR_TRAVEL"
PEOPLE = 600
# How long anything may take before it counts as lost.
SECONDS = 20


@dataclass
class Transferred:
    """Artefacts fetched, by name, and their bytes. What is pushed is not among them."""

    names: list[str] = field(default_factory=list)
    bytes: int = 0

    def take(self) -> tuple[list[str], int]:
        """What came since the last call: "filter", "filter-from" …, sorted, and the bytes."""
        names, size = (
            sorted(
                name.rpartition("-from-")[0] + "-from" if "-from-" in name else name
                for name in self.names
            ),
            self.bytes,
        )
        self.names, self.bytes = [], 0
        return names, size


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = make(
        tmp_path_factory.mktemp("deltas") / "operator",
        providers=[f"{AUDIENCE}/{PROVIDER}"],
        listen=f"127.0.0.1:{free_port()}",
    )
    with Deployment(config) as runtime:
        enter(runtime.registry, [entry(number) for number in range(PEOPLE)])
    publish(config, AUDIENCE)
    with serving(config) as running:
        yield running


@pytest.fixture
def transferred(monkeypatch: pytest.MonkeyPatch) -> Transferred:
    seen, honest = Transferred(), GrpcFetcher.artefact

    def artefact(self: GrpcFetcher, path: str, offset: int) -> Iterator[bytes]:
        seen.names.append(path.rpartition("/")[2].partition(".")[2])
        for piece in honest(self, path, offset):
            seen.bytes += len(piece)
            yield piece

    monkeypatch.setattr(GrpcFetcher, "artefact", artefact)
    return seen


@contextmanager
def screening(server: Server, state: Path, *, background: bool = False) -> Iterator[Screener]:
    with Screener.open(
        server.kit(PROVIDER) / "tipstaff.toml", state_dir=state, background=background
    ) as screener:
        if background:
            assert screener.wait_ready(SECONDS)
        else:
            screener.sync()
        yield screener


def verdict(screener: Screener, number: int) -> Verdict:
    return screener.check(resident_id(number), name=name_of(number), measure=MEASURE).verdict


def change(server: Server, came: int, gone: int) -> None:
    """One person more and one less in the registry."""
    with Deployment(server.config) as runtime:
        enter(runtime.registry, [entry(came)])
        runtime.registry.restrictions.end(
            enter(runtime.registry, [entry(gone)])[0], EndKind.RELEASE, "performed", actor=COURT
        )


def whole_bytes(server: Server) -> int:
    with Deployment(server.config) as runtime:
        found = runtime.published(AUDIENCE)
        return sum(
            file.length
            for name in ("filter", "pack")
            if (file := found.find(f"listing/{AUDIENCE}/{name}"))
        )


def test_two_publications_and_a_sync_between_transfer_only_deltas(
    server: Server, tmp_path: Path, transferred: Transferred
):
    with screening(server, tmp_path) as screener:
        first, size = transferred.take()
        assert {"filter", "pack", "parameters"} <= set(first)
        assert size > whole_bytes(server)
        change(server, came=1_000, gone=0)
        done = command("publish", "--config", server.config.folder, "--audience", AUDIENCE)
        assert done.returncode == 0, done.stderr
        assert "identifiers since the last build: 1 more, 1 gone" in done.stdout
        version = screener.status().listing_version
        screener.sync()
        names, size = transferred.take()
        assert [name for name in names if "-" not in name or "from" in name] == [
            "filter-from",
            "pack-from",
            "parameters",
        ]
        assert size < 2_000 < whole_bytes(server) / 100
        assert screener.status().listing_version == (version or 0) + 1
        assert (verdict(screener, 1_000), verdict(screener, 0), verdict(screener, 1)) == (
            Verdict.RESTRICTED,
            Verdict.CLEAR,
            Verdict.RESTRICTED,
        )
        screener.sync()
        assert transferred.take() == ([], 0)


def test_who_slept_through_several_listings_follows_the_chain(
    server: Server, tmp_path: Path, transferred: Transferred
):
    with screening(server, tmp_path):
        pass
    transferred.take()
    for number in range(3):
        change(server, came=1_010 + number, gone=10 + number)
        publish(server.config, AUDIENCE)
    with screening(server, tmp_path) as screener:
        names, size = transferred.take()
        assert names.count("filter-from") == names.count("pack-from") == 3
        assert "filter" not in names
        assert "pack" not in names
        assert size < whole_bytes(server) / 20
        assert all(verdict(screener, 1_010 + number) is Verdict.RESTRICTED for number in range(3))
        assert all(verdict(screener, 10 + number) is Verdict.CLEAR for number in range(3))


def test_a_push_carries_the_deltas_so_that_a_follower_asks_for_nothing(
    server: Server, tmp_path: Path, transferred: Transferred
):
    with screening(server, tmp_path, background=True) as screener:
        # Ready it is from the first contact on; only an open watch is pushed to.
        wait_for(lambda: screener.status().sync_state is SyncState.FOLLOWING, SECONDS)
        transferred.take()
        before = screener.status().listing_version or 0
        change(server, came=1_020, gone=20)
        publish(server.config, AUDIENCE)
        wait_for(
            lambda: (
                (screener.status().listing_version or 0) > before
                and verdict(screener, 20) is Verdict.CLEAR
            ),
            SECONDS,
        )
        assert verdict(screener, 1_020) is Verdict.RESTRICTED
        assert transferred.take() == ([], 0)


def wrong(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("number", "harm"),
    [(1_030, wrong), (1_040, lambda content: content[:-1])],
    ids=["altered", "truncated"],
)
def test_a_wrong_delta_falls_back_to_the_whole_file(
    server: Server,
    tmp_path: Path,
    transferred: Transferred,
    number: int,
    harm: Callable[[bytes], bytes],
):
    """Signed by both keys: a publisher that is wrong itself."""
    with screening(server, tmp_path) as screener:
        transferred.take()
        with Deployment(server.config) as runtime:
            enter(runtime.registry, [entry(number)])
            offer_wrong_deltas(runtime, tmp_path, harm)
        screener.sync()
        names, size = transferred.take()
        assert {"filter", "pack"} <= set(names)
        assert size > whole_bytes(server)
        assert verdict(screener, number) is Verdict.RESTRICTED
        screener.sync()
        assert transferred.take() == ([], 0)
        # And on from there over deltas, whatever came before.
        change(server, came=number + 1, gone=number - 1_000)
        publish(server.config, AUDIENCE)
        screener.sync()
        names, _ = transferred.take()
        assert {"filter-from", "pack-from"} <= set(names)
        assert not {"filter", "pack"} & set(names)


def offer_wrong_deltas(runtime: Deployment, folder: Path, harm: Callable[[bytes], bytes]) -> None:
    build(runtime, AUDIENCE)
    waiting = runtime.repository.proposal(AUDIENCE)
    assert waiting is not None
    artefacts = dict(waiting.artefacts)
    for path in waiting.deltas:
        artefacts[path] = folder / path.rpartition("/")[2]
        artefacts[path].write_bytes(harm(waiting.artefacts[path].read_bytes()))
    keys, deltas = runtime.keys, waiting.deltas
    proposal = runtime.repository.propose_listing(
        AUDIENCE, artefacts, keys.signer(builder_key(AUDIENCE)), deltas=deltas
    )
    runtime.repository.sign_off(proposal, keys.signer(signoff_key(AUDIENCE)))
    publishing.publish(runtime, AUDIENCE)
