"""One builder at a time, on however many machines: a lock in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import postgres
from tests.support.server import make
from tipstaff_server.deployment import Deployment
from tipstaff_server.errors import PublicationError
from tipstaff_server.listing.build import build
from tipstaff_server.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database, which the configuration then names."""
    name = postgres().create()
    monkeypatch.setenv("TIPSTAFF_SERVER__DATABASE__URL", postgres().url(name))
    yield postgres().url(name)
    postgres().drop(name)


def test_a_working_directory_on_postgresql_builds_unless_another_machine_does(
    tmp_path: Path, url: str
) -> None:
    config = make(tmp_path / "office")
    other = Database(url)
    with Deployment(config) as runtime:
        with other.exclusive("build/aviation") as theirs:
            assert theirs
            with pytest.raises(PublicationError, match="another machine"):
                build(runtime, "aviation")
        assert build(runtime, "aviation").audience == "aviation"
    other.close()
