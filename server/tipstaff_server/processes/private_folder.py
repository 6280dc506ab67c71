"""A folder that one process on this machine has to itself, for files that nobody else should see or
change.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tipstaff_server.errors import PublicationError
from tipstaff_signing.files import FileLock, storage_errors

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["private_folder"]

PRIVATE: Final = 0o700
LOCK_SECONDS: Final = 1.0


@contextmanager
def private_folder(place: Path, audience: str, what: str) -> Generator[Path]:
    """Gives the folder `place`/`audience`, empty, for this user alone, and removes it in the end.

    What a killed process left there is removed first.

    Args:
        place: The folder around it; it is made where it is missing.
        audience: Whom the work is for.
        what: The work in a word, for messages: "build".

    Raises:
        PublicationError: Another one for the audience is running.
        StorageError: The disk refuses.
    """
    with storage_errors(f"preparing a {what} for {audience}"):
        place.mkdir(mode=PRIVATE, exist_ok=True)
        lock = FileLock(place / f"{audience}.lock", timeout=LOCK_SECONDS)
        if not lock.acquire():
            raise PublicationError(f"another {what} for {audience} is running; wait for it")
    folder = place / audience
    try:
        with storage_errors(f"preparing a {what} for {audience}"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=PRIVATE)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
