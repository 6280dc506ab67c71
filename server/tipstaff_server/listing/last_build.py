"""What the last build of an audience leaves for the next one:

`.build/<audience>.kept/`, for this user alone.

    state              SHA-256 of the rest (64 hexadecimal digits), a line feed, and `Kept` as JSON
    rows-<16 digits>   which numbers are listed, and what each put in (rows.py)
    pack-<16 digits>   the sealed records

`state` names the other two, with length and SHA-256, and is replaced last: a build that is killed
leaves what was there. It belongs to what was last *built*, whether that was signed off and
published or not. Nothing in it is believed that does not fit: the next build is then from scratch.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tipstaff_server.errors import BuildStateError
from tipstaff_signing.errors import TooLargeError
from tipstaff_signing.files import DISK, fsync_dir, read_capped, sha256_file, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_signing.files import Disk

__all__ = ["BuildStates", "Kept", "KeptFile", "describe"]

STATE: Final = "state"
MOST_BYTES: Final = 1 << 16
PRIVATE: Final = 0o600
NO_STATE: Final = "there is no build to go on from"

Hex256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptFile(_Part):
    """One of the other files."""

    name: Annotated[str, Field(pattern="^(rows|pack)-[0-9a-f]{16}$")]
    length: Count
    sha256: Hex256


class Kept(_Part):
    """The build that was made last, in facts.

    `grounds`: what every record rests on beside the registry's entries, by name. `audit_sequence`
    and `audit_digest`: the entry of the audit log up to which acts are worked in. `built_at`: the
    moment as of which terms were looked at; `scratch_at`: the same, of the last build that read
    everybody.
    """

    version: Literal[1] = 1
    grounds: dict[str, str]
    audit_sequence: Count
    audit_digest: Hex256
    built_at: AwareDatetime
    scratch_at: AwareDatetime
    subjects: Count
    records: Count
    rows: KeptFile
    pack: KeptFile


def describe(path: Path, name: str) -> KeptFile:
    """A file as it will be kept, under a new name."""
    length, sha256 = sha256_file(path)
    return KeptFile(name=f"{name}-{secrets.token_hex(8)}", length=length, sha256=sha256)


class BuildStates:
    """See the module. The caller holds the build's lock. OSErrors pass through."""

    def __init__(self, folder: Path, *, disk: Disk = DISK) -> None:
        self._folder = folder
        self._disk = disk

    def path(self, file: KeptFile) -> Path:
        """Where a kept file lies."""
        return self._folder / file.name

    def load(self) -> Kept:
        """What the last build left.

        Raises BuildStateError: there is none, or one that is not as it was written.
        """
        try:
            content = read_capped(self._folder / STATE, MOST_BYTES)
        except FileNotFoundError:
            raise BuildStateError(NO_STATE, damaged=False) from None
        except TooLargeError:
            raise BuildStateError("the kept state is larger than any") from None
        digest, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise BuildStateError("the kept state is damaged")
        try:
            kept = Kept.model_validate_json(body)
        except ValidationError:
            # With a right checksum: another version of this program wrote it.
            raise BuildStateError("the kept state is another program's", damaged=False) from None
        for file in (kept.rows, kept.pack):
            if not self.path(file).is_file() or self.path(file).stat().st_size != file.length:
                raise BuildStateError("a kept file is missing or cut off")
        return kept

    def keep(self, kept: Kept, rows: Path, pack: Path) -> None:
        """Moves the two files in, which are of this file system, and puts `kept`, which names them,
        in the place of the one before.
        """
        self._disk.mkdir(self._folder)
        for source, file in ((rows, kept.rows), (pack, kept.pack)):
            source.chmod(PRIVATE)
            self._disk.replace(source, self.path(file))
        fsync_dir(self._folder, self._disk)
        body = kept.model_dump_json().encode()
        digest = hashlib.sha256(body).hexdigest().encode()
        write_atomic(self._folder / STATE, digest + b"\n" + body, mode=PRIVATE, disk=self._disk)
        self.sweep(kept)

    def forget(self) -> None:
        """Removes everything: there will be nothing to go on from."""
        self._disk.remove(self._folder / STATE)
        self.sweep(None)

    def sweep(self, kept: Kept | None) -> None:
        """Removes what `kept` does not name: files of builds that were killed, or before."""
        if self._folder.is_dir():
            named = {STATE, kept.rows.name, kept.pack.name} if kept else {STATE}
            for path in self._folder.iterdir():
                if path.name not in named:
                    self._disk.remove(path)
