"""Deltas of listings: what is published, what the sign-off looks at, and what a build leaves behind
wherever it is killed.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.server import COURT, enter, entry, make
from tests.support.signing import FaultyDisk, KilledError
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack, parse_bucket
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.errors import SignOffRefusedError
from tipstaff_server.listing import deltas
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.repository.history import IdentifierChange
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_signing import Delta, DirectoryFetcher, Reader, Repository
from tipstaff_signing.files import sha256_file
from tipstaff_signing.keys.files import builder_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tipstaff_server.repository.history import Built
    from tipstaff_server.repository.published import PublishedDelta
    from tipstaff_signing.model import Proposal

AUDIENCE = "aviation"
# Enough that the delta of a few is well below half of the filter.
PEOPLE = 600
FILTER, PACK = f"listing/{AUDIENCE}/filter", f"listing/{AUDIENCE}/pack"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment with one published listing, to be copied."""
    config = make(
        tmp_path_factory.mktemp("deltas") / "operator", providers=[f"{AUDIENCE}/skyline-air"]
    )
    with Deployment(config) as opened:
        enter(opened.registry, [entry(number) for number in range(PEOPLE)])
        publish(opened)
    return config.folder


@pytest.fixture
def runtime(origin: Path, tmp_path: Path) -> Iterator[Deployment]:
    shutil.copytree(origin, tmp_path / "operator")
    with Deployment(Config.load(tmp_path / "operator")) as opened:
        yield opened


def publish(runtime: Deployment) -> Built:
    built = build(runtime, AUDIENCE)
    sign_off(runtime, AUDIENCE, accept_growth=True)
    publishing.publish(runtime, AUDIENCE)
    return built


def more(runtime: Deployment, *numbers: int) -> Built:
    """A listing with these people more."""
    enter(runtime.registry, [entry(number) for number in numbers])
    return publish(runtime)


def chain(runtime: Deployment, path: str) -> list[PublishedDelta]:
    return runtime.published(AUDIENCE).chain(path)


def published(runtime: Deployment, path: str) -> Path:
    found = runtime.published(AUDIENCE).find(path)
    assert found is not None
    return found.file


@pytest.mark.parametrize("path", [FILTER, PACK])
def test_each_listing_carries_the_way_from_those_before(runtime: Deployment, path: str):
    held = [published(runtime, path)]
    assert not chain(runtime, path)
    for number in range(4):
        restriction = enter(runtime.registry, [entry(number)])[0]
        runtime.registry.restrictions.end(restriction, EndKind.RELEASE, "performed", actor=COURT)
        more(runtime, PEOPLE + number)
        held.append(published(runtime, path))
        steps = chain(runtime, path)
        assert len(steps) == number + 1
        for start in range(number + 1):
            made = b"".join(assemble(path, held[start], [step.file for step in steps[start:]]))
            assert made == held[-1].read_bytes()


def test_a_chain_has_so_many_steps_and_no_more(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deltas, "MOST_STEPS", 2)
    steps: list[list[PublishedDelta]] = []
    for number in range(4):
        assert more(runtime, PEOPLE + number).deltas == 2 * min(number + 1, 2)
        steps.append(chain(runtime, PACK))
    assert [step.path for step in steps[3]] == [steps[2][1].path, steps[3][1].path]


def test_a_chain_is_shorter_than_the_file(runtime: Deployment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deltas, "MOST_SHARE", 0.05)
    more(runtime, *range(PEOPLE, PEOPLE + 20))
    (first,) = chain(runtime, PACK)
    more(runtime, *range(PEOPLE + 20, PEOPLE + 40))
    (second,) = chain(runtime, PACK)
    assert second.delta.base == first.delta.result
    assert (
        second.length
        < published(runtime, PACK).stat().st_size * 0.05
        < first.length + second.length
    )


