"""What somebody between provider and operator, or a thief of some keys, can try on a reader.

Each row is an attack and its outcome.

Every row starts from a reader in good order, and afterwards: the version in force is the one
before, and an honest refresh works again.
"""

from __future__ import annotations

import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tuf.api.metadata import DelegatedRole, Metadata, TargetFile

from tests.support.signing import Altered, Deployment, contents, forge, resign, stranger
from tipstaff_signing import (
    ClockError,
    ExpiredError,
    Fetcher,
    Limits,
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    RollbackError,
    SignatureError,
    TooLargeError,
    TrustError,
    UnavailableError,
    ViewError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Attack(NamedTuple):
    name: str
    outcome: type[Exception]
    source: Callable[[Deployment], Fetcher]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.repository.set_catalogue(b"catalogue 2", made.keys)
    made.listing(b"filter 1")
    made.relief(b"relief 1")
    made.listing(b"rail filter", "rail")
    return made


@pytest.fixture
def deployment(built: Deployment, tmp_path: Path) -> Deployment:
    return built.copy(tmp_path / "copy")


def served(deployment: Deployment, files: dict[str, bytes | Exception]) -> Fetcher:
    return Altered(deployment.fetcher(), files)


def read(deployment: Deployment, role: str) -> bytes:
    return deployment.metadata(deployment.current(role)).read_bytes()


def later(deployment: Deployment) -> None:
    """Something newer is published after the reader's last refresh, so that there is something to
    attack.
    """
    deployment.clock.move(minutes=1)
    deployment.listing(b"filter 2")
    deployment.relief(b"relief 2")


def changed(
    deployment: Deployment,
    role: str,
    signers: list[str],
    change: Callable[[Any], None] = lambda signed: None,
) -> Fetcher:
    """A role's metadata changed and signed by these keys, under a snapshot and timestamp that name
    it.
    """

    def renew(signed: Any) -> None:
        signed.version += 1
        change(signed)

    data = resign(read(deployment, role), [deployment.keys.signer(name) for name in signers], renew)
    return served(deployment, forge(deployment, {role: data}))


def lower(role: str) -> Callable[[Deployment], Fetcher]:
    """A newer snapshot, genuinely signed, that names version 1 of a role."""

    def source(deployment: Deployment) -> Fetcher:
        return served(
            deployment,
            forge(deployment, {role: deployment.metadata(f"1.{role}.json").read_bytes()}),
        )

    return source


def old_snapshot(deployment: Deployment) -> Fetcher:
    def point_back(timestamp: Any) -> None:
        timestamp.version += 1
        timestamp.snapshot_meta.version = 1
        timestamp.snapshot_meta.hashes = timestamp.snapshot_meta.length = None

    return served(
        deployment,
        {
            "timestamp.json": resign(
                deployment.metadata("timestamp.json").read_bytes(),
                [deployment.keys.signer("timestamp")],
                point_back,
            )
        },
    )


def mixed(deployment: Deployment) -> Fetcher:
    """The new version's snapshot with the old version's listing under the new number."""
    before = read(deployment, "listing-aviation")
    later(deployment)
    return served(deployment, {deployment.current("listing-aviation"): before})


def mixed_snapshot(deployment: Deployment) -> Fetcher:
    before = read(deployment, "snapshot")
    later(deployment)
    return served(deployment, {deployment.current("snapshot"): before})


def signed_by_stranger(role: str) -> Callable[[Deployment], Fetcher]:
    def source(deployment: Deployment) -> Fetcher:
        if role == "timestamp":
            return served(deployment, forge(deployment, {}, timestamp_signer=stranger()))
        if role == "snapshot":
            return served(deployment, forge(deployment, {}, snapshot_signer=stranger()))

        def renew(signed: Any) -> None:
            signed.version += 1

        return served(
            deployment,
            forge(
                deployment, {role: resign(read(deployment, role), [stranger(), stranger()], renew)}
            ),
        )

    return source


def artefact(
    deliver: Callable[[Iterator[bytes]], Iterator[bytes]],
) -> Callable[[Deployment], Fetcher]:
    """The new filter is delivered otherwise; everything else is honest."""

    def source(deployment: Deployment) -> Fetcher:
        later(deployment)
        return Altered(
            deployment.fetcher(),
            {},
            lambda path, offset, honest: deliver(honest) if path.endswith(".filter") else honest,
        )

    return source


def endless(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield from honest
    yield from itertools.repeat(b"more")


def broken(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield next(honest)[:3]
    raise ConnectionResetError("the line went dead")


def gone(honest: Iterator[bytes]) -> Iterator[bytes]:
    raise NotFoundError("gone")
    yield b""


def foreign_snapshot(deployment: Deployment) -> Fetcher:
    files = forge(deployment, {})
    name = next(name for name in files if name.endswith("snapshot.json"))
    return served(
        deployment, {**files, name: deployment.metadata("1.snapshot.json", "rail").read_bytes()}
    )


def withheld(deployment: Deployment) -> Fetcher:
    later(deployment)
    return served(deployment, {deployment.current("snapshot"): NotFoundError("gone")})


def builder_twice(deployment: Deployment) -> Fetcher:
    """The builder's one signature, under its own and under the sign-off's key id."""

    def renew(signed: Any) -> None:
        signed.version += 1

    metadata: Any = Metadata.from_bytes(
        resign(
            read(deployment, "listing-aviation"),
            [deployment.keys.signer("listing-aviation-builder")],
            renew,
        )
    )
    other = deployment.keys.public("listing-aviation-signoff").keyid
    (signature,) = metadata.signatures.values()
    metadata.signatures[other] = type(signature)(other, signature.signature)
    return served(deployment, forge(deployment, {"listing-aviation": metadata.to_bytes()}))


def same_key_twice(deployment: Deployment) -> Fetcher:
    """Two signatures of the builder in one file."""

    def renew(signed: Any) -> None:
        signed.version += 1

    data = resign(
        read(deployment, "listing-aviation"),
        [deployment.keys.signer("listing-aviation-builder")],
        renew,
    )
    doubled = json.loads(data)
    doubled["signatures"] *= 2
    files = forge(deployment, {"listing-aviation": data})
    name = next(name for name in files if "listing" in name)
    return served(deployment, {**files, name: json.dumps(doubled).encode()})


def next_root(
    change: Callable[[Any], None] = lambda root: None,
    signers: tuple[str, ...] = ("root-1", "root-2"),
) -> Callable[[Deployment], Fetcher]:
    def source(deployment: Deployment) -> Fetcher:
        def renew(root: Any) -> None:
            root.version += 1
            change(root)

        return served(
            deployment,
            {
                "2.root.json": resign(
                    deployment.root, [deployment.keys.signer(name) for name in signers], renew
                )
            },
        )

    return source


def own_keys(root: Any) -> None:
    """A root that names the thief's keys only."""
    for role in root.roles.values():
        role.keyids.clear()
        role.threshold = 1
    for name in root.roles:
        root.add_key(stranger().public_key, name)


def skip(root: Any) -> None:
    root.version += 1


def back(root: Any) -> None:
    root.version -= 1


def altered(role: str, old: bytes, new: bytes) -> Callable[[Deployment], Fetcher]:
    """A newer version's file with some bytes changed on the way, under the signatures that it had.
    None is checked by hash before.
    """

    def source(deployment: Deployment) -> Fetcher:
        later(deployment)
        name = "timestamp.json" if role == "timestamp" else deployment.current(role)
        data = deployment.metadata(name).read_bytes()
        assert old in data
        return served(deployment, {name: data.replace(old, new)})

    return source


def cut_short(role: str) -> Callable[[Deployment], Fetcher]:
    def source(deployment: Deployment) -> Fetcher:
        later(deployment)
        name = "timestamp.json" if role == "timestamp" else deployment.current(role)
        return served(deployment, {name: deployment.metadata(name).read_bytes()[:-9]})

    return source


def without_listing(snapshot: Any) -> None:
    del snapshot.meta["listing-aviation.json"]


def retargeted(path: str) -> Callable[[Any], None]:
    def change(signed: Any) -> None:
        signed.targets[path] = TargetFile.from_data(path, b"forged")

    return change


def takes_over_relief(signed: Any) -> None:
    signed.delegations.roles["relief-aviation"] = DelegatedRole(
        "relief-aviation", ["00"], 1, terminating=True, paths=["relief/aviation/*"]
    )


def without_sha256(signed: Any) -> None:
    signed.targets["listing/aviation/filter"].hashes = {"md5": "0" * 32}


def huge(signed: Any) -> None:
    signed.targets["listing/aviation/filter"].length = 2**60


def undated(timestamp: Any) -> None:
    del timestamp.unrecognized_fields["signed_at"]


def tomorrow(timestamp: Any) -> None:
    timestamp.unrecognized_fields["signed_at"] = "2026-07-02T08:00:00Z"


def timestamp_says(change: Callable[[Any], None]) -> Callable[[Deployment], Fetcher]:
    def source(deployment: Deployment) -> Fetcher:
        def renew(timestamp: Any) -> None:
            timestamp.version += 1
            change(timestamp)

        data = resign(
            deployment.metadata("timestamp.json").read_bytes(),
            [deployment.keys.signer("timestamp")],
            renew,
        )
        return served(deployment, {"timestamp.json": data})

    return source


def nested(timestamp: Any) -> None:
    field: list[Any] = []
    for _ in range(100):
        field = [field]
    timestamp.unrecognized_fields["more"] = field


def frozen(**units: float) -> Callable[[Deployment], Fetcher]:
    def source(deployment: Deployment) -> Fetcher:
        deployment.clock.move(**units)
        return deployment.fetcher()

    return source


def says(name: str, data: bytes) -> Callable[[Deployment], Fetcher]:
    return lambda deployment: served(deployment, {name: data})


NESTED = b'{"signatures": [], "signed": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
DIGITS = b'{"signatures": [], "signed": {"version": ' + b"9" * 10_000 + b"}}"
WIDE = Limits(timestamp_bytes=500_000)

ATTACKS = [
    Attack("rollback: older timestamp", RollbackError, lambda d: d.fetcher(repository="old")),
    Attack("rollback: newer timestamp names an older snapshot", RollbackError, old_snapshot),
    Attack("rollback: snapshot names an older listing", RollbackError, lower("listing-aviation")),
    Attack("rollback: snapshot names older relief", RollbackError, lower("relief-aviation")),
    Attack("rollback: snapshot drops the listing", TrustError, lambda d: served(d, forge(d, {}, without_listing))),
    Attack("rollback: snapshot names an older catalogue", RollbackError, lower("targets")),
    Attack("rollback: the root in force under the next number", RollbackError, next_root(back)),
    Attack("freeze: nothing new until relief expires", ExpiredError, frozen(hours=1, minutes=1)),
    Attack("freeze: nothing new until the timestamp expires", ExpiredError, frozen(days=1)),
    Attack("freeze: nothing new until the root expires", ExpiredError, frozen(days=365)),
    Attack("mix and match: new snapshot, old listing", MismatchError, mixed),
    Attack("mix and match: new timestamp, old snapshot", MismatchError, mixed_snapshot),
    Attack("another audience's view", ViewError, lambda d: d.fetcher("rail")),
    Attack("another audience's snapshot under our timestamp", ViewError, foreign_snapshot),
    Attack("another audience's listing keys", SignatureError, lambda d: changed(
        d, "listing-aviation", ["listing-rail-builder", "listing-rail-signoff"])),
    Attack("another audience's relief key", SignatureError, lambda d: changed(d, "relief-aviation", ["relief-rail"])),
    Attack("relief key signs a listing", SignatureError, lambda d: changed(d, "listing-aviation", ["relief-aviation"])),
    Attack("relief key names a filter", TrustError, lambda d: changed(
        d, "relief-aviation", ["relief-aviation"], retargeted("listing/aviation/filter"))),
    Attack("relief key names another audience's relief", TrustError, lambda d: changed(
        d, "relief-aviation", ["relief-aviation"], retargeted("relief/rail/1-9"))),
    Attack("one targets key gives relief to another key", SignatureError, lambda d: changed(
        d, "targets", ["targets-1"], takes_over_relief)),
    Attack("listing signed by the builder alone", SignatureError, lambda d: changed(
        d, "listing-aviation", ["listing-aviation-builder"])),
    Attack("listing signed by the builder under both key ids", SignatureError, builder_twice),
    Attack("listing signed twice by one key", MetadataFormatError, same_key_twice),
    *(Attack(f"wrong key: {role}", SignatureError, signed_by_stranger(role))
      for role in ("timestamp", "snapshot", "targets", "listing-aviation", "relief-aviation")),
    Attack("root: signed by one key", SignatureError, next_root(signers=("root-1",))),
    Attack("root: signed by one key twice over and a stranger's", SignatureError, next_root(signers=("root-1", "targets-1"))),
    Attack("root: names only the thief's keys", SignatureError, next_root(own_keys)),
    Attack("root: skips a number", RollbackError, next_root(skip)),
    Attack("artefact: altered", MismatchError, artefact(lambda honest: iter([next(honest).replace(b"f", b"F")]))),
    Attack("artefact: cut short", UnavailableError, artefact(lambda honest: iter([next(honest)[:3]]))),
    Attack("artefact: endless", TooLargeError, artefact(endless)),
    Attack("artefact: endless empty pieces", UnavailableError, artefact(lambda honest: itertools.repeat(b""))),
    Attack("artefact: the stream breaks", UnavailableError, artefact(broken)),
    Attack("artefact: not there", NotFoundError, artefact(gone)),
    Attack("artefact: no SHA-256 in the metadata", MetadataFormatError, lambda d: changed(
        d, "listing-aviation", ["listing-aviation-builder", "listing-aviation-signoff"], without_sha256)),
    Attack("artefact: a signed length beyond the limit", TrustError, lambda d: changed(
        d, "listing-aviation", ["listing-aviation-builder", "listing-aviation-signoff"], huge)),
    Attack("metadata: altered timestamp", SignatureError, altered("timestamp", b"2026", b"2027")),
    *(Attack(f"metadata: altered {role}", MismatchError, altered(role, b"2026", b"2027"))
      for role in ("snapshot", "listing-aviation", "relief-aviation")),
    *(Attack(f"metadata: {role} cut short", MetadataFormatError, cut_short(role))
      for role in ("timestamp", "snapshot", "listing-aviation", "relief-aviation")),
    Attack("metadata: oversized timestamp", TooLargeError, says("timestamp.json", b" " * 20_000)),
    Attack("metadata: oversized root", TooLargeError, says("2.root.json", b" " * 600_000)),
    Attack("metadata: nested too deeply to parse", MetadataFormatError, says("timestamp.json", NESTED)),
    Attack("metadata: nested deeply, and well signed", MetadataFormatError, timestamp_says(nested)),
    Attack("metadata: integer of 10,000 digits", MetadataFormatError, says("timestamp.json", DIGITS)),
    Attack("metadata: integer beyond 64 bits", MetadataFormatError, timestamp_says(lambda t: setattr(t, "version", 2**64))),
    Attack("metadata: fraction as version", MetadataFormatError, says("timestamp.json", b'{"signatures": [], "signed": {"version": 1.5}}')),
    Attack("metadata: not a number", MetadataFormatError, says("timestamp.json", b'{"signatures": [], "signed": {"version": NaN}}')),
    Attack("metadata: repeated key", MetadataFormatError, says("timestamp.json", b'{"signed": {}, "signed": {}}')),
    Attack("metadata: a list", MetadataFormatError, says("timestamp.json", b"[]")),
    Attack("metadata: empty", MetadataFormatError, says("timestamp.json", b"")),
    Attack("metadata: not UTF-8", MetadataFormatError, says("timestamp.json", b"\xff\xfe{}")),
    Attack("metadata: a snapshot as timestamp", TrustError, lambda d: says("timestamp.json", read(d, "snapshot"))(d)),
    Attack("metadata: does not say when it was signed", MetadataFormatError, timestamp_says(undated)),
    Attack("metadata: signed in the future", ClockError, timestamp_says(tomorrow)),
    Attack("metadata: the transport fails", UnavailableError, lambda d: Altered(d.fetcher(), {"timestamp.json": RuntimeError("reset")})),
    Attack("metadata: the snapshot is withheld", NotFoundError, withheld),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_is_refused_and_leaves_the_state_as_it_was(
    deployment: Deployment, attack: Attack
) -> None:
    deployment.backup("old")
    deployment.relief(b"relief 1b")
    limits = WIDE if "nested" in attack.name or "digits" in attack.name else Limits()
    reader = deployment.reader(limits=limits)
    before = reader.refresh(deployment.fetcher())

    with pytest.raises(attack.outcome) as caught:
        reader.refresh(attack.source(deployment))

    assert type(caught.value) is attack.outcome
    after = deployment.reader(limits=limits).load()
    assert after == before
    assert contents(after) == contents(before)

    if "root expires" not in attack.name:
        deployment.relief(b"relief 3")
        deployment.relief(b"relief 4")
        if "relief expires" in attack.name or "timestamp expires" in attack.name:
            deployment.listing(b"filter 3")
        assert contents(reader.refresh(deployment.fetcher()))["relief/aviation/1-9"] == b"relief 4"


@pytest.mark.parametrize("attack", ATTACKS[:4], ids=lambda attack: attack.name)
def test_wiped_cache_does_not_reopen_a_rollback(deployment: Deployment, attack: Attack) -> None:
    deployment.backup("old")
    deployment.relief(b"relief 1b")
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    shutil.rmtree(deployment.folder / "state" / "cache")
    assert reader.load() is None
    with pytest.raises(RollbackError):
        reader.refresh(attack.source(deployment))
    assert reader.load() is None
    deployment.relief(b"relief 2")
    assert contents(reader.refresh(deployment.fetcher()))["relief/aviation/1-9"] == b"relief 2"


def test_an_old_cache_put_back_is_not_used(deployment: Deployment) -> None:
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    state = deployment.folder / "state"
    shutil.copytree(state / "cache", deployment.folder / "old cache")
    later(deployment)
    newest = reader.refresh(deployment.fetcher())
    shutil.rmtree(state / "cache")
    shutil.copytree(deployment.folder / "old cache", state / "cache")
    assert reader.load() is None
    assert reader.refresh(deployment.fetcher()) == newest


def test_a_timestamp_seen_in_a_failed_update_is_a_floor(deployment: Deployment) -> None:
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    later(deployment)
    between = deployment.backup("between")
    later(deployment)
    withheld = Altered(
        deployment.fetcher(), {deployment.current("snapshot"): UnavailableError("cut")}
    )
    with pytest.raises(UnavailableError):
        reader.refresh(withheld)
    with pytest.raises(RollbackError):
        reader.refresh(between)
    assert reader.load() == before
    assert reader.refresh(deployment.fetcher()).timestamp_version > before.timestamp_version


def test_clock_set_back_is_noticed_online_and_offline(deployment: Deployment) -> None:
    deployment.clock.move(days=3)
    deployment.listing(b"filter 2")
    deployment.relief(b"relief 2")
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    deployment.clock.move(minutes=-4)  # within the tolerance
    assert reader.load() == before
    deployment.clock.move(minutes=-2)
    with pytest.raises(ClockError, match="set the clock"):
        reader.load()
    with pytest.raises(ClockError):
        reader.refresh(deployment.fetcher())
    shutil.rmtree(deployment.folder / "state" / "cache")
    with pytest.raises(ClockError):
        reader.refresh(deployment.backup("same"))
    deployment.clock.move(minutes=10)
    assert reader.refresh(deployment.fetcher()) == before


def test_clock_set_forward_only_expires_and_set_right_all_is_well(deployment: Deployment) -> None:
    """Nothing that the wrong clock did outlives it: neither the floor nor the state on disk has
    taken its time over.
    """
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    deployment.clock.move(days=400)
    with pytest.raises(ExpiredError):
        reader.refresh(deployment.fetcher())
    assert reader.load() == before  # its expiry is reported, and judged by whoever uses it
    deployment.clock.move(days=-400)
    assert deployment.reader().load() == before
    deployment.relief(b"relief 2")
    assert contents(reader.refresh(deployment.fetcher()))["relief/aviation/1-9"] == b"relief 2"


def test_slow_artefact_is_given_up_and_resumed_where_it_stopped(deployment: Deployment) -> None:
    ticks = itertools.count(step=600.0)
    reader = deployment.reader(monotonic=lambda: next(ticks))
    reader.refresh(deployment.fetcher())
    deployment.listing(b"0123456789" * 10)

    def dripping(path: str, offset: int, honest: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in honest:
            for byte in chunk if path.endswith(".filter") else ():
                yield bytes([byte])
            yield b"" if path.endswith(".filter") else chunk

    source = Altered(deployment.fetcher(), {}, dripping)
    with pytest.raises(UnavailableError, match="took over"):
        reader.refresh(source)
    assert (
        contents(deployment.reader().refresh(source))["listing/aviation/filter"]
        == b"0123456789" * 10
    )
    assert any(not asked.endswith("@0") for asked in source.asked if ".filter@" in asked)


def test_damaged_beginning_of_a_resumed_artefact_is_fetched_again(deployment: Deployment) -> None:
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    deployment.listing(b"0123456789")

    def wrong_start(path: str, offset: int, honest: Iterator[bytes]) -> Iterator[bytes]:
        yield b"xxx"

    with pytest.raises(UnavailableError, match="broke off"):
        reader.refresh(Altered(deployment.fetcher(), {}, wrong_start))
    assert (
        contents(reader.refresh(deployment.fetcher()))["listing/aviation/filter"] == b"0123456789"
    )


def test_pushed_bundle_is_held_to_the_same_rules(deployment: Deployment) -> None:
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    held = deployment.repository.versions("aviation")
    later(deployment)
    metadata, artefacts = deployment.repository.bundle_files("aviation", held, 1 << 20)
    name = next(path for path in artefacts if path.endswith(".filter"))
    with pytest.raises(MismatchError):
        reader.apply(metadata, {**artefacts, name: b"Filter 2"})
    with pytest.raises(TooLargeError):
        reader.apply({**metadata, "timestamp.json": b" " * 20_000}, artefacts)
    with pytest.raises(MetadataFormatError):
        reader.apply({**metadata, "timestamp.json": b"[]"}, artefacts)
    forged = forge(deployment, {}, timestamp_signer=stranger())
    with pytest.raises(SignatureError):
        reader.apply({**metadata, **forged}, artefacts)
    rail = deployment.repository.bundle_files("rail", None, 1 << 20)
    with pytest.raises(ViewError):
        deployment.reader("other").apply(*rail)
    assert reader.load() == before
    assert contents(reader.apply(metadata, artefacts))["listing/aviation/filter"] == b"filter 2"
