"""What can go wrong on the way over deltas, and what may be tried with them.

The reader always ends with the signed artefact, or as it was.

Here a delta is what has to be appended; what deltas are is none of signing's business.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.signing import (
    Altered,
    Deployment,
    FaultyDisk,
    KilledError,
    contents,
    forge,
    resign,
)
from tipstaff_signing import (
    Delta,
    IncompleteBundleError,
    Limits,
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    Reader,
    RepositoryError,
    StorageError,
    VerifiedState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

FILTER = "listing/aviation/filter"
WHOLE = bytes(1000)
PIECES = [b" and two", b" and three", b" and four", b" and five"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def version(number: int) -> bytes:
    """The artefact's version 1, 2 …"""
    return WHOLE + b"".join(PIECES[: number - 1])


def step(start: int, end: int, **changes: str) -> tuple[bytes, Delta]:
    """An honest delta, or with a lie in it."""
    fields = {
        "target": FILTER,
        "base": sha256(version(start)),
        "result": sha256(version(end)),
        **changes,
    }
    return version(end)[len(version(start)) :], Delta(**fields)


def append(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    assert path == FILTER
    yield base.read_bytes()
    for delta in deltas:
        yield delta.read_bytes()


def publish(
    deployment: Deployment, content: bytes, deltas: Iterable[tuple[bytes, Delta]] = ()
) -> None:
    """A listing with deltas, signed by both keys."""
    source = deployment.folder / "built"
    source.mkdir(exist_ok=True)
    named = {f"{FILTER}-from-{number}": delta for number, delta in enumerate(deltas)}
    artefacts = {}
    for path, data in {
        FILTER: content,
        **{path: data for path, (data, _) in named.items()},
    }.items():
        file = source / path.rpartition("/")[2]
        file.write_bytes(data)
        artefacts[path] = file
    described = {path: delta for path, (_, delta) in named.items()}
    keys = deployment.keys
    proposal = deployment.repository.propose_listing(
        "aviation", artefacts, keys.signer("listing-aviation-builder"), deltas=described
    )
    assert dict(proposal.deltas) == described
    proposal = deployment.repository.sign_off(proposal, keys.signer("listing-aviation-signoff"))
    deployment.repository.publish_listing(proposal, *deployment.online)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A reader that holds version 1."""
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    publish(made, version(1))
    made.reader(assemble=append).refresh(made.fetcher())
    return made


@pytest.fixture
def deployment(built: Deployment, tmp_path: Path) -> Deployment:
    return built.copy(tmp_path / "copy")


def fetched(source: Altered) -> list[str]:
    """Artefacts asked for, without their hash prefixes."""
    return [name.partition(".")[2].partition("@")[0] for name in source.asked if "@" in name]


def filter_of(state: VerifiedState | None) -> bytes | None:
    found = contents(state)
    return None if found is None else found[FILTER]


def endless(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield from honest
    yield from itertools.repeat(b"more")


def truncated(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield next(honest)[:3]


def altered(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield next(honest).swapcase()


def broken(honest: Iterator[bytes]) -> Iterator[bytes]:
    yield next(honest)[:2]
    raise ConnectionResetError("the line went dead")


def gone(honest: Iterator[bytes]) -> Iterator[bytes]:
    raise NotFoundError("gone")
    yield b""


def never_ending(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    return itertools.repeat(b"x" * 100)


def too_short(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    yield base.read_bytes()


def failing(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    raise OSError("no such thing")


def failing_late(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    yield base.read_bytes()
    raise ValueError("not a delta")


class Case(NamedTuple):
    name: str
    deltas: list[tuple[bytes, Delta]]
    fetched: list[str]  # "" is the whole artefact, a number a delta
    transit: Callable[[Iterator[bytes]], Iterator[bytes]] | None = (
        None  # what happens to deltas on the way
    )
    assemble: Callable[..., Iterable[bytes]] = append
    limits: Limits = Limits()
    to: int = 2


other = sha256(b"never published")
CHAIN = [step(1, 2), step(2, 3), step(3, 4)]
CASES = [
    Case("one delta", [step(1, 2)], ["0"]),
    Case(
        "a chain, although its order in the metadata is another", CHAIN[::-1], ["2", "1", "0"], to=4
    ),
    Case("the shorter of two ways", [*CHAIN, (b"lie", step(1, 4)[1])], ["3", ""], to=4),
    Case("one step of a chain, for who holds the one before", [step(3, 4), step(1, 2)], ["1"]),
    Case("no delta", [], [""]),
    Case("a delta from something that is not held", [step(1, 2, base=other)], [""]),
    Case(
        "deltas in a circle",
        [step(1, 2, base=other), step(1, 2, base=sha256(version(2)), result=other)],
        [""],
    ),
    Case("a gap in the chain", [CHAIN[0], CHAIN[2]], [""], to=4),
    Case("a chain that is too long", CHAIN, [""], limits=Limits(delta_chain=2), to=4),
    Case(
        "a chain that is as long as allowed",
        CHAIN,
        ["0", "1", "2"],
        limits=Limits(delta_chain=3),
        to=4,
    ),
    Case("deltas larger than the whole", [(bytes(1008), step(1, 2)[1])], [""]),
    Case("a delta that leads elsewhere", [(b" and ten", step(1, 2)[1])], ["0", ""]),
    Case("a delta that is longer than what it makes", [(bytes(500), step(1, 2)[1])], ["0", ""]),
    Case("an empty delta", [(b"", step(1, 2)[1])], [""]),
    Case(
        "a delta for another base under this base's name",
        [(step(2, 3)[0], step(1, 2)[1])],
        ["0", ""],
    ),
    Case("endless in transit", [step(1, 2)], ["0", ""], endless),
    Case("truncated in transit", [step(1, 2)], ["0", ""], truncated),
    Case("altered in transit", [step(1, 2)], ["0", ""], altered),
    Case("broken off", [step(1, 2)], ["0", ""], broken),
    Case("not there", [step(1, 2)], ["0", ""], gone),
    Case("an assembler without end", [step(1, 2)], ["0", ""], assemble=never_ending),
    Case("an assembler that stops early", [step(1, 2)], ["0", ""], assemble=too_short),
    Case("an assembler that fails", [step(1, 2)], ["0", ""], assemble=failing),
    Case("an assembler that fails in the middle", [step(1, 2)], ["0", ""], assemble=failing_late),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_signed_artefact_is_what_comes_of_it(deployment: Deployment, case: Case) -> None:
    def deliver(path: str, offset: int, honest: Iterator[bytes]) -> Iterator[bytes]:
        return honest if case.transit is None or path.endswith(".filter") else case.transit(honest)

    publish(deployment, version(case.to), case.deltas)
    source = Altered(deployment.fetcher(), {}, deliver)
    reader = deployment.reader(assemble=case.assemble, limits=case.limits)
    state = reader.refresh(source)
    assert filter_of(state) == version(case.to)
    assert fetched(source) == [f"filter-from-{name}" if name else "filter" for name in case.fetched]
    assert list(state.roles["listing-aviation"].targets) == [FILTER], (
        "deltas are not artefacts of the state"
    )
    assert reader.load() == deployment.reader().load() == state
    assert not list((deployment.folder / "state" / "cache" / "partial").iterdir())
    again = Altered(deployment.fetcher())
    assert reader.refresh(again) == state
    assert not fetched(again)


def test_when_the_whole_cannot_be_had_either_the_version_before_stays(
    deployment: Deployment,
) -> None:
    def deliver(path: str, offset: int, honest: Iterator[bytes]) -> Iterator[bytes]:
        return altered(honest) if path.endswith(".filter") else honest

    publish(deployment, bytes(2) + version(2)[2:].replace(b"\0", b"a"), [step(1, 2)])
    reader = deployment.reader(assemble=append)
    before = reader.load()
    with pytest.raises(MismatchError):
        reader.refresh(Altered(deployment.fetcher(), {}, deliver))
    assert reader.load() == before
    assert filter_of(reader.load()) == version(1)
    assert filter_of(reader.refresh(deployment.fetcher())) not in {None, version(1)}


def test_a_base_that_was_damaged_on_disk_is_not_built_upon(deployment: Deployment) -> None:
    publish(deployment, version(2), [step(1, 2)])
    held = deployment.folder / "state" / "cache" / "artefacts" / sha256(version(1))
    held.write_bytes(version(1).replace(b"\0", b"x"))
    source = Altered(deployment.fetcher())
    assert filter_of(deployment.reader(assemble=append).refresh(source)) == version(2)
    assert fetched(source) == ["filter"]


def test_without_an_assembler_whole_artefacts_are_fetched(deployment: Deployment) -> None:
    publish(deployment, version(2), [step(1, 2)])
    source = Altered(deployment.fetcher())
    assert filter_of(deployment.reader().refresh(source)) == version(2)
    assert fetched(source) == ["filter"]


def test_a_new_reader_fetches_no_delta(deployment: Deployment) -> None:
    publish(deployment, version(4), CHAIN)
    source = Altered(deployment.fetcher())
    assert filter_of(deployment.reader("new", assemble=append).refresh(source)) == version(4)
    assert fetched(source) == ["catalogue", "filter"]


def test_a_delta_is_resumed_like_any_artefact(deployment: Deployment) -> None:
    def both_break(path: str, offset: int, honest: Iterator[bytes]) -> Iterator[bytes]:
        return broken(honest)

    publish(deployment, version(2), [step(1, 2)])
    reader = deployment.reader(assemble=append)
    with pytest.raises(Exception, match="refresh again"):
        reader.refresh(Altered(deployment.fetcher(), {}, both_break))
    source = Altered(deployment.fetcher())
    assert filter_of(reader.refresh(source)) == version(2)
    assert [name.rpartition("@")[2] for name in source.asked if "@" in name] == ["2"]


def tamper(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], None]:
    """Another `custom` of the delta, as whoever holds both listing keys could sign it."""

    def renew(signed: Any) -> None:
        signed.version += 1
        fields = signed.targets[f"{FILTER}-from-0"].unrecognized_fields
        fields["custom"]["delta"] = change(dict(fields["custom"]["delta"]))

    return renew


MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not an object": lambda delta: "filter",
    "null": lambda delta: None,
    "a list": list,
    "a field missing": lambda delta: {
        name: value for name, value in delta.items() if name != "base"
    },
    "a field more": lambda delta: {**delta, "size": 7},
    "a number for a hash": lambda delta: {**delta, "base": 7},
    "an object for a path": lambda delta: {**delta, "target": {}},
    "a short hash": lambda delta: {**delta, "base": "ab"},
    "capitals in a hash": lambda delta: {**delta, "result": "A" * 64},
    "a hash that leaves the folder": lambda delta: {**delta, "base": "../" * 21 + "x"},
    "from itself to itself": lambda delta: {**delta, "base": delta["result"]},
    "for nothing": lambda delta: {**delta, "target": "listing/aviation/none"},
    "for another role's artefact": lambda delta: {**delta, "target": "catalogue"},
    "for a delta": lambda delta: {**delta, "target": f"{FILTER}-from-1"},
    "for itself": lambda delta: {**delta, "target": f"{FILTER}-from-0"},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_metadata_with_a_malformed_delta_are_refused(deployment: Deployment, case: str) -> None:
    publish(deployment, version(3), [step(2, 3), step(1, 2)])
    reader = deployment.reader(assemble=append)
    before = reader.load()
    data = deployment.metadata(deployment.current("listing-aviation")).read_bytes()
    signers = [
        deployment.keys.signer(f"listing-aviation-{name}") for name in ("builder", "signoff")
    ]
    bad = resign(data, signers, tamper(MALFORMED[case]))
    with pytest.raises(MetadataFormatError):
        reader.refresh(Altered(deployment.fetcher(), forge(deployment, {"listing-aviation": bad})))
    assert reader.load() == before


def test_the_relief_key_cannot_offer_deltas_for_a_listing(deployment: Deployment) -> None:
    def renew(signed: Any) -> None:
        signed.version += 1
        fields = {"target": FILTER, "base": sha256(version(1)), "result": sha256(version(2))}
        signed.targets["relief/aviation/1-9"].unrecognized_fields["custom"] = {"delta": fields}

    deployment.relief(b" and two")
    data = deployment.metadata(deployment.current("relief-aviation")).read_bytes()
    bad = resign(data, [deployment.keys.signer("relief-aviation")], renew)
    with pytest.raises(MetadataFormatError, match="no artefact of relief-aviation"):
        deployment.reader(assemble=append).refresh(
            Altered(deployment.fetcher(), forge(deployment, {"relief-aviation": bad}))
        )


@pytest.mark.parametrize(
    ("delta", "match"),
    [
        (
            Delta("listing/aviation/pack", sha256(b"1"), sha256(b"2")),
            "no artefact of listing-aviation",
        ),
        (Delta(FILTER, "1", sha256(b"2")), "not well-formed"),
        (Delta(FILTER, sha256(b"2"), sha256(b"2")), "not well-formed"),
    ],
)
def test_what_no_reader_would_take_is_not_proposed(
    deployment: Deployment, delta: Delta, match: str
) -> None:
    with pytest.raises(RepositoryError, match=match):
        publish(deployment, version(2), [(b" and two", delta)])


def test_a_delta_needs_its_file(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "filter").write_bytes(version(2))
    signer = deployment.keys.signer("listing-aviation-builder")
    with pytest.raises(RepositoryError, match="give its file"):
        deployment.repository.propose_listing(
            "aviation", {FILTER: tmp_path / "filter"}, signer, deltas={f"{FILTER}-x": step(1, 2)[1]}
        )


def test_a_push_carries_the_delta_instead_of_the_whole(deployment: Deployment) -> None:
    held = deployment.repository.versions("aviation")
    publish(deployment, version(3), [step(1, 2), step(2, 3)])
    metadata, artefacts = deployment.repository.bundle_files("aviation", held, 100)
    assert sorted(path.partition(".")[2] for path in artefacts) == [
        "filter-from-0",
        "filter-from-1",
    ]
    assert filter_of(deployment.reader(assemble=append).apply(metadata, artefacts)) == version(3)
    assert not deployment.repository.bundle_files("aviation", held, 10)[1], "too large to be pushed"
    everything = deployment.repository.bundle_files("aviation", None, 2000)[1]
    assert sorted(path.rpartition(".")[2] for path in everything) == ["catalogue", "filter"], (
        "who holds nothing has no use for deltas"
    )


@pytest.mark.parametrize("assemble", [failing, never_ending, None])
def test_a_pushed_delta_that_does_not_work_asks_for_a_refresh(
    deployment: Deployment, assemble: Callable[..., Any] | None
) -> None:
    held = deployment.repository.versions("aviation")
    publish(deployment, version(2), [step(1, 2)])
    reader = deployment.reader(assemble=assemble)
    before = reader.load()
    with pytest.raises(IncompleteBundleError):
        reader.apply(*deployment.repository.bundle_files("aviation", held, 100))
    assert reader.load() == before
    assert filter_of(reader.refresh(deployment.fetcher())) == version(2)


@pytest.mark.parametrize("mode", ["kill", "full", "eio"])
def test_a_fault_at_every_step_leaves_one_version_or_the_other(
    deployment: Deployment, tmp_path: Path, mode: str
) -> None:
    publish(deployment, version(3), [step(1, 2), step(2, 3)])
    at, outcomes, fired = 0, set(), True
    while fired:
        at += 1
        state = tmp_path / f"state{at}"
        shutil.copytree(deployment.folder / "state", state)
        disk = FaultyDisk(mode, at)
        faulty = reader_at(deployment, state, disk=disk)
        try:
            faulty.refresh(deployment.fetcher())
        except (KilledError, StorageError):
            assert disk.fired
        fired = disk.fired
        found = filter_of(reader_at(deployment, state).load())
        assert found in {version(1), version(3)}
        outcomes.add(found)
        source = Altered(deployment.fetcher())
        assert filter_of(reader_at(deployment, state).refresh(source)) == version(3)
        assert "filter" not in fetched(source) or mode == "full", (
            "what was interrupted goes on over deltas"
        )
        assert not list((state / "cache" / "partial").iterdir())
        shutil.rmtree(state)
    assert outcomes == {version(1), version(3)}


def reader_at(deployment: Deployment, state: Path, **options: Any) -> Reader:
    return deployment.reader(
        str(state), assemble=append, limits=Limits(retention=Limits().retention * 0), **options
    )
