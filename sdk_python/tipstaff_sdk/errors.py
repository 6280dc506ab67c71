"""Everything this package raises.

    TipstaffError
    ├── InvalidIdentifierError (ValueError)   the number is not one of its kind
    ├── InvalidNameError (ValueError)         the name is empty, too long or not text
    ├── InvalidColumnError (ValueError)       a column of numbers has the wrong type or shape
    ├── UnknownMeasureError (ValueError)      no such measure in the catalogue
    ├── MeasureNotCoveredError (ValueError)   the measure is not one that this audience enforces
    ├── InvalidServiceError (ValueError)      the service is not described as asked
    ├── NotDisputableError (ValueError)       the decision rests on none, or on several
    ├── FormatError                           bytes that are not what they should be
    │   ├── ParametersError                   ... of a listing's parameters
    │   ├── PackFormatError                   ... of a pack of sealed records
    │   ├── PackDeltaError                    ... of a delta between two packs, or one that does not fit
    │   ├── ReliefFormatError                 ... of a relief segment
    │   ├── RecordFormatError                 ... of an opened record
    │   └── CatalogueError                    ... of the catalogue of measures
    ├── SealError                             a sealed record does not open
    ├── ConfigurationError                    settings that cannot work
    │   └── KeyStoreError                     ... or the place of the epoch keys refuses
    ├── UntrustedError                        what was fetched is not signed as it has to be
    ├── NotReadyError                         no fresh listing within the time given
    ├── StorageError                          the local disk refuses
    ├── OutboxError                           a report or count cannot be kept
    │   └── OutboxFullError                   ... because the outbox is at its limit
    ├── TransportError                        the server gave no good answer
    │   ├── UnauthenticatedError              a certificate is not accepted
    │   ├── PermissionDeniedError             it knows us, and this is not ours to ask
    │   ├── NotFoundError                     it has no such thing for us
    │   ├── RequestRefusedError               the request is wrong; repeating will not help
    │   ├── StaleListingError                 another listing is published by now
    │   └── UnavailableError                  it cannot be reached now; later may do
    └── ClosedError                           used after close()

Messages say what to do and never hold an identifier, a name, a token or a key.
"""


class TipstaffError(Exception):
    """Root of all errors of this package."""


class InvalidIdentifierError(TipstaffError, ValueError):
    """The number is not one of its kind.

    Never a silent miss: a number that cannot be right is not looked up at all.
    """


class InvalidNameError(TipstaffError, ValueError):
    """The name is empty, too long or holds characters that no name has."""


class InvalidColumnError(TipstaffError, ValueError):
    """A column of numbers has a type or shape that cannot be read."""


class UnknownMeasureError(TipstaffError, ValueError):
    """No such measure in the catalogue."""


class MeasureNotCoveredError(TipstaffError, ValueError):
    """The measure is not one that this audience enforces."""


class InvalidServiceError(TipstaffError, ValueError):
    """What is being bought is not described as the measure asks."""


class NotDisputableError(TipstaffError, ValueError):
    """The decision rests on no restriction that could be disputed, or on several and none was
    named.
    """


class FormatError(TipstaffError):
    """Bytes that are not what they should be: damaged, truncated, or of another version."""


class ParametersError(FormatError):
    """A listing's parameters cannot be used."""


class PackFormatError(FormatError):
    """A pack of sealed records is damaged or not canonical."""


class PackDeltaError(FormatError):
    """A delta between two packs is damaged, not canonical, for another pack, or not worth making:
    the whole pack is used instead.
    """


class ReliefFormatError(FormatError):
    """A relief segment is damaged or not canonical."""


class RecordFormatError(FormatError):
    """An opened record does not say what a record has to say."""


class CatalogueError(FormatError):
    """The catalogue of measures is damaged or contradicts itself."""


class SealError(TipstaffError):
    """A sealed record does not open with the keys of this identifier and name."""


class ConfigurationError(TipstaffError):
    """Settings that cannot work."""


class NotReadyError(TipstaffError):
    """No fresh listing within the time given."""


class StorageError(TipstaffError):
    """The local disk refuses to read or to write."""


class KeyStoreError(ConfigurationError):
    """The place where epoch keys live cannot be used."""


class UntrustedError(TipstaffError):
    """What was fetched must not be believed: wrong signatures, rolled back, expired or another
    audience's. Nothing of it was kept.
    """


class OutboxError(TipstaffError):
    """A report or count cannot be kept."""


class OutboxFullError(OutboxError):
    """The outbox is at its limit; nothing was dropped, and nothing more is taken until some of it
    has been sent.
    """


class TransportError(TipstaffError):
    """The server gave no good answer."""


class UnauthenticatedError(TransportError):
    """The server does not accept our certificate, or we do not accept the server's."""


class PermissionDeniedError(TransportError):
    """The server knows us, and this is not ours to ask."""


class NotFoundError(TransportError):
    """The server has no such thing for us."""


class RequestRefusedError(TransportError):
    """The server says that the request is wrong; repeating it will not help."""


class StaleListingError(TransportError):
    """The server publishes another listing than the one in use here.

    The next sync brings it; until then hits are REVIEW.
    """


class UnavailableError(TransportError):
    """The server cannot be reached, is busy or too slow; later may do.

    `retry_after`: how many seconds the server asked to be left alone; 0 when it did not say.
    """

    retry_after: float = 0.0


class ClosedError(TipstaffError):
    """Used after close()."""
