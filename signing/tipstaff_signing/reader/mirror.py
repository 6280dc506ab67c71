"""Copies of one audience's view: kept in step as a folder for a static file server, or packed into
one file for an air-gapped site.

What is copied is verified from the root down first, artefacts as they come, so that a damaged
source is noticed here and not by a provider.

A mirror is brought up to date in the order in which a view is published: artefacts, numbered
metadata, the timestamp last, by rename. What the new version does not name stays for a day, for
clients in the middle of an update, then goes.

A bundle is a tar file (POSIX.1-1988, uncompressed) of `metadata/…` and `targets/…`, and of nothing
else. Unpacking believes none of it: names and sizes are checked, and the reader verifies the folder
like any other source.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, cast

from tipstaff_signing.chain import verify_chain
from tipstaff_signing.errors import (
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    RollbackError,
    TooLargeError,
)
from tipstaff_signing.files import (
    CHUNK_BYTES,
    DISK,
    Disk,
    FileLock,
    fsync_dir,
    is_metadata_name,
    is_target_path,
    storage_errors,
    write_atomic,
)
from tipstaff_signing.model import Limits
from tipstaff_signing.names import listing_role, prefixed_path, relief_role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.tuf_names import TargetFile

__all__ = ["ViewCopy", "mirror", "pack", "survey", "unpack"]

_DEFAULT_LIMITS = Limits()
_RECORD = ".mirror.json"
_RETENTION = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ViewCopy:
    """One verified version of a view."""

    version: int  # of the timestamp
    metadata: Mapping[str, bytes]  # by numbered name; the timestamp last
    artefacts: Mapping[str, TargetFile]  # by path with hash prefix


def survey(
    fetcher: Fetcher, trusted_root: bytes, audience: str, *, limits: Limits = _DEFAULT_LIMITS
) -> ViewCopy:
    """Read and verify the metadata of the version that a source has now, every root included.

    Raises:
        TrustError: it must not be believed. Expiry is left to readers.
        FetchError: something could not be had.
    """
    metadata: dict[str, bytes] = {}
    while True:
        name = f"{len(metadata) + 1}.root.json"
        try:
            metadata[name] = fetcher.metadata(name, limits.root_bytes)
        except NotFoundError:
            break
    roles = [listing_role(audience), relief_role(audience)]
    timestamp = fetcher.metadata("timestamp.json", limits.timestamp_bytes)
    snapshot_name = f"{_version(timestamp, 'snapshot.json', 'timestamp')}.snapshot.json"
    snapshot = metadata[snapshot_name] = fetcher.metadata(snapshot_name, limits.snapshot_bytes)
    plain = {"timestamp.json": timestamp, "snapshot.json": snapshot, **metadata}
    for role in ("targets", *roles):
        name = f"{_version(snapshot, f'{role}.json', 'snapshot')}.{role}.json"
        plain[f"{role}.json"] = metadata[name] = fetcher.metadata(name, limits.targets_bytes)
    chain = verify_chain(trusted_root, plain, view=audience, roles=roles, limits=limits)
    metadata["timestamp.json"] = timestamp
    targets = [item for role in chain.roles.values() for item in role.targets.values()]
    version = chain.signed()["timestamp"].version
    return ViewCopy(
        version,
        metadata,
        {prefixed_path(item.path, item.hashes["sha256"]): item for item in targets},
    )


def mirror(
    copy: ViewCopy, fetcher: Fetcher, folder: Path, *, now: datetime, disk: Disk = DISK
) -> int:
    """Bring a mirror up to date. Returns how many files were new.

    Raises:
        RollbackError: the mirror has a newer version already.
        MismatchError, FetchError: an artefact is not what was signed, or could not be had; the
            mirror serves what it served.
        StorageError: the disk refused; likewise.
    """
    with storage_errors(f"mirroring into {folder}"):
        disk.mkdir(folder)
        with FileLock(folder / ".mirror.lock", timeout=60.0):
            held = folder / "metadata" / "timestamp.json"
            if held.exists() and (have := _signed_version(held.read_bytes())) > copy.version:
                raise RollbackError(
                    f"{folder} has version {have} already, the source only {copy.version}: the"
                    " source is behind"
                )
            fresh = [
                path
                for path, target in copy.artefacts.items()
                if not _is_whole(folder / "targets" / path, target)
            ]
            for path in fresh:
                _fetch(copy.artefacts[path], path, fetcher, folder / "targets" / path, disk)
            changed = [
                name
                for name, data in copy.metadata.items()
                if not _holds(folder / "metadata" / name, data)
            ]
            disk.mkdir(folder / "metadata")
            for name in changed:
                if name == "timestamp.json":
                    fsync_dir(folder / "metadata", disk)
                write_atomic(
                    folder / "metadata" / name,
                    copy.metadata[name],
                    disk=disk,
                    sync_dir=name == "timestamp.json",
                )
            _sweep(folder, copy, now, disk)
            return len(fresh) + len(changed)


def pack(copy: ViewCopy, fetcher: Fetcher, stream: IO[bytes]) -> None:
    """Write a view as a bundle.

    Raises as mirror, but for StorageError: OSErrors of the stream pass.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as bundle:
        for name, data in copy.metadata.items():
            bundle.addfile(_member(f"metadata/{name}", len(data)), io.BytesIO(data))
        for path, target in copy.artefacts.items():
            bundle.addfile(
                _member(f"targets/{path}", target.length),
                _Checked(target, fetcher.artefact(path, 0)),
            )


