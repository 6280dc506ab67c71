"""What is believed. No network, no disk.

`verify_chain` takes the files of one version and gives the roles in it, or raises. The rules, in
order (TUF specification 1.0.34, 5.3-5.6):

1. Every file is JSON of plain shape: no repeated keys, no floats, integers of 64 bits, at most 32
   levels deep.
2. The trusted root is signed by its own keys; each next root has the next number and is signed by
   enough keys of the last and of its own.
3. The timestamp is signed by the root's timestamp keys, and is this view's.
4. The snapshot is the one that the timestamp names (version, length, hash), signed by the root's
   snapshot keys, and is this view's.
5. The targets metadata is the one that the snapshot names, signed by enough of the root's targets
   keys.
6. Each wanted role is the one that the snapshot names, signed by enough of the keys that targets
   delegates it to.
7. A role names only artefacts that it may: inside its delegated paths, with a length within the
   limit and a SHA-256.
8. Every file says when it was signed.

Without a view (`reader/plain_reader.py`, any TUF repository) what only we demand is left out: the
view in 3 and 4, the SHA-256 in 7, and 8.

Expiry is reported, not judged, so that verified state can be used offline by those who judge it.
Versions and times already seen are `reader/floor.py`'s business. Online, python-tuf's own workflow
runs first; this is run on what it leaves, and on what lies on disk.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from tuf.api.exceptions import LengthOrHashMismatchError, UnsignedMetadataError
from tuf.api.exceptions import RepositoryError as TufRepositoryError

from tipstaff_signing.errors import (
    MetadataFormatError,
    MismatchError,
    RollbackError,
    SignatureError,
    TrustError,
    ViewError,
)
from tipstaff_signing.signed import VIEW, signed_at
from tipstaff_signing.tuf_names import (
    DelegatedRole,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tipstaff_signing.model import Limits

__all__ = ["Chain", "check_json", "check_view", "verify_chain", "verify_prefix"]

SignedT = TypeVar("SignedT", Root, Timestamp, Snapshot, Targets)
_MAX_DEPTH = 32
_MAX_DIGITS = 19
_MAX_INTEGER = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Chain:
    """One verified version:

    `roles` has "targets" and the wanted roles. In a prefix, what was not reached is None or
    missing.
    """

    root: Root
    timestamp: Timestamp | None
    snapshot: Snapshot | None
    roles: Mapping[str, Targets]

    def signed(self) -> dict[str, Signed]:
        """Everything verified, by role name."""
        top: dict[str, Signed | None] = {
            "root": self.root,
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
            **self.roles,
        }
        return {name: signed for name, signed in top.items() if signed is not None}

    def newest_signing(self) -> datetime:
        """The latest time that any of it was signed."""
        return max(signed_at(signed) for signed in self.signed().values())


def check_json(data: bytes, name: str) -> object:
    """Rule 1. Returns what the JSON says. Raises MetadataFormatError."""
    try:
        content = cast(
            "object",
            json.loads(
                data.decode(),
                object_pairs_hook=_unique,
                parse_int=_integer,
                parse_float=_refuse,
                parse_constant=_refuse,
            ),
        )
        _check_depth(content)
    except (ValueError, RecursionError) as error:
        raise _malformed(name) from error
    return content


def check_view(fields: Mapping[str, object], view: str, name: str) -> None:
    """The view of rules 3 and 4. Raises ViewError."""
    if fields.get(VIEW) != view:
        raise ViewError(
            f"{name} is not audience {view}'s: check the server address and the audience in the"
            " configuration"
        )


def verify_chain(
    trusted_root: bytes,
    files: Mapping[str, bytes],
    *,
    view: str | None,
    roles: Sequence[str],
    limits: Limits,
) -> Chain:
    """Verify one version from the trusted root down.

    Args:
        trusted_root: the root that came with the provider's kit.
        files: metadata by unnumbered name, `timestamp.json`, and roots by number, `2.root.json`;
            roots may be missing from either end.
        view: the audience; None for a repository that is not ours.
        roles: delegated roles wanted, besides "targets".
        limits: the size cap on artefacts is taken from here.

    Raises:
        TrustError: a rule is broken; the subclass and the message say which.
    """
    root = _roots(trusted_root, files)
    timestamp = _timestamp(root, files, view)
    snapshot = _snapshot(root, timestamp, files, view)
    targets = _role("targets", root, snapshot, files)
    verified = {"targets": targets}
    for role in roles:
        verified[role] = _role(role, targets, snapshot, files)
        _check_paths(role, verified[role], targets)
    for role, signed in verified.items():
        _check_targets(role, signed, limits, sha256=view is not None)
    chain = Chain(root, timestamp, snapshot, verified)
    if view is not None:
        chain.newest_signing()  # rule 8: raises when one does not say
    return chain


def verify_prefix(trusted_root: bytes, files: Mapping[str, bytes], *, view: str | None) -> Chain:
    """The root, and the timestamp and snapshot as far as they verify: what a broken-off update has
    proved nevertheless.
    """
    root = _roots(trusted_root, files)
    chain = Chain(root, None, None, {})
    with contextlib.suppress(TrustError):
        timestamp = _timestamp(root, files, view)
        signed_at(timestamp)
        chain = Chain(root, timestamp, None, {})
        snapshot = _snapshot(root, timestamp, files, view)
        signed_at(snapshot)
        chain = Chain(root, timestamp, snapshot, {})
    return chain


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or not -_MAX_INTEGER <= (value := int(digits)) <= _MAX_INTEGER:
        raise ValueError("an integer is out of range")
    return value


def _refuse(text: str) -> object:
    raise ValueError(f"{text[:20]} is not allowed")


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if isinstance(value, list):
        for item in cast("list[object]", value):
            _check_depth(item, depth + 1)


def _malformed(name: str) -> MetadataFormatError:
    return MetadataFormatError(
        f"{name} is not well-formed metadata: the source is not a Tipstaff repository, or it was"
        " altered"
    )


def _parse(kind: type[SignedT], data: bytes, name: str) -> Metadata[SignedT]:
    check_json(data, name)
    try:
        metadata = Metadata[SignedT].from_bytes(data)
    except TufRepositoryError as error:
        raise _malformed(name) from error
    if (
        type(cast("object", metadata.signed)) is not kind
        or type(cast("object", metadata.signed.version)) is not int
    ):
        raise _malformed(name)
    return metadata


def _verified(kind: type[SignedT], data: bytes, role: str, *delegators: Root | Targets) -> SignedT:
    metadata = _parse(kind, data, f"{role}.json")
    for delegator in delegators:
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            raise SignatureError(
                f"{role} is not signed by enough of its keys: do not use this source, and ask the"
                " operator"
            ) from error
        except (ValueError, TufRepositoryError) as error:
            raise TrustError(
                f"{role} is not a role of this repository: check the audience, and ask the operator"
            ) from error
    return metadata.signed


def _roots(trusted_root: bytes, files: Mapping[str, bytes]) -> Root:
    parsed = _parse(Root, trusted_root, "the trusted root").signed
    root = _verified(Root, trusted_root, "root", parsed)
    while (data := files.get(f"{root.version + 1}.root.json")) is not None:
        following = _verified(Root, data, "root", root, _parse(Root, data, "root.json").signed)
        if following.version != root.version + 1:
            raise RollbackError(f"root {root.version + 1} carries number {following.version}")
        root = following
    return root


def _timestamp(root: Root, files: Mapping[str, bytes], view: str | None) -> Timestamp:
    timestamp = _verified(Timestamp, _file(files, "timestamp"), "timestamp", root)
    if view is not None:
        check_view(timestamp.unrecognized_fields, view, "timestamp.json")
    return timestamp


def _snapshot(
    root: Root, timestamp: Timestamp, files: Mapping[str, bytes], view: str | None
) -> Snapshot:
    data = _file(files, "snapshot")
    _check_named(timestamp.snapshot_meta, data, "snapshot")
    snapshot = _verified(Snapshot, data, "snapshot", root)
    _check_version(timestamp.snapshot_meta, snapshot, "snapshot")
    if view is not None:
        check_view(snapshot.unrecognized_fields, view, "snapshot.json")
    return snapshot


def _role(
    role: str, delegator: Root | Targets, snapshot: Snapshot, files: Mapping[str, bytes]
) -> Targets:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise TrustError(
            f"the snapshot does not name {role}: check the audience, and ask the operator"
        )
    data = _file(files, role)
    _check_named(meta, data, role)
    targets = _verified(Targets, data, role, delegator)
    _check_version(meta, targets, role)
    return targets


def _file(files: Mapping[str, bytes], role: str) -> bytes:
    data = files.get(f"{role}.json")
    if data is None:
        raise TrustError(f"{role}.json is missing")
    return data


def _check_named(meta: MetaFile, data: bytes, name: str) -> None:
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise MismatchError(
            f"{name} is not the file that was named: parts of different versions are mixed; refresh"
            " again"
        ) from error


def _check_version(meta: MetaFile, signed: Signed, name: str) -> None:
    if signed.version != meta.version:
        raise RollbackError(
            f"{name} has version {signed.version} where {meta.version} was named: parts of"
            " different versions are mixed"
        )


def _check_paths(role: str, targets: Targets, delegator: Targets) -> None:
    delegation = delegator.get_delegated_role(role)
    for path in targets.targets:
        if not isinstance(delegation, DelegatedRole) or not delegation.is_delegated_path(path):
            raise TrustError(
                f"{role} names an artefact outside its own paths: ask the operator, its key may be"
                " stolen"
            )


def _check_targets(role: str, signed: Targets, limits: Limits, *, sha256: bool) -> None:
    if len(signed.targets) > limits.targets_per_role:
        raise TrustError(
            f"{role} names {len(signed.targets)} artefacts, more than the {limits.targets_per_role}"
            " allowed"
        )
    for target in signed.targets.values():
        _check_target(role, target, limits, sha256=sha256)


def _check_target(role: str, target: TargetFile, limits: Limits, *, sha256: bool) -> None:
    length = cast("object", target.length)
    if sha256 and not _SHA256.fullmatch(target.hashes.get("sha256", "")):
        raise MetadataFormatError(f"{role} names an artefact without a SHA-256")
    if type(length) is not int or length > limits.artefact_bytes:
        raise TrustError(
            f"{role} names an artefact of more than {limits.artefact_bytes} bytes, which is not"
            " allowed here"
        )
