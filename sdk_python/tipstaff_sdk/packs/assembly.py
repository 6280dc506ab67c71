"""Applies deltas of listings: what `tipstaff_signing` leaves to those who know the formats (its
`Assemble`).

What comes out is not to be believed before its length and hash were held against the signed ones,
which the reader does.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tipstaff_bloom import BloomFilter
from tipstaff_sdk.errors import FormatError
from tipstaff_sdk.packs.delta import PackDelta, apply_deltas
from tipstaff_sdk.packs.pack import Pack

__all__ = ["assemble"]

_PIECE: Final = 1 << 20


def assemble(path: str, base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    """The artefact of a target path, made from an earlier version of it and one delta or more, in
    pieces.

    Memory: two filters, or one bucket of a pack and its changes.

    Raises, while iterating:
        BloomError, FormatError: a file is damaged, a delta does not fit, or there are no deltas for this artefact.
        OSError: a file cannot be read.
    """
    name = path.rpartition("/")[2]
    if name == "filter":
        yield from _filter(base, deltas)
    elif name == "pack":
        yield from _pack(base, deltas)
    else:
        raise FormatError(
            f"There are no deltas for {name} here: fetch it whole, and update this software."
        )


def _filter(base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    with BloomFilter.open(base) as opened:
        made = opened
        for delta in deltas:
            made = made.apply(delta.read_bytes())
        content = memoryview(made.to_bytes())
    for position in range(0, len(content), _PIECE):
        yield bytes(content[position : position + _PIECE])


def _pack(base: Path, deltas: Sequence[Path]) -> Iterator[bytes]:
    with ExitStack() as opened:
        pack = opened.enter_context(Pack.open(base))
        yield from apply_deltas(
            pack, [opened.enter_context(PackDelta.open(delta)) for delta in deltas], verify=False
        )
