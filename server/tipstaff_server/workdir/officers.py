"""Certificates for the officers of an authority, from the development CA: lists that ask for two
persons need to know who acts.

A deployment with an authority of its own issues them itself, for
`tipstaff://authority/<authority>/officer/<officer>`. One person, one certificate: that is what
makes two of them two persons, and nobody here can check it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.errors import WorkDirError
from tipstaff_server.registry.registry import Registry
from tipstaff_server.workdir.layout import development_authority
from tipstaff_signing.files import fsync_dir

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.config import Config

__all__ = ["add_officer", "officer_folder"]

_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def officer_folder(config: Config, authority: str, officer: str) -> Path:
    """Where an officer's certificate lies. Raises WorkDirError: not an id."""
    if not (_WORD.fullmatch(authority) and _WORD.fullmatch(officer)):
        raise WorkDirError(
            "authority and officer are ids: a-z, 0-9 and -, at most 40 each; a staff number rather"
            " than a name"
        )
    return config.folder / "authorities" / authority / "officers" / officer


def add_officer(config: Config, authority: str, officer: str) -> Path:
    """Makes an officer's certificate and key; returns their folder.

    Raises WorkDirError: no such authority, an officer of that id, or no development CA here.
    """
    folder = officer_folder(config, authority, officer)
    if folder.exists():
        raise WorkDirError(f"{folder} exists already; ids are not given twice, choose another one")
    with Registry.open(config) as registry:
        known = registry.policies().authorities
    if authority not in known:
        raise WorkDirError(
            f"there is no authority {authority!r}; authorities are {', '.join(sorted(known))}"
        )
    issuer = development_authority(config)
    folder.mkdir(mode=0o700, parents=True)
    (folder / "ca.pem").write_bytes(issuer.certificate)
    issuer.issue_client(Caller(Role.AUTHORITY, authority, officer=officer).uri).write(folder)
    fsync_dir(folder)
    return folder
