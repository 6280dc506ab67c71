"""Everything that the operator's side raises on purpose.

    ServerError
    ├── ConfigurationError            the TOML file or the environment is wrong
    ├── AdministrationError           measures, authorities, lists or audiences do not fit together
    ├── StorageError
    │   ├── DatabaseUnavailableError  the database does not answer, or is locked for too long
    │   └── SchemaVersionError        the database is older or newer than this program
    ├── VaultError
    │   ├── VaultKeyFileError         the key file is missing, damaged or readable by others
    │   ├── KeyWrapperError           what wraps the registry's keys cannot be reached
    │   ├── WrongVaultKeyError        the key is a valid one, but not this database's
    │   ├── VaultDataKeyError         a wrapped key of the registry is lost or damaged
    │   └── VaultDataError            a stored value was altered, or moved to another row
    ├── EntryError                    one entry is refused; `code` says why in a fixed word
    ├── InvalidRequestError           a call is wrong in itself (empty reason, bad id length)
    ├── PermissionDeniedError         this caller may not do that
    ├── NotFoundError                 no such thing, as far as this caller may know
    ├── StaleListingError             it belongs to a listing that is not the published one
    ├── StaleVersionError             somebody acted on the restriction meanwhile
    ├── LifecycleError                the restriction is not in a state in which that can happen
    ├── AuditError                    the audit log has been tampered with
    │   └── CheckpointError           a checkpoint is damaged, or not of this registry
    ├── RetentionError                it may not be erased yet; `blocked` says why in a fixed word
    ├── ImportFileError               a whole file is refused
    │   ├── FileEncodingError         neither UTF-8 nor GB18030
    │   └── FileHeaderError           no usable header line
    ├── ProcessEndedError             a process of this program was ended from outside
    ├── WorkDirError                  a working directory cannot be made, or is not one
    ├── PublicationError              a listing cannot be built or published
    │   ├── SignOffRefusedError       the independent check refused it; `reasons` says why
    │   ├── BuildStateError           what the last build kept is of no use
    │   └── StretchRetiredError       it would need values that are no longer kept, or not yet
    ├── StretchChangedError           identifiers were stretched as they no longer are; do it again
    ├── NotIdentifiedError            a client certificate names nobody
    │   └── CertificateRefusedError   it names somebody, but is revoked or has run out
    ├── CallLimitError                a caller asks for too much; `wait` says when to ask again
    ├── CallTimeoutError              a call took longer than the server allows
    └── StreamEndedError              this side ended a stream; `reason` says why

Messages say what to do. They never hold an identifier, a name or a key. Transport codes are mapped
once, at the edge.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ServerError(Exception):
    """Root of all errors of this package."""


class ConfigurationError(ServerError):
    """The configuration cannot be used."""


class AdministrationError(ServerError):
    """The administration file cannot be used."""


class StorageError(ServerError):
    """The database cannot be used."""


class DatabaseUnavailableError(StorageError):
    """The database does not answer."""


class SchemaVersionError(StorageError):
    """The database's schema is not the one that this program works with."""


class VaultError(ServerError):
    """Encrypted columns cannot be used."""


class VaultKeyFileError(VaultError):
    """The registry key file cannot be used."""


class KeyWrapperError(VaultError):
    """The key that wraps the registry's keys cannot be reached."""


class WrongVaultKeyError(VaultError):
    """The registry key does not belong to this database."""


class VaultDataKeyError(VaultError):
    """A wrapped key of the registry is lost or damaged."""


class VaultDataError(VaultError):
    """A stored value does not decrypt."""


class EntryCode(StrEnum):
    """Why an entry is refused; also the code column of a rejects file."""

    MALFORMED_ROW = "MALFORMED_ROW"
    ROW_TOO_LONG = "ROW_TOO_LONG"
    UNCLOSED_QUOTE = "UNCLOSED_QUOTE"
    TOO_MANY_FIELDS = "TOO_MANY_FIELDS"
    TOO_FEW_FIELDS = "TOO_FEW_FIELDS"
    CONTROL_CHARACTER = "CONTROL_CHARACTER"
    FIELD_TYPE = "FIELD_TYPE"
    FIELD_TOO_LONG = "FIELD_TOO_LONG"
    IDENTIFIER_MISSING = "IDENTIFIER_MISSING"
    IDENTIFIER_MASKED = "IDENTIFIER_MASKED"
    IDENTIFIER_KIND = "IDENTIFIER_KIND"
    IDENTIFIER_INVALID = "IDENTIFIER_INVALID"
    IDENTIFIER_CONFLICT = "IDENTIFIER_CONFLICT"
    NAME_MISSING = "NAME_MISSING"
    NAME_INVALID = "NAME_INVALID"
    NAME_CONFLICT = "NAME_CONFLICT"
    SUBJECT_TYPE = "SUBJECT_TYPE"
    RESPONSIBLE_PERSON = "RESPONSIBLE_PERSON"
    CASE_NUMBER = "CASE_NUMBER"
    CASE_CONFLICT = "CASE_CONFLICT"
    LEGAL_BASIS = "LEGAL_BASIS"
    MEASURE_MISSING = "MEASURE_MISSING"
    MEASURE_UNKNOWN = "MEASURE_UNKNOWN"
    MEASURE_NOT_ENTITLED = "MEASURE_NOT_ENTITLED"
    LIST_UNKNOWN = "LIST_UNKNOWN"
    DATE_MISSING = "DATE_MISSING"
    DATE_INVALID = "DATE_INVALID"
    TERM_MISSING = "TERM_MISSING"
    TERM_INVALID = "TERM_INVALID"
    TERM_OPEN_ENDED = "TERM_OPEN_ENDED"
    TERM_INVERTED = "TERM_INVERTED"
    TERM_TOO_LONG = "TERM_TOO_LONG"
    TERM_OVER = "TERM_OVER"
    IDEMPOTENCY_KEY = "IDEMPOTENCY_KEY"
    OFFICER_MISSING = "OFFICER_MISSING"


