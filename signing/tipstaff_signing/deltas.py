"""Deltas: artefacts that lead from one version of another artefact to a later one, so that a change
costs what it changes.

A target says in its signed `custom` that it is one:

    "listing/aviation/filter-from-5b41aa0c1d2e3f90": {
        "length": 812, "hashes": {"sha256": "…"},
        "custom": {"delta": {"target": "listing/aviation/filter", "base": "5b41…", "result": "d69e…"}}}

Whoever holds the artefact with SHA-256 `base`, and this one, can make the artefact with SHA-256
`result`, a version of `target`. How that is done is its users' business; what comes of it is
checked like a download. Deltas follow one another: the result of one is the base of the next.

1. `delta` has exactly these three fields; `base` and `result` are different SHA-256, 64 hexadecimal
   digits.
2. `target` is another artefact of the same role, and no delta itself.

Anything else is refused with the role's metadata. A chain that goes in circles, that leads nowhere
or that is too long harms nobody: it is not used, and the whole artefact is fetched.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, cast

from tipstaff_signing.errors import MetadataFormatError
from tipstaff_signing.model import Delta
from tipstaff_signing.tuf_names import TargetFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["DeltaChain", "check_deltas", "delta_of", "describe_delta", "find_chain", "whole"]

_FIELD = "delta"
_FIELDS = ("base", "result", "target")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DeltaChain(NamedTuple):
    """Deltas in the order in which they are applied, and the SHA-256 of the artefact that the first
    of them starts from.
    """

    base: str
    deltas: tuple[TargetFile, ...]


def describe_delta(length: int, sha256: str, path: str, delta: Delta | None) -> TargetFile:
    """What metadata say of an artefact; of a delta, if it is one."""
    fields = (
        None
        if delta is None
        else {"custom": {_FIELD: {name: getattr(delta, name) for name in _FIELDS}}}
    )
    return TargetFile(length, {"sha256": sha256}, path, fields)


def delta_of(target: TargetFile) -> Delta | None:
    """What a target says of itself; None when it is no delta.

    Raises MetadataFormatError for rule 1.
    """
    custom = cast("object", target.custom)
    if not isinstance(custom, dict) or _FIELD not in custom:
        return None
    fields = cast("dict[str, object]", custom)[_FIELD]
    if not isinstance(fields, dict) or sorted(cast("dict[str, object]", fields)) != list(_FIELDS):
        raise _malformed(target.path)
    base, result, wanted = (cast("dict[str, object]", fields)[name] for name in _FIELDS)
    if not (isinstance(base, str) and isinstance(result, str) and isinstance(wanted, str)):
        raise _malformed(target.path)
    if not (_SHA256.fullmatch(base) and _SHA256.fullmatch(result)) or base == result:
        raise _malformed(target.path)
    return Delta(wanted, base, result)


def check_deltas(role: str, targets: Mapping[str, TargetFile]) -> None:
    """Rules 1 and 2 for all targets of a role. Raises MetadataFormatError."""
    for target in targets.values():
        delta = delta_of(target)
        if delta is None:
            continue
        wanted = targets.get(delta.target)
        if wanted is None or delta_of(wanted) is not None:
            raise MetadataFormatError(
                f"{target.path} of {role} is a delta for something that is no artefact of {role}:"
                " ask the operator"
            )


def whole(targets: Mapping[str, TargetFile]) -> Iterator[TargetFile]:
    """The targets that are no deltas."""
    return (target for target in targets.values() if delta_of(target) is None)


def find_chain(
    targets: Mapping[str, TargetFile],
    wanted: TargetFile,
    is_held: Callable[[str], bool],
    *,
    most: int,
) -> DeltaChain | None:
    """The deltas of fewest bytes that lead to `wanted` from an artefact that is held; at most
    `most` of them (Dijkstra, backwards).

    None when there are none, or when they are not smaller than `wanted` itself.
    """
    leading: defaultdict[str, list[tuple[str, TargetFile]]] = defaultdict(list)
    for target in targets.values():
        delta = delta_of(target)
        if delta is not None and delta.target == wanted.path:
            leading[delta.result].append((delta.base, target))
    order = 0  # decides between equals, so that nothing else is compared
    chains: list[tuple[int, int, str, tuple[TargetFile, ...]]] = [
        (0, order, wanted.hashes["sha256"], ())
    ]
    done: set[str] = set()
    while chains:
        length, _, at, chain = heapq.heappop(chains)
        if at in done:
            continue
        done.add(at)
        if chain and is_held(at):
            return DeltaChain(at, chain)
        for base, target in leading[at] if len(chain) < most else ():
            if length + target.length < wanted.length:
                order += 1
                heapq.heappush(chains, (length + target.length, order, base, (target, *chain)))
    return None


def _malformed(path: str) -> MetadataFormatError:
    return MetadataFormatError(
        f"{path} says that it is a delta, but not of what: its metadata were not made by this"
        " system"
    )
