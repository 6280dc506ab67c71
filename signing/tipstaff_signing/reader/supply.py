"""Brings artefacts into the store: made from deltas where that takes fewer bytes, fetched whole
otherwise.

Whatever goes wrong on the way over deltas (one is missing, damaged, endless, for another base; what
comes of them is not what was signed), the whole artefact is fetched instead, and until then nothing
has changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from tipstaff_signing.deltas import find_chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tipstaff_signing.deltas import DeltaChain
    from tipstaff_signing.model import Limits
    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.reader.store import ArtefactStore
    from tipstaff_signing.tuf_names import TargetFile

__all__ = ["Assemble", "Supply"]

_LOG = logging.getLogger("tipstaff_signing")


class Assemble(Protocol):
    """Applies deltas: the one thing about artefacts that this package leaves to those who know
    their formats.
    """

    def __call__(self, path: str, base: Path, deltas: Sequence[Path], /) -> Iterable[bytes]:
        """The artefact, in pieces.

        Args:
            path: of the artefact wanted, "listing/aviation/filter".
            base: an earlier version of it.
            deltas: in the order in which they are applied.

        Raises, at the call or while iterating: anything; the whole artefact is fetched then.
        """
        ...


class Supply:
    """See the module. Callers hold the state's lock."""

    def __init__(self, store: ArtefactStore, assemble: Assemble | None, limits: Limits) -> None:
        self._store = store
        self._assemble = assemble
        self._limits = limits

    def obtain(
        self, wanted: TargetFile, targets: Mapping[str, TargetFile], fetcher: Fetcher
    ) -> None:
        """Make sure that an artefact is in the store and sound; `targets` are its role's.

        Raises as ArtefactStore.fetch.
        """
        if not self._store.lacks(wanted):
            return
        if self._assemble is not None:
            chain = find_chain(targets, wanted, self._store.holds, most=self._limits.delta_chain)
            if chain is not None and self._make(self._assemble, wanted, chain, fetcher):
                return
        self._store.fetch(wanted, fetcher)

    def _make(
        self, assemble: Assemble, wanted: TargetFile, chain: DeltaChain, fetcher: Fetcher
    ) -> bool:
        try:
            deltas = [self._store.fetch_part(delta, fetcher) for delta in chain.deltas]
            self._store.make(wanted, assemble(wanted.path, self._store.path(chain.base), deltas))
        except Exception as error:  # noqa: BLE001  whatever it is, there is another way
            _LOG.warning(
                "%s could not be made from %d deltas (%s): fetching it whole",
                wanted.path,
                len(chain.deltas),
                type(error).__name__,
            )
            return False
        return True
