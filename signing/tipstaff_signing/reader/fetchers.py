"""Where a reader gets metadata and artefacts from: the interface, a folder, a bundle in memory.

Network transports live elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol, cast

from tipstaff_signing.errors import (
    MetadataFormatError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from tipstaff_signing.files import CHUNK_BYTES, is_metadata_name, is_target_path, read_capped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["BundleFetcher", "DirectoryFetcher", "Fetcher"]


_SMALL = 16_384


class Fetcher(Protocol):
    """Where metadata and artefacts come from. Nothing that it returns is trusted."""

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """One metadata file, "timestamp.json" or "3.snapshot.json".

        Raises:
            NotFoundError: no such file.
            TooLargeError: it is larger than `max_bytes`.
            UnavailableError: it cannot be had now.
        """
        ...

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """The bytes of one artefact from `offset` on, in pieces; `path` has its hash prefix and is
        relative to the targets folder.

        Raises, at the call or while iterating:
            NotFoundError: no such file.
            UnavailableError: it cannot be had now, or the stream broke.
        """
        ...


class DirectoryFetcher:
    """Fetches from a folder with `metadata/` and `targets/` in it: a mounted mirror, or a stick
    carried to an air-gapped site.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """See Fetcher."""
        if not is_metadata_name(name):
            raise NotFoundError(f"{name!r} is not a metadata file name")
        try:
            return read_capped(self._path / "metadata" / name, max_bytes)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no {name} in {self._path / 'metadata'}") from error
        except OSError as error:
            raise UnavailableError(
                f"{name} cannot be read from {self._path}: {error.strerror}; check the mount"
            ) from error

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """See Fetcher."""
        if not is_target_path(path):
            raise NotFoundError(f"{path!r} is not an artefact path")
        try:
            with (self._path / "targets" / path).open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no {path} in {self._path / 'targets'}") from error
        except OSError as error:
            raise UnavailableError(
                f"{path} cannot be read from {self._path}: {error.strerror}; check the mount"
            ) from error


class BundleFetcher:
    """Fetches from what was pushed."""

    def __init__(self, metadata: Mapping[str, bytes], artefacts: Mapping[str, bytes]) -> None:
        self._metadata = metadata
        self._artefacts = artefacts

    def claimed_version(self) -> int:
        """The version that the bundle's timestamp claims, unverified.

        Raises:
            NotFoundError: it has no timestamp.
            MetadataFormatError: the timestamp is malformed.
        """
        data = self.metadata("timestamp.json", _SMALL)
        try:
            version = cast("object", json.loads(data)["signed"]["version"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MetadataFormatError(
                "timestamp.json in the bundle is not well-formed metadata: the sender is not a"
                " Tipstaff server"
            ) from error
        return version if isinstance(version, int) else 0

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """See Fetcher."""
        data = self._metadata.get(name)
        if data is None:
            raise NotFoundError(f"it lacks {name}")
        if len(data) > max_bytes:
            raise TooLargeError(
                f"{name} in the bundle is larger than {max_bytes} bytes: it is not what it should"
                " be, ask the operator"
            )
        return data

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """See Fetcher."""
        if path not in self._artefacts:
            raise NotFoundError(f"it lacks {path}")
        yield self._artefacts[path][offset:]
