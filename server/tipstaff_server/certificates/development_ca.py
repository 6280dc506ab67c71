"""Certificates for development: a small authority of its own, server and client certificates
(X.509, RFC 5280).

Who a client is stands in one URI among its certificate's subject alternative names (RFC 5280
4.2.1.6):

    tipstaff://provider/<audience>/<provider>
    tipstaff://authority/<authority>
    tipstaff://authority/<authority>/officer/<officer>
    tipstaff://operator/<name>

Keys are ECDSA P-256, which every TLS stack takes. A production deployment brings certificates of
its own authority with the same URIs.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tipstaff_server.clock import Clock, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = ["CertificateAuthority", "Issued", "write_private"]

AUTHORITY_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=397)
# Certificates begin a little early, for clients whose clock is behind.
BACKDATED = timedelta(hours=1)


def write_private(path: Path, data: bytes) -> None:
    """Writes a new file that only its owner can read (mode 0600), and syncs it.

    Raises FileExistsError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A certificate with its private key, both PEM (the key PKCS#8, unencrypted)."""

    certificate: bytes
    private_key: bytes

    def write(
        self,
        folder: Path,
        certificate: str = "certificate.pem",
        private_key: str = "private_key.pem",
    ) -> None:
        """Writes both into a folder that exists; the key with mode 0600."""
        (folder / certificate).write_bytes(self.certificate)
        write_private(folder / private_key, self.private_key)


@dataclass(frozen=True, slots=True, repr=False)
class CertificateAuthority:
    """Issues certificates.

    Keep its key off the machine that serves; `tipstaff-server init` puts it there for development
    only.
    """

    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey
    _clock: Clock = utc_now

    @classmethod
    def create(
        cls, name: str = "Tipstaff development CA", *, clock: Clock = utc_now
    ) -> CertificateAuthority:
        """A new authority with a fresh key, valid ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = (
            _builder(subject, subject, key.public_key(), clock(), AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        return cls(builder.sign(key, hashes.SHA256()), key, clock)

    @classmethod
    def load(
        cls, certificate: Path, private_key: Path, *, clock: Clock = utc_now
    ) -> CertificateAuthority:
        """The authority kept in two PEM files.

        Raises OSError, or ValueError for files that are not such PEM.
        """
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            # What is wrong is the file's content, not an argument's type.
            raise ValueError(  # noqa: TRY004  see above
                f"{private_key.name} holds no elliptic-curve key; give the key file that belongs to"
                f" {certificate.name}"
            )
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        if loaded.public_key() != key.public_key():
            raise ValueError(
                f"{private_key.name} does not belong to {certificate.name}; give the pair made"
                " together"
            )
        return cls(loaded, key, clock)

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path) -> None:
        """Writes ca.pem and ca.key (mode 0600) into a folder that exists."""
        Issued(self.certificate, _private_pem(self._key)).write(folder, "ca.pem", "ca.key")

    def issue_server(self, hosts: Sequence[str]) -> Issued:
        """A server's certificate for host names and IP addresses."""
        names = [_host_name(host) for host in hosts]
        return self._issue(hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_client(self, identity: str) -> Issued:
        """A client's certificate for an identity URI (see the module's docstring)."""
        return self._issue(
            identity.rpartition("/")[2],
            [x509.UniformResourceIdentifier(identity)],
            ExtendedKeyUsageOID.CLIENT_AUTH,
        )

    def revocation_list(self, revoked: Mapping[int, datetime], number: int) -> bytes:
        """The list of revoked certificates, PEM: serial numbers and when each was revoked.

        `number` grows with every list.
        """
        now = self._clock()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now)
            .next_update(now + CERTIFICATE_LIFETIME)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        for serial, at in sorted(revoked.items()):
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(
        self, name: str, names: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(
                _name(name),
                self._certificate.subject,
                key.public_key(),
                self._clock(),
                CERTIFICATE_LIFETIME,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
