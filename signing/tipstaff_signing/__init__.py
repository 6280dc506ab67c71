"""Keys, roles, writing and reading of the signed repository (The Update Framework). No network.

keys = create_key_files(folder, audiences=["aviation"]) repository = Repository.create(path, keys,
audiences=["aviation"], catalogue=b"...") reader = Reader(state, view="aviation",
trusted_root=repository.root_bytes(), roles=["listing-aviation", "relief-aviation"]) state =
reader.refresh(DirectoryFetcher(path / "aviation"))
"""

from tipstaff_signing.errors import (
    ClockError,
    ContentError,
    ExpiredError,
    FetchError,
    IncompleteBundleError,
    KeyFileError,
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    ProposalError,
    RepositoryError,
    RollbackError,
    SignatureError,
    SigningError,
    StateBusyError,
    StateCorruptError,
    StateError,
    StorageError,
    TooLargeError,
    TrustError,
    UnavailableError,
    ViewError,
)
from tipstaff_signing.keys.files import KeyFolder, create_key_files
from tipstaff_signing.model import (
    Delta,
    Lifetimes,
    Limits,
    Proposal,
    RoleState,
    Target,
    VerifiedState,
    Versions,
)
from tipstaff_signing.reader.fetchers import DirectoryFetcher, Fetcher
from tipstaff_signing.reader.reader import Reader
from tipstaff_signing.reader.supply import Assemble
from tipstaff_signing.repository.repository import Repository
from tipstaff_signing.tuf_names import Key, Signer

__all__ = [
    "Assemble",
    "ClockError",
    "ContentError",
    "Delta",
    "DirectoryFetcher",
    "ExpiredError",
    "FetchError",
    "Fetcher",
    "IncompleteBundleError",
    "Key",
    "KeyFileError",
    "KeyFolder",
    "Lifetimes",
    "Limits",
    "MetadataFormatError",
    "MismatchError",
    "NotFoundError",
    "Proposal",
    "ProposalError",
    "Reader",
    "Repository",
    "RepositoryError",
    "RoleState",
    "RollbackError",
    "SignatureError",
    "Signer",
    "SigningError",
    "StateBusyError",
    "StateCorruptError",
    "StateError",
    "StorageError",
    "Target",
    "TooLargeError",
    "TrustError",
    "UnavailableError",
    "VerifiedState",
    "Versions",
    "ViewError",
    "create_key_files",
]
