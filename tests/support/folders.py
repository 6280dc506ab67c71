"""Folders in memory, where there is a file system in memory with room: hardly any test is about the
disk, and much of what the others would wait for is `fsync`.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # a container's default is 64 MiB


@cache
def memory() -> Path | None:
    """Returns the file system in memory, or None when there is none or it is small."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy else None


def scratch(prefix: str = "tipstaff-") -> Path:
    """Makes a folder, in memory if there is room; whoever asks for it removes it."""
    return Path(mkdtemp(prefix=prefix, dir=memory()))


def keep_in_memory() -> None:
    """Puts `tmp_path` in memory from now on."""
    if (place := memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))