def unpack(stream: IO[bytes], folder: Path, *, limits: Limits = _DEFAULT_LIMITS) -> None:
    """Lay a bundle out as a folder for a `DirectoryFetcher`.

    Raises:
        MetadataFormatError: it is not a bundle. TooLargeError: something in it is larger than a
            reader would take.
        StorageError: the disk refused.
    """
    with storage_errors(f"unpacking into {folder}"):
        try:
            with tarfile.open(fileobj=stream, mode="r|") as bundle:
                for member in bundle:
                    _unpack(bundle, member, folder, limits)
        except tarfile.TarError as error:
            raise MetadataFormatError(
                "this is not a bundle, or it broke off: carry the file again"
            ) from error


def _unpack(bundle: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, limits: Limits) -> None:
    kind, _, name = member.name.partition("/")
    known = (kind == "metadata" and is_metadata_name(name)) or (
        kind == "targets" and is_target_path(name)
    )
    place = folder / kind / name
    content = (
        bundle.extractfile(member) if known and member.isreg() and not place.exists() else None
    )
    if content is None:
        raise MetadataFormatError(
            f"{member.name[:100]!r} does not belong into a bundle: do not use this file, and ask"
            " where it came from"
        )
    if member.size > (limits.targets_bytes if kind == "metadata" else limits.artefact_bytes):
        raise TooLargeError(
            f"{member.name} in the bundle is larger than any such file may be: do not use it"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with place.open("xb") as writer:
        while chunk := content.read(CHUNK_BYTES):
            writer.write(chunk)
            left -= len(chunk)
    if left:
        raise MetadataFormatError("the bundle broke off: carry the file again")


class _Checked(io.RawIOBase):
    """An artefact on its way, which must turn out to be what was signed."""

    def __init__(self, target: TargetFile, chunks: Iterator[bytes]) -> None:
        self._target = target
        self._chunks = chunks
        self._rest = b""
        self._digest = hashlib.sha256()
        self._left = target.length

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = chunk
        given, self._rest = (
            (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        )
        self._digest.update(given)
        self._left -= len(given)
        if (
            self._left < 0
            or (not given and self._left)
            or (self._left == 0 and not self._is_right())
        ):
            raise MismatchError(
                f"{self._target.path} is not what was signed: the source is damaged"
            )
        return given

    def _is_right(self) -> bool:
        return self._digest.hexdigest() == self._target.hashes["sha256"]


def _fetch(target: TargetFile, path: str, fetcher: Fetcher, place: Path, disk: Disk) -> None:
    disk.mkdir(place.parent)
    aside = place.with_name(f".{place.name}.new")
    disk.remove(aside)
    try:
        source = _Checked(target, fetcher.artefact(path, 0))
        with aside.open("xb") as writer:
            while chunk := source.read():
                disk.write(writer.fileno(), chunk)
            disk.fsync(writer.fileno())
        disk.replace(aside, place)
    except BaseException:
        disk.remove(aside)
        raise
    fsync_dir(place.parent, disk)


def _sweep(folder: Path, copy: ViewCopy, now: datetime, disk: Disk) -> None:
    """Remove what is out of use for a day; keep a record of since when."""
    record = folder / _RECORD
    try:
        known = cast("dict[str, str]", json.loads(record.read_bytes()))
        since = {str(path): datetime.fromisoformat(time) for path, time in known.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        since = {}
    used = {f"metadata/{name}" for name in copy.metadata} | {
        f"targets/{path}" for path in copy.artefacts
    }
    there = [
        str(path.relative_to(folder))
        for kind in ("metadata", "targets")
        for path in (folder / kind).rglob("*")
        if path.is_file()
    ]
    unused = {path: since.get(path, now) for path in there if path not in used}
    for path in [path for path, time in unused.items() if now - time >= _RETENTION]:
        disk.remove(folder / path)
        del unused[path]
    write_atomic(
        record,
        json.dumps({path: time.isoformat() for path, time in unused.items()}).encode(),
        disk=disk,
    )


def _is_whole(path: Path, target: TargetFile) -> bool:
    """Numbered and hashed files never change; only what a disk did to one is looked for, by its
    length.
    """
    return path.is_file() and path.stat().st_size == target.length


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _version(data: bytes, name: str, source: str) -> int:
    """The version that an unverified file claims for another; the chain verifies it afterwards."""
    try:
        version = cast("dict[str, Any]", json.loads(data))["signed"]["meta"][name]["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MetadataFormatError(
            f"{source}.json names no {name}: this is not the audience's view"
        ) from error
    if type(version) is not int or version < 1:
        raise MetadataFormatError(
            f"{source}.json names no version of {name}: this is not the audience's view"
        )
    return version


def _signed_version(data: bytes) -> int:
    try:
        return int(cast("dict[str, Any]", json.loads(data))["signed"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0  # damaged: replaced
