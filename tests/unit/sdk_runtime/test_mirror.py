"""Listings and relief from an HTTPS mirror, beside the server or alone."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.https_mirror import StaticServer, https_mirror
from tests.support.signing import Deployment
from tipstaff_sdk.cli.app import run
from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.settings import Settings, is_mirror_url
from tipstaff_sdk.sync.fetchers import MirroredFetcher, choose, mirror_at
from tipstaff_sdk.sync.mirror import MirrorFetcher
from tipstaff_signing import (
    DirectoryFetcher,
    FetchError,
    MismatchError,
    NotFoundError,
    Reader,
    TooLargeError,
    UnavailableError,
)
from tipstaff_signing.model import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = Deployment(tmp_path_factory.mktemp("mirror"))
    made.listing(BIG)
    made.relief(b"relief 1")
    return made


@pytest.fixture(scope="module")
def served(deployment: Deployment) -> Iterator[StaticServer]:
    with https_mirror(deployment.path) as made:
        yield made


@pytest.fixture
def site(served: StaticServer) -> StaticServer:
    served.fault = ""
    served.log.clear()
    return served


def fetcher(site: StaticServer, audience: str = "aviation") -> MirrorFetcher:
    return MirrorFetcher(
        f"{site.url}/{audience}",
        context=ssl.create_default_context(cadata=site.ca.decode()),
        timeout=5,
    )


def reader(deployment: Deployment) -> Reader:
    """A new one each time."""
    roles = ["listing-aviation", "relief-aviation"]
    return Reader(
        Path(tempfile.mkdtemp(dir=deployment.folder)),
        view="aviation",
        trusted_root=deployment.root,
        roles=roles,
        clock=deployment.clock,
    )


def test_a_mirror_is_as_good_as_the_server(deployment: Deployment, site: StaticServer) -> None:
    state = reader(deployment).refresh(fetcher(site))
    assert (
        state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes() == BIG
    )


def test_its_certificate_is_verified(deployment: Deployment, site: StaticServer) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        reader(deployment).refresh(MirrorFetcher(f"{site.url}/aviation", timeout=5))
    assert site.log == []


@pytest.mark.parametrize("fault", ["", "no ranges"])
def test_a_download_that_broke_is_resumed(
    deployment: Deployment, site: StaticServer, fault: str
) -> None:
    site.fault = "breaks off"
    with pytest.raises(FetchError):
        list(fetcher(site).metadata("timestamp.json", 20_000))
    path = next(
        path
        for path in (deployment.path / "aviation" / "targets" / "listing" / "aviation").iterdir()
        if path.name.endswith(".filter")
    )
    place = f"listing/aviation/{path.name}"
    chunks: list[bytes] = []
    with pytest.raises(UnavailableError, match="broke off"):
        chunks.extend(fetcher(site).artefact(place, 0))
    have = b"".join(chunks)
    assert 0 < len(have) < len(BIG)
    site.fault = fault
    assert have + b"".join(fetcher(site).artefact(place, len(have))) == BIG
    assert site.log[-1][1] == f"bytes={len(have)}-"


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("down", UnavailableError, "answers 503"),
        ("wrong range", UnavailableError, "another part"),
        ("redirect http://localhost:1/file", UnavailableError, "without encryption"),
        ("redirect file:///etc/passwd", UnavailableError, "answers 302"),
        ("object store", NotFoundError, "has no"),
    ],
)
def test_what_may_go_wrong(
    site: StaticServer, fault: str, error: type[Exception], message: str
) -> None:
    site.fault = fault
    path = "listing/aviation/none" if fault == "object store" else "../metadata/timestamp.json"
    with pytest.raises(error, match=message):
        b"".join(fetcher(site).artefact(path, 5))


def test_metadata_are_capped(site: StaticServer) -> None:
    with pytest.raises(TooLargeError):
        fetcher(site).metadata("timestamp.json", 100)
    with pytest.raises(NotFoundError):
        fetcher(site).metadata("9.root.json", 100)


def test_a_mirror_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be had"):
        MirrorFetcher("http://127.0.0.1:1/aviation", timeout=1).metadata("timestamp.json", 100)


def test_what_a_mirror_alters_is_refused(deployment: Deployment, site: StaticServer) -> None:
    file = next((deployment.path / "aviation" / "targets" / "relief" / "aviation").iterdir())
    file.write_bytes(b"relief X")
    try:
        with pytest.raises(MismatchError):
            reader(deployment).refresh(fetcher(site))
    finally:
        file.write_bytes(b"relief 1")


class TestBesideTheServer:
    """The server, here a folder, gives metadata; the mirror gives artefacts while it can."""

    def source(self, deployment: Deployment, site: StaticServer, ca: Path) -> MirroredFetcher:
        ca.write_bytes(site.ca)
        made = choose(
            server=lambda: DirectoryFetcher(deployment.path / "aviation"),
            mirror=f"{site.url}/aviation",
            mirror_dir=None,
            ca_file=ca,
            timeout=5,
        )
        assert isinstance(made, MirroredFetcher)
        return made

    def test_the_mirror_carries_the_weight(
        self, deployment: Deployment, site: StaticServer, tmp_path: Path
    ) -> None:
        reader(deployment).refresh(self.source(deployment, site, tmp_path / "ca.pem"))
        assert site.log
        assert all(path.startswith("/aviation/targets/") for path, _ in site.log)

    @pytest.mark.parametrize(
        "fault", ["down", "breaks off", "wrong range", "redirect http://localhost:1/"]
    )
    def test_the_server_makes_up_for_a_bad_one(
        self, deployment: Deployment, site: StaticServer, tmp_path: Path, fault: str
    ) -> None:
        site.fault = fault
        state = reader(deployment).refresh(self.source(deployment, site, tmp_path / "ca.pem"))
        assert (
            state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()
            == BIG
        )


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://mirror.example.net/aviation", True),
        ("https://mirror.example.net:8443/a/b", True),
        ("http://127.0.0.1:80/a", True),
        ("http://mirror.example.net/aviation", False),
        ("https://user:secret@mirror.example.net/", False),
        ("https://mirror.example.net/?key=1", False),
        ("file:///etc", False),
        ("ftp://mirror.example.net", False),
        ("mirror.example.net", False),
        ("https://", False),
        ("https://mirror:port/", False),
    ],
)
def test_what_a_mirror_may_be_called(url: str, good: bool) -> None:
    assert is_mirror_url(url) is good


def test_configurations_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere to fetch from"):
        choose(server=None, mirror=None, mirror_dir=None, ca_file=None, timeout=1)
    with pytest.raises(ConfigurationError, match="https address"):
        mirror_at("http://mirror.example.net", ca_file=None, timeout=1)
    (tmp_path / "ca.pem").write_bytes(b"no certificate")
    with pytest.raises(ConfigurationError, match="ca_file"):
        mirror_at("https://mirror.example.net", ca_file=tmp_path / "ca.pem", timeout=1)
    assert isinstance(
        choose(server=None, mirror=None, mirror_dir=tmp_path, ca_file=None, timeout=1),
        DirectoryFetcher,
    )
    assert isinstance(
        choose(
            server=None, mirror="https://m.example", mirror_dir=tmp_path, ca_file=None, timeout=1
        ),
        MirrorFetcher,
    )


class TestBundles:
    """`tipstaff bundle`, from a mirror to a site without a network."""

    def kit(self, deployment: Deployment, name: str, source: str) -> Path:
        folder = deployment.folder / name
        folder.mkdir()
        (folder / "root.json").write_bytes(deployment.root)
        (folder / "tipstaff.toml").write_text(
            'audience = "aviation"\nstate_dir = "state"\ntrusted_root_file = "root.json"\nca_file'
            f' = "ca.pem"\n{source}\n'
        )
        return folder

    def run(self, folder: Path, command: str, file: Path) -> int:
        with pytest.raises(SystemExit) as ended:
            run(["bundle", command, str(file), "--config", str(folder / "tipstaff.toml")])
        return int(ended.value.code or 0)

    def test_carry_the_same(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        deployment = Deployment(tmp_path, clock=utc_now)
        deployment.listing(BIG)
        with https_mirror(deployment.path) as site:
            near = self.kit(deployment, "near", f'mirror = "{site.url}/aviation"')
            (near / "ca.pem").write_bytes(site.ca)
            assert self.run(near, "export", tmp_path / "bundle.tar") == 0
        far = self.kit(deployment, "far", 'mirror_dir = "nowhere"')
        assert self.run(far, "import", tmp_path / "bundle.tar") == 0
        assert "version 2 is in force" in capsys.readouterr().out
        settings = Settings.load(far / "tipstaff.toml", environment={})
        state = Reader(
            settings.state_dir / "verified",
            view="aviation",
            trusted_root=deployment.root,
            roles=["listing-aviation", "relief-aviation"],
        ).load()
        assert state is not None
        assert (
            state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()
            == BIG
        )
        damaged = (tmp_path / "bundle.tar").read_bytes().replace(BIG[:64], b"x" * 64)
        (tmp_path / "damaged.tar").write_bytes(damaged)
        fresh = self.kit(deployment, "fresh", 'mirror_dir = "nowhere"')
        assert self.run(fresh, "import", tmp_path / "damaged.tar") == 1
        assert self.run(fresh, "import", tmp_path / "none.tar") == 1
        assert not list((fresh / "state").glob(".bundle-*"))
        assert self.run(fresh, "export", tmp_path / "other.tar") == 1
        assert not (tmp_path / "other.tar").exists()


def test_a_setting_that_is_no_mirror(tmp_path: Path) -> None:
    options = {
        "audience": "aviation",
        "state_dir": tmp_path,
        "trusted_root_file": tmp_path,
        "mirror": "http://mirror.example.net",
    }
    with pytest.raises(ConfigurationError, match="https address"):
        Settings.load(None, environment={}, options=options)
