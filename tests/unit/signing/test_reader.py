"""The reader: offline opening, repair, sharing, bundles."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import stat
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.signing import START, Altered, Deployment, contents
from tipstaff_signing import (
    ContentError,
    IncompleteBundleError,
    Limits,
    MetadataFormatError,
    Reader,
    RollbackError,
    SignatureError,
    StateBusyError,
    StateCorruptError,
    StateError,
    StorageError,
    TrustError,
    UnavailableError,
    VerifiedState,
    Versions,
)
from tipstaff_signing.files import Disk, FileLock

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    made.listing(b"filter 1" * 100)
    made.relief(b"relief 1")
    made.reader().refresh(made.fetcher())
    return made


@pytest.fixture
def deployment(built: Deployment, tmp_path: Path) -> Deployment:
    return built.copy(tmp_path / "copy")


def test_nothing_is_there_before_the_first_refresh(deployment: Deployment) -> None:
    assert deployment.reader("new").load() is None
    assert not (deployment.folder / "new").exists()


def test_state_says_what_was_verified(deployment: Deployment) -> None:
    state = deployment.reader().load()
    assert state is not None
    assert (state.view, state.root_version, state.timestamp_version, state.snapshot_version) == (
        "aviation",
        1,
        3,
        3,
    )
    assert set(state.roles) == {"targets", "listing-aviation", "relief-aviation"}
    assert set(state.roles["targets"].targets) == {"catalogue"}
    relief = state.roles["relief-aviation"]
    assert (relief.name, relief.version, relief.signed_at, relief.expires) == (
        "relief-aviation",
        2,
        START,
        START + timedelta(hours=1),
    )
    target = relief.targets["relief/aviation/1-9"]
    assert (target.path, target.length, target.custom) == ("relief/aviation/1-9", 8, {})
    assert target.file.name == target.sha256
    assert target.file.read_bytes() == b"relief 1"
    with pytest.raises(TypeError):
        state.roles["x"] = relief  # type: ignore[index]


def test_expiry_is_reported_offline_and_not_judged(deployment: Deployment) -> None:
    reader = deployment.reader()
    state = reader.load()
    assert state is not None
    assert state.expired(deployment.clock()) == ()
    deployment.clock.move(days=8)
    assert reader.load() == state
    assert state.expired(deployment.clock()) == (
        "listing-aviation",
        "relief-aviation",
        "snapshot",
        "timestamp",
    )
    deployment.clock.move(days=400)
    assert reader.load() == state
    assert len(state.expired(deployment.clock())) == 6


def test_refresh_without_a_change_writes_nothing_and_asks_little(deployment: Deployment) -> None:
    reader = deployment.reader()
    before = {
        path: path.stat().st_mtime_ns for path in (deployment.folder / "state").rglob("*.json")
    }
    source = Altered(deployment.fetcher())
    assert reader.refresh(source) == reader.load()
    assert source.asked == ["2.root.json", "timestamp.json"]
    assert {
        path: path.stat().st_mtime_ns for path in (deployment.folder / "state").rglob("*.json")
    } == before


def test_only_changed_artefacts_are_fetched(deployment: Deployment) -> None:
    deployment.relief(b"relief 2")
    source = Altered(deployment.fetcher())
    deployment.reader().refresh(source)
    assert [asked.rpartition(".")[2] for asked in source.asked if "@" in asked] == ["1-9@0"]


def test_folders_and_files_are_for_this_user_alone(deployment: Deployment) -> None:
    state = deployment.folder / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in state.rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "a bit flipped": flip,
    "cut short": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "emptied": lambda data: b"",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", ["listing/aviation/filter", "relief/aviation/1-9", "catalogue"])
def test_damaged_artefact_is_noticed_put_aside_and_fetched_again(
    deployment: Deployment, path: str, damage: str
) -> None:
    whole = deployment.reader().load()
    assert whole is not None
    (file,) = [role.targets[path].file for role in whole.roles.values() if path in role.targets]
    content = file.read_bytes()
    damaged = DAMAGES[damage](content)
    file.unlink()
    if damaged is not None:
        file.write_bytes(damaged)
    assert deployment.reader().load() is None
    assert not file.exists()
    source = Altered(deployment.fetcher())
    assert deployment.reader().refresh(source) == whole
    assert file.read_bytes() == content
    assert len([asked for asked in source.asked if "@" in asked]) == 1


def test_artefact_damaged_between_two_refreshes_of_one_reader_is_repaired(
    deployment: Deployment,
) -> None:
    reader = deployment.reader()
    state = reader.refresh(deployment.fetcher())
    file = state.roles["listing-aviation"].targets["listing/aviation/filter"].file
    file.write_bytes(flip(file.read_bytes()))
    assert (
        contents(reader.refresh(deployment.fetcher()))["listing/aviation/filter"]
        == b"filter 1" * 100
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_current_version_is_put_aside_and_fetched_again(
    deployment: Deployment, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = deployment.folder / "state" / "cache" / "current.json"
    whole = deployment.reader().load()
    damaged = DAMAGES[damage](path.read_bytes())
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    with caplog.at_level(logging.ERROR, logger="tipstaff_signing"):
        assert deployment.reader().load() is None
    assert not path.exists()
    assert path.with_suffix(".damaged").exists() == (damaged is not None)
    assert bool(caplog.records) == (damaged is not None)
    source = Altered(deployment.fetcher())
    assert deployment.reader().refresh(source) == whole
    assert not [asked for asked in source.asked if "@" in asked]  # the artefacts were whole


@pytest.mark.parametrize(
    "name",
    [
        "timestamp.json",
        "snapshot.json",
        "targets.json",
        "listing-aviation.json",
        "relief-aviation.json",
        "1.root.json",
    ],
)
def test_altered_metadata_on_disk_is_not_believed(deployment: Deployment, name: str) -> None:
    path = deployment.folder / "state" / "cache" / "current.json"
    content = json.loads(path.read_bytes())
    content["metadata"][name] = (
        content["metadata"][name].replace("2026-07", "2036-07").replace("2027-07", "2037-07")
    )
    path.write_text(json.dumps(content))
    if name == "1.root.json":  # the trusted root came with the kit; this copy is not used
        assert deployment.reader().load() is not None
    else:
        assert deployment.reader().load() is None
        assert deployment.reader().refresh(deployment.fetcher()) is not None


def test_state_of_another_deployment_is_not_believed(
    deployment: Deployment, tmp_path: Path
) -> None:
    other = Deployment(tmp_path / "other")
    reader = deployment.reader(trusted_root=other.root)
    assert reader.load() is None


def test_two_audiences_do_not_share_a_folder(deployment: Deployment) -> None:
    reader = deployment.reader("state", "rail")
    for act in (reader.load, lambda: reader.refresh(deployment.fetcher("rail"))):
        with pytest.raises(StateError, match="its own folder"):
            act()
    assert deployment.reader().load() is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1, "view": "aviation", "newest": 5, "keys": [], "accepted": {}, "seen": {}}',
    ],
)
def test_damaged_floor_is_made_anew_from_a_sound_state_only(
    deployment: Deployment, content: bytes
) -> None:
    floor = deployment.folder / "state" / "floor.json"
    before = floor.read_bytes()
    floor.write_bytes(content)
    reader = deployment.reader()
    assert reader.load() is not None
    reader.refresh(deployment.fetcher())
    assert json.loads(floor.read_bytes()) == json.loads(before)
    floor.write_bytes(content)
    shutil.rmtree(deployment.folder / "state" / "cache")
    with pytest.raises(StateCorruptError, match=r"floor\.json"):
        reader.refresh(deployment.fetcher())
    floor.unlink()
    assert reader.refresh(deployment.fetcher()) is not None


def test_other_roles_are_fetched_when_wanted(deployment: Deployment) -> None:
    options: dict[str, Any] = {
        "view": "aviation",
        "trusted_root": deployment.root,
        "clock": deployment.clock,
    }
    relief_only = Reader(deployment.folder / "relief", roles=["relief-aviation"], **options)
    assert set(relief_only.refresh(deployment.fetcher()).roles) == {"targets", "relief-aviation"}
    both = Reader(
        deployment.folder / "relief", roles=["relief-aviation", "listing-aviation"], **options
    )
    assert both.load() is None
    assert relief_only.load() is not None
    assert set(both.refresh(deployment.fetcher()).roles) == {
        "targets",
        "relief-aviation",
        "listing-aviation",
    }
    for role in ("listing-hotel", "listing-rail"):
        with pytest.raises(TrustError):
            Reader(deployment.folder / "state", roles=[role], **options).refresh(
                deployment.fetcher()
            )


@pytest.mark.parametrize("root", [b"", b"{}", b"[]"])
def test_trusted_root_that_is_none_is_refused_at_once(deployment: Deployment, root: bytes) -> None:
    with pytest.raises(MetadataFormatError, match="trusted root"):
        deployment.reader(trusted_root=root)


def test_trusted_root_that_was_altered_is_refused_at_once(deployment: Deployment) -> None:
    with pytest.raises(SignatureError):
        deployment.reader(trusted_root=deployment.root.replace(b"2027", b"2037"))
    with pytest.raises(MetadataFormatError):
        deployment.reader(trusted_root=deployment.metadata("timestamp.json").read_bytes())


def test_opening_needs_no_lock_and_updating_waits_for_it(deployment: Deployment) -> None:
    reader = deployment.reader(limits=Limits(lock_seconds=0.01))
    with FileLock(deployment.folder / "state" / "lock", timeout=0):
        assert reader.load() is not None
        with pytest.raises(StateBusyError):
            reader.refresh(deployment.fetcher())
        damaged = deployment.folder / "state" / "cache" / "current.json"
        damaged.write_bytes(b"{")
        assert reader.load() is None
        assert damaged.exists()  # whoever holds the lock will see to it
    reader.refresh(deployment.fetcher())


def test_threads_share_a_reader(deployment: Deployment) -> None:
    reader = deployment.reader()
    deployment.relief(b"relief 2")
    seen: list[Any] = []

    def work(number: int) -> None:
        seen.extend(
            contents(reader.refresh(deployment.fetcher()) if number % 2 else reader.load())
            for _ in range(5)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert {found["relief/aviation/1-9"] for found in seen} <= {b"relief 1", b"relief 2"}


def test_replaced_artefacts_stay_for_late_openers_and_then_go(deployment: Deployment) -> None:
    reader = deployment.reader()
    old = (
        reader.refresh(deployment.fetcher())
        .roles["relief-aviation"]
        .targets["relief/aviation/1-9"]
        .file
    )
    deployment.relief(b"relief 2")
    reader.refresh(deployment.fetcher())
    deployment.clock.move(minutes=9)
    deployment.relief(b"relief 3")
    reader.refresh(deployment.fetcher())
    assert old.read_bytes() == b"relief 1"
    deployment.clock.move(minutes=1)
    reader.refresh(deployment.fetcher())
    assert not old.exists()
    store = deployment.folder / "state" / "cache" / "artefacts"
    state = reader.load()
    assert state is not None
    used = {target.sha256 for role in state.roles.values() for target in role.targets.values()}
    assert {path.name for path in store.iterdir()} - used  # relief 2 is still kept
    deployment.clock.move(minutes=11)
    reader.refresh(deployment.fetcher())
    assert {path.name for path in store.iterdir()} == used


def test_broken_download_is_resumed(deployment: Deployment) -> None:
    deployment.listing(b"0123456789" * 100)
    reader = deployment.reader()

    def halting(path: str, offset: int, honest: Any) -> Any:
        for chunk in honest:
            yield chunk[:400]
            if path.endswith(".filter"):
                raise UnavailableError("cut")

    for _ in range(2):
        with pytest.raises(UnavailableError):
            reader.refresh(Altered(deployment.fetcher(), {}, halting))
    source = Altered(deployment.fetcher())
    assert contents(reader.refresh(source))["listing/aviation/filter"] == b"0123456789" * 100
    assert [asked.rpartition("@")[2] for asked in source.asked if ".filter@" in asked] == ["800"]


def test_a_version_that_is_not_accepted_never_comes_in_force(deployment: Deployment) -> None:
    asked: list[int] = []

    def accept(state: VerifiedState) -> None:
        asked.append(state.roles["listing-aviation"].version)
        assert all(
            target.file.is_file()
            for role in state.roles.values()
            for target in role.targets.values()
        )
        if b"nonsense" in contents(state)["listing/aviation/filter"]:
            raise ValueError("no filter")

    deployment.listing(b"filter 1")
    reader = deployment.reader(accept=accept)
    before = reader.refresh(deployment.fetcher())
    reader.refresh(deployment.fetcher())
    assert len(asked) == 1  # nothing new, nothing to look into
    between = deployment.backup("between")
    deployment.listing(b"nonsense")
    for _ in range(2):
        with pytest.raises(ContentError, match="no filter") as refused:
            reader.refresh(deployment.fetcher())
        assert isinstance(refused.value.__cause__, ValueError)
    assert deployment.reader().load() == before
    with pytest.raises(RollbackError):  # what the refused update proved is remembered
        reader.refresh(between)
    deployment.listing(b"filter 3")
    assert contents(reader.refresh(deployment.fetcher()))["listing/aviation/filter"] == b"filter 3"


def test_a_disk_that_fails_while_a_version_is_looked_into_is_a_storage_error(
    deployment: Deployment,
) -> None:
    def accept(state: VerifiedState) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = deployment.reader().load()
    deployment.listing(b"filter 1")
    with pytest.raises(StorageError, match="check the disk"):
        deployment.reader(accept=accept).refresh(deployment.fetcher())
    assert deployment.reader().load() == before


def test_incomplete_bundle_asks_for_a_refresh(deployment: Deployment) -> None:
    held = deployment.repository.versions("aviation")
    deployment.listing(b"filter 2" * 100)
    deployment.relief(b"relief 2")
    reader = deployment.reader()
    before = reader.load()
    metadata, artefacts = deployment.repository.bundle_files("aviation", held, 100)
    with pytest.raises(IncompleteBundleError, match="filter"):
        reader.apply(metadata, artefacts)
    for name in metadata:
        with pytest.raises(IncompleteBundleError, match="refresh instead"):
            reader.apply(
                {other: data for other, data in metadata.items() if other != name}, artefacts
            )
    assert reader.load() == before
    assert contents(reader.refresh(deployment.fetcher()))["relief/aviation/1-9"] == b"relief 2"


def test_bundle_that_another_process_overtook_changes_nothing(deployment: Deployment) -> None:
    held = deployment.repository.versions("aviation")
    deployment.relief(b"relief 2")
    late = deployment.repository.bundle_files("aviation", held, 1000)
    deployment.relief(b"relief 3")
    reader = deployment.reader()
    newest = reader.refresh(deployment.fetcher())
    assert reader.apply(*late) == newest
    same = deployment.repository.bundle_files("aviation", held, 1000)
    assert reader.apply(*same) == newest


def test_first_state_can_come_from_a_bundle(deployment: Deployment) -> None:
    state = deployment.reader("new").apply(
        *deployment.repository.bundle_files("aviation", Versions(0, 0, 0, 0), 10_000)
    )
    assert state.roles == {
        name: state.roles[name] for name in ("targets", "listing-aviation", "relief-aviation")
    }
    assert deployment.reader("new").load() == state


def test_folder_without_permission_is_a_storage_error(deployment: Deployment) -> None:
    class Denied(Disk):
        """As for a user who may not write there (the tests may run as root, who may)."""

        def write(self, descriptor: int, data: bytes) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    deployment.relief(b"relief 2")
    with pytest.raises(StorageError, match="no permission"):
        deployment.reader(disk=Denied()).refresh(deployment.fetcher())
    assert deployment.reader().load() is not None


def test_file_in_place_of_the_folder_is_a_storage_error(deployment: Deployment) -> None:
    (deployment.folder / "file").write_bytes(b"")
    assert deployment.reader("file").load() is None
    with pytest.raises(StorageError):
        deployment.reader("file").refresh(deployment.fetcher())


def test_logs_name_files_and_nothing_of_their_content(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        path = deployment.folder / "state" / "cache" / "current.json"
        path.write_bytes(path.read_bytes().replace(b"signed_at", b"somewhen!"))
        assert deployment.reader().load() is None
        deployment.reader().refresh(deployment.fetcher())
    text = caplog.text
    assert "put aside" in text
    assert "filter 1" not in text
    for path in Path(deployment.keys.folder).glob("*.pem"):
        assert path.read_text().splitlines()[1] not in text


def test_what_is_not_wanted_is_neither_fetched_nor_missed(deployment: Deployment) -> None:
    asked: list[str] = []

    class Asking:
        def metadata(self, name: str, max_bytes: int) -> bytes:
            return deployment.fetcher().metadata(name, max_bytes)

        def artefact(self, path: str, offset: int) -> Any:
            asked.append(path)
            return deployment.fetcher().artefact(path, offset)

    def lean() -> Reader:
        return deployment.reader("lean", wanted=lambda path: not path.endswith("/filter"))

    state = lean().refresh(Asking())
    assert set(state.roles["listing-aviation"].targets) == {"listing/aviation/parameters"}
    assert asked
    assert not any(path.endswith(".filter") for path in asked)
    assert lean().load() == state

    # The same folder, by one who wants everything: not whole for him, until he fetched what is
    # missing.
    whole = deployment.reader("lean")
    assert whole.load() is None
    full = whole.refresh(deployment.fetcher())
    assert (
        full.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()
        == b"filter 1" * 100
    )
    # And the other way: what nobody wants any more goes, as anything that was replaced.
    assert lean().refresh(deployment.fetcher()) == state
