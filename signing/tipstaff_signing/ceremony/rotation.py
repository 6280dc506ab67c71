"""Makes and publishes changes of keys: rotation, revocation, renewal, another audience.

See draft.py for what is carried between.

A publication, audience by audience, each in the order of repository/view.py:

1. the next root, if there is one;
2. targets, re-signed listings, relief signed anew if its key changes;
3. snapshot and timestamp with the keys that the root now names.

Killed anywhere, call it again with the same draft: what is in place already is passed over.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError as TufRepositoryError

from tipstaff_signing.ceremony.draft import Draft
from tipstaff_signing.errors import KeyFileError, ProposalError, RepositoryError, SignatureError
from tipstaff_signing.files import DISK, Disk, FileLock, fsync_dir, storage_errors
from tipstaff_signing.model import Lifetimes, utc_now
from tipstaff_signing.names import check_audience, listing_role, relief_role, role_pattern
from tipstaff_signing.repository.first_version import found_view
from tipstaff_signing.repository.view import View
from tipstaff_signing.signed import check_signed, sign, stamp
from tipstaff_signing.tuf_names import DelegatedRole, Metadata, Root, Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from tipstaff_signing.repository.repository import Repository
    from tipstaff_signing.tuf_names import Key, Signer

__all__ = ["Changes", "Rotation"]

_DEFAULT_LIFETIMES = Lifetimes()
_TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to change. Keys are named by their keyid."""

    replace: Mapping[str, Key] = field(
        default_factory=dict[str, "Key"]
    )  # keyid that goes, key that comes, wherever the old one stood
    remove: Sequence[str] = ()
    add: Sequence[tuple[str, Key]] = ()  # role, key
    thresholds: Mapping[str, int] = field(default_factory=dict[str, int])
    renew: Sequence[str] = ()  # "root", "targets": sign again with a new expiry
    audiences: Mapping[str, tuple[Key, Key, Key]] = field(
        default_factory=dict[str, "tuple[Key, Key, Key]"]
    )  # builder, sign-off, relief


