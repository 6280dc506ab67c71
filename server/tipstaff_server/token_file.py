"""The tokens of an audience's last build, kept beside the builder: `.build/<audience>.tokens`, mode 0600 (tipstaff_bloom's ledger).

They say how many identifiers came and went between two builds, which no filter can say. Nothing that is published depends on them: a
file that is missing, damaged or of another epoch counts as none, and the same build writes it anew. Tokens mean nothing without the
epoch's key, and are still nobody else's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tipstaff_bloom import FormatError, TokenLedger
from tipstaff_server.logs import log_warning
from tipstaff_signing.files import fsync_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Change", "TokenFile"]

PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Change:
    """Identifiers between two builds of one epoch."""

    added: int
    removed: int


class TokenFile:
    """See the module. The caller holds the build's lock. OSErrors pass through."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> TokenLedger | None:
        """The tokens of the last build; None when there are none that can be used."""
        try:
            return TokenLedger.open(self._path)
        except FileNotFoundError:
            return None
        except FormatError as error:
            log_warning("token_file_damaged", file=self._path.name, reason=str(error))
            return None

    def replace(self, ledger: TokenLedger) -> Change | None:
        """Puts a build's tokens in the place of the ones before, whole or not at all.

        Returns what changed; None when there was nothing to compare with.
        """
        kept = self.read()
        change = None if kept is None or kept.epoch != ledger.epoch else _change(kept, ledger)
        if change != Change(0, 0):
            aside = self._path.with_name(f".{self._path.name}.new")
            aside.unlink(missing_ok=True)  # a killed build's
            ledger.write(aside)
            aside.chmod(PRIVATE)
            aside.replace(self._path)
            fsync_dir(self._path.parent)
        return change


def _change(old: TokenLedger, new: TokenLedger) -> Change:
    before, after = (ledger.tokens.view("S16").reshape(-1) for ledger in (old, new))
    both = len(np.intersect1d(before, after, assume_unique=True))
    return Change(added=len(new) - both, removed=len(old) - both)
