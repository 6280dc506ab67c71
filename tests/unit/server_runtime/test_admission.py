"""Which providers are known, revocation lists, and the server's certificate files: what is
believed, and what happens when it changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from typer.testing import CliRunner

from tests.support.server import make
from tests.support.server_tls import Tls
from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.certificates.peer import peer_identity, peer_of
from tipstaff_server.certificates.revocation import Revocations, read_list, revoked_entries
from tipstaff_server.certificates.server_files import ServerFiles
from tipstaff_server.commands import authority as commands
from tipstaff_server.errors import (
    CertificateRefusedError,
    ConfigurationError,
    DatabaseUnavailableError,
    NotIdentifiedError,
    PermissionDeniedError,
    StreamEnd,
    WorkDirError,
)
from tipstaff_server.rpc.admission import Admission, KnownProviders
from tipstaff_server.workdir.officers import add_officer
from tipstaff_server.workdir.revoke import revoke_officer, revoke_provider

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.certificates.development_ca import Issued

METHOD = "/tipstaff.v1.DistributionService/Watch"
URI = "tipstaff://provider/aviation/air-1"
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _warnings_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level a test before this one left behind in this process."""
    caplog.set_level(logging.WARNING, logger="tipstaff_server")


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


def context(pair: Issued, uri: str = URI, version: bytes = b"TLSv1.3") -> dict[str, list[bytes]]:
    return {
        "x509_pem_cert": [pair.certificate],
        "peer_uri": [uri.encode()],
        "ssl_tls_version": [version],
    }


def test_a_peer_is_what_its_certificate_says(tls: Tls):
    pair = tls.authority.issue_client(URI)
    peer = peer_of(context(pair))
    assert peer.caller == Caller(Role.PROVIDER, "air-1", "aviation")
    assert peer.serial == x509.load_pem_x509_certificate(pair.certificate).serial_number
    assert peer.not_after > NOW


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ssl_tls_version": [b"TLSv1.2"]}, r"not TLS 1\.3"),
        ({"x509_pem_cert": []}, "no client certificate"),
        ({"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"]}, "cannot be read"),
        ({"peer_uri": []}, "0 tipstaff"),
    ],
)
def test_who_is_nobody_is_told_why(tls: Tls, change: dict[str, list[bytes]], match: str):
    with pytest.raises(NotIdentifiedError, match=match):
        peer_of({**context(tls.authority.issue_client(URI)), **change})


