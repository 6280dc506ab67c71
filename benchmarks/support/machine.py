"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["facts", "load"]

_LIBRARIES = (
    "numpy",
    "cryptography",
    "pyarrow",
    "abloom",
    "bloom-filter2",
    "fastbloom-rs",
    "pybloomfiltermmap3",
    "pyfusefilter",
    "rbloom",
    "redis",
)


def facts() -> dict[str, object]:
    """Processor, memory, software, and when."""
    return {
        "processor": _first(Path("/proc/cpuinfo"), r"model name\s*:\s*(.*)")
        or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "l2_kib": _cache(2),
        "l3_kib": _cache(3),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "virtual": "hypervisor" in (_first(Path("/proc/cpuinfo"), r"flags\s*:\s*(.*)") or ""),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def load() -> float:
    """Processes that wanted a core, mean of the last minute."""
    return round(os.getloadavg()[0], 2)


def _first(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else found[1].strip()


def _cache(level: int) -> int | None:
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if _first(folder / "level", r"(\d+)") == str(level):
            size = _first(folder / "size", r"(\d+)K")
            return None if size is None else int(size)
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