class Rotation:
    """Changes the keys of one repository. Holds the repository's lock while it publishes."""

    def __init__(
        self,
        repository: Repository,
        *,
        clock: Callable[[], datetime] = utc_now,
        lifetimes: Lifetimes = _DEFAULT_LIFETIMES,
        lock_seconds: float = 60.0,
        disk: Disk = DISK,
    ) -> None:
        self._repository = repository
        self._path = repository.path
        self._clock = clock
        self._lifetimes = lifetimes
        self._lock_seconds = lock_seconds
        self._disk = disk

    def in_force(self) -> tuple[Root, Targets]:
        """The newest root and the targets metadata in force."""
        with storage_errors(f"reading {self._path}"):
            view = self._views()[0]
            return view.root(), view.role("targets", view.snapshot())

    def draft(self, changes: Changes) -> Draft:
        """Make what has to be signed for these changes; nothing is written.

        Raises:
            RepositoryError: a key or role that is not there, nothing to change, or a threshold that
                could not be reached.
        """
        with storage_errors(f"reading {self._path}"):
            view = self._views()[0]
            root = self._current(view, f"{view.root().version}.root.json", Root)
            version = view.snapshot().meta["targets.json"].version
            targets = self._current(view, f"{version}.targets.json", Targets)
            new_root, new_targets = deepcopy(root.signed), deepcopy(targets.signed)
            _apply(new_root, new_targets, changes)
            _check(new_root, new_targets)
            parts: dict[str, Metadata[Any]] = {}
            if new_root != root.signed or "root" in changes.renew:
                new_root.version += 1
                parts["root"] = self._part(new_root, self._lifetimes.root)
            signed = new_root.get_verification_result(
                "targets", targets.signed_bytes, targets.signatures
            )
            if new_targets != targets.signed or "targets" in changes.renew or not signed:
                new_targets.version = max(
                    item.free_version("targets", version + 1) for item in self._views()
                )
                parts["targets"] = self._part(new_targets, self._lifetimes.targets)
            for each in self._views():
                if (part := self._listing(each, new_targets)) is not None:
                    parts[listing_role(each.audience)] = part
            if not parts:
                raise RepositoryError(
                    "nothing would change: say which key to replace, remove or add, or what to"
                    " renew"
                )
            return Draft(root, targets, parts)

    def publish(self, draft: Draft, keys: Callable[[str], Signer]) -> list[str]:
        """Publish a draft with all its signatures. Returns the audiences.

        Args:
            draft: as drafted from what is in force now.
            keys: gives the signers of "snapshot", "timestamp" and, where it changes,
                "relief-<audience>"; for a new audience also its two listing keys.

        Raises:
            ProposalError: signatures are missing, or something was published since the draft was
                made.
            KeyFileError: a key is missing. SignatureError: it is not the one that the metadata
                name.
        """
        if missing := draft.missing():
            wanted = ", ".join(f"{role} needs {count} more" for role, count in missing.items())
            raise ProposalError(
                f"signatures are missing: {wanted}; carry the draft to the holders of those keys"
            )
        with self._writing():
            views = self._views()
            for view in views:
                self._check_basis(view, draft)
            signers = {name: keys(name) for name in ("snapshot", "timestamp")}
            _check_online(draft.new_root, signers)
            for view in views:
                self._publish(view, draft, keys, signers)
            added = sorted(_audiences(draft.new_targets) - {view.audience for view in views})
            for audience in added:
                self._add(audience, views[0], draft, keys)
            return [*(view.audience for view in views), *added]

    def _publish(
        self, view: View, draft: Draft, keys: Callable[[str], Signer], signers: Mapping[str, Signer]
    ) -> None:
        roles: dict[str, tuple[int, bytes]] = {}
        current = view.snapshot()
        for role in ("targets", listing_role(view.audience)):
            part = draft.parts.get(role)
            if part is not None and current.meta[f"{role}.json"].version != part.signed.version:
                roles[role] = (part.signed.version, part.to_bytes())
        relief = self._relief(view, draft.new_targets, keys)
        if relief is not None:
            roles[relief_role(view.audience)] = relief
        if "root" in draft.parts:
            view.put_metadata(f"{draft.new_root.version}.root.json", draft.parts["root"].to_bytes())
            fsync_dir(view.metadata, self._disk)
        view.publish(
            roles,
            signers["snapshot"],
            signers["timestamp"],
            now=self._clock(),
            lifetimes=self._lifetimes,
        )

    def _relief(
        self, view: View, targets: Targets, keys: Callable[[str], Signer]
    ) -> tuple[int, bytes] | None:
        role = relief_role(view.audience)
        current = view.snapshot().meta[f"{role}.json"].version
        metadata = self._current(view, f"{current}.{role}.json", Targets)
        if targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures):
            return None
        fresh = Targets(
            targets=metadata.signed.targets, version=view.free_version(role, current + 1)
        )
        stamp(fresh, self._clock(), self._lifetimes.relief)
        data = sign(fresh, [keys(role)])
        check_signed(data, targets, role)
        return fresh.version, data

    def _listing(self, view: View, targets: Targets) -> Metadata[Targets] | None:
        """The audience's listing signed anew, if its keys would change."""
        role = listing_role(view.audience)
        version = view.snapshot().meta[f"{role}.json"].version
        metadata = self._current(view, f"{version}.{role}.json", Targets)
        if targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures):
            return None
        fresh = Targets(
            targets=metadata.signed.targets, version=view.free_version(role, version + 1)
        )
        return self._part(fresh, self._lifetimes.listing)

    def _add(self, audience: str, like: View, draft: Draft, keys: Callable[[str], Signer]) -> None:
        """Found another audience's view beside the others: aside, then in place by one rename."""
        aside = (
            self._path / "proposals" / f".{audience}.new"
        )  # nothing takes a folder in there for an audience
        self._disk.mkdir(aside.parent)
        self._disk.remove(aside)
        catalogue = draft.new_targets.targets
        artefacts = {
            path: (like.targets / f"{target.hashes['sha256']}.{path}").read_bytes()
            for path, target in catalogue.items()
        }
        roots = {
            f"{version}.root.json": like.read(f"{version}.root.json")
            for version in range(1, like.root().version + 1)
        }
        version = draft.new_targets.version
        files = {**roots, f"{version}.targets.json": like.read(f"{version}.targets.json")}
        found_view(
            View(aside, audience, disk=self._disk),
            files,
            targets_version=version,
            artefacts=artefacts,
            signer=keys,
            now=self._clock(),
            lifetimes=self._lifetimes,
            disk=self._disk,
        )
        for folder in (aside, *(found for found in aside.rglob("*") if found.is_dir())):
            fsync_dir(folder, self._disk)
        self._disk.replace(aside, self._path / audience)
        fsync_dir(self._path, self._disk)

    def _check_basis(self, view: View, draft: Draft) -> None:
        """Raises ProposalError unless the view stands where the draft began, or where it leads."""
        newest, snapshot = view.root().version, view.snapshot()
        stale = newest not in {draft.root.signed.version, draft.new_root.version}
        version = snapshot.meta["targets.json"].version
        stale |= version not in {draft.targets.signed.version, draft.new_targets.version}
        if newest == draft.new_root.version and "root" in draft.parts:
            stale |= view.read(f"{newest}.root.json") != draft.parts["root"].to_bytes()
        role = listing_role(view.audience)
        if role in draft.parts:
            stale |= snapshot.meta[f"{role}.json"].version > draft.parts[role].signed.version
        if stale:
            raise ProposalError(
                "something else was published since this draft was made: export a new one and have"
                " it signed"
            )

    def _part(self, signed: Any, lifetime: Any) -> Metadata[Any]:
        stamp(signed, self._clock(), lifetime)
        return Metadata(signed)

    @staticmethod
    def _current(view: View, name: str, kind: type[Any]) -> Metadata[Any]:
        view.load(name, kind)  # raises when it is damaged
        return Metadata[Any].from_bytes(view.read(name))

    def _views(self) -> list[View]:
        return [
            View(self._path / audience, audience, disk=self._disk)
            for audience in self._repository.audiences()
        ]

    @contextmanager
    def _writing(self) -> Generator[None]:
        with (
            storage_errors("publishing new keys"),
            FileLock(self._path / "lock", timeout=self._lock_seconds),
        ):
            yield


