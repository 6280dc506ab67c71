"""The verified version that is in force on disk: one file, replaced by one rename.

    <state>/cache/current.json
    {"format": 1, "view": "aviation", "root": 1,
     "metadata": {"1.root.json": "{...}", "timestamp.json": "{...}", "snapshot.json": "{...}", ...},
     "retired": {"<sha256>": "2026-07-01T08:00:00+00:00"}}

`metadata` holds the signed files as they were received. `root` is the root under which this version
came into force; a later root may have been learned since from an update that then failed. `retired`
says since when artefacts are unused, so that they are removed later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, cast

from tipstaff_signing.errors import StateCorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Saved"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """See the module. `root` is 0 while no version is in force."""

    view: str
    root: int = 0
    metadata: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    retired: Mapping[str, datetime] = field(default_factory=dict[str, datetime])

    def in_force(self) -> dict[str, bytes]:
        """The metadata without roots learned later."""
        return {
            name: data
            for name, data in self.metadata.items()
            if (number := root_number(name)) is None or number <= self.root
        }

    def to_bytes(self) -> bytes:
        """The file."""
        content = {
            "format": _FORMAT,
            "view": self.view,
            "root": self.root,
            "metadata": {name: data.decode() for name, data in self.metadata.items()},
            "retired": {sha256: since.isoformat() for sha256, since in self.retired.items()},
        }
        return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Saved:
        """Parse the file. Raises StateCorruptError when it is damaged."""
        try:
            content = cast("dict[str, object]", json.loads(data))
            view = {_FORMAT: content["view"]}[cast("int", content["format"])]
            return cls(
                view=str(view),
                root=int(cast("int", content["root"])),
                metadata={
                    name: text.encode()
                    for name, text in cast("dict[str, str]", content["metadata"]).items()
                },
                retired={
                    name: _time(text)
                    for name, text in cast("dict[str, str]", content["retired"]).items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StateCorruptError(
                "current.json is damaged: it is put aside, refresh to fetch everything again"
            ) from error


def root_number(name: str) -> int | None:
    """3 of "3.root.json", None of other names."""
    number = name.removesuffix(".root.json")
    return int(number) if number != name and number.isdecimal() else None


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time