class Registry:
    """Counts how often it is read, and fails when told to."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.reads = 0
        self.down = False

    async def __call__(self) -> dict[str, str]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.down:
            raise DatabaseUnavailableError("down")
        return dict(self.known)


def test_a_crowd_costs_one_reading_and_strangers_do_not_cost_one_each():
    async def scenario() -> None:
        time = [0.0]
        registry = Registry(a="aviation")
        providers = KnownProviders(registry, monotonic=lambda: time[0])
        assert (
            await asyncio.gather(*(providers.audience("a") for _ in range(50))) == ["aviation"] * 50
        )
        assert (
            await asyncio.gather(
                *(providers.audience(f"stranger-{number}") for number in range(50))
            )
            == [None] * 50
        )
        assert registry.reads == 1
        registry.known["b"] = "rail"
        time[0] = 0.3
        assert await providers.audience("b") == "rail"
        registry.known["a"] = "rail"
        time[0] = 6.0
        assert await providers.audience("a") == "rail"
        assert registry.reads == 3

    asyncio.run(scenario())


def test_what_was_read_holds_while_the_registry_is_down():
    async def scenario() -> None:
        time = [0.0]
        registry = Registry(a="aviation")
        registry.down = True
        providers = KnownProviders(registry, monotonic=lambda: time[0])
        with pytest.raises(DatabaseUnavailableError):
            await providers.audience("a")
        registry.down = False
        assert await providers.audience("a") == "aviation"
        registry.down, time[0] = True, 100.0
        assert await providers.audience("a") == "aviation"

    asyncio.run(scenario())


def test_a_provider_is_admitted_in_its_own_audience_only(tls: Tls):
    async def admit(uri: str) -> None:
        admission = Admission(providers=KnownProviders(Registry(**{"air-1": "aviation"})))
        await admission.admit(context(tls.authority.issue_client(uri), uri), METHOD)

    asyncio.run(admit(URI))
    with pytest.raises(PermissionDeniedError, match="names audience 'rail'"):
        asyncio.run(admit("tipstaff://provider/rail/air-1"))
    with pytest.raises(PermissionDeniedError, match="does not know provider 'air-2'"):
        asyncio.run(admit("tipstaff://provider/aviation/air-2"))


def test_streams_of_a_removed_or_moved_provider_are_over_within_seconds(tls: Tls):
    async def scenario() -> None:
        time = [0.0]
        registry = Registry(**{"air-1": "aviation"})
        admission = Admission(providers=KnownProviders(registry, monotonic=lambda: time[0]))
        peer = await admission.admit(context(tls.authority.issue_client(URI)), METHOD)
        court = peer_of(
            context(
                tls.authority.issue_client("tipstaff://authority/court"),
                "tipstaff://authority/court",
            )
        )
        del registry.known["air-1"]
        await admission.refresh()
        assert admission.over(peer) is None  # what was read holds for a few seconds
        time[0] = 6.0
        await admission.refresh()
        assert (admission.over(peer), admission.over(court)) == (StreamEnd.REMOVED, None)
        registry.known["air-1"] = "rail"
        time[0] = 12.0
        await admission.refresh()
        assert admission.over(peer) is StreamEnd.REMOVED
        registry.known["air-1"] = "aviation"
        time[0], registry.down = 18.0, True
        await admission.refresh()  # down: what was read last holds
        assert admission.over(peer) is StreamEnd.REMOVED
        registry.down, time[0] = False, 24.0
        await admission.refresh()
        assert admission.over(peer) is None

    asyncio.run(scenario())


def test_a_certificate_that_ran_out_since_the_handshake_is_refused(tls: Tls):
    admission = Admission(clock=lambda: NOW + timedelta(days=400))
    with pytest.raises(CertificateRefusedError, match="has run out"):
        asyncio.run(admission.admit(context(tls.authority.issue_client(URI)), METHOD))


class Lists:
    """A revocation list file, and the authority that signs it."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.tls = Tls()
        self.authority = type(self.tls.authority).create(clock=lambda: self.now)
        self.file, self.ca = folder / "ca.crl", folder / "ca.pem"
        self.ca.write_bytes(self.authority.certificate)
        self.pair = self.authority.issue_client(URI)
        self.peer = peer_of(context(self.pair))
        self.write()

    def write(self, *serials: int, content: bytes | None = None) -> bytes:
        made = content or self.authority.revocation_list(dict.fromkeys(serials, self.now), 1)
        staged = self.file.with_name("staged")
        staged.write_bytes(made)
        os.replace(staged, self.file)  # noqa: PTH105  a new inode, as a careful writer makes one
        return made

    def open(self) -> Revocations:
        return Revocations(self.file, self.ca, clock=lambda: self.now)


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return Lists(tmp_path)


def test_a_list_is_taken_when_it_changes_and_only_then(lists: Lists):
    revocations = lists.open()
    assert not revocations.revoked(lists.peer)
    assert not revocations.poll()
    lists.write(lists.peer.serial)
    assert revocations.poll()
    assert revocations.revoked(lists.peer)
    assert not revocations.poll()
    admission = Admission(revocations=revocations)
    with pytest.raises(CertificateRefusedError, match="is revoked"):
        asyncio.run(admission.admit(context(lists.pair), METHOD))


def test_the_same_number_of_another_authority_is_another_certificate(lists: Lists):
    lists.write(lists.peer.serial)
    other = peer_of(context(type(lists.authority).create("Another").issue_client(URI)))
    assert not lists.open().revoked(
        type(other)(other.caller, other.issuer, lists.peer.serial, other.not_after)
    )


@pytest.mark.parametrize("what", ["older", "foreign", "garbage", "empty", "gone"])
def test_what_is_refused_changes_nothing(lists: Lists, what: str, caplog: pytest.LogCaptureFixture):
    lists.write(lists.peer.serial)
    revocations = lists.open()
    if what == "gone":
        lists.file.unlink()
    elif what == "older":
        lists.now = NOW - timedelta(seconds=5)
        lists.write()
    else:
        content = {
            "foreign": Tls().authority.revocation_list({}, 9),
            "garbage": b"-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----\n",
        }
        lists.write(content=content.get(what, b"nothing"))
    assert not revocations.poll()
    assert not revocations.poll()
    assert revocations.revoked(lists.peer)
    assert sum("revocation_list_refused" in record.getMessage() for record in caplog.records) == 1
    lists.now = NOW + timedelta(seconds=5)
    lists.write()
    assert revocations.poll()
    assert not revocations.revoked(lists.peer)