class EntryError(ServerError):
    """One entry is refused.

    `code` is the fixed word for machines and for the rejects file, the message says in English what
    to do.
    """

    def __init__(self, code: EntryCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidRequestError(ServerError):
    """A call is wrong in itself, whatever the registry holds."""


class PermissionDeniedError(ServerError):
    """This caller may not do that."""


class NotFoundError(ServerError):
    """No such thing, as far as this caller may know."""


class StaleListingError(ServerError):
    """A caller asks about another listing than the published one."""


class StaleVersionError(ServerError):
    """Somebody acted on the restriction since the caller looked at it."""


class LifecycleError(ServerError):
    """The restriction is not in a state in which that can happen."""


class AuditError(ServerError):
    """The audit log has been altered, shortened or reordered.

    `sequence` is the first wrong entry.
    """

    def __init__(self, sequence: int, message: str) -> None:
        super().__init__(message)
        self.sequence = sequence


class CheckpointError(AuditError):
    """A checkpoint of the audit log cannot be used.

    `sequence` is the entry that it claims, 0 when it does not say.
    """


class Blocked(StrEnum):
    """Why something is not erased; ARCHIVE: what is to be kept cannot be written."""

    IN_FORCE = "IN_FORCE"
    TERM = "TERM"
    DISPUTED = "DISPUTED"
    REMEDY = "REMEDY"
    LISTED = "LISTED"
    OLD_REASONS = "OLD_REASONS"
    ERASED = "ERASED"
    ARCHIVE = "ARCHIVE"


class RetentionError(ServerError):
    """It may not be erased yet."""

    def __init__(self, blocked: Blocked, message: str) -> None:
        super().__init__(message)
        self.blocked = blocked


class ImportFileError(ServerError):
    """A whole file is refused."""


class FileEncodingError(ImportFileError):
    """The file is neither UTF-8 nor GB18030."""


class FileHeaderError(ImportFileError):
    """The file has no usable header line."""


class ProcessEndedError(ServerError):
    """A process that this program had started for a part of its work was ended from outside."""


class WorkDirError(ServerError):
    """A working directory cannot be made, or is not one."""


class PublicationError(ServerError):
    """A listing cannot be built or published."""


class SignOffRefusedError(PublicationError):
    """The independent check refused a listing. `reasons` says why, without identifiers or names."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class BuildStateError(PublicationError):
    """What the last build kept cannot be worked from.

    `damaged`: it is not what was written, which is worth a warning.
    """

    def __init__(self, message: str, *, damaged: bool = True) -> None:
        super().__init__(message)
        self.damaged = damaged


class StretchRetiredError(PublicationError):
    """The epoch's stretch is not one whose values the registry holds."""


class StretchChangedError(ServerError):
    """Identifiers were stretched by the stretch before: stretch them again."""


class NotIdentifiedError(ServerError):
    """A client certificate names nobody."""


class CertificateRefusedError(NotIdentifiedError):
    """A client certificate is revoked, or has run out."""


class CallLimitError(ServerError):
    """A caller asks for too much. `wait`: seconds after which asking again makes sense."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(f"{message}; ask again in {wait:.1f} s")
        self.wait = wait


class CallTimeoutError(ServerError):
    """A call took longer than the server allows."""


class StreamEnd(StrEnum):
    """Why this side ends a stream."""

    SLOW = "SLOW"
    STOPPING = "STOPPING"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    REMOVED = "REMOVED"
    STALLED = "STALLED"


class StreamEndedError(ServerError):
    """This side ended a stream."""

    def __init__(self, reason: StreamEnd) -> None:
        super().__init__(reason.value)
        self.reason = reason
