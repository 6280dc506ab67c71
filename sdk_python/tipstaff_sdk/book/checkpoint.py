"""What a run has done so far, beside its result, so that a run that was interrupted goes on where
it was.

The checkpoint says how long result and rejects were when they were last brought to the disk. Going
on cuts both to that length, so the files come to the same bytes as without the interruption. It
goes on only if nothing has changed: the file, what was asked, the listing and relief, and whether
relief is fresh. Otherwise it begins again, because no reader of a result could tell which rows had
which data.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tipstaff_signing.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BookCheckpoint", "Progress", "fingerprint"]

VERSION: Final = 1
_MAX_BYTES: Final = 1 << 20


@dataclass
class Progress:
    """How far a run is. position: where the source goes on. result, rejects: bytes written.
    reasons: rows by `Reason` value.
    """

    position: int
    rows: int
    bad_rows: int
    result: int
    rejects: int
    reasons: dict[int, int]


@dataclass(frozen=True)
class BookCheckpoint:
    """Of a run of one `job` (a digest of everything that shapes the result), which decides for
    `moment`.
    """

    job: str
    moment: datetime
    progress: Progress

    def save(self, path: Path) -> None:
        """Atomically. Raises OSError."""
        content = {
            "version": VERSION,
            "job": self.job,
            "moment": self.moment.isoformat(),
            "progress": asdict(self.progress),
        }
        write_atomic(path, json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path) -> BookCheckpoint | None:
        """None when there is none, or what is there is none: the run then begins again."""
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(_MAX_BYTES))
            if content["version"] != VERSION:
                return None
            progress = Progress(**content["progress"])
            progress.reasons = {
                int(reason): int(times) for reason, times in progress.reasons.items()
            }
            return cls(str(content["job"]), datetime.fromisoformat(content["moment"]), progress)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def fingerprint(parts: object) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
