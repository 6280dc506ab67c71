"""The writer: proposals with two keys, relief with one, bundles, and refusals."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tests.support.signing import START, Deployment, FaultyDisk, contents, stranger
from tipstaff_signing import (
    KeyFileError,
    NotFoundError,
    ProposalError,
    Repository,
    RepositoryError,
    SignatureError,
    StateBusyError,
    StateCorruptError,
    Versions,
    create_key_files,
)
from tipstaff_signing.files import FileLock


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.listing(b"filter 1")
    return made


@pytest.fixture
def deployment(built: Deployment, tmp_path: Path) -> Deployment:
    return built.copy(tmp_path / "copy")


def propose(
    deployment: Deployment, content: bytes = b"filter 2", audience: str = "aviation"
) -> Any:
    source = deployment.folder / "source"
    source.write_bytes(content)
    return deployment.repository.propose_listing(
        audience,
        {f"listing/{audience}/filter": source},
        deployment.keys.signer(f"listing-{audience}-builder"),
    )


def sign_off(deployment: Deployment, proposal: Any) -> Any:
    return deployment.repository.sign_off(
        proposal, deployment.keys.signer(f"listing-{proposal.audience}-signoff")
    )


def test_new_repository_has_version_1_of_everything(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    repository = deployment.repository
    assert repository.audiences() == ["aviation", "rail"]
    for audience in repository.audiences():
        assert repository.versions(audience) == Versions(1, 1, 1, 1, 1, 1)
        assert repository.proposal(audience) is None
    assert repository.metadata_path("rail", "1.root.json").read_bytes() == repository.root_bytes()
    assert (
        repository.metadata_path("rail", "1.targets.json").read_bytes()
        == repository.metadata_path("aviation", "1.targets.json").read_bytes()
    )
    root: Any = Metadata.from_bytes(repository.root_bytes()).signed
    assert {name: (len(role.keyids), role.threshold) for name, role in root.roles.items()} == {
        "root": (3, 2),
        "targets": (2, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert root.consistent_snapshot is True
    targets: Any = Metadata.from_bytes(
        repository.metadata_path("rail", "1.targets.json").read_bytes()
    ).signed
    assert {
        name: (len(role.keyids), role.threshold, role.terminating, role.paths)
        for name, role in targets.delegations.roles.items()
    } == {
        "listing-aviation": (2, 2, True, ["listing/aviation/*"]),
        "relief-aviation": (1, 1, True, ["relief/aviation/*"]),
        "listing-rail": (2, 2, True, ["listing/rail/*"]),
        "relief-rail": (1, 1, True, ["relief/rail/*"]),
    }


def test_lifetimes_and_our_fields_are_signed(deployment: Deployment) -> None:
    days = {"root": 365, "targets": 365, "listing-aviation": 7, "snapshot": 7, "timestamp": 1}
    for role, lifetime in days.items():
        name = (
            "timestamp.json"
            if role == "timestamp"
            else "1.root.json"
            if role == "root"
            else deployment.current(role)
        )
        signed: Any = Metadata.from_bytes(deployment.metadata(name).read_bytes()).signed
        assert (signed.expires - START).days == lifetime
        assert signed.unrecognized_fields["signed_at"] == "2026-07-01T08:00:00Z"
        assert signed.unrecognized_fields.get("view") == (
            "aviation" if role in {"snapshot", "timestamp"} else None
        )
    relief: Any = Metadata.from_bytes(
        deployment.metadata("1.relief-aviation.json").read_bytes()
    ).signed
    assert (relief.expires - START).total_seconds() == 3600


def test_one_audience_learns_nothing_of_anothers_changes(deployment: Deployment) -> None:
    before = {
        path: path.read_bytes() for path in (deployment.path / "rail").rglob("*") if path.is_file()
    }
    deployment.listing(b"filter 2")
    deployment.relief(b"relief 2")
    assert {
        path: path.read_bytes() for path in (deployment.path / "rail").rglob("*") if path.is_file()
    } == before
    snapshot: Any = Metadata.from_bytes(
        deployment.metadata(deployment.current("snapshot", "rail"), "rail").read_bytes()
    ).signed
    assert sorted(snapshot.meta) == ["listing-rail.json", "relief-rail.json", "targets.json"]


def test_listing_needs_both_keys(deployment: Deployment) -> None:
    published = deployment.repository.versions("aviation")
    proposal = propose(deployment)
    assert (proposal.signatures, proposal.threshold, proposal.complete) == (1, 2, False)
    with pytest.raises(ProposalError, match="1 of 2 signatures"):
        deployment.repository.publish_listing(proposal, *deployment.online)
    assert deployment.repository.versions("aviation") == published
    signed = sign_off(deployment, proposal)
    assert signed.complete
    assert deployment.repository.proposal("aviation") == signed
    versions = deployment.repository.publish_listing(signed, *deployment.online)
    assert versions == Versions(
        timestamp=3, snapshot=3, listing=signed.version, relief=1, targets=1, root=1
    )
    assert deployment.repository.proposal("aviation") is None
    assert (
        contents(deployment.reader().refresh(deployment.fetcher()))["listing/aviation/filter"]
        == b"filter 2"
    )


def test_sign_off_with_the_builders_or_a_strange_key_does_not_count(deployment: Deployment) -> None:
    proposal = propose(deployment)
    again = deployment.repository.sign_off(
        proposal, deployment.keys.signer("listing-aviation-builder")
    )
    assert again.signatures == 1
    for signer in (
        stranger(),
        deployment.keys.signer("relief-aviation"),
        deployment.keys.signer("listing-rail-signoff"),
    ):
        with pytest.raises(ProposalError, match="not one of listing-aviation's"):
            deployment.repository.sign_off(proposal, signer)
        with pytest.raises(ProposalError, match="not one of listing-aviation's"):
            deployment.repository.propose_listing("aviation", {}, signer)
    with pytest.raises(ProposalError, match="1 of 2"):
        deployment.repository.publish_listing(again, *deployment.online)


@pytest.mark.parametrize("damage", [b"filter X", b"filter", b""])
def test_altered_artefact_is_neither_signed_off_nor_published(
    deployment: Deployment, damage: bytes
) -> None:
    proposal = propose(deployment)
    complete = sign_off(deployment, proposal)
    complete.artefacts["listing/aviation/filter"].write_bytes(damage)
    with pytest.raises(ProposalError, match="build again"):
        sign_off(deployment, proposal)
    with pytest.raises(ProposalError, match="build again"):
        deployment.repository.publish_listing(complete, *deployment.online)


def test_a_copy_is_what_was_signed_whatever_becomes_of_the_proposal(
    deployment: Deployment, tmp_path: Path
) -> None:
    proposal = propose(deployment)
    (path,) = proposal.artefacts
    copied = deployment.repository.copied(proposal, tmp_path)
    assert copied.artefacts[path].parent == tmp_path
    assert (copied.version, copied.digest) == (proposal.version, proposal.digest)
    proposal.artefacts[path].write_bytes(b"filter 0")
    assert copied.artefacts[path].read_bytes() == b"filter 2"


@pytest.mark.parametrize(
    "damage", ["another content", "another length", "gone", "a link", "a folder"]
)
def test_a_proposal_that_is_not_what_was_signed_is_not_copied(
    deployment: Deployment, tmp_path: Path, damage: str
) -> None:
    proposal = propose(deployment)
    (file,) = proposal.artefacts.values()
    content = file.read_bytes()
    file.unlink()
    if damage == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        file.symlink_to(tmp_path / "elsewhere")
    elif damage == "a folder":
        file.mkdir()
    elif damage != "gone":
        file.write_bytes(b"filter 9" if damage == "another content" else content + b" ")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ProposalError, match="not what the builder signed"):
        deployment.repository.copied(proposal, tmp_path / "mine")


def test_sign_off_signs_only_what_was_looked_at(deployment: Deployment) -> None:
    looked_at = propose(deployment)
    newer = propose(deployment, b"filter 3")
    assert newer.version > looked_at.version
    with pytest.raises(ProposalError, match="gone"):
        sign_off(deployment, looked_at)
    metadata = newer.folder / "listing-aviation.json"
    other: Any = Metadata.from_bytes(metadata.read_bytes())
    other.signed.expires = START.replace(year=2040)
    metadata.write_bytes(other.to_bytes())
    with pytest.raises(ProposalError, match="changed since"):
        sign_off(deployment, newer)
    for damage in (b"{", deployment.metadata("timestamp.json").read_bytes()):
        metadata.write_bytes(damage)
        with pytest.raises(ProposalError, match="build again"):
            sign_off(deployment, newer)


def test_refused_proposal_is_kept_with_its_reasons_and_its_number_is_not_used_again(
    deployment: Deployment,
) -> None:
    proposal = propose(deployment)
    deployment.repository.refuse(proposal, ["扩增超过上限", "an entry without a legal basis"])
    assert deployment.repository.proposal("aviation") is None
    folder = deployment.path / "refused" / "aviation" / str(proposal.version)
    reasons = json.loads((folder / "reasons.json").read_text(encoding="utf-8"))
    assert reasons == {
        "refused_at": "2026-07-01T08:00:00+00:00",
        "reasons": ["扩增超过上限", "an entry without a legal basis"],
    }
    assert propose(deployment).version == proposal.version + 1
    with pytest.raises(ProposalError, match="gone"):
        deployment.repository.publish_listing(proposal, *deployment.online)
    with pytest.raises(ProposalError, match="gone"):
        deployment.repository.refuse(proposal, [])


def test_waiting_and_refused_listings_never_hold_up_relief(deployment: Deployment) -> None:
    proposal = propose(deployment)
    with FileLock(
        deployment.path / "proposals" / "aviation" / "lock", timeout=0
    ):  # somebody is busy with the proposal
        assert deployment.relief(b"relief 2").relief == 2
    deployment.repository.refuse(proposal, ["no"])
    assert deployment.relief(b"relief 3").relief == 3
    assert (
        contents(deployment.reader().refresh(deployment.fetcher()))["relief/aviation/1-9"]
        == b"relief 3"
    )


def test_old_proposal_is_not_published(deployment: Deployment) -> None:
    waiting = sign_off(deployment, propose(deployment))
    deployment.clock.move(days=7)
    with pytest.raises(ProposalError, match="expired while it waited"):
        deployment.repository.publish_listing(waiting, *deployment.online)
    deployment.clock.move(days=-7)
    shutil.copytree(waiting.folder, deployment.folder / "kept")
    deployment.repository.publish_listing(waiting, *deployment.online)
    shutil.copytree(deployment.folder / "kept", waiting.folder)
    with pytest.raises(ProposalError, match="not newer"):
        deployment.repository.publish_listing(waiting, *deployment.online)


def test_half_written_proposal_is_not_seen_and_is_cleared_by_the_next(
    deployment: Deployment,
) -> None:
    half = deployment.path / "proposals" / "aviation" / "7"
    (half / "listing" / "aviation").mkdir(parents=True)
    assert deployment.repository.proposal("aviation") is None
    assert propose(deployment).version == 8
    assert not half.exists()


def test_paths_outside_the_role_are_refused(deployment: Deployment) -> None:
    source = deployment.folder / "source"
    source.write_bytes(b"x")
    builder, relief = (
        deployment.keys.signer("listing-aviation-builder"),
        deployment.keys.signer("relief-aviation"),
    )
    for path in (
        "filter",
        "listing/rail/filter",
        "relief/aviation/1-2",
        "listing/aviation/../rail/x",
        "listing/aviation/a/b",
        "listing/aviation/",
    ):
        with pytest.raises(RepositoryError, match="listing/aviation/\\*"):
            deployment.repository.propose_listing("aviation", {path: source}, builder)
    for path in ("1-2", "relief/rail/1-2", "listing/aviation/filter"):
        with pytest.raises(RepositoryError, match="relief/aviation/\\*"):
            deployment.repository.publish_relief(
                "aviation", {path: b"x"}, relief, *deployment.online
            )


def test_relief_is_the_whole_set_each_time(deployment: Deployment) -> None:
    relief = deployment.keys.signer("relief-aviation")

    def publish(*names: str) -> set[str]:
        segments = {f"relief/aviation/{name}": name.encode() for name in names}
        deployment.repository.publish_relief("aviation", segments, relief, *deployment.online)
        state = deployment.reader().refresh(deployment.fetcher())
        return set(state.roles["relief-aviation"].targets)

    assert publish("1-4", "5-5") == {"relief/aviation/1-4", "relief/aviation/5-5"}
    assert publish("1-5") == {"relief/aviation/1-5"}
    assert publish() == set()


def test_refresh_signs_relief_anew_without_a_change(deployment: Deployment) -> None:
    deployment.relief(b"relief 2")
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    deployment.clock.move(minutes=50)
    versions = deployment.repository.refresh(
        "aviation", deployment.keys.signer("relief-aviation"), *deployment.online
    )
    deployment.clock.move(minutes=20)
    after = reader.refresh(deployment.fetcher())
    assert (versions.relief, versions.listing) == (3, before.roles["listing-aviation"].version)
    assert (
        after.roles["relief-aviation"].signed_at - before.roles["relief-aviation"].signed_at
    ).total_seconds() == 3000
    assert after.roles["relief-aviation"].targets == before.roles["relief-aviation"].targets


def test_wrong_keys_publish_nothing(deployment: Deployment) -> None:
    before = deployment.repository.versions("aviation")
    relief = deployment.keys.signer("relief-aviation")
    snapshot, timestamp = deployment.online
    for signers in (
        (stranger(), snapshot, timestamp),
        (relief, timestamp, timestamp),
        (relief, snapshot, snapshot),
    ):
        with pytest.raises(SignatureError, match="0 of 1 signatures"):
            deployment.repository.publish_relief("aviation", {}, *signers)
        with pytest.raises(SignatureError):
            deployment.repository.refresh("aviation", *signers)
    assert deployment.repository.versions("aviation") == before


def test_signer_that_fails_is_a_key_error(deployment: Deployment) -> None:
    class Unplugged:
        public_key = deployment.keys.public("relief-aviation")

        def sign(self, payload: bytes) -> None:
            raise RuntimeError("token removed")

    with pytest.raises(KeyFileError, match="hardware module"):
        deployment.repository.publish_relief("aviation", {}, Unplugged(), *deployment.online)  # type: ignore[arg-type]


def test_catalogue_goes_to_every_audience(deployment: Deployment) -> None:
    assert deployment.repository.set_catalogue(b"catalogue 2", deployment.keys) == 2
    for audience in ("aviation", "rail"):
        state = deployment.reader(audience, audience).refresh(deployment.fetcher(audience))
        assert contents(state)["catalogue"] == b"catalogue 2"
        assert deployment.repository.versions(audience).targets == 2


def test_numbers_left_by_a_killed_writer_are_passed_over(deployment: Deployment) -> None:
    for name in ("2.relief-aviation.json", "3.relief-aviation.json", "3.snapshot.json"):
        deployment.metadata(name).write_bytes(b"half")
    versions = deployment.relief(b"relief 2")
    assert (versions.relief, versions.snapshot) == (4, 4)
    assert (
        contents(deployment.reader().refresh(deployment.fetcher()))["relief/aviation/1-9"]
        == b"relief 2"
    )


def test_damaged_repository_says_to_restore_it(deployment: Deployment) -> None:
    timestamp = deployment.metadata("timestamp.json")
    whole = timestamp.read_bytes()
    for damage in (whole[:-20], b"", b"[]", deployment.metadata("1.root.json").read_bytes()):
        timestamp.write_bytes(damage)
        with pytest.raises(StateCorruptError, match="restore"):
            deployment.relief(b"relief 2")
    timestamp.unlink()
    with pytest.raises(StateCorruptError, match="missing"):
        deployment.repository.versions("aviation")


def test_places_that_are_no_repository_or_are_one_already(
    deployment: Deployment, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryError, match="tipstaff-server init"):
        Repository(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match="in use already"):
        Repository.create(deployment.path, deployment.keys, audiences=["rail"], catalogue=b"")
    for audiences in ([], ["rail", "rail"], ["Rail"], ["proposals"]):
        with pytest.raises(RepositoryError):
            Repository.create(tmp_path / "new", deployment.keys, audiences=audiences, catalogue=b"")
    with pytest.raises(KeyFileError, match="listing-hotel"):
        Repository.create(tmp_path / "new", deployment.keys, audiences=["hotel"], catalogue=b"")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert Repository.create(
        tmp_path / "empty", deployment.keys, audiences=["rail"], catalogue=b""
    ).audiences() == ["rail"]


def test_unknown_audience_names_those_there_are(deployment: Deployment) -> None:
    for audience in ("hotel", "../aviation", "proposals", ""):
        with pytest.raises(RepositoryError, match=r"aviation, rail|not an audience id"):
            deployment.repository.versions(audience)


@pytest.mark.parametrize(
    "name",
    [
        "../../lock",
        "1.root.json/..",
        "2.root.json",
        "",
        ".",
        "..",
        "timestamp.json\0",
        "/etc/passwd",
    ],
)
def test_nothing_outside_a_view_is_served(deployment: Deployment, name: str) -> None:
    with pytest.raises(NotFoundError):
        deployment.repository.metadata_path("aviation", name)
    with pytest.raises(NotFoundError):
        deployment.repository.artefact_path("aviation", name)


def test_artefacts_are_served_by_hash(deployment: Deployment) -> None:
    state = deployment.reader().refresh(deployment.fetcher())
    target = state.roles["listing-aviation"].targets["listing/aviation/filter"]
    path = deployment.repository.artefact_path(
        "aviation", f"listing/aviation/{target.sha256}.filter"
    )
    assert path.read_bytes() == b"filter 1"
    with pytest.raises(NotFoundError):
        deployment.repository.artefact_path("rail", f"listing/aviation/{target.sha256}.filter")


def test_bundle_brings_what_changed_and_no_more(deployment: Deployment) -> None:
    first = deployment.repository.versions("aviation")
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    deployment.relief(b"relief 2")
    metadata, artefacts = deployment.repository.bundle_files("aviation", first, 1000)
    assert set(metadata) == {"timestamp.json", "3.snapshot.json", "2.relief-aviation.json"}
    assert list(artefacts.values()) == [b"relief 2"]
    assert reader.apply(metadata, artefacts).roles["relief-aviation"].version == 2
    second = deployment.repository.versions("aviation")
    deployment.repository.refresh(
        "aviation", deployment.keys.signer("relief-aviation"), *deployment.online
    )
    metadata, artefacts = deployment.repository.bundle_files("aviation", second, 1000)
    assert set(metadata) == {"timestamp.json", "4.snapshot.json", "3.relief-aviation.json"}
    assert artefacts == {}
    assert reader.apply(metadata, artefacts).roles["relief-aviation"].version == 3


def test_bundle_for_one_who_has_nothing_brings_everything_small(deployment: Deployment) -> None:
    deployment.listing(b"x" * 2000)
    metadata, artefacts = deployment.repository.bundle_files("aviation", None, 1000)
    assert set(metadata) == {
        "timestamp.json", "1.root.json", "1.targets.json", "3.snapshot.json", "3.listing-aviation.json", "1.relief-aviation.json",
    }  # fmt: skip
    assert sorted(artefacts.values()) == [b"catalogue 1", b"parameters of " + b"x" * 16]
    everything = deployment.repository.bundle_files("aviation", Versions(0, 0, 0, 0), 2000)
    assert (
        contents(deployment.reader().apply(*everything))["listing/aviation/filter"] == b"x" * 2000
    )


def test_writers_take_turns_and_a_stuck_one_is_named(deployment: Deployment) -> None:
    def publish(content: bytes) -> None:
        deployment.relief(content)

    threads = [
        threading.Thread(target=publish, args=(b"relief %d" % number,)) for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert deployment.repository.versions("aviation").relief == 7
    deployment.reader().refresh(deployment.fetcher())
    impatient = Repository(deployment.path, clock=deployment.clock, lock_seconds=0.01)
    with FileLock(deployment.path / "lock", timeout=0), pytest.raises(StateBusyError):
        impatient.refresh("aviation", deployment.keys.signer("relief-aviation"), *deployment.online)


def test_relief_does_not_read_large_artefacts_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.listing(b"x" * 100_000)
    read: list[int] = []
    original = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: (read.append(path.stat().st_size), original(path))[1]
    )
    disk = FaultyDisk()
    Repository(deployment.path, clock=deployment.clock, disk=disk).publish_relief(
        "aviation",
        {"relief/aviation/1-1": b"r"},
        deployment.keys.signer("relief-aviation"),
        *deployment.online,
    )
    assert max(read) < 10_000
    assert disk.steps < 20


def test_keys_of_one_deployment_do_not_open_anothers(
    deployment: Deployment, tmp_path: Path
) -> None:
    other = create_key_files(tmp_path / "other", audiences=["aviation", "rail"])
    with pytest.raises(SignatureError):
        deployment.repository.set_catalogue(b"catalogue 2", other)
    assert deployment.repository.versions("rail") == Versions(1, 1, 1, 1, 1, 1)
