"""The client at the other end of a call, as its certificate shows it.

Whatever is decided about a caller is decided on every call, not once a connection: certificates are
revoked and run out while connections stay open. So a certificate is parsed once and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509

from tipstaff_server.certificates.caller import caller_from_uris
from tipstaff_server.errors import NotIdentifiedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tipstaff_server.certificates.caller import Caller

__all__ = ["Peer", "peer_identity", "peer_of"]

REMEMBERED = 16_384
TLS = b"TLSv1.3"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is calling, and the certificate that says so: its issuer's name (DER), serial number, and
    when it runs out (UTC).
    """

    caller: Caller
    issuer: bytes
    serial: int
    not_after: datetime


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
    """The peer in gRPC's authentication context.

    Raises NotIdentifiedError: no certificate, no identity of ours in it, or a connection below TLS
    1.3.
    """
    version = next(iter(auth_context.get("ssl_tls_version", ())), TLS)
    if version != TLS:
        raise NotIdentifiedError("this connection is not TLS 1.3; update the client's TLS library")
    certificate = next(iter(auth_context.get("x509_pem_cert", ())), None)
    if certificate is None:
        raise NotIdentifiedError(
            "there is no client certificate; connect with the one from your kit"
        )
    return _peer(certificate, tuple(auth_context.get("peer_uri", ())))


def peer_identity(certificate: x509.Certificate) -> Caller:
    """Whom a certificate names.

    Raises NotIdentifiedError; ValueError when its extensions cannot be read.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return caller_from_uris(())
    return caller_from_uris(names.get_values_for_type(x509.UniformResourceIdentifier))


@lru_cache(maxsize=REMEMBERED)
def _peer(certificate: bytes, uris: tuple[bytes, ...]) -> Peer:
    caller = caller_from_uris(uris)
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        return Peer(
            caller, parsed.issuer.public_bytes(), parsed.serial_number, parsed.not_valid_after_utc
        )
    except ValueError as error:
        raise NotIdentifiedError(
            "the client certificate cannot be read; have it issued again"
        ) from error