def test_what_is_mostly_new_has_no_delta(runtime: Deployment):
    more(runtime, PEOPLE)
    assert more(runtime, *range(PEOPLE + 1, PEOPLE * 9 // 4)).deltas == 0
    assert not chain(runtime, FILTER) + chain(runtime, PACK)


def test_a_listing_without_a_change_carries_the_chain_on(runtime: Deployment):
    more(runtime, PEOPLE)
    before = chain(runtime, FILTER), chain(runtime, PACK)
    assert publish(runtime).change == IdentifierChange(0, 0)
    assert (chain(runtime, FILTER), chain(runtime, PACK)) == before


def test_what_comes_again_makes_no_endless_chain(runtime: Deployment):
    """Back to a file that was published before, and on from there."""
    first = published(runtime, PACK).read_bytes()
    (restriction,) = enter(runtime.registry, [entry(PEOPLE)])
    publish(runtime)
    runtime.registry.restrictions.end(restriction, EndKind.RELEASE, "performed", actor=COURT)
    publish(runtime)
    assert published(runtime, PACK).read_bytes() == first
    assert len(chain(runtime, PACK)) == 2
    more(runtime, PEOPLE + 1)
    for step in chain(runtime, PACK):
        assert step.delta.target == PACK
    assert chain(runtime, PACK)[-1].delta.result == sha256_file(published(runtime, PACK))[1]


def test_a_rotation_has_no_delta(runtime: Deployment):
    more(runtime, PEOPLE)
    runtime.epochs.rotate(AUDIENCE, timedelta(days=7))
    built = publish(runtime)
    assert (built.deltas, built.change) == (0, None)
    assert more(runtime, PEOPLE + 1).deltas == 2


def test_a_filter_that_is_full_is_laid_out_anew_and_the_pack_has_its_delta(runtime: Deployment):
    with BloomFilter.open(published(runtime, FILTER)) as filter_:
        room = filter_.capacity - PEOPLE
    more(runtime, *range(PEOPLE, PEOPLE + room))
    assert len(chain(runtime, FILTER)) == 1
    more(runtime, PEOPLE + room)
    assert not chain(runtime, FILTER)
    assert len(chain(runtime, PACK)) == 2


def test_a_filter_with_far_too_much_room_is_laid_out_anew(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
):
    with BloomFilter.open(published(runtime, FILTER)) as filter_:
        before = filter_.capacity
    for restriction in enter(runtime.registry, [entry(number) for number in range(30)]):
        runtime.registry.restrictions.end(restriction, EndKind.RELEASE, "performed", actor=COURT)
    for most, kept in ((2, True), (1, False)):
        monkeypatch.setattr("tipstaff_server.listing.build.LEAST_ROOM", 0)
        monkeypatch.setattr("tipstaff_server.listing.build.MOST_ROOM", most)
        publish(runtime)
        with BloomFilter.open(published(runtime, FILTER)) as filter_:
            assert (filter_.capacity == before) is kept


def test_packs_with_other_bucket_bits_have_no_delta(runtime: Deployment, tmp_path: Path):
    """Whatever makes a builder take more buckets."""
    found = runtime.published(AUDIENCE)
    for more_bits, offered in ((0, 1), (1, 0)):
        with (
            Pack.open(published(runtime, PACK)) as old,
            PackBuilder(old.epoch, bucket_bits=old.bucket_bits + more_bits) as builder,
        ):
            for prefix in range(1 << old.bucket_bits):
                for locator, copy in parse_bucket(old.bucket(prefix), prefix, old.bucket_bits):
                    builder.add(locator, *copy)
            builder.add(bytes(8), bytes(16), bytes(272))
            builder.write(tmp_path / "pack")
        assert len(deltas.make_deltas(found, {PACK: tmp_path / "pack"}, tmp_path)) == offered


@pytest.mark.parametrize("path", [FILTER, PACK])
def test_a_published_file_that_is_damaged_or_gone_costs_its_delta_only(
    runtime: Deployment, path: str
):
    published(runtime, path).write_bytes(b"damaged")
    enter(runtime.registry, [entry(PEOPLE)])
    assert build(runtime, AUDIENCE).deltas == 1
    published(runtime, path).unlink()
    assert build(runtime, AUDIENCE).deltas == 1


def test_a_delta_that_is_gone_is_not_carried_on(runtime: Deployment):
    more(runtime, PEOPLE)
    chain(runtime, PACK)[0].file.unlink()
    more(runtime, PEOPLE + 1)
    assert len(chain(runtime, PACK)) == 1
    assert len(chain(runtime, FILTER)) == 2


class Proposed(NamedTuple):
    """A proposal's files and deltas, to be tampered with."""

    files: dict[str, Path]
    deltas: dict[str, Delta]
    old: str  # SHA-256 of the published pack
    name: str  # target path of the new delta of the pack
    carried: str  # ... and of the one that was published before

    def rewrite(self, path: str, change: Callable[[bytes], bytes]) -> None:
        content = self.files[path].read_bytes()
        self.files[path].unlink()
        self.files[path].write_bytes(change(content))


def say(proposed: Proposed, path: str, **fields: str) -> None:
    known = proposed.deltas[path]
    proposed.deltas[path] = Delta(
        **{"target": known.target, "base": known.base, "result": known.result, **fields}
    )


def rename(proposed: Proposed) -> None:
    """The published delta under another name: then it does not start from the published listing."""
    path = f"{PACK}-again"
    proposed.files[path], proposed.deltas[path] = (
        proposed.files[proposed.carried],
        proposed.deltas[proposed.carried],
    )


def swap(proposed: Proposed) -> None:
    proposed.files[proposed.name] = proposed.files[proposed.carried]


SHA = "ab" * 32
ATTACKS: dict[str, tuple[Callable[[Proposed], object], str]] = {
    "a byte changed": (
        lambda it: it.rewrite(it.name, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        "does not give the new one",
    ),
    "truncated": (
        lambda it: it.rewrite(it.name, lambda data: data[:-1]),
        "does not give the new one",
    ),
    "empty": (lambda it: it.rewrite(it.name, lambda data: b""), "does not give the new one"),
    "another delta's content": (swap, "does not give the new one"),
    "from another base": (
        lambda it: say(it, it.name, base=SHA),
        "does not start from the published listing",
    ),
    "to something else": (lambda it: say(it, it.name, result=SHA), "does not lead to the listing"),
    "for the other file": (
        lambda it: say(it, it.name, target=FILTER),
        "does not start from the published listing",
    ),
    "for the parameters": (
        lambda it: say(it, it.name, target=f"listing/{AUDIENCE}/parameters"),
        "does not start from the published listing",
    ),
    "a carried one, altered": (
        lambda it: it.rewrite(it.carried, lambda data: data[:-1] + b"?"),
        "does not start from the published",
    ),
    "a carried one that says something else": (
        lambda it: say(it, it.carried, base=SHA),
        "does not start from the published listing",
    ),
    "a carried one under another name": (rename, "does not start from the published listing"),
    "a file more that is no delta": (lambda it: it.deltas.pop(it.name), "holds other files"),
}


def propose(runtime: Deployment, folder: Path, tamper: Callable[[Proposed], object]) -> Proposal:
    """An honest build's proposal, tampered with and signed by the builder's key."""
    build(runtime, AUDIENCE)
    waiting = runtime.repository.proposal(AUDIENCE)
    assert waiting is not None
    files = {}
    for path, file in waiting.artefacts.items():
        files[path] = folder / path.rpartition("/")[2]
        files[path].write_bytes(file.read_bytes())
    old = sha256_file(published(runtime, PACK))[1]
    (name,) = (path for path, delta in waiting.deltas.items() if delta.base == old)
    (carried,) = (path for path, delta in waiting.deltas.items() if delta.result == old)
    proposed = Proposed(files, dict(waiting.deltas), old, name, carried)
    tamper(proposed)
    # The version in the parameters is the next one: a refused number is not used again, and this
    # proposal takes the following.
    runtime.repository.refuse(waiting, ["a test"])
    parameters = runtime.published(AUDIENCE).parameters()
    assert parameters is not None
    parameters.ParseFromString(files[f"listing/{AUDIENCE}/parameters"].read_bytes())
    parameters.version = waiting.version + 1
    files[f"listing/{AUDIENCE}/parameters"].write_bytes(
        parameters.SerializeToString(deterministic=True)
    )
    signer = runtime.keys.signer(builder_key(AUDIENCE))
    return runtime.repository.propose_listing(
        AUDIENCE, proposed.files, signer, deltas=proposed.deltas
    )


def test_the_sign_off_refuses_what_does_not_lead_from_the_published_listing_to_the_new_one(
    runtime: Deployment, tmp_path: Path
):
    """A table of attacks on one published listing; the honest one at the end shows that the table
    proves something.
    """
    more(runtime, PEOPLE)
    enter(runtime.registry, [entry(PEOPLE + 1)])
    for number, (attack, (tamper, reason)) in enumerate(ATTACKS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        propose(runtime, folder, tamper)
        with pytest.raises(SignOffRefusedError) as refused:
            sign_off(runtime, AUDIENCE)
        assert reason in str(refused.value), attack
    folder = tmp_path / "honest"
    folder.mkdir()
    propose(runtime, folder, lambda it: None)
    sign_off(runtime, AUDIENCE)
    publishing.publish(runtime, AUDIENCE)
    assert len(chain(runtime, PACK)) == 2


def test_a_first_listing_with_a_delta_is_refused(tmp_path: Path):
    with Deployment(make(tmp_path / "operator", providers=[])) as runtime:
        build(runtime, AUDIENCE)
        waiting = runtime.repository.proposal(AUDIENCE)
        assert waiting is not None
        (tmp_path / "delta").write_bytes(b"delta")
        files = {**waiting.artefacts, f"{PACK}-from-nowhere": tmp_path / "delta"}
        signer = runtime.keys.signer(builder_key(AUDIENCE))
        runtime.repository.propose_listing(
            AUDIENCE, files, signer, deltas={f"{PACK}-from-nowhere": Delta(PACK, SHA, SHA[::-1])}
        )
        with pytest.raises(SignOffRefusedError, match="does not start from the published listing"):
            sign_off(runtime, AUDIENCE)


def test_a_build_says_what_changed(runtime: Deployment):
    (restriction,) = enter(runtime.registry, [entry(0)])
    runtime.registry.restrictions.end(restriction, EndKind.RELEASE, "performed", actor=COURT)
    assert more(runtime, PEOPLE, PEOPLE + 1).change == IdentifierChange(added=2, removed=1)
    enter(runtime.registry, [entry(PEOPLE + 2)])
    assert build(runtime, AUDIENCE, from_scratch=True).change == IdentifierChange(
        added=1, removed=0
    )


def test_killed_anywhere_the_published_listing_is_whole_and_the_next_one_too(
    runtime: Deployment, tmp_path: Path
):
    """Every seventh step that the repository takes to propose, sign and publish, and the one
    between proposal and what is kept.
    """
    enter(runtime.registry, [entry(PEOPLE)])
    root, at, fired, fetched = runtime.repository.root_bytes(), 0, True, set[int]()
    reader = Reader(
        tmp_path / "state",
        view=AUDIENCE,
        trusted_root=root,
        roles=[f"listing-{AUDIENCE}"],
        assemble=assemble,
    )
    while fired:
        at += 7
        disk = FaultyDisk("kill", at)
        runtime.repository = Repository(runtime.repository.path, disk=disk)
        with suppress(KilledError):
            publish(runtime)
        fired = disk.fired
        runtime.repository = Repository(runtime.repository.path)
        fetched.add(
            reader.refresh(DirectoryFetcher(runtime.repository.path / AUDIENCE))
            .roles[f"listing-{AUDIENCE}"]
            .version
        )
    more(runtime, PEOPLE + 1)
    state = reader.refresh(DirectoryFetcher(runtime.repository.path / AUDIENCE))
    for path in (FILTER, PACK):
        assert (
            state.roles[f"listing-{AUDIENCE}"].targets[path].file.read_bytes()
            == published(runtime, path).read_bytes()
        )
    assert len(fetched) > 1
