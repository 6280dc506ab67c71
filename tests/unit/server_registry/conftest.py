"""A fresh registry for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.registry import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A registry in a folder of its own."""
    made = make_world(tmp_path)
    yield made
    made.registry.close()
