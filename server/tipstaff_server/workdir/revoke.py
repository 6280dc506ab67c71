"""Revoking a provider's or an officer's certificate with the development CA: the authority's list
is written again, with one entry more.

A deployment with an authority of its own has that authority write the list, to the file named by
`client_crl_file`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.certificates.peer import peer_identity
from tipstaff_server.certificates.revocation import read_list, revoked_entries
from tipstaff_server.clock import utc_now
from tipstaff_server.errors import WorkDirError
from tipstaff_server.workdir.layout import development_authority
from tipstaff_server.workdir.officers import officer_folder
from tipstaff_signing.files import FileLock, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.clock import Clock
    from tipstaff_server.config import Config

__all__ = ["revoke_officer", "revoke_provider"]


def revoke_provider(
    config: Config, provider: str, certificate: Path | None = None, *, clock: Clock = utc_now
) -> int:
    """Puts a provider's certificate on the list, and returns its serial number; a server that runs
    takes it within a second.

    `certificate` is the PEM file, by default the one in the provider's kit. Revoking twice changes
    nothing. Raises WorkDirError: no such certificate, it names somebody else, no list is
    configured, or no development CA here.
    """
    file = certificate or config.folder / "providers" / provider / "certificate.pem"
    revoked, named = _read(file)
    if named.name != provider:
        raise WorkDirError(
            f"{file} names {named.name!r}, not {provider!r}; give the right certificate with"
            " --certificate"
        )
    return _revoke(config, file, revoked, clock)


def revoke_officer(
    config: Config,
    authority: str,
    officer: str,
    certificate: Path | None = None,
    *,
    clock: Clock = utc_now,
) -> int:
    """The same for an officer of an authority, who left it for example; `certificate` is by default
    the one that was issued here.
    """
    file = certificate or officer_folder(config, authority, officer) / "certificate.pem"
    revoked, named = _read(file)
    if named != Caller(Role.AUTHORITY, authority, officer=officer):
        raise WorkDirError(
            f"{file} names {named.uri}, not this officer; give the right certificate with"
            " --certificate"
        )
    return _revoke(config, file, revoked, clock)


def _read(file: Path) -> tuple[x509.Certificate, Caller]:
    try:
        revoked = x509.load_pem_x509_certificate(file.read_bytes())
        return revoked, peer_identity(revoked)
    except (OSError, ValueError) as error:
        raise WorkDirError(
            f"{file} is no certificate that can be read; give the right one with --certificate"
        ) from error


def _revoke(config: Config, file: Path, revoked: x509.Certificate, clock: Clock) -> int:
    if config.server.client_crl_file is None:
        raise WorkDirError(
            'no revocation list is configured; set client_crl_file = "tls/ca.crl" in [server], and'
            " restart the server"
        )
    authority = development_authority(config)
    if revoked.issuer != x509.load_pem_x509_certificate(authority.certificate).subject:
        raise WorkDirError(
            f"{file} is not from the development CA; have it revoked by the authority that"
            " issued it"
        )
    target = config.path(config.server.client_crl_file)
    with FileLock(target.with_name(f"{target.name}.lock"), timeout=10):
        lists = read_list(target) if target.exists() else []
        entries = {revoked.serial_number: clock(), **revoked_entries(lists)}
        write_atomic(
            target, authority.revocation_list(entries, 1 + max(map(_number, lists), default=0))
        )
    return revoked.serial_number


def _number(revocations: x509.CertificateRevocationList) -> int:
    try:
        return revocations.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
