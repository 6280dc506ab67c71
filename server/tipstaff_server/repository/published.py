"""What is published for one audience, read back from the repository: the listing's parameters and
the relief segments.

The publishers work from what is signed and on disk rather than from memory of their own, so that a
restart, another process or another replica changes nothing.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from tipstaff.v1 import listing_pb2
from tipstaff_signing.errors import NotFoundError
from tipstaff_signing.model import Delta
from tipstaff_signing.names import prefixed_path

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_signing.model import Versions
    from tipstaff_signing.repository.repository import Repository

__all__ = ["Published", "PublishedDelta", "PublishedFile", "PublishedSegment", "segment_path"]

_SEGMENT = re.compile(r"relief/[a-z0-9-]{1,40}/(?P<first>[1-9][0-9]*)-(?P<last>[1-9][0-9]*)")


@dataclass(frozen=True, slots=True, order=True)
class PublishedSegment:
    """A published relief segment: the sequences that it covers, and where its bytes lie (with hash
    prefix).
    """

    first: int
    last: int
    stored: str


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of the published listing, by its target path."""

    path: str
    file: Path
    length: int  # bytes
    sha256: str  # hexadecimal


@dataclass(frozen=True, slots=True)
class PublishedDelta(PublishedFile):
    """One that is a delta."""

    delta: Delta


def segment_path(audience: str, first: int, last: int) -> str:
    """Target path of the segment that covers first..last."""
    return f"relief/{audience}/{first}-{last}"


@dataclass(frozen=True)
class Published:
    """A snapshot of one audience's published files: one version, whatever is published meanwhile."""

    repository: Repository
    audience: str
    versions: Versions

    @classmethod
    def now(cls, repository: Repository, audience: str) -> Self:
        """What is published at this moment. Raises what `Repository.versions` raises."""
        return cls(repository, audience, repository.versions(audience))

    def parameters(self) -> listing_pb2.ListingParameters | None:
        """The listing's parameters; None before the first listing."""
        path = f"listing/{self.audience}/parameters"
        target = self._listing.get(path)
        if target is None:
            return None
        return listing_pb2.ListingParameters.FromString(self.read(_stored(path, target)))

    def catalogue(self) -> bytes:
        """The catalogue's bytes."""
        target = self._targets(f"{self.versions.targets}.targets.json")["catalogue"]
        return self.read(_stored("catalogue", target))

    def path(self, target: str) -> Path:
        """The file of a target of the listing.

        Raises:
            KeyError: The listing has none of that path.
        """
        stored = _stored(target, self._listing[target])
        return self.repository.artefact_path(self.audience, stored)

    def find(self, target: str) -> PublishedFile | None:
        """A file of the listing; None when it has none of that path, or the file is gone."""
        fields = self._listing.get(target)
        try:
            return None if fields is None else PublishedFile(target, *self._file(target, fields))
        except NotFoundError:
            return None

    def chain(self, target: str) -> list[PublishedDelta]:
        """The deltas that lead to the published `target`, in the order in which they are applied.

        The chain begins after a delta whose file is gone.
        """
        targets = self._listing
        leading: dict[str, PublishedDelta] = {}
        for path, fields in targets.items():
            delta = fields.get("custom", {}).get("delta")
            if delta and delta["target"] == target:
                with suppress(NotFoundError):
                    leading[delta["result"]] = PublishedDelta(
                        path, *self._file(path, fields), Delta(**delta)
                    )
        chain: list[PublishedDelta] = []
        at = targets[target]["hashes"]["sha256"] if target in targets else ""
        # Each is taken once, so that a circle comes to an end.
        while at in leading:
            chain.insert(0, leading.pop(at))
            at = chain[0].delta.base
        return chain

    def segments(self) -> list[PublishedSegment]:
        """The relief segments, ascending."""
        segments: list[PublishedSegment] = []
        for path, target in self._targets(self._relief_name).items():
            if match := _SEGMENT.fullmatch(path):
                segments.append(
                    PublishedSegment(int(match["first"]), int(match["last"]), _stored(path, target))
                )
        return sorted(segments)

    def relief_head(self) -> int:
        """The last sequence that is worked into the listing or covered by a segment; 0 before the
        first listing.
        """
        segments = self.segments()
        parameters = self.parameters()
        return max(
            segments[-1].last if segments else 0, parameters.relief_sequence if parameters else 0
        )

    def relief_signed_at(self) -> datetime:
        """When relief was signed last, as its metadata say."""
        return datetime.fromisoformat(self._signed(self._relief_name)["signed_at"])

    def read(self, stored: str) -> bytes:
        """An artefact's bytes, by its path with hash prefix."""
        return self.repository.artefact_path(self.audience, stored).read_bytes()

    @cached_property
    def _listing(self) -> dict[str, Any]:
        """The listing's targets, by path."""
        return self._targets(f"{self.versions.listing}.listing-{self.audience}.json")

    @property
    def _relief_name(self) -> str:
        return f"{self.versions.relief}.relief-{self.audience}.json"

    def _file(self, path: str, target: dict[str, Any]) -> tuple[Path, int, str]:
        return (
            self.repository.artefact_path(self.audience, _stored(path, target)),
            target["length"],
            target["hashes"]["sha256"],
        )

    def _targets(self, name: str) -> dict[str, Any]:
        targets: dict[str, Any] = self._signed(name)["targets"]
        return targets

    def _signed(self, name: str) -> dict[str, Any]:
        metadata = json.loads(self.repository.metadata_path(self.audience, name).read_bytes())
        signed: dict[str, Any] = metadata["signed"]
        return signed


def _stored(path: str, target: dict[str, Any]) -> str:
    return prefixed_path(path, target["hashes"]["sha256"])
