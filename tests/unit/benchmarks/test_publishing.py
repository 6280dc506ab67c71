"""The measurement of builds measures the two kinds of build.

No figure is looked at but for being one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.publishing import measure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("prepared_processes")
def test_a_tiny_run_gives_every_key(tmp_path: Path) -> None:
    figures = measure(tmp_path / "operator", subjects=60, changes=5)
    assert set(figures) == {
        "publish_full_seconds",
        "publish_incremental_seconds",
        "publish_full_mib",
        "publish_incremental_mib",
        "publish_sign_off_seconds",
    }
    assert all(value > 0 for value in figures.values())
