"""Changes of keys: drafts carried to signers and back, every role, old and new clients, broken-off
publications.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import Root

from tests.support.signing import AUDIENCES, START, Clock, Deployment
from tipstaff_signing import (
    KeyFileError,
    KeyFolder,
    ProposalError,
    Reader,
    Repository,
    RepositoryError,
    RollbackError,
    SignatureError,
    create_key_files,
)
from tipstaff_signing.ceremony.draft import Draft, complete, sign_parts, signatures_to_bytes
from tipstaff_signing.ceremony.rotation import Changes, Rotation
from tipstaff_signing.files import Disk
from tipstaff_signing.keys.files import create_key
from tipstaff_signing.reader.fetchers import DirectoryFetcher
from tipstaff_signing.repository.expiry import expiries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Ceremony:
    """A deployment whose keys change; new keys are made in a folder of their own."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.deployment = Deployment(folder)
        self.deployment.listing(b"filter 1")
        self.deployment.relief(b"relief 1")
        self.keys = self.deployment.keys
        self.new = folder / "new"
        self.rotation = Rotation(
            self.deployment.repository,
            clock=self.deployment.clock,
            **({"disk": disk} if disk else {}),
        )

    def fresh(self, name: str, scheme: str = "ed25519") -> Any:
        return create_key(self.new, name, scheme=scheme).public(name)

    def keyid(self, name: str) -> str:
        return self.keys.public(name).keyid

    def signer(self, name: str) -> Any:
        return (
            KeyFolder(self.new).signer(name)
            if (self.new / f"{name}.pem").exists()
            else self.keys.signer(name)
        )

    def signed(self, draft: Draft, old: Sequence[str] = (), new: Sequence[str] = ()) -> Draft:
        """Carried to each signer as a file, and their signatures back."""
        made = []
        for folder, names in ((self.keys, old), (KeyFolder(self.new), new)):
            for name in names:
                carried = Draft.from_bytes(draft.to_bytes())
                made.append(signatures_to_bytes(sign_parts(carried, folder.signer(name))))
        result = Draft.from_bytes(draft.to_bytes())
        complete(result, made)
        return result

    def reader(self, name: str, audience: str = "aviation") -> Reader:
        return Reader(
            self.deployment.folder / "readers" / name,
            view=audience,
            trusted_root=self.deployment.root,
            roles=[f"listing-{audience}", f"relief-{audience}"],
            clock=self.deployment.clock,
        )

    def fetcher(self, audience: str = "aviation") -> DirectoryFetcher:
        return DirectoryFetcher(self.deployment.path / audience)


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path)


