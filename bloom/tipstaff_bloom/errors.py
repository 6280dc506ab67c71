"""What can go wrong with a filter.

BloomError
├── FormatError              bytes that are not a filter in the one accepted form
├── TokenError               tokens of a wrong type, length, dtype or shape
├── CapacityError            sizes or rates outside what a filter can have
├── GeometryMismatchError    two filters that do not lay out their bits alike
│   └── EpochMismatchError   … because their tokens were made under different keys
├── DeltaError               a delta that cannot be applied
│   ├── DeltaFormatError     bytes that are not a delta in the one accepted form
│   ├── DeltaBaseError       a delta made for another filter than this one
│   ├── DeltaDigestError     a delta whose result is not what it promised
│   └── DeltaSizeError       so much changes that the full file is the better delta
├── LedgerError              a token ledger that has parted from the registry
└── ClosedError              a filter used after close()

Every message says what to do and none repeats a token.
"""


class BloomError(Exception):
    """Root of everything this package raises on purpose; operating system errors (OSError) pass
    through as they are.
    """


class FormatError(BloomError):
    """The bytes are not a filter in canonical form; fetch the file again."""


class TokenError(BloomError):
    """A token is not 16 bytes, or an array of tokens is not uint8 of shape (n, 16)."""


class CapacityError(BloomError):
    """The wanted size, rate or count cannot be had; the message gives the bound."""


class GeometryMismatchError(BloomError):
    """The filters differ in layout; ship or load the full file instead."""


class EpochMismatchError(GeometryMismatchError):
    """The filters belong to different epochs, so their tokens have nothing in common."""


class DeltaError(BloomError):
    """The delta cannot be applied; keep the filter at hand and fetch the full file."""


class DeltaFormatError(DeltaError):
    """The bytes are not a delta in canonical form."""


class DeltaBaseError(DeltaError):
    """The delta starts from another filter."""


class DeltaDigestError(DeltaError):
    """The result of the delta is not the filter it promised; nothing of it was kept."""


class DeltaSizeError(DeltaError):
    """More than an eighth of the bits change; ship the full file instead."""


class LedgerError(BloomError):
    """A change does not fit the ledger; make the ledger again from the registry."""


class ClosedError(BloomError):
    """The filter was closed; open it again."""
