"""One audience's folder in the repository: a complete standard TUF repository, written in an order
that a kill cannot break.

    <audience>/metadata/   1.root.json  1.targets.json  7.listing-aviation.json  95.snapshot.json  …
    <audience>/targets/    <sha256>.catalogue  listing/aviation/<sha256>.filter  relief/aviation/<sha256>.1-40

The order of a publication:

1. artefacts, synced;
2. the metadata of the roles that changed, then the snapshot, each under a number not on disk yet,
   synced;
3. the timestamp, by rename. Only this makes the rest visible.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

from tipstaff_signing.errors import StateCorruptError
from tipstaff_signing.files import DISK, Disk, fsync_dir, write_atomic
from tipstaff_signing.model import Versions
from tipstaff_signing.names import listing_role, prefixed_path, relief_role
from tipstaff_signing.signed import VIEW, check_signed, describe, parse, sign, stamp
from tipstaff_signing.tuf_names import Root, Snapshot, TargetFile, Targets, Timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from tipstaff_signing.model import Lifetimes
    from tipstaff_signing.tuf_names import Signer

__all__ = ["View"]

SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)


class View:
    """Reads and writes one audience's folder.

    Callers hold the repository's lock when they write; OSErrors pass through.
    """

    def __init__(self, folder: Path, audience: str, *, disk: Disk = DISK) -> None:
        self.audience = audience
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self._disk = disk

    def load(self, name: str, kind: type[SignedT]) -> SignedT:
        """The signed part of one of the view's files."""
        return parse(self.read(name), kind, name)

    def read(self, name: str) -> bytes:
        """One of the view's metadata files."""
        try:
            return (self.metadata / name).read_bytes()
        except FileNotFoundError as error:
            raise StateCorruptError(
                f"{name} is missing in {self.metadata}: restore it from a backup or mirror"
            ) from error

    def timestamp(self) -> Timestamp:
        """The current timestamp."""
        return self.timestamp_of(self.read("timestamp.json"))

    @staticmethod
    def timestamp_of(data: bytes) -> Timestamp:
        """The timestamp in a file that was read already."""
        return parse(data, Timestamp, "timestamp.json")

    def snapshot(self, timestamp: Timestamp | None = None) -> Snapshot:
        """The snapshot that a timestamp (default: the current one) names."""
        return self.load(
            f"{(timestamp or self.timestamp()).snapshot_meta.version}.snapshot.json", Snapshot
        )

    def role(self, role: str, snapshot: Snapshot) -> Targets:
        """The targets-like role that a snapshot names."""
        return self.load(f"{snapshot.meta[f'{role}.json'].version}.{role}.json", Targets)

    def role_version(self, role: str, version: int) -> Targets | None:
        """One version of a targets-like role, while it is kept."""
        if version < 1 or not (self.metadata / f"{version}.{role}.json").exists():
            return None
        return self.load(f"{version}.{role}.json", Targets)

    def versions(self) -> Versions:
        """What is published."""
        timestamp = self.timestamp()
        snapshot = self.snapshot(timestamp)
        return Versions(
            timestamp=timestamp.version,
            snapshot=snapshot.version,
            listing=snapshot.meta[f"{listing_role(self.audience)}.json"].version,
            relief=snapshot.meta[f"{relief_role(self.audience)}.json"].version,
            targets=snapshot.meta["targets.json"].version,
            root=self.root().version,
        )

    def root(self) -> Root:
        """The newest root."""
        return self.load(f"{self.free_version('root', 1) - 1}.root.json", Root)

    def free_version(self, role: str, above: int) -> int:
        """The first version from `above` on that is not on disk.

        Killed writers leave numbers used, never a gap.
        """
        while (self.metadata / f"{above}.{role}.json").exists():
            above += 1
        return above

    def put_artefacts(self, artefacts: Mapping[str, bytes]) -> dict[str, TargetFile]:
        """Step 1 for artefacts in memory, by target path: write those that are not there yet, and
        describe all.
        """
        described: dict[str, TargetFile] = {}
        touched: set[Path] = set()
        for path, data in artefacts.items():
            sha256 = hashlib.sha256(data).hexdigest()
            described[path] = TargetFile(len(data), {"sha256": sha256}, path)
            place = self.targets / prefixed_path(path, sha256)
            if not place.exists():
                write_atomic(place, data, sync_dir=False, disk=self._disk)
                touched.add(place.parent)
        for folder in touched:
            fsync_dir(folder, self._disk)
        return described

    def link_artefacts(
        self, files: Mapping[str, Path], described: Mapping[str, TargetFile]
    ) -> None:
        """Step 1 for artefacts that lie in files on the same file system, already checked: give
        them their place, without a copy.
        """
        touched: set[Path] = set()
        for path, file in files.items():
            place = self.targets / prefixed_path(path, described[path].hashes["sha256"])
            if not place.exists():
                self._disk.link(file, place)
                touched.add(place.parent)
        for folder in touched:
            fsync_dir(folder, self._disk)

    def publish(
        self,
        roles: Mapping[str, tuple[int, bytes]],
        snapshot_signer: Signer,
        timestamp_signer: Signer,
        *,
        now: datetime,
        lifetimes: Lifetimes,
    ) -> None:
        """Steps 2 and 3: make new metadata of some roles (name to version and file) visible, all at
        once.

        Raises:
            SignatureError: a signer is not the one that the root names; nothing was published.
        """
        root = self.root()
        old_timestamp = self.timestamp()
        snapshot = self.snapshot(old_timestamp)
        snapshot.meta.update(
            {f"{role}.json": describe(version, data) for role, (version, data) in roles.items()}
        )
        snapshot.version = self.free_version("snapshot", snapshot.version + 1)
        snapshot_data = self._seal(snapshot, snapshot_signer, root, now, lifetimes.snapshot)
        timestamp = Timestamp(
            version=old_timestamp.version + 1,
            snapshot_meta=describe(snapshot.version, snapshot_data),
        )
        timestamp_data = self._seal(timestamp, timestamp_signer, root, now, lifetimes.timestamp)
        for role, (version, data) in roles.items():
            self.put_metadata(f"{version}.{role}.json", data)
        self.put_metadata(f"{snapshot.version}.snapshot.json", snapshot_data)
        fsync_dir(self.metadata, self._disk)
        write_atomic(self.metadata / "timestamp.json", timestamp_data, disk=self._disk)

    def put_metadata(self, name: str, data: bytes) -> None:
        """One numbered metadata file, whole and synced; its folder is not.

        Numbered files never change.
        """
        path = self.metadata / name
        if path.exists():
            if path.read_bytes() == data:
                return
            raise StateCorruptError(
                f"{path} is there already with other content: move it away, then publish again"
            )
        write_atomic(path, data, sync_dir=False, disk=self._disk)

    def _seal(
        self,
        signed: Snapshot | Timestamp,
        signer: Signer,
        root: Root,
        now: datetime,
        lifetime: timedelta,
    ) -> bytes:
        stamp(signed, now, lifetime)
        signed.unrecognized_fields[VIEW] = self.audience
        data = sign(signed, [signer])
        check_signed(data, root, signed.type)
        return data