CASES = {
    # what is replaced; who signs of the old, of the new keys; which parts the draft has
    "timestamp": (["timestamp"], ["root-1", "root-2"], [], ["root"]),
    "snapshot": (["snapshot"], ["root-1", "root-3"], [], ["root"]),
    "both online keys": (["timestamp", "snapshot"], ["root-2", "root-3"], [], ["root"]),
    "one root key": (["root-1"], ["root-2", "root-3"], [], ["root"]),
    "two root keys": (["root-1", "root-2"], ["root-1", "root-3"], ["root-1"], ["root"]),
    "one targets key": (
        ["targets-1"],
        ["root-1", "root-2", "targets-2"],
        ["targets-1"],
        ["root", "targets"],
    ),
    "both targets keys": (
        ["targets-1", "targets-2"],
        ["root-1", "root-2"],
        ["targets-1", "targets-2"],
        ["root", "targets"],
    ),
    "builder": (
        ["listing-aviation-builder"],
        ["targets-1", "targets-2", "listing-aviation-signoff"],
        ["listing-aviation-builder"],
        ["listing-aviation", "targets"],
    ),
    "sign-off": (
        ["listing-aviation-signoff"],
        ["targets-1", "targets-2", "listing-aviation-builder"],
        ["listing-aviation-signoff"],
        ["listing-aviation", "targets"],
    ),
    "relief": (["relief-aviation"], ["targets-1", "targets-2"], [], ["targets"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", ["ed25519", "ml-dsa-65"])
def test_a_key_is_replaced_and_clients_old_and_new_follow(
    ceremony: Ceremony, case: str, scheme: str
) -> None:
    replaced, old, new, parts = CASES[case]
    sleeper = ceremony.reader("sleeper")
    sleeper.refresh(ceremony.fetcher())
    changes = Changes(
        replace={ceremony.keyid(name): ceremony.fresh(name, scheme) for name in replaced}
    )
    draft = ceremony.signed(ceremony.rotation.draft(changes), old, new)
    assert sorted(draft.parts) == parts
    assert draft.missing() == {}
    assert ceremony.rotation.publish(draft, ceremony.signer) == list(AUDIENCES)
    for reader in (sleeper, ceremony.reader("newcomer")):
        state = reader.refresh(ceremony.fetcher())
        assert (
            state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()
            == b"filter 1"
        )
        assert (
            state.roles["relief-aviation"].targets["relief/aviation/1-9"].file.read_bytes()
            == b"relief 1"
        )
    ceremony.reader("rail", "rail").refresh(ceremony.fetcher("rail"))
    # Life goes on with the new keys, and only with them.
    with (
        pytest.raises(SignatureError)
        if set(replaced) & {"snapshot", "timestamp", "relief-aviation"}
        else contextlib.nullcontext()
    ):
        ceremony.deployment.relief(b"relief 2")
    for file in ceremony.new.iterdir():
        shutil.copy2(file, ceremony.keys.folder)
    ceremony.deployment.listing(b"filter 2")
    ceremony.deployment.relief(b"relief 3")
    state = sleeper.refresh(ceremony.fetcher())
    assert (
        state.roles["relief-aviation"].targets["relief/aviation/1-9"].file.read_bytes()
        == b"relief 3"
    )


def test_a_thief_of_the_old_timestamp_key_is_not_believed_any_more(ceremony: Ceremony) -> None:
    thief = ceremony.deployment.copy(ceremony.deployment.folder.parent / "thief")
    reader = ceremony.reader("one")
    reader.refresh(ceremony.fetcher())
    draft = ceremony.rotation.draft(
        Changes(replace={ceremony.keyid("timestamp"): ceremony.fresh("timestamp")})
    )
    ceremony.rotation.publish(ceremony.signed(draft, ["root-1", "root-2"]), ceremony.signer)
    reader.refresh(ceremony.fetcher())
    thief.relief(b"the thief's")
    shutil.copy2(
        ceremony.deployment.path / "aviation" / "metadata" / "2.root.json",
        thief.path / "aviation" / "metadata",
    )
    with pytest.raises((SignatureError, RollbackError)):
        reader.refresh(DirectoryFetcher(thief.path / "aviation"))


def test_an_audience_is_added(ceremony: Ceremony) -> None:
    names = ("listing-banking-builder", "listing-banking-signoff", "relief-banking")
    public = tuple(ceremony.fresh(name) for name in names)
    draft = ceremony.rotation.draft(
        Changes(audiences={"banking": (public[0], public[1], public[2])})
    )
    draft = ceremony.signed(draft, ["targets-1", "targets-2"])
    assert ceremony.rotation.publish(draft, ceremony.signer) == ["aviation", "rail", "banking"]
    assert ceremony.rotation.publish(draft, ceremony.signer) == [
        "aviation",
        "banking",
        "rail",
    ]  # again, as after a break
    for file in ceremony.new.iterdir():
        shutil.copy2(file, ceremony.keys.folder)
    ceremony.deployment.listing(b"banking filter", "banking")
    state = ceremony.reader("bank", "banking").refresh(ceremony.fetcher("banking"))
    assert (
        state.roles["listing-banking"].targets["listing/banking/filter"].file.read_bytes()
        == b"banking filter"
    )
    ceremony.reader("old").refresh(ceremony.fetcher())
    with pytest.raises(RepositoryError, match="already"):
        ceremony.rotation.draft(Changes(audiences={"banking": (public[0], public[1], public[2])}))


def test_root_and_targets_are_renewed_before_they_end(ceremony: Ceremony) -> None:
    clock = ceremony.deployment.clock
    assert isinstance(clock, Clock)
    clock.move(days=340)
    due = {
        item.role
        for item in expiries(ceremony.deployment.repository, clock(), timedelta(days=30))
        if item.due
    }
    assert {"root", "targets"} <= due
    draft = ceremony.signed(
        ceremony.rotation.draft(Changes(renew=["root", "targets"])),
        ["root-1", "root-2", "targets-1", "targets-2"],
    )
    ceremony.rotation.publish(draft, ceremony.signer)
    due = {
        item.role
        for item in expiries(ceremony.deployment.repository, clock(), timedelta(days=30))
        if item.due
    }
    assert due == {
        "listing-aviation",
        "listing-rail",
        "relief-aviation",
        "relief-rail",
    }  # which only their programs renew


def test_nothing_online_is_due_in_the_course_of_things(ceremony: Ceremony) -> None:
    assert not any(
        item.due for item in expiries(ceremony.deployment.repository, START, timedelta(days=30))
    )
    late = [
        item.role
        for item in expiries(
            ceremony.deployment.repository, START + timedelta(minutes=46), timedelta(days=30)
        )
        if item.due
    ]
    assert late == ["relief-aviation", "relief-rail"]


def test_mixed_thresholds_want_both_kinds_of_keys(tmp_path: Path) -> None:
    keys = create_key_files(
        tmp_path / "keys", audiences=["aviation"], ml_dsa=["root-3", "targets-2"]
    )
    assert keys.public("root-3").scheme == "ml-dsa-65/1"
    repository = Repository.create(
        tmp_path / "repository", keys, audiences=["aviation"], catalogue=b"c"
    )
    reader = Reader(
        tmp_path / "state",
        view="aviation",
        trusted_root=repository.root_bytes(),
        roles=["relief-aviation"],
    )
    reader.refresh(DirectoryFetcher(repository.path / "aviation"))
    assert reader.load() is not None
    draft = Rotation(repository).draft(Changes(renew=["targets"]))
    sign_parts(draft, keys.signer("targets-1"))
    assert draft.missing() == {"targets": 1}
    sign_parts(draft, keys.signer("targets-2"))
    assert draft.missing() == {}
    with pytest.raises(KeyFileError, match="there is no key"):
        create_key_files(tmp_path / "other", audiences=["aviation"], ml_dsa=["root-9"])


class TestDrafts:
    def test_say_what_changes(self, ceremony: Ceremony) -> None:
        fresh = ceremony.fresh("timestamp")
        lines = ceremony.rotation.draft(
            Changes(replace={ceremony.keyid("timestamp"): fresh}, thresholds={"root": 3})
        ).describe()
        assert f"timestamp: key {ceremony.keyid('timestamp')} goes" in lines
        assert f"timestamp: key {fresh.keyid} comes" in lines
        assert "root: threshold 2 becomes 3" in lines

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (Changes(), "nothing would change"),
            (Changes(remove=["00" * 32]), "no role has the key"),
            (Changes(thresholds={"root": 4}), "nobody could reach"),
            (Changes(thresholds={"listing-aviation": 1}), "needs two keys"),
            (Changes(thresholds={"listing-space": 1}), "there is no role"),
        ],
    )
    def test_of_what_cannot_be_are_refused(
        self, ceremony: Ceremony, changes: Changes, message: str
    ) -> None:
        with pytest.raises(RepositoryError, match=message):
            ceremony.rotation.draft(changes)

    def test_without_enough_signatures_change_nothing(self, ceremony: Ceremony) -> None:
        draft = ceremony.rotation.draft(
            Changes(replace={ceremony.keyid("timestamp"): ceremony.fresh("timestamp")})
        )
        with pytest.raises(ProposalError, match="root needs 1 more"):
            ceremony.rotation.publish(ceremony.signed(draft, ["root-1"]), ceremony.signer)
        assert ceremony.deployment.repository.versions("aviation").root == 1

    def test_signed_with_a_key_that_is_not_asked(self, ceremony: Ceremony) -> None:
        draft = ceremony.rotation.draft(Changes(renew=["root"]))
        with pytest.raises(ProposalError, match="nothing in this draft"):
            sign_parts(draft, ceremony.keys.signer("timestamp"))

    def test_with_signatures_of_another_draft(self, ceremony: Ceremony) -> None:
        first = ceremony.rotation.draft(Changes(renew=["root"]))
        second = ceremony.rotation.draft(
            Changes(replace={ceremony.keyid("timestamp"): ceremony.fresh("timestamp")})
        )
        made = signatures_to_bytes(sign_parts(first, ceremony.keys.signer("root-1")))
        with pytest.raises(ProposalError, match="another root"):
            complete(second, [made])

    def test_with_a_signature_that_was_damaged(self, ceremony: Ceremony) -> None:
        draft = ceremony.rotation.draft(Changes(renew=["root"]))
        made = sign_parts(Draft.from_bytes(draft.to_bytes()), ceremony.keys.signer("root-1"))
        made[0]["sig"] = "00" * 64
        with pytest.raises(SignatureError, match="not valid"):
            complete(draft, [signatures_to_bytes(made)])

    @pytest.mark.parametrize(
        "data", [b"", b"{}", b"[1]", b'{"format": 2}', b'{"format": 1, "parts": {}, "current": []}']
    )
    def test_that_are_none(self, ceremony: Ceremony, data: bytes) -> None:
        with pytest.raises(ProposalError, match="not a draft"):
            Draft.from_bytes(data)
        with pytest.raises(ProposalError, match="not a file of signatures"):
            complete(ceremony.rotation.draft(Changes(renew=["root"])), [data])

    def test_overtaken_by_another_publication(self, ceremony: Ceremony) -> None:
        signers = ["root-1", "root-2", "targets-1", "targets-2"]
        stale = ceremony.signed(ceremony.rotation.draft(Changes(renew=["root"])), signers[:2])
        other = ceremony.signed(
            ceremony.rotation.draft(Changes(renew=["root", "targets"])), signers
        )
        ceremony.rotation.publish(other, ceremony.signer)
        with pytest.raises(ProposalError, match="export a new one"):
            ceremony.rotation.publish(stale, ceremony.signer)

    def test_published_without_the_new_online_key(self, ceremony: Ceremony) -> None:
        draft = ceremony.rotation.draft(
            Changes(replace={ceremony.keyid("timestamp"): ceremony.fresh("timestamp")})
        )
        draft = ceremony.signed(draft, ["root-1", "root-2"])
        with pytest.raises(KeyFileError, match="give the folder"):
            ceremony.rotation.publish(draft, ceremony.keys.signer)
        assert ceremony.deployment.repository.versions("aviation").root == 1


class Killed(BaseException):
    """The process is gone."""


class Dying(Disk):
    """Dies before the given lasting change."""

    def __init__(self, step: int) -> None:
        self.left = step

    def replace(self, source: Path, target: Path) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().replace(source, target)


def test_broken_off_anywhere_it_is_finished_by_doing_it_again(tmp_path: Path) -> None:
    base = Ceremony(tmp_path / "base")
    changes = Changes(
        replace={
            base.keyid("targets-1"): base.fresh("targets-1"),
            base.keyid("timestamp"): base.fresh("timestamp"),
        }
    )
    draft = base.signed(
        base.rotation.draft(changes), ["root-1", "root-2", "targets-2"], ["targets-1"]
    )
    for step in range(20):
        folder = tmp_path / str(step)
        deployment = base.deployment.copy(folder)
        repository = deployment.repository
        try:
            Rotation(repository, clock=deployment.clock, disk=Dying(step)).publish(
                draft, base.signer
            )
        except Killed:
            Rotation(repository, clock=deployment.clock).publish(draft, base.signer)
        else:
            assert step >= 8
            break
        for audience in AUDIENCES:
            versions = repository.versions(audience)
            assert (versions.root, versions.targets) == (2, 2)
            roles = [f"listing-{audience}", f"relief-{audience}"]
            reader = Reader(
                folder / "new-reader" / audience,
                view=audience,
                trusted_root=base.deployment.root,
                roles=roles,
                clock=deployment.clock,
            )
            reader.refresh(DirectoryFetcher(repository.path / audience))
    else:
        pytest.fail("never came to an end")


class TestKeyUris:
    def test_a_key_elsewhere_signs(self, ceremony: Ceremony, tmp_path: Path) -> None:
        folder = ceremony.keys.folder
        (tmp_path / "stick").mkdir()
        (folder / "timestamp.pem").rename(tmp_path / "stick" / "moved.pem")
        (folder / "keys.toml").write_text(
            f'timestamp = "file2:{tmp_path / "stick" / "moved.pem"}"\n'
        )
        assert "timestamp" in ceremony.keys.names()
        ceremony.deployment.relief(b"signed through a URI")
        ceremony.reader("one").refresh(ceremony.fetcher())

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('timestamp = "file2:/nowhere/key.pem"', "cannot be used through file2"),
            ('timestamp = "carrier-pigeon:7"', "cannot be used through carrier-pigeon"),
            ('timestamp = "hsm:9"', "cannot be used through hsm"),
            ("timestamp = 7", "not a signer URI"),
            ("timestamp", "cannot be read"),
        ],
    )
    def test_that_do_not_work_say_what_to_do(
        self, ceremony: Ceremony, line: str, message: str
    ) -> None:
        (ceremony.keys.folder / "keys.toml").write_text(line)
        with pytest.raises(KeyFileError, match=message):
            ceremony.keys.signer("timestamp")

    def test_of_another_key_are_refused(self, ceremony: Ceremony) -> None:
        folder = ceremony.keys.folder
        (folder / "keys.toml").write_text(f'timestamp = "file2:{folder / "snapshot.pem"}"')
        with pytest.raises(KeyFileError, match="public half"):
            ceremony.keys.signer("timestamp")


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    create_key(tmp_path, "timestamp")
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_key(tmp_path, "timestamp")
    with pytest.raises(KeyFileError, match="not a scheme"):
        create_key(tmp_path, "snapshot", scheme="rot13")


def test_the_draft_holds_no_private_key(ceremony: Ceremony) -> None:
    data = ceremony.rotation.draft(Changes(renew=["root"])).to_bytes()
    assert b"PRIVATE" not in data
    assert isinstance(Draft.from_bytes(data).root.signed, Root)
    assert json.loads(data)["format"] == 1
