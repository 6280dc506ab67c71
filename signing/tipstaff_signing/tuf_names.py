"""What we use of python-tuf and securesystemslib, in one place.

Both document these names under these modules but do not mark them as re-exported, so strict
checkers take them for private.
"""

from __future__ import annotations

# The two suppressions below: documented public names, re-exported without `__all__`.
from securesystemslib.signer import (  # type: ignore[attr-defined]
    CryptoSigner,  # pyright: ignore[reportPrivateImportUsage]
    Key,  # pyright: ignore[reportPrivateImportUsage]
    Signature,  # pyright: ignore[reportPrivateImportUsage]
    Signer,  # pyright: ignore[reportPrivateImportUsage]
    SSlibKey,  # pyright: ignore[reportPrivateImportUsage]
)
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,  # pyright: ignore[reportPrivateImportUsage]
    Delegations,  # pyright: ignore[reportPrivateImportUsage]
    Metadata,
    MetaFile,  # pyright: ignore[reportPrivateImportUsage]
    Role,  # pyright: ignore[reportPrivateImportUsage]
    Root,  # pyright: ignore[reportPrivateImportUsage]
    Signed,  # pyright: ignore[reportPrivateImportUsage]
    Snapshot,  # pyright: ignore[reportPrivateImportUsage]
    TargetFile,  # pyright: ignore[reportPrivateImportUsage]
    Targets,  # pyright: ignore[reportPrivateImportUsage]
    Timestamp,  # pyright: ignore[reportPrivateImportUsage]
)

__all__ = [
    "CryptoSigner",
    "DelegatedRole",
    "Delegations",
    "Key",
    "MetaFile",
    "Metadata",
    "Role",
    "Root",
    "SSlibKey",
    "Signature",
    "Signed",
    "Signer",
    "Snapshot",
    "TargetFile",
    "Targets",
    "Timestamp",
]
