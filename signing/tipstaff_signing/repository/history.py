"""Moves what no client can want any more out of the repository, into a history that is kept for
audits. Nothing is deleted.

    <history>/<audience>/metadata/7.listing-aviation.json
    <history>/<audience>/targets/listing/aviation/<sha256>.filter

Kept in the repository: every root; what is in force; every snapshot, listing and relief signed
within the window, with all that they name (for a client in the middle of an update, or one that is
to get a delta); and whatever has a higher number than what is in force.
"""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tipstaff_signing.files import DISK, Disk, FileLock, fsync_dir, storage_errors
from tipstaff_signing.names import prefixed_path
from tipstaff_signing.repository.view import View
from tipstaff_signing.signed import signed_at
from tipstaff_signing.tuf_names import Snapshot, Targets

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from tipstaff_signing.repository.repository import Repository

__all__ = ["prune"]

_NUMBERED = re.compile(r"([1-9][0-9]{0,18})\.([a-z0-9-]+)\.json")


@dataclass(slots=True)
class _Kept:
    """Names of the files that stay."""

    metadata: set[str] = field(default_factory=set[str])
    artefacts: set[str] = field(default_factory=set[str])


def prune(
    repository: Repository,
    audience: str,
    history: Path,
    *,
    now: datetime,
    window: timedelta,
    lock_seconds: float = 60.0,
    disk: Disk = DISK,
) -> int:
    """Prune one audience's view. Returns how many files moved.

    Args:
        repository: whose.
        audience: whose view.
        history: made if missing; on another file system files are copied and synced before they are
            removed.
        now: aware UTC.
        window: how long superseded versions stay; not less than a listing's lifetime, and than
            deltas reach back.
        lock_seconds: how long to wait for a publication to end.
        disk: for tests.

    Raises:
        StorageError: the disk refused; the repository is whole, and what moved already is in the
            history.
    """
    repository.versions(audience)  # raises when there is no such audience
    view = View(repository.path / audience, audience, disk=disk)
    with (
        storage_errors(f"pruning {audience}"),
        FileLock(repository.path / "lock", timeout=lock_seconds),
    ):
        kept = _kept(view, now - window)
        metadata = [
            path
            for path in view.metadata.iterdir()
            if path.is_file() and path.name not in kept.metadata
        ]
        artefacts = [
            path
            for path in view.targets.rglob("*")
            if path.is_file() and str(path.relative_to(view.targets)) not in kept.artefacts
        ]
        # Snapshots first: what names others must not outlive them, wherever this is broken off.
        metadata.sort(key=lambda path: (not path.name.endswith(".snapshot.json"), path.name))
        base = repository.path / audience
        for path in (*metadata, *artefacts):
            _move(path, history / audience / path.relative_to(base), disk)
        return len(metadata) + len(artefacts)


def _kept(view: View, since: datetime) -> _Kept:
    current = view.snapshot()
    in_force = {
        "snapshot": current.version,
        **{name.removesuffix(".json"): item.version for name, item in current.meta.items()},
    }
    kept = _Kept({"timestamp.json"})
    for path in view.metadata.iterdir():
        if _stays(view, path.name, in_force, since):
            kept.metadata.add(path.name)
    for name in [name for name in kept.metadata if name.endswith(".snapshot.json")]:
        kept.metadata |= {
            f"{item.version}.{role}" for role, item in view.load(name, Snapshot).meta.items()
        }
    for name in kept.metadata:
        match = _NUMBERED.fullmatch(name)
        if (
            match is not None
            and match[2] not in {"root", "snapshot"}
            and (view.metadata / name).exists()
        ):
            targets = view.load(name, Targets).targets.values()
            kept.artefacts |= {
                prefixed_path(target.path, target.hashes["sha256"]) for target in targets
            }
    return kept


def _stays(view: View, name: str, in_force: dict[str, int], since: datetime) -> bool:
    match = _NUMBERED.fullmatch(name)
    if match is None or match[2] not in in_force or int(match[1]) >= in_force[match[2]]:
        return True
    signed = view.load(name, Snapshot) if match[2] == "snapshot" else view.load(name, Targets)
    return signed_at(signed) >= since


def _move(source: Path, target: Path, disk: Disk) -> None:
    disk.mkdir(target.parent)
    try:
        disk.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # on another file system
            raise
        aside = target.with_name(f".{target.name}.new")
        shutil.copyfile(source, aside)
        with aside.open("rb") as copied:
            disk.fsync(copied.fileno())
        disk.replace(aside, target)
        fsync_dir(target.parent, disk)
        disk.remove(source)
