"""What one push must carry, so that it costs the receiver no round trip: of a changed artefact its
deltas, or all of it if it is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipstaff_signing.deltas import find_chain, whole
from tipstaff_signing.model import Limits, Versions
from tipstaff_signing.names import listing_role, prefixed_path, relief_role

if TYPE_CHECKING:
    from tipstaff_signing.repository.view import View
    from tipstaff_signing.tuf_names import Snapshot

__all__ = ["bundle_files"]

_NOTHING = Versions(0, 0, 0, 0)
_MOST_DELTAS = Limits().delta_chain  # what a reader applies one after another


def bundle_files(
    view: View, since: Versions | None, max_artefact_bytes: int
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """See Repository.bundle_files.

    Takes no lock: numbered files never change, and the timestamp is read once.
    """
    since = since or _NOTHING
    metadata = {"timestamp.json": view.read("timestamp.json")}
    snapshot = view.snapshot(view.timestamp_of(metadata["timestamp.json"]))
    newest_root = view.root().version
    for version in range(since.root + 1, newest_root + 1):
        metadata[f"{version}.root.json"] = view.read(f"{version}.root.json")
    if snapshot.version > since.snapshot:
        metadata[f"{snapshot.version}.snapshot.json"] = view.read(
            f"{snapshot.version}.snapshot.json"
        )
    artefacts: dict[str, bytes] = {}
    held = {
        "targets": since.targets,
        listing_role(view.audience): since.listing,
        relief_role(view.audience): since.relief,
    }
    for role, version in held.items():
        current = snapshot.meta[f"{role}.json"].version
        if current > version:
            metadata[f"{current}.{role}.json"] = view.read(f"{current}.{role}.json")
            artefacts.update(_changed_artefacts(view, role, snapshot, version, max_artefact_bytes))
    return metadata, artefacts


def _changed_artefacts(
    view: View, role: str, snapshot: Snapshot, since: int, max_bytes: int
) -> dict[str, bytes]:
    held = view.role_version(role, since)
    old = {target.hashes["sha256"] for target in whole(held.targets)} if held else set[str]()
    targets = view.role(role, snapshot).targets
    changed: dict[str, bytes] = {}
    for wanted in whole(targets):
        if wanted.hashes["sha256"] in old:
            continue
        chain = find_chain(targets, wanted, old.__contains__, most=_MOST_DELTAS)
        parts = (wanted,) if chain is None else chain.deltas
        if sum(part.length for part in parts) <= max_bytes:
            for part in parts:
                place = prefixed_path(part.path, part.hashes["sha256"])
                changed[place] = (view.targets / place).read_bytes()
    return changed
