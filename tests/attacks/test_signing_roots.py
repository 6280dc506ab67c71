"""Keys change: rotated while a reader sleeps, revoked after theft, withheld by somebody in between."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from tests.support.signing import Altered, Deployment, contents, forge, resign
from tipstaff_signing import (
    KeyFolder,
    NotFoundError,
    RepositoryError,
    RollbackError,
    SignatureError,
    UnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.listing(b"filter 1")
    made.relief(b"relief 1")
    return made


def replaced(deployment: Deployment, *names: str) -> KeyFolder:
    """A key folder in which these keys are new ones."""
    folder = deployment.folder / f"keys after {deployment.repository.versions('aviation').root}"
    shutil.copytree(deployment.keys.folder, folder)
    for name in names:
        signer = CryptoSigner.generate_ed25519()
        (folder / f"{name}.pem").write_bytes(signer.private_bytes)
        (folder / f"{name}.pub").unlink()
    return KeyFolder(folder)


def next_root(
    deployment: Deployment,
    keys: KeyFolder,
    *names: str,
    signers: tuple[str, ...] = ("root-1", "root-2"),
) -> bytes:
    """The root after the current one, with the new folder's keys for these names, signed by root
    keys old and new.
    """
    current: Any = Metadata.from_bytes(deployment.repository.root_bytes())

    def change(root: Any) -> None:
        root.version += 1
        for name in names:
            role = name.partition("-")[0]
            old = deployment.keys.public(name)
            if old.keyid in root.roles[role].keyids:
                root.revoke_key(old.keyid, role)
            root.add_key(keys.public(name), role)

    both = [folder.signer(name) for folder in (deployment.keys, keys) for name in signers]
    unique = {signer.public_key.keyid: signer for signer in both}
    return resign(current.to_bytes(), list(unique.values()), change)


def rotate(deployment: Deployment, *names: str) -> None:
    keys = replaced(deployment, *names)
    deployment.repository.publish_root(next_root(deployment, keys, *names), keys)
    deployment.keys = keys


def test_reader_follows_a_root_rotated_twice_while_it_slept(deployment: Deployment) -> None:
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    rotate(deployment, "timestamp", "root-3")
    rotate(deployment, "root-1", "snapshot", "targets-1")
    deployment.relief(b"relief 2")
    state = reader.refresh(deployment.fetcher())
    assert state.root_version == 3
    assert contents(state)["relief/aviation/1-9"] == b"relief 2"
    assert deployment.reader().load() == state
    assert (
        deployment.reader("fresh").refresh(deployment.fetcher()).root_version == 3
    )  # from the first root, as from an old kit
    assert (
        deployment.reader("newest", trusted_root=deployment.repository.root_bytes())
        .refresh(deployment.fetcher())
        .root_version
        == 3
    )


def test_revoked_key_signs_in_vain(deployment: Deployment) -> None:
    reader = deployment.reader()
    thief = deployment.keys.signer("timestamp")
    rotate(deployment, "timestamp")
    reader.refresh(deployment.fetcher())
    with pytest.raises(SignatureError):
        reader.refresh(Altered(deployment.fetcher(), forge(deployment, {}, timestamp_signer=thief)))


def test_withheld_root_does_not_bring_a_revoked_key_back(deployment: Deployment) -> None:
    """The cache is wiped and the source hides root 2, offering what was genuine under root 1."""
    before = deployment.backup("before")
    reader = deployment.reader()
    rotate(deployment, "timestamp")
    reader.refresh(deployment.fetcher())
    shutil.rmtree(deployment.folder / "state" / "cache")
    for _ in range(2):  # the failed attempt must not lower the floor for the next
        with pytest.raises(RollbackError, match="root"):
            reader.refresh(before)
    with pytest.raises(SignatureError):
        reader.refresh(Altered(before, {"2.root.json": deployment.repository.root_bytes()}))
    assert reader.refresh(deployment.fetcher()).root_version == 2


def test_keys_of_an_older_root_do_not_lower_the_floor(deployment: Deployment) -> None:
    """Root 2 changes the timestamp and snapshot keys.

    Whoever then shows root 1 again must not pass for a recovery.
    """
    old = deployment.backup("before")
    reader = deployment.reader()
    rotate(deployment, "timestamp", "snapshot")
    newest = reader.refresh(deployment.fetcher())
    floor = deployment.folder / "state" / "floor.json"
    before = floor.read_bytes()
    shutil.rmtree(deployment.folder / "state" / "cache")
    for _ in range(2):
        with pytest.raises(RollbackError):
            reader.refresh(old)
        assert floor.read_bytes() == before
    assert reader.refresh(deployment.fetcher()) == newest


def test_versions_seen_under_a_new_root_count_although_an_older_one_is_in_force(
    deployment: Deployment,
) -> None:
    reader = deployment.reader()
    reader.refresh(deployment.fetcher())
    rotate(deployment, "timestamp")
    between = deployment.backup("between")
    deployment.relief(b"relief 2")
    with pytest.raises(NotFoundError):
        reader.refresh(
            Altered(
                deployment.fetcher(), {deployment.current("snapshot"): NotFoundError("withheld")}
            )
        )
    with pytest.raises(RollbackError):
        reader.refresh(between)
    assert reader.refresh(deployment.fetcher()).root_version == 2


def test_root_learned_in_a_failed_update_is_kept_and_the_state_in_force_still_opens(
    deployment: Deployment,
) -> None:
    reader = deployment.reader()
    before = reader.refresh(deployment.fetcher())
    old = deployment.backup("before")
    rotate(deployment, "timestamp")
    with pytest.raises(UnavailableError):
        reader.refresh(Altered(deployment.fetcher(), {"timestamp.json": UnavailableError("cut")}))
    assert reader.load() == before
    with pytest.raises(SignatureError):
        reader.refresh(
            old
        )  # root 2 is known now: what root 1's key signs is refused, although 2.root.json is withheld
    assert reader.refresh(deployment.fetcher()).root_version == 2


@pytest.mark.parametrize("wiped", [False, True], ids=["cache kept", "cache wiped"])
def test_recovery_after_a_thief_ran_the_version_numbers_up(
    deployment: Deployment, wiped: bool
) -> None:
    def far(snapshot: Any) -> None:
        snapshot.version = 1_000_000

    reader = deployment.reader()
    files = forge(deployment, {}, far)
    state = reader.refresh(Altered(deployment.fetcher(), files))
    assert state.snapshot_version == 1_000_000
    if wiped:
        shutil.rmtree(deployment.folder / "state" / "cache")
    deployment.relief(b"relief 2")
    deployment.relief(b"relief 3")
    with pytest.raises(RollbackError):
        reader.refresh(deployment.fetcher())
    rotate(deployment, "timestamp", "snapshot")
    with pytest.raises(NotFoundError):
        reader.refresh(
            Altered(
                deployment.fetcher(),
                {deployment.current("snapshot"): NotFoundError("not yet on this mirror")},
            )
        )
    recovered = reader.refresh(deployment.fetcher())
    assert recovered.snapshot_version < 1_000_000
    assert deployment.reader().load() == recovered


def test_repository_refuses_a_root_that_too_few_keys_signed(deployment: Deployment) -> None:
    keys = replaced(deployment, "timestamp")
    published = deployment.repository.versions("aviation")
    with pytest.raises(RepositoryError, match="too few"):
        deployment.repository.publish_root(
            next_root(deployment, keys, "timestamp", signers=("root-1",)), keys
        )
    for wrong in (deployment.root, b"{}", deployment.metadata("timestamp.json").read_bytes()):
        with pytest.raises(RepositoryError, match="not a root of version 2"):
            deployment.repository.publish_root(wrong, keys)
    with pytest.raises(SignatureError):
        deployment.repository.publish_root(
            next_root(deployment, keys, "timestamp"), deployment.keys
        )
    assert deployment.repository.versions("aviation").timestamp == published.timestamp
