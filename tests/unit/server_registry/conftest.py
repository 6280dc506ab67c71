"""A fresh registry for each test, on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.registry import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A registry on SQLite, then one on PostgreSQL."""
    made = make_world(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    """A registry on SQLite only: for what does not touch SQL, or is about SQLite."""
    made = make_world(tmp_path)
    yield made
    made.close()
