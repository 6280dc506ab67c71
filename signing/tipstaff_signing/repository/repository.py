"""Writes the signed repository. Standard TUF (specification 1.0.34) in one folder per audience, so
that a push is small and no audience learns of another's changes; `docs/formats/repository.md` shows
the bytes.

Listings go proposal, sign-off, publication, with two keys; relief goes out at once, with one.
Killed anywhere, the last published version stays whole, and the next writer goes on above every
number on disk.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tuf.api.exceptions import RepositoryError as TufRepositoryError

from tipstaff_signing.errors import NotFoundError, ProposalError, RepositoryError
from tipstaff_signing.files import (
    DISK,
    Disk,
    FileLock,
    fsync_dir,
    is_metadata_name,
    is_target_path,
    storage_errors,
)
from tipstaff_signing.model import Lifetimes, Proposal, Versions, utc_now
from tipstaff_signing.names import CATALOGUE, RESERVED, check_audience, listing_role, relief_role
from tipstaff_signing.repository.bundles import bundle_files
from tipstaff_signing.repository.first_version import found, next_targets
from tipstaff_signing.repository.proposals import Proposals, check_paths
from tipstaff_signing.repository.view import View
from tipstaff_signing.signed import check_signed, sign, stamp
from tipstaff_signing.tuf_names import Metadata, Root, Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.keys.files import KeyFolder
    from tipstaff_signing.model import Delta
    from tipstaff_signing.tuf_names import Signer

__all__ = ["Repository"]

_DEFAULT_LIFETIMES = Lifetimes()


class Repository:
    """The writer.

    Safe among threads and processes; one object may serve several threads, it keeps nothing in
    memory.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        lifetimes: Lifetimes = _DEFAULT_LIFETIMES,
        lock_seconds: float = 60.0,
        disk: Disk = DISK,
    ) -> None:
        """Open an existing repository.

        Raises:
            RepositoryError: there is none at `path`.
        """
        if not (path / "lock").is_file():
            raise RepositoryError(
                f"there is no repository at {path}: make one with `tipstaff-server init`, or"
                " correct the path"
            )
        self._path = path
        self._clock = clock
        self._lifetimes = lifetimes
        self._lock_seconds = lock_seconds
        self._disk = disk

    @classmethod
    def create(
        cls,
        path: Path,
        keys: KeyFolder,
        *,
        audiences: Sequence[str],
        catalogue: bytes,
        clock: Callable[[], datetime] = utc_now,
        lifetimes: Lifetimes = _DEFAULT_LIFETIMES,
        disk: Disk = DISK,
    ) -> Repository:
        """Found a repository: version 1 of every role, with the catalogue and without listings or
        relief. It appears whole or not at all.

        Raises:
            RepositoryError: something is at `path` already, or an audience id is not valid.
            KeyFileError: a key is missing.
            StorageError: the disk refused.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RepositoryError(
                f"{path} is in use already: choose a new folder, or open the repository that is"
                " there"
            )
        if not audiences or len(set(audiences)) != len(audiences):
            raise RepositoryError("give at least one audience, and each once")
        for audience in audiences:
            check_audience(audience)
        aside = path.with_name(f".{path.name}.new")
        with storage_errors(f"making the repository {path}"):
            disk.remove(aside)
            try:
                found(
                    aside,
                    keys,
                    audiences=audiences,
                    catalogue=catalogue,
                    now=clock(),
                    lifetimes=lifetimes,
                    disk=disk,
                )
                disk.replace(aside, path)
            except BaseException:
                with suppress(OSError):
                    disk.remove(aside)
                raise
            fsync_dir(path.parent, disk)
        return cls(path, clock=clock, lifetimes=lifetimes, disk=disk)

    @property
    def path(self) -> Path:
        """Where it is. `<path>/<audience>` is what a mirror serves and a DirectoryFetcher reads."""
        return self._path

    def audiences(self) -> list[str]:
        """Ids of the audiences, sorted."""
        with storage_errors(f"reading {self._path}"):
            return sorted(
                p.name
                for p in self._path.iterdir()
                if p.name not in RESERVED and (p / "metadata").is_dir()
            )

    def set_catalogue(self, catalogue: bytes, keys: KeyFolder) -> int:
        """Publish a new catalogue to every audience, signed by the targets keys.

        Returns the version of the targets metadata.

        Killed between two audiences, some have the new one: call again.
        """
        with self._writing("publishing the catalogue"):
            views = [self._view(audience) for audience in self.audiences()]
            now = self._clock()
            version, data = next_targets(
                views, keys, now=now, lifetimes=self._lifetimes, catalogue=catalogue
            )
            for view in views:
                check_signed(data, view.root(), "targets")
                view.put_artefacts({CATALOGUE: catalogue})
                self._publish(
                    view,
                    {"targets": (version, data)},
                    keys.signer("snapshot"),
                    keys.signer("timestamp"),
                )
            return version

    def publish_root(self, root: bytes, keys: KeyFolder) -> int:
        """Publish the next root, signed elsewhere by enough keys of the old and the new one, and
        re-sign what its new keys must sign.

        Args:
            root: the signed metadata file, as it came back from the ceremony.
            keys: holds the snapshot and timestamp keys that the new root names, and its targets
                keys if they changed.

        Raises:
            RepositoryError: it is not the next root, or too few root keys signed it; nothing was
                published.
        """
        with self._writing("publishing the root"):
            views = [self._view(audience) for audience in self.audiences()]
            new = _checked_root(root, views[0].root())
            extra: dict[str, tuple[int, bytes]] = {}
            current = views[0].read(
                f"{views[0].snapshot().meta['targets.json'].version}.targets.json"
            )
            metadata = Metadata[Targets].from_bytes(current)
            if not new.get_verification_result(
                "targets", metadata.signed_bytes, metadata.signatures
            ):
                extra["targets"] = next_targets(
                    views, keys, now=self._clock(), lifetimes=self._lifetimes
                )
                check_signed(extra["targets"][1], new, "targets")
            for view in views:
                view.put_metadata(f"{new.version}.root.json", root)
                fsync_dir(view.metadata, self._disk)
                self._publish(view, extra, keys.signer("snapshot"), keys.signer("timestamp"))
            return new.version

    def propose_listing(
        self,
        audience: str,
        artefacts: Mapping[str, Path],
        builder: Signer,
        *,
        deltas: Mapping[str, Delta] | None = None,
    ) -> Proposal:
        """Write a proposal with the builder's signature. Replaces an earlier one of the audience.

        Args:
            audience: for whom.
            artefacts: files by target path, `listing/<audience>/filter`; they are copied.
            builder: the first listing key.
            deltas: which of the artefacts are deltas, and of what.

        Raises:
            RepositoryError: unknown audience, a path outside the role, or a delta for something
                else than an artefact of the listing.
            ProposalError: the key is not one of the role's.
            StorageError: the disk refused; an earlier proposal is still there.
        """
        view, proposals = self._view(audience), self._proposals(audience)
        with storage_errors(f"proposing a listing for {audience}"), proposals.lock():
            snapshot = view.snapshot()
            targets = view.role("targets", snapshot)
            if (
                builder.public_key.keyid
                not in targets.get_delegated_role(listing_role(audience)).keyids
            ):
                raise ProposalError(
                    f"this key is not one of {listing_role(audience)}'s: build with the key that"
                    " the repository names for it"
                )
            above = (
                view.free_version(
                    listing_role(audience),
                    snapshot.meta[f"{listing_role(audience)}.json"].version + 1,
                )
                - 1
            )
            proposals.propose(
                artefacts,
                builder,
                deltas=deltas or {},
                above=above,
                now=self._clock(),
                lifetime=self._lifetimes.listing,
            )
            proposal = proposals.newest(targets)
        if proposal is None:
            raise ProposalError("the proposal vanished: look at the folder's permissions")
        return proposal

    def proposal(self, audience: str) -> Proposal | None:
        """The newest proposal that waits, if any."""
        view = self._view(audience)
        with storage_errors(f"reading the proposal for {audience}"):
            return self._proposals(audience).newest(view.role("targets", view.snapshot()))

    def copied(self, proposal: Proposal, folder: Path) -> Proposal:
        """The proposal with its artefacts copied into `folder`, a private one: for whoever looks
        before signing off.

        Raises ProposalError when it is no longer the one that was read, or an artefact is not what
        it says; StorageError.
        """
        with storage_errors(f"copying the proposed listing for {proposal.audience}"):
            return self._proposals(proposal.audience).copied(proposal, folder)

    def sign_off(self, proposal: Proposal, signoff: Signer) -> Proposal:
        """Add the second signature.

        Raises ProposalError when the proposal is no longer the one that was looked at.
        """
        view, proposals = self._view(proposal.audience), self._proposals(proposal.audience)
        with storage_errors(f"signing off a listing for {proposal.audience}"), proposals.lock():
            return proposals.add_signature(proposal, signoff, view.role("targets", view.snapshot()))

    def refuse(self, proposal: Proposal, reasons: Iterable[str]) -> None:
        """Move the proposal aside, with the reasons in `refused/<audience>/<version>/reasons.json`."""
        proposals = self._proposals(proposal.audience)
        with storage_errors(f"refusing a listing for {proposal.audience}"), proposals.lock():
            proposals.refuse(proposal, reasons, self._clock())

    def publish_listing(self, proposal: Proposal, snapshot: Signer, timestamp: Signer) -> Versions:
        """Make a signed-off proposal the audience's listing.

        Raises:
            ProposalError: too few signatures, expired, replaced, altered, or older than what is
                published.
            SignatureError: `snapshot` or `timestamp` is the wrong key.
            StorageError: the disk refused; the published listing is unchanged, and the proposal is
                still there.
        """
        audience, role = proposal.audience, listing_role(proposal.audience)
        view, proposals = self._view(audience), self._proposals(audience)
        with storage_errors(f"publishing the listing for {audience}"), proposals.lock():
            metadata = proposals.checked(proposal)
            if metadata.signed.is_expired(self._clock()):
                raise ProposalError(
                    f"version {proposal.version} of {role} expired while it waited: build again"
                )
            view.link_artefacts(proposal.artefacts, metadata.signed.targets)
            with self._lock():
                current = view.snapshot()
                result = view.role("targets", current).get_verification_result(
                    role, metadata.signed_bytes, metadata.signatures
                )
                if not result:
                    raise ProposalError(
                        f"{role} has {len(result.signed)} of {result.threshold} signatures: let the"
                        " sign-off look at it first"
                    )
                if metadata.signed.version <= current.meta[f"{role}.json"].version:
                    raise ProposalError(
                        f"version {proposal.version} of {role} is not newer than what is published:"
                        " build again"
                    )
                self._publish(
                    view,
                    {role: (metadata.signed.version, metadata.to_bytes())},
                    snapshot,
                    timestamp,
                )
            proposals.remove(proposal)
        return self.versions(audience)

    def publish_relief(
        self,
        audience: str,
        segments: Mapping[str, bytes],
        relief: Signer,
        snapshot: Signer,
        timestamp: Signer,
    ) -> Versions:
        """Publish the audience's relief. Waits for no proposal.

        Args:
            audience: for whom.
            segments: the whole current set by target path, `relief/<audience>/<first>-<last>`.
            relief: the relief key; `snapshot` and `timestamp` likewise.

        Raises:
            RepositoryError: unknown audience, or a path outside the role.
            SignatureError: a wrong key; nothing was published.
            StorageError: the disk refused; what was published before is unchanged.
        """
        role = relief_role(audience)
        check_paths(role, segments)
        view = self._view(audience)
        with self._writing(f"publishing relief for {audience}"):
            described = view.put_artefacts(segments)
            return self._sign_relief(view, Targets(targets=described), relief, snapshot, timestamp)

    def refresh(
        self, audience: str, relief: Signer, snapshot: Signer, timestamp: Signer
    ) -> Versions:
        """Sign relief, snapshot and timestamp again without a change, so that relief stays fresh."""
        view = self._view(audience)
        with self._writing(f"refreshing relief for {audience}"):
            current = view.role(relief_role(audience), view.snapshot())
            return self._sign_relief(
                view, Targets(targets=current.targets), relief, snapshot, timestamp
            )

    def versions(self, audience: str) -> Versions:
        """What is published for an audience."""
        view = self._view(audience)
        with storage_errors(f"reading the repository of {audience}"):
            return view.versions()

    def metadata_path(self, audience: str, name: str) -> Path:
        """The file of one metadata name.

        Raises NotFoundError when there is none, or the name is none.
        """
        path = self._view(audience).metadata / name
        if not is_metadata_name(name) or not path.is_file():
            raise NotFoundError(f"there is no metadata file of that name for {audience}")
        return path

    def artefact_path(self, audience: str, path: str) -> Path:
        """The file of one artefact, by its path with hash prefix.

        Raises NotFoundError when there is none, or the path is none.
        """
        file = self._view(audience).targets / path
        if not is_target_path(path) or not file.is_file():
            raise NotFoundError(f"there is no artefact of that path for {audience}")
        return file

    def root_bytes(self) -> bytes:
        """The newest root: what a provider's kit carries as its trusted root."""
        view = self._view(self.audiences()[0])
        with storage_errors(f"reading {self._path}"):
            return view.read(f"{view.root().version}.root.json")

    def bundle_files(
        self, audience: str, since: Versions | None, max_artefact_bytes: int
    ) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """One consistent set of what changed: metadata by name, and artefacts by path with hash
        prefix.

        For a changed artefact that is its deltas from what the other side holds, or all of it, if
        they have `max_artefact_bytes` at most.

        Args:
            audience: whose.
            since: what the other side holds; zeros and None mean unknown, and bring everything.
            max_artefact_bytes: larger artefacts are left to a refresh.
        """
        view = self._view(audience)
        with storage_errors(f"reading the repository of {audience}"):
            return bundle_files(view, since, max_artefact_bytes)

    def _sign_relief(
        self, view: View, signed: Targets, relief: Signer, snapshot: Signer, timestamp: Signer
    ) -> Versions:
        role = relief_role(view.audience)
        current = view.snapshot()
        signed.version = view.free_version(role, current.meta[f"{role}.json"].version + 1)
        stamp(signed, self._clock(), self._lifetimes.relief)
        data = sign(signed, [relief])
        check_signed(data, view.role("targets", current), role)
        self._publish(view, {role: (signed.version, data)}, snapshot, timestamp)
        return view.versions()

    def _publish(
        self,
        view: View,
        roles: Mapping[str, tuple[int, bytes]],
        snapshot: Signer,
        timestamp: Signer,
    ) -> None:
        view.publish(roles, snapshot, timestamp, now=self._clock(), lifetimes=self._lifetimes)

    @contextmanager
    def _writing(self, doing: str) -> Generator[None]:
        with storage_errors(doing), self._lock():
            yield

    def _lock(self) -> FileLock:
        return FileLock(self._path / "lock", timeout=self._lock_seconds)

    def _proposals(self, audience: str) -> Proposals:
        return Proposals(self._path, audience, lock_seconds=self._lock_seconds, disk=self._disk)

    def _view(self, audience: str) -> View:
        check_audience(audience)
        if not (self._path / audience / "metadata").is_dir():
            raise RepositoryError(
                f"there is no audience {audience!r} in this repository: it has"
                f" {', '.join(self.audiences())}"
            )
        return View(self._path / audience, audience, disk=self._disk)


def _checked_root(data: bytes, current: Root) -> Root:
    try:
        metadata = Metadata[Root].from_bytes(data)
        result = metadata.signed.get_root_verification_result(
            current, metadata.signed_bytes, metadata.signatures
        )
    except (TufRepositoryError, ValueError, AttributeError) as error:
        raise RepositoryError(
            f"this is not a root of version {current.version + 1}: make the next root from the"
            " current one"
        ) from error
    if not result:
        raise RepositoryError(
            "too few root keys signed this root: enough of the old and of the new root's keys must"
            " sign it"
        )
    return metadata.signed
