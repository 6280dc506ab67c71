"""The development authority's certificates."""

from __future__ import annotations

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from tipstaff_server.certificates.development_ca import CertificateAuthority, write_private

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
IDENTITY = "tipstaff://provider/aviation/air-1"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create(clock=lambda: NOW)


def trusting(authority: CertificateAuthority, at: datetime = NOW) -> PolicyBuilder:
    return (
        PolicyBuilder()
        .store(Store([x509.load_pem_x509_certificate(authority.certificate)]))
        .time(at)
    )


def test_a_client_certificate_verifies_and_carries_its_identity(authority: CertificateAuthority):
    issued = x509.load_pem_x509_certificate(authority.issue_client(IDENTITY).certificate)
    trusting(authority).build_client_verifier().verify(issued, [])
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [IDENTITY]


@pytest.mark.parametrize(
    "subject", [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
)
def test_a_server_certificate_verifies_for_its_hosts(
    authority: CertificateAuthority, subject: x509.DNSName | x509.IPAddress
):
    issued = x509.load_pem_x509_certificate(
        authority.issue_server(["localhost", "127.0.0.1"]).certificate
    )
    trusting(authority).build_server_verifier(subject).verify(issued, [])


def test_a_server_certificate_does_not_serve_as_a_clients(authority: CertificateAuthority):
    issued = x509.load_pem_x509_certificate(authority.issue_server(["localhost"]).certificate)
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_another_authoritys_certificate_does_not_verify(authority: CertificateAuthority):
    stranger = CertificateAuthority.create(clock=lambda: NOW).issue_client(IDENTITY)
    with pytest.raises(x509.verification.VerificationError):
        trusting(authority).build_client_verifier().verify(
            x509.load_pem_x509_certificate(stranger.certificate), []
        )


def test_certificates_end(authority: CertificateAuthority):
    issued = x509.load_pem_x509_certificate(authority.issue_client(IDENTITY).certificate)
    with pytest.raises(x509.verification.VerificationError):
        trusting(authority, NOW + timedelta(days=398)).build_client_verifier().verify(issued, [])


def test_an_authority_is_the_same_after_writing_and_loading(
    authority: CertificateAuthority, tmp_path: Path
):
    authority.write(tmp_path)
    loaded = CertificateAuthority.load(tmp_path / "ca.pem", tmp_path / "ca.key", clock=lambda: NOW)
    issued = x509.load_pem_x509_certificate(loaded.issue_client(IDENTITY).certificate)
    trusting(authority).build_client_verifier().verify(issued, [])


def test_private_files_are_for_their_owner_only_and_never_overwritten(
    authority: CertificateAuthority, tmp_path: Path
):
    authority.write(tmp_path)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "ca.key", b"other")
    assert (tmp_path / "ca.key").read_bytes() == before


def test_a_key_of_another_pair_is_refused(authority: CertificateAuthority, tmp_path: Path):
    authority.write(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    CertificateAuthority.create().write(other)
    with pytest.raises(ValueError, match="pair"):
        CertificateAuthority.load(tmp_path / "ca.pem", other / "ca.key")


def test_the_key_belongs_to_the_certificate(authority: CertificateAuthority):
    issued = authority.issue_client(IDENTITY)
    key = serialization.load_pem_private_key(issued.private_key, None)
    assert key.public_key() == x509.load_pem_x509_certificate(issued.certificate).public_key()


def test_nothing_shows_a_key(authority: CertificateAuthority):
    issued = authority.issue_client(IDENTITY)
    assert "PRIVATE" not in repr(issued) + repr(authority)
