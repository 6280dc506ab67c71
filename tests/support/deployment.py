"""A whole deployment on disk under an injected clock: registry, builder, sign-off, repository, and
a provider that reads a mirror.
"""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

from tests.support.folders import scratch
from tests.support.registry import TurnableClock
from tests.support.server import make
from tipstaff_sdk import Screener
from tipstaff_sdk.keys.store import FileKeyStore
from tipstaff_sdk.settings import Settings
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment as ServerDeployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.signoff.sign_off import sign_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tipstaff_server.listing.reader import ListingSubject


@cache
def _template(audience: str) -> tuple[Path, datetime]:
    """A deployment that was just set up, and a moment after: made once, because keys and tables
    take a second.
    """
    folder = scratch()
    atexit.register(shutil.rmtree, folder)
    make(folder / "operator", providers=(f"{audience}/provider-1",))
    return folder / "operator", datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(
        minutes=1
    )


@dataclass
class Deployment:
    """One operator and one provider of one audience.

    `clock` is the operator's; the provider's runs `skew` besides.
    """

    audience: str = "hospitality"
    folder: Path = field(default_factory=scratch)
    skew: timedelta = timedelta()

    def __post_init__(self) -> None:
        template, began = _template(self.audience)
        shutil.copytree(template, self.folder / "operator")
        self.clock = TurnableClock(began)
        self.runtime = ServerDeployment(Config.load(self.folder / "operator"), clock=self.clock)
        self.state_dir = self.folder / "state"
        self.mirror = self.folder / "mirror"
        self.state_dir.mkdir(mode=0o700)
        self.go_online()
        epochs = self.runtime.epochs.in_use(self.audience)
        FileKeyStore(self.state_dir / "epoch-keys.json").save(
            {epoch.number: epoch.key for epoch in epochs}
        )
        self.settings = Settings(
            audience=self.audience,
            state_dir=self.state_dir,
            mirror_dir=self.mirror,
            trusted_root_file=self.folder / "operator" / "providers" / "provider-1" / "root.json",
            key_store="file",
            background=False,
        )
        self.screener = self._open()

    def provider_clock(self) -> datetime:
        """The time by the provider's clock."""
        return self.clock.now + self.skew

    def _open(self) -> Screener:
        return Screener(self.settings, clock=self.provider_clock)

    def restart(self) -> None:
        """Starts the provider's process again, on what is on its disk."""
        self.screener.close()
        self.screener = self._open()

    def publish(self, meanwhile: Callable[[], None] | None = None) -> None:
        """A listing of what stands in the registry now: built, signed off, published.

        `meanwhile`: when the build has begun to read.
        """
        read = ListingReader.subjects

        def interrupted(reader: ListingReader, *arguments: Any) -> Iterator[ListingSubject]:
            if meanwhile is not None:
                meanwhile()
            return read(reader, *arguments)

        with patch.object(ListingReader, "subjects", interrupted):
            build(self.runtime, self.audience, from_scratch=meanwhile is not None)
        sign_off(self.runtime, self.audience, accept_growth=True)
        publishing.publish(self.runtime, self.audience)

    def relieve(self) -> None:
        """Publishes relief, as the server does within a second of every act."""
        self.runtime.relief.publish(self.audience)

    def sign_again(self) -> None:
        """Signs relief again, as the server does every few minutes."""
        self.runtime.relief.refresh(self.audience, timedelta(0))

    def go_offline(self) -> None:
        """Takes the mirror out of reach."""
        self.mirror.unlink(missing_ok=True)

    def go_online(self) -> None:
        """Puts the mirror in reach."""
        if not self.mirror.is_symlink():
            self.mirror.symlink_to(self.runtime.repository.path / self.audience)

    def close(self) -> None:
        """Closes both sides and removes the folder."""
        self.screener.close()
        self.runtime.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
