"""Mirrors kept in step, and bundles carried to sites without a network."""

from __future__ import annotations

import io
import tarfile
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.signing import START, Clock, Deployment
from tipstaff_signing import (
    DirectoryFetcher,
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    Reader,
    RollbackError,
    StorageError,
)
from tipstaff_signing.files import Disk
from tipstaff_signing.reader.mirror import mirror, pack, survey, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Site:
    """A deployment with a listing and relief, and a mirror of it."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder)
        self.deployment.listing(b"filter 1")
        self.deployment.relief(b"relief 1")
        self.folder = folder / "mirror"
        self.source = DirectoryFetcher(self.deployment.path / "aviation")

    def follow(self, now: timedelta = timedelta(), disk: Disk | None = None) -> int:
        copy = survey(self.source, self.deployment.root, "aviation")
        return mirror(
            copy, self.source, self.folder, now=START + now, **({"disk": disk} if disk else {})
        )

    def reader(self, name: str) -> Reader:
        return Reader(
            self.deployment.folder / name,
            view="aviation",
            trusted_root=self.deployment.root,
            roles=["listing-aviation", "relief-aviation"],
            clock=self.deployment.clock,
        )

    def read(self, name: str = "reader") -> bytes:
        state = self.reader(name).refresh(DirectoryFetcher(self.folder))
        return state.roles["relief-aviation"].targets["relief/aviation/1-9"].file.read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_mirror_serves_what_the_server_does(site: Site) -> None:
    assert site.follow() > 0
    assert site.read() == b"relief 1"
    assert site.follow() == 0
    site.deployment.relief(b"relief 2")
    assert site.follow() == 4  # a segment, relief, snapshot, timestamp
    assert site.read() == b"relief 2"


def test_what_is_out_of_use_goes_after_a_day(site: Site) -> None:
    site.follow()
    old = {path for path in site.folder.rglob("*") if path.is_file()}
    site.deployment.relief(b"relief 2")
    site.follow(timedelta(hours=1))
    site.follow(timedelta(hours=24))
    assert old <= set(site.folder.rglob("*"))
    site.follow(timedelta(hours=26))
    gone = {path.name for path in old - set(site.folder.rglob("*"))}
    assert gone == {
        "2.relief-aviation.json",
        "3.snapshot.json",
        *(name for name in gone if name.endswith(".1-9")),
    }
    assert len(gone) == 3
    assert site.read() == b"relief 2"


def test_a_damaged_source_reaches_no_provider(site: Site) -> None:
    site.follow()
    site.deployment.relief(b"relief 2")
    newest = max(
        (site.deployment.path / "aviation" / "targets" / "relief" / "aviation").iterdir(),
        key=lambda path: path.stat().st_mtime_ns,
    )
    for damage in (b"relief X", b"", b"relief 2 and more"):
        newest.write_bytes(damage)
        with pytest.raises(MismatchError):
            site.follow()
        assert site.read() == b"relief 1"
        assert not list(site.folder.rglob(".*.new"))


def test_another_views_source_is_refused(site: Site) -> None:
    rail = DirectoryFetcher(site.deployment.path / "rail")
    with pytest.raises(MetadataFormatError, match="not the audience's view"):
        survey(rail, site.deployment.root, "aviation")


def test_a_source_that_is_behind_is_refused(site: Site) -> None:
    old = survey(site.source, site.deployment.root, "aviation")
    site.deployment.relief(b"relief 2")
    site.follow()
    with pytest.raises(RollbackError, match="the source is behind"):
        mirror(old, site.source, site.folder, now=START)


class Full(Disk):
    """Fails at one of its changes."""

    def __init__(self, step: int) -> None:
        self.left = step

    def replace(self, source: Path, target: Path) -> None:
        if self.left == 0:
            raise OSError(28, "No space left on device")
        self.left -= 1
        super().replace(source, target)


def test_while_a_full_disk_stops_it_the_mirror_serves_the_version_before(site: Site) -> None:
    site.follow()
    site.deployment.listing(b"filter 2")
    site.deployment.relief(b"relief 2")
    seen = []
    for step in range(20):
        try:
            site.follow(disk=Full(step))
        except StorageError:
            seen.append(site.read(f"reader-{step}"))
        else:
            break
    assert set(seen) == {b"relief 1"}
    assert site.read("last") == b"relief 2"


def bundle_of(site: Site) -> io.BytesIO:
    stream = io.BytesIO()
    pack(survey(site.source, site.deployment.root, "aviation"), site.source, stream)
    stream.seek(0)
    return stream


def test_a_bundle_carries_the_same(site: Site, tmp_path: Path) -> None:
    unpack(bundle_of(site), tmp_path / "unpacked")
    state = site.reader("air-gapped").refresh(DirectoryFetcher(tmp_path / "unpacked"))
    assert (
        state.roles["listing-aviation"].targets["listing/aviation/filter"].file.read_bytes()
        == b"filter 1"
    )


def test_a_damaged_source_is_not_packed(site: Site) -> None:
    damaged = next(
        (site.deployment.path / "aviation" / "targets" / "relief" / "aviation").iterdir()
    )
    damaged.write_bytes(b"relief X")
    with pytest.raises(MismatchError):
        bundle_of(site)
    damaged.unlink()
    with pytest.raises(NotFoundError):
        bundle_of(site)


@pytest.mark.parametrize("cut", [0, 100, 511, 1000, 5000])
def test_a_bundle_that_broke_off_is_refused(site: Site, tmp_path: Path, cut: int) -> None:
    data = bundle_of(site).getvalue()[:cut]
    if cut:
        with pytest.raises(MetadataFormatError):
            unpack(io.BytesIO(data), tmp_path / "unpacked")
    else:
        with pytest.raises(MetadataFormatError, match="not a bundle"):
            unpack(io.BytesIO(data), tmp_path / "unpacked")


def members() -> Iterator[tuple[str, tarfile.TarInfo]]:
    for name in (
        "../out",
        "/etc/out",
        "metadata/../../out",
        "metadata/a/b.json",
        "targets/../out",
        "other/file",
        "metadata",
        "targets/.hidden",
    ):
        yield name, tarfile.TarInfo(name)
    for kind in (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
    ):
        member = tarfile.TarInfo("metadata/1.root.json")
        member.type = kind
        member.linkname = "/etc/passwd"
        yield f"type {kind!r}", member


@pytest.mark.parametrize("member", [pytest.param(member, id=name) for name, member in members()])
def test_nothing_leaves_the_folder_when_unpacked(tmp_path: Path, member: tarfile.TarInfo) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as bundle:
        bundle.addfile(member)
    stream.seek(0)
    with pytest.raises(MetadataFormatError, match="does not belong"):
        unpack(stream, tmp_path / "inner" / "unpacked")
    assert not list(tmp_path.rglob("*.json"))
    assert not (tmp_path / "out").exists()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as bundle:
        for _ in range(2):
            bundle.addfile(tarfile.TarInfo("metadata/1.root.json"))
    stream.seek(0)
    with pytest.raises(MetadataFormatError, match="does not belong"):
        unpack(stream, tmp_path)


def test_a_mirror_follows_a_clock_of_its_own(site: Site) -> None:
    clock = site.deployment.clock
    assert isinstance(clock, Clock)
    clock.move(hours=30)  # all but listing and offline roles are over: copying is not judging
    assert site.follow(timedelta(hours=30)) > 0
