"""Version 1 of everything, and later versions of what the offline keys sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipstaff_signing.files import Disk, fsync_dir, write_atomic
from tipstaff_signing.keys.files import (
    ROOT_KEYS,
    ROOT_THRESHOLD,
    TARGETS_KEYS,
    builder_key,
    signoff_key,
)
from tipstaff_signing.names import CATALOGUE, listing_role, relief_role, role_pattern
from tipstaff_signing.repository.view import View
from tipstaff_signing.signed import VIEW, describe, sign, stamp
from tipstaff_signing.tuf_names import (
    DelegatedRole,
    Delegations,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.keys.files import KeyFolder
    from tipstaff_signing.model import Lifetimes
    from tipstaff_signing.tuf_names import Signer

__all__ = ["found", "found_view", "next_targets"]


def found(
    path: Path,
    keys: KeyFolder,
    *,
    audiences: Sequence[str],
    catalogue: bytes,
    now: datetime,
    lifetimes: Lifetimes,
    disk: Disk,
) -> None:
    """Write a whole new repository into a folder that does not exist yet.

    Nothing reads it until it is renamed.
    """
    root = _root(keys)
    stamp(root, now, lifetimes.root)
    root_data = sign(root, [keys.signer(name) for name in ROOT_KEYS])
    targets = Targets(
        targets={CATALOGUE: TargetFile.from_data(CATALOGUE, catalogue)},
        delegations=_delegations(keys, audiences),
    )
    stamp(targets, now, lifetimes.targets)
    targets_data = sign(targets, [keys.signer(name) for name in TARGETS_KEYS])
    for audience in audiences:
        found_view(
            View(path / audience, audience, disk=disk),
            {"1.root.json": root_data, "1.targets.json": targets_data},
            targets_version=1,
            artefacts={CATALOGUE: catalogue},
            signer=keys.signer,
            now=now,
            lifetimes=lifetimes,
            disk=disk,
        )
    write_atomic(path / "lock", b"", mode=0o600, disk=disk)
    for folder in [
        path,
        *(found_folder for found_folder in path.rglob("*") if found_folder.is_dir()),
    ]:
        fsync_dir(folder, disk)


def found_view(
    view: View,
    offline: Mapping[str, bytes],
    *,
    targets_version: int,
    artefacts: Mapping[str, bytes],
    signer: Callable[[str], Signer],
    now: datetime,
    lifetimes: Lifetimes,
    disk: Disk,
) -> None:
    """Write one audience's view, without listing or relief, into a folder that does not exist yet.

    Args:
        view: where.
        offline: the files of root and targets, by name.
        targets_version: the targets metadata in force among them.
        artefacts: what targets signs, by path.
        signer: gives the audience's keys and the online ones by name.
        now: when it is signed; `lifetimes` say until when it is valid.
        lifetimes: see there.
        disk: for tests.
    """
    audience = view.audience
    for folder in (
        view.metadata,
        view.targets / "listing" / audience,
        view.targets / "relief" / audience,
    ):
        folder.mkdir(parents=True)
    view.put_artefacts(artefacts)
    listing, relief = Targets(), Targets()
    stamp(listing, now, lifetimes.listing)
    stamp(relief, now, lifetimes.relief)
    roles = {
        listing_role(audience): sign(
            listing, [signer(builder_key(audience)), signer(signoff_key(audience))]
        ),
        relief_role(audience): sign(relief, [signer(relief_role(audience))]),
    }
    meta = {f"{role}.json": describe(1, data) for role, data in roles.items()}
    meta["targets.json"] = describe(targets_version, offline[f"{targets_version}.targets.json"])
    snapshot = Snapshot(meta=meta, unrecognized_fields={VIEW: audience})
    stamp(snapshot, now, lifetimes.snapshot)
    snapshot_data = sign(snapshot, [signer("snapshot")])
    timestamp = Timestamp(
        snapshot_meta=describe(1, snapshot_data), unrecognized_fields={VIEW: audience}
    )
    stamp(timestamp, now, lifetimes.timestamp)
    numbered = {
        f"1.{role}.json": data for role, data in {**roles, "snapshot": snapshot_data}.items()
    }
    for name, data in {**offline, **numbered}.items():
        view.put_metadata(name, data)
    write_atomic(
        view.metadata / "timestamp.json",
        sign(timestamp, [signer("timestamp")]),
        sync_dir=False,
        disk=disk,
    )


def next_targets(
    views: Sequence[View],
    keys: KeyFolder,
    *,
    now: datetime,
    lifetimes: Lifetimes,
    catalogue: bytes | None = None,
) -> tuple[int, bytes]:
    """The next targets metadata, one for all views: its version, above any on disk, and its file."""
    newest = max(
        (view.role("targets", view.snapshot()) for view in views),
        key=lambda targets: targets.version,
    )
    newest.version = max(view.free_version("targets", newest.version + 1) for view in views)
    if catalogue is not None:
        newest.targets[CATALOGUE] = TargetFile.from_data(CATALOGUE, catalogue)
    stamp(newest, now, lifetimes.targets)
    return newest.version, sign(newest, [keys.signer(name) for name in TARGETS_KEYS])


def _root(keys: KeyFolder) -> Root:
    public = {
        name: keys.public(name) for name in (*ROOT_KEYS, *TARGETS_KEYS, "snapshot", "timestamp")
    }
    roles = {
        "root": Role([public[name].keyid for name in ROOT_KEYS], ROOT_THRESHOLD),
        "targets": Role([public[name].keyid for name in TARGETS_KEYS], len(TARGETS_KEYS)),
        "snapshot": Role([public["snapshot"].keyid], 1),
        "timestamp": Role([public["timestamp"].keyid], 1),
    }
    return Root(
        keys={key.keyid: key for key in public.values()}, roles=roles, consistent_snapshot=True
    )


def _delegations(keys: KeyFolder, audiences: Sequence[str]) -> Delegations:
    delegations = Delegations(keys={}, roles={})
    roles: dict[str, DelegatedRole] = {}
    for audience in audiences:
        signers = {
            listing_role(audience): [builder_key(audience), signoff_key(audience)],
            relief_role(audience): [relief_role(audience)],
        }
        for role, names in signers.items():
            public = [keys.public(name) for name in names]
            delegations.keys.update({key.keyid: key for key in public})
            roles[role] = DelegatedRole(
                role,
                [key.keyid for key in public],
                len(public),
                terminating=True,
                paths=[role_pattern(role)],
            )
    delegations.roles = roles
    return delegations
