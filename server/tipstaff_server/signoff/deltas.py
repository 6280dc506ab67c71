"""The sign-off of deltas: each one is published already, or leads from the published file to the new
one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tipstaff_bloom import BloomError
from tipstaff_sdk.errors import FormatError
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_signing.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tipstaff_server.repository.published import Published
    from tipstaff_signing.model import Delta, Proposal

__all__ = ["examine_deltas"]


def examine_deltas(published: Published, proposal: Proposal) -> Iterator[str]:
    """Yields what speaks against the deltas of a proposal.

    That is nothing when each either is published already or leads from the published artefact to
    the proposed one.
    """
    for path, delta in proposal.deltas.items():
        _, sha256 = sha256_file(proposal.artefacts[path])
        published_deltas = {
            step.path: (step.sha256, step.delta) for step in published.chain(delta.target)
        }
        if published_deltas.get(path) == (sha256, delta):
            continue
        base = published.find(delta.target)
        if base is None or base.sha256 != delta.base:
            yield "a delta does not start from the published listing"
        elif delta.result != sha256_file(proposal.artefacts[delta.target])[1]:
            yield "a delta does not lead to the listing that it comes with"
        elif not _leads(base.file, proposal.artefacts[path], delta):
            yield "a delta, applied to the published listing, does not give the new one"


def _leads(base: Path, file: Path, delta: Delta) -> bool:
    digest = hashlib.sha256()
    try:
        for piece in assemble(delta.target, base, [file]):
            digest.update(piece)
    except (BloomError, FormatError):
        return False
    return digest.hexdigest() == delta.result
