"""A certificate authority for tests, and the two ends of a connection under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from cryptography import x509

from tipstaff_server.certificates.development_ca import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Tls:
    """Server and client credentials under one authority."""

    def __init__(self) -> None:
        self.authority = CertificateAuthority.create()
        self._server = self.authority.issue_server(["localhost", "127.0.0.1"])

    def server(self) -> grpc.ServerCredentials:
        """Returns the credentials of a server that insists on client certificates."""
        pair = (self._server.private_key, self._server.certificate)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=self.authority.certificate, require_client_auth=True
        )

    def client(self, identity: str | None) -> grpc.ChannelCredentials:
        """Returns the credentials of a client with this identity, or without a certificate."""
        if identity is None:
            return grpc.ssl_channel_credentials(self.authority.certificate)
        issued = self.authority.issue_client(identity)
        return grpc.ssl_channel_credentials(
            self.authority.certificate, issued.private_key, issued.certificate
        )


async def calling(call: Awaitable[Any]) -> Any:
    """Awaits a unary call."""
    return await call


def identity_of(certificate: bytes) -> str:
    """Returns the one URI in a certificate (PEM)."""
    names = (
        x509.load_pem_x509_certificate(certificate)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri
