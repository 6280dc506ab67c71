"""Changes of keys, signed offline by carrying files.

No network; the signers need nothing but their key and the draft.

1. `draft` says what changes, and makes every metadata file that must be signed for it: root,
   targets, listings whose keys change.
2. The draft, one file, is carried to each signer. `describe` says what it does, from what it holds
   itself; `sign_parts` signs what this key may sign. The signatures, one small file, are carried
   back.
3. `complete` puts them in; `rotation.py` publishes.

    {"format": 1, "current": {"root": {...}, "targets": {...}}, "parts": {"root": {...}, ...}}
    {"format": 1, "signatures": [{"role": "root", "version": 2, "digest": "…", "keyid": "…", "sig": "…"}]}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tuf.api.exceptions import RepositoryError as TufRepositoryError

from tipstaff_signing.errors import ProposalError, SignatureError
from tipstaff_signing.signed import add_signature
from tipstaff_signing.tuf_names import Metadata, Root, Signature, Targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tipstaff_signing.tuf_names import Signer

__all__ = ["Draft", "complete", "sign_parts", "signatures_to_bytes"]

_FORMAT = 1
_MAX_BYTES = 64 << 20
SignedT = TypeVar("SignedT", Root, Targets)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is in force, and the metadata files that would take its place, by role, with the
    signatures that they have so far.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    parts: Mapping[str, Metadata[Any]]

    @property
    def new_root(self) -> Root:
        """The root after the change."""
        part = self.parts.get("root")
        return cast("Root", part.signed) if part else self.root.signed

    @property
    def new_targets(self) -> Targets:
        """The targets metadata after the change."""
        part = self.parts.get("targets")
        return cast("Targets", part.signed) if part else self.targets.signed

    def delegators(self, role: str) -> list[Root | Targets]:
        """Whose keys must sign a part, each enough of them."""
        if role == "root":
            return [self.root.signed, self.new_root]
        return [self.new_root] if role == "targets" else [self.new_targets]

    def missing(self) -> dict[str, int]:
        """How many more signatures each part needs; parts that have enough are left out."""
        counts: dict[str, int] = {}
        for role, part in self.parts.items():
            results = [
                item.get_verification_result(role, part.signed_bytes, part.signatures)
                for item in self.delegators(role)
            ]
            lacking = max(result.threshold - len(result.signed) for result in results)
            if lacking > 0:
                counts[role] = lacking
        return counts

    def describe(self) -> list[str]:
        """What would change, a line each, worked out from the metadata: a signer need not believe
        whoever made the draft.
        """
        lines: list[str] = []
        for role, part in sorted(self.parts.items()):
            lines.append(
                f"{role} {part.signed.version}, valid until {part.signed.expires:%Y-%m-%d %H:%M}"
                f" UTC, digest {_digest(part)}"
            )
        lines += _changes(_root_roles(self.root.signed), _root_roles(self.new_root))
        lines += _changes(_delegated(self.targets.signed), _delegated(self.new_targets))
        if set(self.new_targets.targets) != set(self.targets.signed.targets) or any(
            target.hashes != self.targets.signed.targets[path].hashes
            for path, target in self.new_targets.targets.items()
        ):
            lines.append("the catalogue changes")
        return lines

    def to_bytes(self) -> bytes:
        """The file."""
        content = {
            "format": _FORMAT,
            "current": {"root": self.root.to_dict(), "targets": self.targets.to_dict()},
            "parts": {role: part.to_dict() for role, part in self.parts.items()},
        }
        return json.dumps(content, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Draft:
        """Parse the file.

        Raises:
            ProposalError: it is not a draft.
        """
        try:
            content = _content(data)
            parts: dict[str, Metadata[Any]] = {
                role: _metadata(Root, part) if role == "root" else _metadata(Targets, part)
                for role, part in cast("dict[str, Any]", content["parts"]).items()
            }
            current = content["current"]
            return cls(
                _metadata(Root, current["root"]), _metadata(Targets, current["targets"]), parts
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            TufRepositoryError,
        ) as error:
            raise ProposalError(
                "this is not a draft of key changes: make one with `tipstaff-server keys export`"
            ) from error


def sign_parts(draft: Draft, signer: Signer) -> list[dict[str, object]]:
    """Sign every part that this key may sign.

    Raises:
        ProposalError: there is none.
        KeyFileError: the key failed.
    """
    made: list[dict[str, object]] = []
    keyid = signer.public_key.keyid
    for role, part in draft.parts.items():
        if any(keyid in _keyids(delegator, role) for delegator in draft.delegators(role)):
            add_signature(part, signer)
            sig = part.signatures[keyid].signature
            made.append(
                {
                    "role": role,
                    "version": part.signed.version,
                    "digest": _digest(part),
                    "keyid": keyid,
                    "sig": sig,
                }
            )
    if not made:
        raise ProposalError(
            "nothing in this draft is for this key to sign: take another key, or another draft"
        )
    return made


def signatures_to_bytes(signatures: list[dict[str, object]]) -> bytes:
    """The file that is carried back."""
    return json.dumps({"format": _FORMAT, "signatures": signatures}, indent=1).encode()


def complete(draft: Draft, files: Iterable[bytes]) -> None:
    """Put signatures that were carried back into the draft.

    Raises:
        ProposalError: a file is not one, or belongs to another draft.
        SignatureError: a signature is not valid.
    """
    for data in files:
        try:
            for item in _content(data)["signatures"]:
                _put(
                    draft,
                    str(item["role"]),
                    str(item["digest"]),
                    Signature(str(item["keyid"]), str(item["sig"])),
                )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProposalError(
                "this is not a file of signatures: make one with `tipstaff-server keys sign`"
            ) from error


def _put(draft: Draft, role: str, digest: str, signature: Signature) -> None:
    part = draft.parts.get(role)
    if part is None or _digest(part) != digest:
        raise ProposalError(f"a signature is of another {role} than this draft's: sign this draft")
    part.signatures[signature.keyid] = signature
    # In one order, so that the same signatures give the same file whichever came first.
    part.signatures = dict(sorted(part.signatures.items()))
    for delegator in draft.delegators(role):
        if signature.keyid in _keyids(delegator, role):
            result = delegator.get_verification_result(role, part.signed_bytes, part.signatures)
            if signature.keyid not in result.signed:
                raise SignatureError(
                    f"a signature of {role} is not valid: sign the draft again, and carry both"
                    " files whole"
                )


def _content(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_BYTES:
        raise ValueError("too large")
    content = cast("dict[str, Any]", json.loads(data))
    if content["format"] != _FORMAT:
        raise ValueError("another format")
    return content


def _metadata(kind: type[SignedT], content: dict[str, Any]) -> Metadata[SignedT]:
    metadata = Metadata[SignedT].from_dict(content)
    if not isinstance(cast("object", metadata.signed), kind):
        raise TypeError("metadata of another type")
    return metadata


def _digest(part: Metadata[Any]) -> str:
    return hashlib.sha256(part.signed_bytes).hexdigest()


def _keyids(delegator: Root | Targets, role: str) -> list[str]:
    return delegator.get_delegated_role(role).keyids


def _root_roles(root: Root) -> dict[str, tuple[frozenset[str], int]]:
    return {role: (frozenset(item.keyids), item.threshold) for role, item in root.roles.items()}


def _delegated(targets: Targets) -> dict[str, tuple[frozenset[str], int]]:
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    return {role: (frozenset(item.keyids), item.threshold) for role, item in roles.items()}


def _changes(
    old: Mapping[str, tuple[frozenset[str], int]], new: Mapping[str, tuple[frozenset[str], int]]
) -> list[str]:
    lines: list[str] = []
    for role in sorted(old.keys() | new.keys()):
        before, after = old.get(role, (frozenset[str](), 0)), new.get(role, (frozenset[str](), 0))
        lines += [f"{role}: key {keyid} goes" for keyid in sorted(before[0] - after[0])]
        lines += [f"{role}: key {keyid} comes" for keyid in sorted(after[0] - before[0])]
        if before[1] != after[1]:
            lines.append(f"{role}: threshold {before[1]} becomes {after[1]}")
    return lines
