"""Tokens: identifiers under an audience's epoch key, 16 bytes each (docs/formats/tokens.md).

A token is the packed number (identity/block.py) encrypted as one AES-128 block (FIPS 197). One
block under a secret key is a pseudorandom permutation: different identifiers never share a token,
and without the key a token says nothing. ECB is that one block; the mode's weakness, that equal
blocks show as equal, is what a membership filter needs.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from tipstaff_sdk.columns import resident_ids as columns
from tipstaff_sdk.errors import ConfigurationError, InvalidColumnError
from tipstaff_sdk.identity.block import BLOCK_SIZE
from tipstaff_sdk.identity.identifier import Identifier

__all__ = ["TokenBatch", "Tokeniser", "pack"]

KEY_SIZE: Final = 16


class TokenBatch(NamedTuple):
    """Tokens of a column of numbers.

    tokens: (n, 16) uint8, C-contiguous, one row a number, in order; zeros where the number is bad.
    bad_rows: (m,) int64, ascending: indices of the rows that are no resident ID. Their tokens mean
    nothing.
    """

    tokens: NDArray[np.uint8]
    bad_rows: NDArray[np.int64]


def pack(identifier: Identifier) -> bytes:
    """The identifier as one 16-byte block, no two alike."""
    return identifier.block


class _Cipher(threading.local):
    """An encryptor a thread: one context must not be used by two at once."""

    def __init__(self, key: bytes) -> None:
        context = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  single blocks: see the module's docstring
        self.update = context.update
        self.update_into = context.update_into


class Tokeniser:
    """Makes tokens under one token key of 16 bytes.

    Safe to share between threads; does not show its key.

    encrypt: from a packed number (`Identifier.block`, 16 bytes) to its token, in one call from C.
    """

    __slots__ = ("_cipher", "encrypt")

    def __init__(self, token_key: bytes) -> None:
        if len(token_key) != KEY_SIZE:
            raise ConfigurationError(
                f"A token key is {KEY_SIZE} bytes, not {len(token_key)}: derive it with"
                " EpochKey.token_key."
            )
        self._cipher = _Cipher(token_key)
        # A call into the cipher does not give up the interpreter lock, so where there is one,
        # threads may share a context.
        self.encrypt: Callable[[bytes], bytes] = (
            _Cipher(token_key).update if _has_interpreter_lock() else self._encrypt_one
        )

    def token(self, identifier: Identifier) -> bytes:
        """The identifier's token, 16 bytes. About 0.2 µs."""
        return self.encrypt(identifier.block)

    def _encrypt_one(self, block: bytes) -> bytes:
        return self._cipher.update(block)

    def tokens(self, identifiers: Iterable[Identifier]) -> NDArray[np.uint8]:
        """Tokens of identifiers of any kinds: (n, 16) uint8, C-contiguous, in order."""
        blocks = np.frombuffer(b"".join([i.block for i in identifiers]), np.uint8).reshape(
            -1, BLOCK_SIZE
        )
        out = _with_slack(len(blocks))
        self._encrypt(blocks, out, 0)
        return _rows(out, len(blocks))

    def resident_column(self, column: Any) -> TokenBatch:
        """Tokens of a column of resident IDs; check characters and birth dates are verified in the
        same pass.

        `column` is a list of str, a NumPy array ('S', 'U', StringDType or object, or uint8 of shape
        (n, 18)), or a text column of pyarrow, polars or pandas, read in place through the Arrow
        PyCapsule interface. Canonical rows go through vectorised code, all others through
        `Identifier.resident_id`, so that a row is bad here exactly when it is refused there. Raises
        InvalidColumnError when the column has another type or shape.
        """
        count = columns.length(column)
        out = _with_slack(count)
        bad: list[NDArray[np.int64]] = []
        start = 0
        for blocks, bad_rows in columns.packed_chunks(column):
            if start + len(blocks) > count:
                raise InvalidColumnError(
                    "The column gives more rows than its length: pass a single column."
                )
            self._encrypt(blocks, out, start)
            bad.append(bad_rows + start)
            start += len(blocks)
        if start != count:
            raise InvalidColumnError(
                "The column gives fewer rows than its length: pass a single column."
            )
        tokens = _rows(out, count)
        bad_all = np.concatenate(bad) if bad else np.empty(0, np.int64)
        tokens[bad_all] = 0
        return TokenBatch(tokens, bad_all)

    def _encrypt(self, blocks: NDArray[np.uint8], out: NDArray[np.uint8], start: int) -> None:
        """Encrypts (m, 16) C-contiguous blocks into `out` from row `start` on."""
        if len(blocks):
            first = start * BLOCK_SIZE
            self._cipher.update_into(
                blocks.data.cast("B"), out[first : first + blocks.nbytes + BLOCK_SIZE - 1].data
            )

    def __repr__(self) -> str:
        return "Tokeniser(key hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Tokeniser holds a key and is not pickled: derive it again where it is needed."
        )


def _has_interpreter_lock() -> bool:
    """False on a free-threaded Python (3.13 and later)."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def _with_slack(count: int) -> NDArray[np.uint8]:
    """Room for `count` tokens and the 15 bytes more that `update_into` asks to see, but does not
    write.
    """
    return np.empty(count * BLOCK_SIZE + BLOCK_SIZE - 1, np.uint8)


def _rows(out: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return out[: count * BLOCK_SIZE].reshape(count, BLOCK_SIZE)