def test_an_overdue_list_stays_in_force_with_a_warning(
    lists: Lists, caplog: pytest.LogCaptureFixture
):
    lists.write(lists.peer.serial)
    lists.now = NOW + timedelta(days=400)
    assert lists.open().revoked(lists.peer)
    assert any("revocation_list_overdue" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "content", [None, b"", b"-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----\n"]
)
def test_a_server_does_not_start_without_the_list_it_was_told_to_use(
    lists: Lists, content: bytes | None
):
    lists.file.unlink()
    if content is not None:
        lists.file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"ca\.crl"):
        lists.open()


def test_revoking_adds_to_the_list(tmp_path: Path):
    config = make(tmp_path / "operator")
    file = config.folder / "tls" / "ca.crl"
    assert revoked_entries(read_list(file)) == {}
    first, second = (
        revoke_provider(config, "skyline-air"),
        revoke_provider(config, "riverside-rail"),
    )
    assert revoke_provider(config, "skyline-air") == first
    assert set(revoked_entries(read_list(file))) == {first, second}
    with pytest.raises(WorkDirError, match="--certificate"):
        revoke_provider(config, "nobody")
    with pytest.raises(WorkDirError, match="not 'skyline-air'"):
        revoke_provider(
            config,
            "skyline-air",
            config.folder / "providers" / "riverside-rail" / "certificate.pem",
        )
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(
        type(Tls().authority)
        .create("Somebody else")
        .issue_client("tipstaff://provider/aviation/skyline-air")
        .certificate
    )
    with pytest.raises(WorkDirError, match="not from the development CA"):
        revoke_provider(config, "skyline-air", stranger)


def said(*arguments: object) -> str:
    """What `tipstaff-server authority` says."""
    done = CliRunner().invoke(
        commands.app, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_an_officer_has_a_certificate_until_it_is_revoked(tmp_path: Path):
    config = make(tmp_path / "operator")
    folder = add_officer(config, "court", "clerk-7")
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    assert peer_identity(certificate) == Caller(Role.AUTHORITY, "court", officer="clerk-7")
    assert (folder / "private_key.pem").stat().st_mode & 0o077 == 0
    for authority, officer, hint in (
        ("court", "clerk-7", "not given twice"),
        ("nobody", "a", "authorities are"),
        ("court", "Li Si", "ids"),
    ):
        with pytest.raises(WorkDirError, match=hint):
            add_officer(config, authority, officer)
    assert "tax/officers/clerk-7" in said(
        "add-officer", "tax", "clerk-7", "--config", config.folder
    )
    other = config.folder / "authorities" / "tax" / "officers" / "clerk-7"
    with pytest.raises(WorkDirError, match="not this officer"):
        revoke_officer(config, "court", "clerk-7", other / "certificate.pem")
    with pytest.raises(WorkDirError, match="can be read"):
        revoke_officer(config, "court", "clerk-9")
    assert f"{certificate.serial_number:x}" in said(
        "revoke-officer", "court", "clerk-7", "--config", config.folder
    )
    assert revoke_officer(config, "court", "clerk-7") == certificate.serial_number
    revocations = Revocations(
        config.path(config.server.client_crl_file or tmp_path),
        config.path(config.server.client_ca_file),
    )
    issued = {
        "x509_pem_cert": [(folder / "certificate.pem").read_bytes()],
        "peer_uri": [b"tipstaff://authority/court/officer/clerk-7"],
    }
    assert revocations.revoked(peer_of(issued))


def test_certificate_files_are_read_again_when_they_belong_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tls = Tls()
    (tmp_path / "ca.pem").write_bytes(tls.authority.certificate)
    tls.authority.issue_server(["localhost"]).write(tmp_path, "server.pem", "server.key")
    files = ServerFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    assert files.changed() is None
    new = tls.authority.issue_server(["localhost"])
    (tmp_path / "server.pem").write_bytes(new.certificate)
    assert files.changed() is None
    assert files.changed() is None
    assert sum("certificate_refused" in record.getMessage() for record in caplog.records) == 1
    (tmp_path / "server.key").write_bytes(new.private_key)
    assert files.changed() is not None
    assert files.changed() is None


@pytest.mark.parametrize("missing", ["server.key", "server.pem", "ca.pem"])
def test_missing_and_damaged_certificates_are_named(tmp_path: Path, missing: str):
    config = make(tmp_path / "operator")
    tls = config.folder / "tls"

    def start() -> ServerFiles:
        return ServerFiles(tls / "server.pem", tls / "server.key", tls / "ca.pem")

    (tls / missing).write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=missing.replace(".", r"\.")):
        start()
    (tls / missing).unlink()
    with pytest.raises(ConfigurationError, match=rf"{missing} cannot be read"):
        start()
