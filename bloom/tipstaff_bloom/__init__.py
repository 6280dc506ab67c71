"""A blocked Bloom filter over 16-byte pseudorandom tokens: build, ask, map from a file, unite,
difference.

    >>> import numpy as np
    >>> tokens = np.random.default_rng(1).integers(0, 256, (1000, 16), dtype=np.uint8)
    >>> listing = BloomFilter.build(tokens, epoch=7)
    >>> listing.contains(tokens[0].tobytes()), listing.contains(bytes(16))
    (True, False)
    >>> bool(listing.contains_many(tokens).all())
    True

NumPy is all it needs. It knows nothing of people: tokens are made elsewhere, under a secret key.
"""

import sys

from tipstaff_bloom.diff import diff
from tipstaff_bloom.errors import (
    BloomError,
    CapacityError,
    ClosedError,
    DeltaBaseError,
    DeltaDigestError,
    DeltaError,
    DeltaFormatError,
    DeltaSizeError,
    EpochMismatchError,
    FormatError,
    GeometryMismatchError,
    LedgerError,
    TokenError,
)
from tipstaff_bloom.filter import BloomFilter
from tipstaff_bloom.ledger import TokenLedger

if sys.byteorder != "little":
    raise ImportError("tipstaff_bloom maps little-endian files and needs a little-endian machine")

__all__ = [
    "BloomError",
    "BloomFilter",
    "CapacityError",
    "ClosedError",
    "DeltaBaseError",
    "DeltaDigestError",
    "DeltaError",
    "DeltaFormatError",
    "DeltaSizeError",
    "EpochMismatchError",
    "FormatError",
    "GeometryMismatchError",
    "LedgerError",
    "TokenError",
    "TokenLedger",
    "diff",
]
