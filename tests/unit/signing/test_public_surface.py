"""What the package shows, and what it does not bring along."""

from __future__ import annotations

import subprocess
import sys

import tipstaff_signing
from tipstaff_signing import errors


def test_exported_names_are_these() -> None:
    assert tipstaff_signing.__all__ == [
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
    assert all(hasattr(tipstaff_signing, name) for name in tipstaff_signing.__all__)


def test_every_error_has_the_one_root_and_stands_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.SigningError)
        assert name in tree
    assert all(name in tipstaff_signing.__all__ for name in errors.__all__)


def test_import_brings_no_http_and_no_grpc() -> None:
    script = (
        "import sys, tipstaff_signing; print([name for name in ('urllib3', 'grpc', 'tuf.ngclient')"
        " if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
