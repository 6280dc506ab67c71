"""Listings on their way: proposed by the builder, signed off by a second key, published or refused.

Slow and deliberate.

    proposals/<audience>/<version>/listing-<audience>.json    metadata, with one signature more at each step
    proposals/<audience>/<version>/listing/<audience>/<sha256>.filter its artefacts
    refused/<audience>/<version>/                                     the same, with reasons.json

Nothing here takes the repository's lock, so that relief never waits for a listing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from tuf.api.exceptions import RepositoryError as TufRepositoryError

from tipstaff_signing.deltas import check_deltas, delta_of, describe_delta
from tipstaff_signing.errors import MetadataFormatError, ProposalError, RepositoryError
from tipstaff_signing.files import (
    CHUNK_BYTES,
    DISK,
    Disk,
    FileLock,
    fsync_dir,
    is_target_path,
    sha256_file,
    write_atomic,
)
from tipstaff_signing.model import Proposal
from tipstaff_signing.names import listing_role, prefixed_path, role_pattern
from tipstaff_signing.signed import add_signature, sign, signed_at, stamp
from tipstaff_signing.tuf_names import Metadata, TargetFile, Targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from tipstaff_signing.model import Delta
    from tipstaff_signing.tuf_names import Signer

__all__ = ["Proposals", "check_paths"]


def check_paths(role: str, paths: Iterable[str]) -> None:
    """Raises RepositoryError unless every target path belongs to a delegated role."""
    prefix = role_pattern(role).removesuffix("*")
    for path in paths:
        if not (
            path.startswith(prefix)
            and is_target_path(path)
            and "/" not in path.removeprefix(prefix)
        ):
            raise RepositoryError(
                f"{path!r} is not a path that {role} may sign: use {role_pattern(role)}"
            )


def _check(path: str, file: Path, target: TargetFile) -> None:
    if not file.is_file() or sha256_file(file) != (target.length, target.hashes["sha256"]):
        raise ProposalError(
            f"{path} of the proposal is not what the builder signed: refuse it and build again"
        )


class Proposals:
    """The proposals of one audience. OSErrors pass through."""

    def __init__(
        self, repository: Path, audience: str, *, lock_seconds: float = 60.0, disk: Disk = DISK
    ) -> None:
        self._folder = repository / "proposals" / audience
        self._refused = repository / "refused" / audience
        self._audience = audience
        self._role = listing_role(audience)
        self._lock_seconds = lock_seconds
        self._disk = disk

    def lock(self) -> FileLock:
        """One process at a time works on an audience's proposals."""
        self._disk.mkdir(self._folder)
        return FileLock(self._folder / "lock", timeout=self._lock_seconds)

    def propose(
        self,
        artefacts: Mapping[str, Path],
        builder: Signer,
        *,
        deltas: Mapping[str, Delta],
        above: int,
        now: datetime,
        lifetime: timedelta,
    ) -> int:
        """Write a proposal with the builder's signature under a version above `above` and any
        proposed or refused before.
        """
        check_paths(self._role, artefacts)
        taken = [*self._versions(self._folder), *self._versions(self._refused), above]
        folder = self._folder / str(max(taken) + 1)
        place = folder / "listing" / self._audience
        self._disk.mkdir(place)
        targets = {
            path: self._copy(path, source, folder, deltas.get(path))
            for path, source in artefacts.items()
        }
        self._check_deltas(targets, deltas)
        for synced in (place, place.parent, folder):
            fsync_dir(synced, self._disk)
        signed = Targets(version=int(folder.name), targets=targets)
        stamp(signed, now, lifetime)
        write_atomic(self._metadata(folder), sign(signed, [builder]), disk=self._disk)
        fsync_dir(self._folder, self._disk)
        for version in self._versions(self._folder):
            if version < signed.version:
                self._disk.remove(self._folder / str(version))
        return signed.version

    def newest(self, delegator: Targets) -> Proposal | None:
        """The newest whole proposal, its signatures counted against the delegation."""
        for version in sorted(self._versions(self._folder), reverse=True):
            folder = self._folder / str(version)
            if self._metadata(folder).exists():
                return self._describe(folder, self._load(folder), delegator)
        return None

    def add_signature(self, proposal: Proposal, signoff: Signer, delegator: Targets) -> Proposal:
        """Add the second signature, after checking that the proposal is the one that was looked at
        and its files are what it says.
        """
        metadata = self.checked(proposal)
        if signoff.public_key.keyid not in delegator.get_delegated_role(self._role).keyids:
            raise ProposalError(
                f"this key is not one of {self._role}'s: sign off with the key that the repository"
                " names for it"
            )
        add_signature(metadata, signoff)
        write_atomic(self._metadata(proposal.folder), metadata.to_bytes(), disk=self._disk)
        return self._describe(proposal.folder, metadata, delegator)

    def checked(self, proposal: Proposal) -> Metadata[Targets]:
        """The proposal's metadata from disk.

        Raises:
            ProposalError: it was replaced or withdrawn, or an artefact is not the one that was
                signed.
        """
        metadata = self._signed(proposal)
        for path, target in metadata.signed.targets.items():
            _check(path, proposal.folder / prefixed_path(path, target.hashes["sha256"]), target)
        return metadata

    def _signed(self, proposal: Proposal) -> Metadata[Targets]:
        metadata = self._load(proposal.folder)
        if hashlib.sha256(metadata.signed_bytes).hexdigest() != proposal.digest:
            raise ProposalError(
                f"version {proposal.version} of {self._role} changed since it was read: look at it"
                " again"
            )
        return metadata

    def copied(self, proposal: Proposal, folder: Path) -> Proposal:
        """The same with artefacts in `folder`, which is nobody else's: whoever may write here
        cannot change them while they are looked at.

        Raises:
            ProposalError: it was replaced or withdrawn, or an artefact is not the one that was
                signed.
        """
        metadata = self._signed(proposal)
        artefacts: dict[str, Path] = {}
        for path, target in metadata.signed.targets.items():
            source = proposal.folder / prefixed_path(path, target.hashes["sha256"])
            copy = artefacts[path] = folder / path.rpartition("/")[2]
            # Links are not followed, and what counts is the copy: the source may change under our
            # hands.
            if source.is_file() and not source.is_symlink():
                shutil.copyfile(source, copy)
            _check(path, copy, target)
        return replace(proposal, artefacts=artefacts)

    def refuse(self, proposal: Proposal, reasons: Iterable[str], now: datetime) -> None:
        """Move a proposal aside, with the reasons beside it."""
        self._load(proposal.folder)
        text = json.dumps(
            {"refused_at": now.isoformat(), "reasons": list(reasons)}, ensure_ascii=False, indent=1
        )
        write_atomic(proposal.folder / "reasons.json", text.encode(), disk=self._disk)
        self._disk.mkdir(self._refused)
        self._disk.replace(proposal.folder, self._refused / proposal.folder.name)
        fsync_dir(self._refused, self._disk)
        fsync_dir(self._folder, self._disk)

    def remove(self, proposal: Proposal) -> None:
        """Forget a proposal that was published."""
        self._disk.remove(self._metadata(proposal.folder))
        self._disk.remove(proposal.folder)

    def _check_deltas(self, targets: Mapping[str, TargetFile], deltas: Mapping[str, Delta]) -> None:
        """Refuse to propose what no reader would accept."""
        try:
            check_deltas(self._role, targets)
        except MetadataFormatError as error:
            raise RepositoryError(
                f"the deltas of the proposal are not well-formed: {error}"
            ) from error
        if not deltas.keys() <= targets.keys():
            raise RepositoryError(
                "a delta of the proposal is not among its artefacts: give its file too"
            )

    def _copy(self, path: str, source: Path, folder: Path, delta: Delta | None) -> TargetFile:
        """Copy and hash in one pass, so that what is signed is what is stored."""
        aside = folder / f".{path.rpartition('/')[2]}.new"
        digest, length = hashlib.sha256(), 0
        with source.open("rb") as reader, aside.open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
                self._disk.write(writer.fileno(), chunk)
            self._disk.fsync(writer.fileno())
        self._disk.replace(aside, folder / prefixed_path(path, digest.hexdigest()))
        return describe_delta(length, digest.hexdigest(), path, delta)

    def _metadata(self, folder: Path) -> Path:
        return folder / f"{self._role}.json"

    def _load(self, folder: Path) -> Metadata[Targets]:
        try:
            metadata = Metadata[Targets].from_bytes(self._metadata(folder).read_bytes())
        except FileNotFoundError as error:
            raise ProposalError(
                f"proposal {folder.name} of {self._role} is gone: it was published, refused or"
                " replaced"
            ) from error
        except TufRepositoryError as error:
            raise ProposalError(
                f"proposal {folder.name} of {self._role} is damaged: build again"
            ) from error
        if (
            not isinstance(cast("object", metadata.signed), Targets)
            or str(metadata.signed.version) != folder.name
        ):
            raise ProposalError(
                f"proposal {folder.name} of {self._role} is not listing metadata of that version:"
                " build again"
            )
        return metadata

    def _describe(self, folder: Path, metadata: Metadata[Targets], delegator: Targets) -> Proposal:
        result = delegator.get_verification_result(
            self._role, metadata.signed_bytes, metadata.signatures
        )
        return Proposal(
            audience=self._audience,
            version=metadata.signed.version,
            folder=folder,
            artefacts={
                path: folder / prefixed_path(path, target.hashes["sha256"])
                for path, target in metadata.signed.targets.items()
            },
            signed_at=signed_at(metadata.signed),
            expires=metadata.signed.expires,
            digest=hashlib.sha256(metadata.signed_bytes).hexdigest(),
            signatures=len(result.signed),
            threshold=result.threshold,
            deltas={
                path: delta
                for path, target in metadata.signed.targets.items()
                if (delta := delta_of(target))
            },
        )

    @staticmethod
    def _versions(folder: Path) -> list[int]:
        return (
            [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
            if folder.is_dir()
            else []
        )
