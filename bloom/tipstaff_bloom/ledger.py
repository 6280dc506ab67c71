"""The tokens of the listing last built, so that the next one needs only what changed since.

No bit can be taken out of a Bloom filter: another token may have set it too. Building the bits
again from all tokens is fast (half a second for ten million); what is slow is to read ten million
subjects out of a registry to make their tokens. So the publisher keeps the tokens, sorted, in a
file, and updates that (docs/decisions/0007-filter-updates.md).

The file, one header of 64 bytes and the tokens in increasing order:

    74697074 6f6b656e   magic "tiptoken"
    0100 0000           version 1, reserved
    07000000            epoch
    01000000 00000000   count
    00 x 8              reserved
    32 bytes            SHA-256 of the tokens
    … 16 bytes each
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tipstaff_bloom.errors import FormatError, LedgerError
from tipstaff_bloom.filter import BloomFilter
from tipstaff_bloom.tokens import TOKEN_BYTES, token_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tipstaff_bloom.tokens import Tokens

LEDGER_MAGIC: Final = b"tiptoken"
LEDGER_VERSION: Final = 1

_HEADER: Final = struct.Struct("<8sHHIQ8s32s")
_RESERVED: Final = bytes(8)
_ROW: Final = "S16"  # compares bytewise; equal only when all 16 bytes are


class TokenLedger:
    """An immutable sorted set of tokens of one epoch."""

    __slots__ = ("_epoch", "_rows")

    def __init__(self, tokens: Tokens = (), *, epoch: int = 0) -> None:
        """Sorts tokens, an array of dtype uint8 and shape (n, 16) or an iterable of such; a token
        given twice is kept once.

        Raises TokenError for a wrong array.
        """
        self._epoch = epoch
        self._rows = _unique(tokens)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenLedger:
        """Reads a ledger file and checks it whole.

        Raises FormatError unless every byte is right, OSError when it cannot be read.
        """
        content = np.fromfile(path, np.uint8)
        if len(content) < _HEADER.size:
            raise FormatError("the token ledger is too short: make it again from the registry")
        magic, version, reserved, epoch, count, rest, digest = _HEADER.unpack_from(content.data)
        if (magic, version, reserved, rest) != (LEDGER_MAGIC, LEDGER_VERSION, 0, _RESERVED):
            raise FormatError("not a token ledger of this version: make it again from the registry")
        tokens = content[_HEADER.size :]
        if len(tokens) != count * TOKEN_BYTES or hashlib.sha256(tokens.data).digest() != digest:
            raise FormatError("the token ledger is damaged: make it again from the registry")
        rows = tokens.view(_ROW)
        if (rows[1:] <= rows[:-1]).any():
            raise FormatError(
                "the tokens of the ledger do not increase: make it again from the registry"
            )
        return cls._of(rows, epoch)

    @classmethod
    def _of(cls, rows: NDArray[np.bytes_], epoch: int) -> TokenLedger:
        ledger = cls(epoch=epoch)
        ledger._rows = rows
        return ledger

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def epoch(self) -> int:
        """Which key the tokens were made under."""
        return self._epoch

    @property
    def tokens(self) -> NDArray[np.uint8]:
        """The tokens in increasing order, dtype uint8 and shape (n, 16), read-only."""
        tokens = self._rows.view(np.uint8).reshape(-1, TOKEN_BYTES)
        tokens.flags.writeable = False
        return tokens

    def update(self, *, added: NDArray[np.uint8], removed: NDArray[np.uint8]) -> TokenLedger:
        """The ledger after a change, both given as arrays of dtype uint8 and shape (n, 16); this
        one stays as it is.

        Raises LedgerError when a token to add is there or one to remove is not: the ledger and the
        registry have parted, make it again from the registry. Raises TokenError for a wrong array.
        """
        gone, come = _unique(removed), _unique(added)
        at = np.searchsorted(self._rows, gone)
        present = (
            self._rows[np.minimum(at, max(0, len(self) - 1))] == gone
            if len(self)
            else np.zeros(len(gone), np.bool_)
        )
        if not present.all():
            raise LedgerError(
                f"{len(gone) - int(present.sum())} tokens to remove are not in the ledger: make it"
                " again from the registry"
            )
        kept = np.delete(self._rows, at)
        at = np.searchsorted(kept, come)
        if len(kept) and (kept[np.minimum(at, len(kept) - 1)] == come).any():
            raise LedgerError(
                "tokens to add are in the ledger already: make it again from the registry"
            )
        return self._of(np.insert(kept, at, come), self._epoch)

    def build(
        self, *, fpr: float = 1e-3, previous: BloomFilter | None = None, threads: int = 1
    ) -> BloomFilter:
        """The filter of these tokens, laid out like `previous` where that is of the same epoch and
        they fit, so that a delta can be made.

        Raises CapacityError like BloomFilter.build.
        """
        capacity = None
        if (
            previous is not None
            and previous.epoch == self._epoch
            and len(self) <= previous.capacity
        ):
            capacity = previous.capacity
        return BloomFilter.build(
            self.tokens, fpr=fpr, epoch=self._epoch, capacity=capacity, threads=threads
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a new file, flushed to disk; putting it in the old one's place (rename) is the
        caller's. OSError when it exists.
        """
        tokens = self.tokens
        digest = hashlib.sha256(tokens.data).digest()
        header = _HEADER.pack(
            LEDGER_MAGIC, LEDGER_VERSION, 0, self._epoch, len(self), _RESERVED, digest
        )
        with Path(path).open("xb") as file:
            file.write(header)
            file.write(tokens.data)
            file.flush()
            os.fsync(file.fileno())

    def __repr__(self) -> str:
        return f"<TokenLedger epoch={self._epoch} count={len(self)}>"


def _unique(tokens: Tokens) -> NDArray[np.bytes_]:
    ordered = np.sort(
        np.concatenate([chunk.view(_ROW).reshape(-1) for chunk in token_chunks(tokens)])
    )
    fresh = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    return ordered[fresh]
