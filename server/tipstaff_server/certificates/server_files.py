"""The server's side of mutual TLS: certificate, key and client authorities from files, read again
when they change.

Every new connection looks at the files; one that is open keeps what it began with. A certificate
and a key that do not belong together (one of the two is being replaced) change nothing until they
do.

TLS 1.3 only (RFC 8446): grpcio has no option for the lowest version, and its own lowest is 1.2. Its
one setting for cipher suites leaves those of TLS 1.3 alone, so naming only pre-shared-key suites,
for which a server with certificates has no key, leaves 1.2 without any: its handshake fails. Should
a version of grpcio ever ignore the setting, `peers` turns away calls on a connection below 1.3.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tipstaff_server.errors import ConfigurationError
from tipstaff_server.logs import log_error, log_info

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ServerFiles", "only_tls_13"]


def only_tls_13() -> None:
    """Leaves no cipher suite to TLS 1.2, for the whole process.

    Has an effect only before grpc's first connection.
    """
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK"


class ServerFiles:
    """The three PEM files; `credentials` follows them.

    Thread-safe. Raises ConfigurationError when they cannot be used at the start.
    """

    def __init__(self, certificate: Path, private_key: Path, authority: Path) -> None:
        self._paths = (private_key, certificate, authority)
        self._lock = threading.Lock()
        self._failure = ""
        self._stamp = self._current_stamp()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that refuse a client whose certificate no authority in the file issued."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.changed,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  the stubs forget None, "nothing new"
            require_client_authentication=True,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What new connections begin with, when the files changed since the last call; else None.
        Never raises.
        """
        with self._lock:
            try:
                stamp = self._current_stamp()
                if stamp == self._stamp:
                    return None
                read = self._read()
            except ConfigurationError as error:
                if self._failure != str(error):
                    log_error("certificate_refused", reason=str(error))
                self._failure = str(error)
                return None
            self._stamp, self._failure = stamp, ""
            log_info("certificate_loaded")
            return read

    def _current_stamp(self) -> tuple[tuple[int, int, int], ...]:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError as error:
            raise _unreadable(error) from error
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in stats)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            key, certificate, authority = (path.read_bytes() for path in self._paths)
        except OSError as error:
            raise _unreadable(error) from error
        names = [path.name for path in self._paths]
        try:
            chain = x509.load_pem_x509_certificates(certificate)
            public = load_pem_private_key(key, None).public_key()
            x509.load_pem_x509_certificates(authority)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"one of {', '.join(names)} is not such a PEM file (keys unencrypted); see [server]"
            ) from error
        if chain[0].public_key() != public:
            raise ConfigurationError(
                f"{names[0]} does not belong to {names[1]}; put both of a pair there"
            )
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=authority
        )


def _unreadable(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{error.filename} cannot be read ({error.strerror}); see [server] in tipstaff-server.toml"
    )
