"""Which deltas a listing is published with, so that a provider that holds an earlier one transfers
what changed.

The chain of an artefact (filter, pack): the deltas of the published listing, which go on as they
are, and one from the published artefact to the new one. Its beginning is cut off where there are
more than `MOST_STEPS`, or where the whole chain has more than `MOST_SHARE` of the artefact's bytes.
Where the layout changes (another epoch, more tokens than the filter's capacity, other bucket bits)
or too much is new, there is no delta, and no chain: the whole file is the way. Why these bounds:
docs/decisions/0009-chains-of-deltas.md.

Everything is made from published files, which are signed. There is no state of the publisher's own
that could be lost or wrong, and the sign-off (`examine_deltas`) applies each new delta to the
published file before it signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_bloom import BloomError, BloomFilter, diff
from tipstaff_sdk.errors import FormatError
from tipstaff_sdk.packs.diff import write_delta
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.domain.bounds import MOST_STEPS
from tipstaff_signing.files import sha256_file
from tipstaff_signing.model import Delta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tipstaff_server.repository.published import Published

__all__ = ["MOST_SHARE", "Offer", "make_deltas"]

MOST_SHARE = 0.5
NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Offer:
    """One delta of a listing: its target path, its file, and what it leads from and to."""

    path: str
    file: Path
    length: int  # bytes
    delta: Delta


def make_deltas(published: Published, artefacts: Mapping[str, Path], folder: Path) -> list[Offer]:
    """The deltas to publish beside new artefacts (files by target path); new ones are written into
    `folder`.

    Raises OSError; StorageError as Published does.
    """
    makers = {"filter": _filter_delta, "pack": _pack_delta}
    offers: list[Offer] = []
    for path, file in artefacts.items():
        make = makers.get(path.rpartition("/")[2])
        old = published.find(path)
        if make is not None and old is not None:
            offers += _chain(published, _Step(path, old.file, old.sha256, file, folder), make)
    return offers


@dataclass(frozen=True, slots=True)
class _Step:
    """From a published artefact to a new one."""

    path: str
    old: Path
    old_sha256: str
    new: Path
    folder: Path


def _chain(
    published: Published,
    step: _Step,
    make: Callable[[_Step, Path, int], int | None],
) -> list[Offer]:
    length, sha256 = sha256_file(step.new)
    bound = int(length * MOST_SHARE)
    chain = [
        Offer(delta.path, delta.file, delta.length, delta.delta)
        for delta in published.chain(step.path)
    ]
    if sha256 != step.old_sha256:
        # Named by what it starts from: a listing has one delta from there, and the name does not
        # change with the listing's number.
        path = f"{step.path}-from-{step.old_sha256[:NAME_DIGITS]}"
        file = step.folder / path.rpartition("/")[2]
        made = make(step, file, bound)
        if made is None:
            return []
        chain.append(Offer(path, file, made, Delta(step.path, step.old_sha256, sha256)))
    while len(chain) > MOST_STEPS or sum(offer.length for offer in chain) > bound:
        del chain[0]
    return chain


def _filter_delta(step: _Step, file: Path, bound: int) -> int | None:
    """Writes it; its length in bytes.

    None when there is none to publish: another layout, too much new, or a damaged published file.
    """
    try:
        with BloomFilter.open(step.old) as old, BloomFilter.open(step.new) as new:
            content = diff(old, new)
    except BloomError:
        return None
    if len(content) > bound:
        return None
    file.write_bytes(content)
    return len(content)


def _pack_delta(step: _Step, file: Path, bound: int) -> int | None:
    try:
        with Pack.open(step.old) as old, Pack.open(step.new) as new:
            return write_delta(old, new, file, max_bytes=bound)
    except FormatError:
        return None
