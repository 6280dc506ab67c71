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
from typing import TYPE_CHECKING, Any

from tipstaff.v1 import listing_pb2
from tipstaff_signing.errors import NotFoundError
from tipstaff_signing.model import Delta
from tipstaff_signing.names import prefixed_path

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_signing.model import Versions
    from tipstaff_signing.repository.repository import Repository

__all__ = ["Published", "PublishedDelta", "PublishedFile", "Segment", "segment_path"]

_SEGMENT = re.compile(r"relief/[a-z0-9-]{1,40}/(?P<first>[1-9][0-9]*)-(?P<last>[1-9][0-9]*)")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
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


class Published:
    """One audience's published files."""

    def __init__(self, repository: Repository, audience: str) -> None:
        self._repository = repository
        self._audience = audience

    def parameters(self, versions: Versions) -> listing_pb2.ListingParameters | None:
        """The published listing's parameters; None before the first listing."""
        path = f"listing/{self._audience}/parameters"
        target = self._targets(f"{versions.listing}.listing-{self._audience}.json").get(path)
        if target is None:
            return None
        return listing_pb2.ListingParameters.FromString(self.read(_stored(path, target)))

    def catalogue(self, versions: Versions) -> bytes:
        """The published catalogue's bytes."""
        target = self._targets(f"{versions.targets}.targets.json")["catalogue"]
        return self.read(_stored("catalogue", target))

    def path(self, target: str, versions: Versions) -> Path:
        """The file of a target of the published listing.

        Raises KeyError when the listing has none of that path.
        """
        targets = self._targets(f"{versions.listing}.listing-{self._audience}.json")
        return self._repository.artefact_path(self._audience, _stored(target, targets[target]))

    def find(self, target: str, versions: Versions) -> PublishedFile | None:
        """A file of the published listing; None when it has none of that path, or the file is gone."""
        found = self._targets(f"{versions.listing}.listing-{self._audience}.json").get(target)
        try:
            return None if found is None else PublishedFile(target, *self._file(target, found))
        except NotFoundError:
            return None

    def chain(self, target: str, versions: Versions) -> list[PublishedDelta]:
        """The published deltas that lead to the published version of `target`, in the order in
        which they are applied.

        The chain begins after a delta whose file is gone.
        """
        targets = self._targets(f"{versions.listing}.listing-{self._audience}.json")
        leading: dict[str, PublishedDelta] = {}
        for path, found in targets.items():
            fields = found.get("custom", {}).get("delta")
            if fields and fields["target"] == target:
                with suppress(NotFoundError):
                    leading[fields["result"]] = PublishedDelta(
                        path, *self._file(path, found), Delta(**fields)
                    )
        chain: list[PublishedDelta] = []
        at = targets[target]["hashes"]["sha256"] if target in targets else ""
        # Each is taken once, so that a circle comes to an end.
        while at in leading:
            chain.insert(0, leading.pop(at))
            at = chain[0].delta.base
        return chain

    def segments(self, versions: Versions) -> list[Segment]:
        """The published relief segments, ascending."""
        found: list[Segment] = []
        for path, target in self._targets(
            f"{versions.relief}.relief-{self._audience}.json"
        ).items():
            if match := _SEGMENT.fullmatch(path):
                found.append(
                    Segment(int(match["first"]), int(match["last"]), _stored(path, target))
                )
        return sorted(found)

    def relief_head(self, versions: Versions) -> int:
        """The last sequence that is worked into the listing or covered by a segment; 0 before the
        first listing.
        """
        segments = self.segments(versions)
        parameters = self.parameters(versions)
        return max(
            segments[-1].last if segments else 0, parameters.relief_sequence if parameters else 0
        )

    def relief_signed_at(self, versions: Versions) -> datetime:
        """When relief was signed last, as its metadata say."""
        signed = self._signed(f"{versions.relief}.relief-{self._audience}.json")
        return datetime.fromisoformat(signed["signed_at"])

    def read(self, stored: str) -> bytes:
        """An artefact's bytes, by its path with hash prefix."""
        return self._repository.artefact_path(self._audience, stored).read_bytes()

    def _file(self, path: str, target: dict[str, Any]) -> tuple[Path, int, str]:
        return (
            self._repository.artefact_path(self._audience, _stored(path, target)),
            target["length"],
            target["hashes"]["sha256"],
        )

    def _targets(self, name: str) -> dict[str, Any]:
        targets: dict[str, Any] = self._signed(name)["targets"]
        return targets

    def _signed(self, name: str) -> dict[str, Any]:
        metadata = json.loads(self._repository.metadata_path(self._audience, name).read_bytes())
        signed: dict[str, Any] = metadata["signed"]
        return signed


def _stored(path: str, target: dict[str, Any]) -> str:
    return prefixed_path(path, target["hashes"]["sha256"])
