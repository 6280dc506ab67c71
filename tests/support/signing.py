"""A working deployment on a temporary path instead of mocks: keys, repository, clock, and sources
and disks that misbehave.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from tipstaff_signing import DirectoryFetcher, Reader, Repository, Versions, create_key_files
from tipstaff_signing.files import Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from securesystemslib.signer import Signer

    from tipstaff_signing import Fetcher, VerifiedState

START = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
AUDIENCES = ("aviation", "rail")


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **units: float) -> None:
        self.now += timedelta(**units)


class Deployment:
    """Keys, a repository for two audiences, and readers of it."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] | None = None) -> None:
        self.folder = folder
        self.path = folder / "repository"
        self.clock = clock or Clock()
        self.keys = create_key_files(folder / "keys", audiences=AUDIENCES)
        if not self.path.exists():
            Repository.create(
                self.path,
                self.keys,
                audiences=AUDIENCES,
                catalogue=b"catalogue 1",
                clock=self.clock,
            )
        self.repository = Repository(self.path, clock=self.clock)
        self.root = self.repository.root_bytes()

    def copy(self, folder: Path) -> Deployment:
        """The same deployment elsewhere, keys and readers' states included: to try one thing from
        one starting point many times.
        """
        shutil.copytree(self.folder, folder)
        return Deployment(folder, clock=Clock(self.clock()))

    @property
    def online(self) -> tuple[Signer, Signer]:
        return self.keys.signer("snapshot"), self.keys.signer("timestamp")

    def listing(self, content: bytes, audience: str = "aviation") -> Versions:
        """Propose, sign off and publish a listing of one filter and its parameters."""
        source = self.folder / "built"
        source.mkdir(exist_ok=True)
        artefacts = {}
        for name, data in {
            "filter": content,
            "parameters": b"parameters of " + content[:16],
        }.items():
            (source / name).write_bytes(data)
            artefacts[f"listing/{audience}/{name}"] = source / name
        proposal = self.repository.propose_listing(
            audience, artefacts, self.keys.signer(f"listing-{audience}-builder")
        )
        proposal = self.repository.sign_off(
            proposal, self.keys.signer(f"listing-{audience}-signoff")
        )
        return self.repository.publish_listing(proposal, *self.online)

    def relief(self, content: bytes, audience: str = "aviation") -> Versions:
        """Publish relief of one segment."""
        segments = {f"relief/{audience}/1-9": content}
        return self.repository.publish_relief(
            audience, segments, self.keys.signer(f"relief-{audience}"), *self.online
        )

    def reader(self, name: str = "state", audience: str = "aviation", **options: Any) -> Reader:
        options = {"clock": self.clock, "trusted_root": self.root, **options}
        return Reader(
            self.folder / name,
            view=audience,
            roles=[f"listing-{audience}", f"relief-{audience}"],
            **options,
        )

    def fetcher(
        self, audience: str = "aviation", repository: str = "repository"
    ) -> DirectoryFetcher:
        return DirectoryFetcher(self.folder / repository / audience)

    def backup(self, name: str) -> DirectoryFetcher:
        """Keeps the repository as it is now; returns a source that goes on serving it."""
        shutil.copytree(self.path, self.folder / name)
        return self.fetcher(repository=name)

    def metadata(self, name: str, audience: str = "aviation") -> Path:
        return self.path / audience / "metadata" / name

    def current(self, role: str, audience: str = "aviation") -> str:
        """Returns the file name of a role's published metadata."""
        timestamp = Metadata.from_file(str(self.metadata("timestamp.json", audience)))
        snapshot = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
        if role == "snapshot":
            return snapshot
        meta = Metadata.from_file(str(self.metadata(snapshot, audience))).signed.meta
        return f"{meta[f'{role}.json'].version}.{role}.json"


