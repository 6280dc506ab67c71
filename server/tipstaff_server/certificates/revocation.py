"""Which certificates are revoked:

X.509 revocation lists (RFC 5280, section 5) in one PEM file, read again whenever it changes.

What is believed:

1. Each list in the file is signed by an authority that client certificates are accepted from;
   otherwise the whole file is refused.
2. A list is never replaced by one of an earlier `thisUpdate`: an old copy of the file does not
   bring a revoked certificate back.
3. A file that is refused, missing or unreadable changes nothing: what was revoked stays revoked,
   and the log says so. Only at the start is it an error, because then there is nothing to go on
   with.
4. A list past its `nextUpdate` stays in force, with a warning: turning everybody away would let
   whoever delays a list stop all relief.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tipstaff_server.clock import utc_now
from tipstaff_server.errors import ConfigurationError
from tipstaff_server.logs import log_error, log_info, log_warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_server.certificates.peer import Peer
    from tipstaff_server.clock import Clock

__all__ = ["Revocations", "read_list", "revoked_entries"]

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
MAX_FILE_BYTES = 64 << 20


class Revocations:
    """The lists in `file`, signed by an authority in `authority_file` (both PEM). Thread-safe.

    Raises ConfigurationError when the file cannot be used at the start.
    """

    def __init__(self, file: Path, authority_file: Path, *, clock: Clock = utc_now) -> None:
        self._file = file
        self._authority_file = authority_file
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._serials: dict[bytes, frozenset[int]] = {}
        self._made: dict[bytes, datetime] = {}
        self._failure = ""
        self._stamp = self._current_stamp()
        self._take(self._read())

    def revoked(self, peer: Peer) -> bool:
        """Whether a peer's certificate is revoked."""
        return peer.serial in self._serials.get(peer.issuer, ())

    def poll(self) -> bool:
        """Reads the file if it changed; True when lists were taken.

        Costs one stat when nothing changed; never raises.
        """
        with self._lock:
            try:
                stamp = self._current_stamp()
                if stamp == self._stamp:
                    return False
                self._take(self._read())
            except ConfigurationError as error:
                if self._failure != str(error):
                    log_error("revocation_list_refused", reason=str(error))
                self._failure = str(error)
                return False
            self._stamp, self._failure = stamp, ""
            return True

    def _current_stamp(self) -> tuple[int, int, int]:
        try:
            status = self._file.stat()
        except OSError as error:
            raise ConfigurationError(_unreadable(self._file, error)) from error
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _read(self) -> Sequence[x509.CertificateRevocationList]:
        try:
            authorities = x509.load_pem_x509_certificates(self._authority_file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(_unreadable(self._authority_file, error)) from error
        lists = read_list(self._file)
        for each in lists:
            if not any(_signed_by(each, authority) for authority in authorities):
                raise ConfigurationError(
                    f"{self._file}: a list is not signed by an authority in"
                    f" {self._authority_file.name}; add it or remove the list"
                )
            if each.last_update_utc < self._made.get(
                each.issuer.public_bytes(), each.last_update_utc
            ):
                raise ConfigurationError(
                    f"{self._file}: a list is older than the one in use; put the newest one there"
                )
        return lists

    def _take(self, lists: Sequence[x509.CertificateRevocationList]) -> None:
        serials = {
            each.issuer.public_bytes(): frozenset(entry.serial_number for entry in each)
            for each in lists
        }
        # A list that is gone from the file stays in force, as an old copy of the file would
        # otherwise undo it.
        self._serials = {**self._serials, **serials}
        self._made.update({each.issuer.public_bytes(): each.last_update_utc for each in lists})
        log_info("revocation_list", revoked=sum(map(len, self._serials.values())))
        if any(
            each.next_update_utc is not None and each.next_update_utc < self._clock()
            for each in lists
        ):
            log_warning("revocation_list_overdue", file=self._file.name)


def read_list(file: Path) -> list[x509.CertificateRevocationList]:
    """The revocation lists in a PEM file.

    Raises ConfigurationError: not readable, no list in it, or not well-formed.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB; split the authority, or shorten"
                " its list"
            )
        lists = [x509.load_pem_x509_crl(block) for block in _BLOCK.findall(content)]
    except (OSError, ValueError) as error:
        raise ConfigurationError(_unreadable(file, error)) from error
    if not lists:
        raise ConfigurationError(
            f"{file} holds no revocation list (-----BEGIN X509 CRL-----); an empty list is one too"
        )
    return lists


def revoked_entries(lists: Sequence[x509.CertificateRevocationList]) -> Mapping[int, datetime]:
    """Serial numbers and when they were revoked."""
    return {entry.serial_number: entry.revocation_date_utc for each in lists for entry in each}


def _signed_by(revocations: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    if revocations.issuer != authority.subject or not isinstance(
        key,
        ec.EllipticCurvePublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey
        | rsa.RSAPublicKey,
    ):
        return False
    return revocations.is_signature_valid(key)


def _unreadable(file: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else "it is not well-formed PEM"
    return f"{file} cannot be used ({reason}); see client_crl_file and client_ca_file in [server]"
