"""Names that the format fixes: audiences, roles, where each role's artefacts lie."""

from __future__ import annotations

import re

from tipstaff_signing.errors import RepositoryError

__all__ = [
    "CATALOGUE",
    "check_audience",
    "listing_role",
    "prefixed_path",
    "relief_role",
    "role_pattern",
]

CATALOGUE = "catalogue"
_AUDIENCE = re.compile(r"[a-z0-9-]{1,40}")
RESERVED = frozenset({"proposals", "refused"})


def check_audience(audience: str) -> None:
    """Raises:
    RepositoryError: not `[a-z0-9-]{1,40}`, or a name that the repository's folder uses itself.
    """
    if not _AUDIENCE.fullmatch(audience) or audience in RESERVED:
        raise RepositoryError(
            f"{audience!r} is not an audience id: use 1 to 40 of a-z, 0-9 and hyphen, and none of"
            f" {sorted(RESERVED)}"
        )


def listing_role(audience: str) -> str:
    """Role that signs an audience's listing."""
    return f"listing-{audience}"


def relief_role(audience: str) -> str:
    """Role that signs an audience's relief."""
    return f"relief-{audience}"


def role_pattern(role: str) -> str:
    """The target paths that a delegated role may sign: `listing/<audience>/*`."""
    kind, _, audience = role.partition("-")
    return f"{kind}/{audience}/*"


def prefixed_path(path: str, sha256: str) -> str:
    """Where an artefact lies when snapshots are consistent (TUF specification 1.0, 6.2):

    `listing/aviation/<sha256>.filter`.
    """
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{sha256}.{name}"