def resign(
    data: bytes, signers: Sequence[Signer], change: Callable[[Any], None] = lambda signed: None
) -> bytes:
    """The same metadata changed and signed by others: what somebody who holds these keys could
    make.
    """
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def forge(
    deployment: Deployment,
    roles: Mapping[str, bytes],
    change: Callable[[Any], None] = lambda snapshot: None,
    *,
    snapshot_signer: Signer | None = None,
    timestamp_signer: Signer | None = None,
) -> dict[str, bytes]:
    """What a thief of the online keys could serve: other role metadata under correct new snapshot
    and timestamp metadata, by file name.
    """
    snapshot_key, timestamp_key = deployment.online
    files: dict[str, bytes] = {}

    def renew(snapshot: Any) -> None:
        snapshot.version += 1
        for role, data in roles.items():
            version = Metadata.from_bytes(data).signed.version
            snapshot.meta[f"{role}.json"] = MetaFile(version)
            files[f"{version}.{role}.json"] = data
        change(snapshot)

    snapshot = resign(
        deployment.metadata(deployment.current("snapshot")).read_bytes(),
        [snapshot_signer or snapshot_key],
        renew,
    )
    version = Metadata.from_bytes(snapshot).signed.version
    files[f"{version}.snapshot.json"] = snapshot

    def point(timestamp: Any) -> None:
        timestamp.version += 1
        timestamp.snapshot_meta = MetaFile(version)

    files["timestamp.json"] = resign(
        deployment.metadata("timestamp.json").read_bytes(),
        [timestamp_signer or timestamp_key],
        point,
    )
    return files


def stranger() -> Signer:
    """A key that no repository names."""
    return CryptoSigner.generate_ed25519()


@dataclass
class Altered:
    """A source that answers some requests otherwise than the one behind it."""

    behind: Fetcher
    files: Mapping[str, bytes | Exception] = field(default_factory=dict)
    artefacts: Callable[[str, int, Iterator[bytes]], Iterator[bytes]] | None = None
    asked: list[str] = field(default_factory=list)

    def metadata(self, name: str, max_bytes: int) -> bytes:
        self.asked.append(name)
        answer = self.files.get(name)
        if isinstance(answer, Exception):
            raise answer
        return self.behind.metadata(name, max_bytes) if answer is None else answer

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        self.asked.append(f"{path}@{offset}")
        honest = self.behind.artefact(path, offset)
        return honest if self.artefacts is None else self.artefacts(path, offset, honest)


class KilledError(BaseException):
    """The process ended here. No cleanup reaches the disk any more."""


class FaultyDisk(Disk):
    """Counts the changes made through it, and from the `at`-th on behaves as `mode` says.

    kill: the step happens half (a write) or not at all, and nothing after it. full: writing and
    making fail with ENOSPC from then on. eio: this one step fails with EIO. fsync: this fsync, or
    the next one, fails with EIO.
    """

    def __init__(self, mode: str = "none", at: int = 0) -> None:
        self.mode = mode
        self.at = at
        self.steps = 0
        self.fired = False

    def _step(self, kind: str) -> None:
        self.steps += 1
        if self.mode == "none" or self.steps < self.at:
            return
        if self.mode == "kill":
            self.fired = True
            raise KilledError
        if self.mode == "full" and kind in {"write", "mkdir"}:
            self.fired = True
            raise OSError(errno.ENOSPC, "No space left on device")
        if not self.fired and (self.mode == "eio" or (self.mode == "fsync" and kind == "fsync")):
            self.fired = True
            raise OSError(errno.EIO, "Input/output error")

    def write(self, descriptor: int, data: bytes) -> None:
        try:
            self._step("write")
        except BaseException:
            if self.steps == self.at:  # what was under way is half there
                super().write(descriptor, bytes(data[: len(data) // 2]))
            raise
        super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._step("fsync")
        super().fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._step("link")
        super().link(source, target)

    def mkdir(self, path: Path) -> None:
        self._step("mkdir")
        super().mkdir(path)

    def remove(self, path: Path) -> None:
        self._step("remove")
        super().remove(path)


def contents(state: VerifiedState | None) -> dict[str, bytes] | None:
    """What a state would be used for: every artefact, read from its file."""
    if state is None:
        return None
    return {
        path: target.file.read_bytes()
        for role in state.roles.values()
        for path, target in role.targets.items()
    }
