"""Everything that this package raises.

    SigningError
    ├── TrustError                 what was read must not be believed; nothing of it was kept
    │   ├── MetadataFormatError    not well-formed metadata
    │   ├── SignatureError         too few valid signatures of the role's keys
    │   ├── RollbackError          older than what was seen before
    │   ├── ExpiredError           past its expiry (a freeze, or a publisher that stopped)
    │   ├── MismatchError          a length or hash differs from the signed one
    │   ├── ContentError           an artefact is as it was signed, and still not what it should be
    │   ├── ViewError              another audience's repository
    │   └── ClockError             this machine's clock is behind what was signed
    ├── FetchError                 the other side did not deliver
    │   ├── NotFoundError          it has no such file
    │   ├── TooLargeError          it sends more than is allowed
    │   ├── UnavailableError       it cannot be reached, or broke off
    │   └── IncompleteBundleError  a pushed bundle lacks something: refresh instead
    ├── StateError                 the local folder
    │   ├── StateCorruptError      cannot be read and cannot be repaired by itself
    │   ├── StateBusyError         another process holds it
    │   └── StorageError           the disk refused: full, failing, no permission
    ├── KeyFileError               a private key file is missing, too open, or not what it should be
    ├── RepositoryError            a wrong call of the writer: unknown audience, path outside its role
    └── ProposalError              a proposed listing cannot be signed off or published

Messages say what to do. They name files and roles, never an identifier, a name or a key.
"""

from __future__ import annotations

__all__ = [
    "ClockError",
    "ContentError",
    "ExpiredError",
    "FetchError",
    "IncompleteBundleError",
    "KeyFileError",
    "MetadataFormatError",
    "MismatchError",
    "NotFoundError",
    "ProposalError",
    "RepositoryError",
    "RollbackError",
    "SignatureError",
    "SigningError",
    "StateBusyError",
    "StateCorruptError",
    "StateError",
    "StorageError",
    "TooLargeError",
    "TrustError",
    "UnavailableError",
    "ViewError",
]


class SigningError(Exception):
    """The root of this package's errors."""


class TrustError(SigningError):
    """What was read must not be believed. Nothing of it was kept."""


class MetadataFormatError(TrustError):
    """Not well-formed metadata."""


class SignatureError(TrustError):
    """Too few valid signatures of the role's keys."""


class RollbackError(TrustError):
    """Older than what was seen before, or versions that do not belong together."""


class ExpiredError(TrustError):
    """Past its expiry: somebody holds back newer data, or the publisher stopped."""


class MismatchError(TrustError):
    """A length or hash differs from the signed one."""


class ContentError(TrustError):
    """An artefact is as it was signed, and still not what it should be: whoever has the key made
    something else with it.
    """


class ViewError(TrustError):
    """Metadata of another audience."""


class ClockError(TrustError):
    """This machine's clock is behind what was already signed, so expiry cannot be judged."""


class FetchError(SigningError):
    """The other side did not deliver. The state on disk is as it was."""


class NotFoundError(FetchError):
    """The other side has no such file."""


class TooLargeError(FetchError):
    """The other side sends more than is allowed."""


class UnavailableError(FetchError):
    """The other side cannot be reached, broke off, or took too long."""


class IncompleteBundleError(FetchError):
    """A pushed bundle lacks something that is not on disk either. Refresh instead."""


class StateError(SigningError):
    """Something about the local folder."""


class StateCorruptError(StateError):
    """The folder holds something that cannot be read and cannot be repaired without a decision."""


class StateBusyError(StateError):
    """Another process holds the folder's lock."""


class StorageError(StateError):
    """The disk refused: full, failing or not permitted. What was there before is still whole."""


class KeyFileError(SigningError):
    """A key file is missing, readable by others, or not what it should be."""


class RepositoryError(SigningError):
    """The writer was called wrongly: no repository there, unknown audience, a path outside its
    role.
    """


class ProposalError(SigningError):
    """A proposed listing cannot be signed off or published."""
