"""What one push must carry, so that it costs the receiver no round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipstaff_signing.model import Versions
from tipstaff_signing.names import listing_role, prefixed_path, relief_role

if TYPE_CHECKING:
    from tipstaff_signing.library import Snapshot
    from tipstaff_signing.view import View

__all__ = ["bundle_files"]

_NOTHING = Versions(0, 0, 0, 0)


def bundle_files(view: View, since: Versions | None, max_artefact_bytes: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """See Repository.bundle_files. Takes no lock: numbered files never change, and the timestamp is read once."""
    since = since or _NOTHING
    metadata = {"timestamp.json": view.read("timestamp.json")}
    snapshot = view.snapshot(view.timestamp_of(metadata["timestamp.json"]))
    newest_root = view.root().version
    for version in range(since.root + 1, newest_root + 1):
        metadata[f"{version}.root.json"] = view.read(f"{version}.root.json")
    if snapshot.version > since.snapshot:
        metadata[f"{snapshot.version}.snapshot.json"] = view.read(f"{snapshot.version}.snapshot.json")
    artefacts: dict[str, bytes] = {}
    held = {"targets": since.targets, listing_role(view.audience): since.listing, relief_role(view.audience): since.relief}
    for role, version in held.items():
        current = snapshot.meta[f"{role}.json"].version
        if current > version:
            metadata[f"{current}.{role}.json"] = view.read(f"{current}.{role}.json")
            artefacts.update(_changed_artefacts(view, role, snapshot, version, max_artefact_bytes))
    return metadata, artefacts


def _changed_artefacts(view: View, role: str, snapshot: Snapshot, since: int, max_bytes: int) -> dict[str, bytes]:
    held = view.role_version(role, since)
    old = {target.hashes["sha256"] for target in held.targets.values()} if held else set[str]()
    changed: dict[str, bytes] = {}
    for path, target in view.role(role, snapshot).targets.items():
        if target.length <= max_bytes and target.hashes["sha256"] not in old:
            place = prefixed_path(path, target.hashes["sha256"])
            changed[place] = (view.targets / place).read_bytes()
    return changed