def _apply(root: Root, targets: Targets, changes: Changes) -> None:
    for old, key in changes.replace.items():
        for owner, role in _places(root, targets, old):
            owner.revoke_key(old, role)
            owner.add_key(key, role)
    for old in changes.remove:
        for owner, role in _places(root, targets, old):
            owner.revoke_key(old, role)
    for role, key in changes.add:
        _owner(root, targets, role).add_key(key, role)
    for role, threshold in changes.thresholds.items():
        _owner(root, targets, role).get_delegated_role(role).threshold = threshold
    for audience, (builder, signoff, relief) in changes.audiences.items():
        check_audience(audience)
        _delegate(targets, audience, builder, signoff, relief)


def _delegate(targets: Targets, audience: str, builder: Key, signoff: Key, relief: Key) -> None:
    delegations = targets.delegations
    if (
        delegations is None
        or delegations.roles is None
        or listing_role(audience) in delegations.roles
    ):
        raise RepositoryError(f"there is an audience {audience} already")
    for role, holders in (
        (listing_role(audience), [builder, signoff]),
        (relief_role(audience), [relief]),
    ):
        delegations.roles[role] = DelegatedRole(
            role, [], len(holders), terminating=True, paths=[role_pattern(role)]
        )
        for key in holders:
            targets.add_key(key, role)


def _places(root: Root, targets: Targets, keyid: str) -> list[tuple[Root | Targets, str]]:
    problems: list[tuple[Root | Targets, str]] = [
        (root, role) for role, item in root.roles.items() if keyid in item.keyids
    ]
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    problems += [(targets, role) for role, item in delegated.items() if keyid in item.keyids]
    if not problems:
        raise RepositoryError(
            f"no role has the key {keyid}: `tipstaff-server keys show` lists them"
        )
    return problems


def _owner(root: Root, targets: Targets, role: str) -> Root | Targets:
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    if role not in _TOP and role not in delegated:
        raise RepositoryError(
            f"there is no role {role}: roles are {', '.join([*_TOP, *delegated])}"
        )
    return root if role in _TOP else targets


def _check(root: Root, targets: Targets) -> None:
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    for role, item in {**root.roles, **delegated}.items():
        if not 0 < item.threshold <= len(set(item.keyids)):
            raise RepositoryError(
                f"{role} would have {len(item.keyids)} keys and a threshold of {item.threshold},"
                " which nobody could reach: replace the key instead, or set another threshold"
            )
        if role.startswith("listing-") and item.threshold < 2:  # noqa: PLR2004  builder and sign-off
            raise RepositoryError(
                f"{role} needs two keys: a build must never be signed off by itself"
            )


def _check_online(root: Root, signers: Mapping[str, Signer]) -> None:
    for role, signer in signers.items():
        try:
            known = signer.public_key.keyid in root.get_delegated_role(role).keyids
        except (ValueError, TufRepositoryError) as error:
            raise SignatureError(f"the root names no {role} key: it cannot be published") from error
        if not known:
            raise KeyFileError(
                f"the {role} key here is not the one that the root will name: give the folder that"
                " holds the new one"
            )


def _audiences(targets: Targets) -> set[str]:
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    return {role.removeprefix("listing-") for role in delegated if role.startswith("listing-")}
