"""The rejects file: which rows did not go in, and why.

It holds no personal data, so it can be sent back as it is.

    line,column,code,reason_zh,reason_en
    17,证件号码,IDENTIFIER_INVALID,证件号码有误（位数或校验位），请核对原件。,"The number is wrong …"

UTF-8 with a byte order mark, so that spreadsheets open it; mode 0600; it appears under its name
only when the import is through.
"""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Self

from tipstaff_sdk.texts import text
from tipstaff_server.errors import ImportFileError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tipstaff_server.errors import EntryCode

__all__ = ["Rejects"]

HEADER = ("line", "column", "code", "reason_zh", "reason_en")


class Rejects:
    """A with block: the file is kept when the block ends well, and only when there was something to
    write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._aside = path.with_name(f".{path.name}.part")
        try:
            handle = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise ImportFileError(
                f"{self._aside} cannot be written: {error.strerror}; choose another place with"
                " --rejects"
            ) from None
        self._file = os.fdopen(handle, "w", encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(HEADER)

    def add(self, line: int, column: str, code: EntryCode) -> None:
        """One refused row."""
        self.count += 1
        key = f"server.reject.{code}"
        self._writer.writerow((line, column, code, text(key, "zh"), text(key, "en")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is not None:
            self._aside.unlink()
        elif self.count:
            self._aside.replace(self.path)
            self._sync_folder()
        else:
            self._aside.unlink()
            self.path.unlink(missing_ok=True)

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
