"""Fixtures for tests of the SDK over real files and sockets; import the ones a test needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.provider_server import ProviderServer
from tests.support.provider_world import Listed, Operator, resident_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "张三"


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator with fifty people listed and fresh relief."""
    made = Operator(tmp_path / "operator")
    made.publish(people())
    made.refresh()
    return made


@pytest.fixture
def server(operator: Operator) -> Iterator[ProviderServer]:
    """A running server over it."""
    with ProviderServer(operator) as running:
        yield running


def people(count: int = 50) -> list[Listed]:
    """The same people whenever called, with restriction ids that tell them apart."""
    return [
        Listed(resident_id(number), NAME, restriction_ids=[number.to_bytes(16, "big")])
        for number in range(count)
    ]
