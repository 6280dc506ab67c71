"""What the commands and the server work with, opened once from the configuration."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tipstaff_server.audit.checkpointer import Checkpointer
from tipstaff_server.clock import utc_now
from tipstaff_server.processes.spans import SpanWork, over_all_subjects
from tipstaff_server.registry.registry import Registry
from tipstaff_server.repository.keyring import lifetimes
from tipstaff_server.repository.published import Published
from tipstaff_server.repository.relief import ReliefPublisher
from tipstaff_server.vault.epochs import EpochKeys
from tipstaff_signing.keys.files import KeyFolder
from tipstaff_signing.repository.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from tipstaff_server.clock import Clock
    from tipstaff_server.config import Config
    from tipstaff_server.domain.spans import Span

__all__ = ["Deployment"]

Item = TypeVar("Item")


class Deployment:
    """Registry, repository and keys of one deployment; a context manager. Thread-safe.

    Opening raises what opening the registry and the repository raise: VaultError, StorageError,
    RepositoryError.
    """

    def __init__(self, config: Config, *, clock: Clock = utc_now) -> None:
        self.config = config
        self.clock = clock
        self.repository = Repository(
            config.path(config.repository.path), clock=clock, lifetimes=lifetimes(config)
        )
        self.registry = Registry.open(config, clock=clock)
        self.store = self.registry.store
        self.epochs = EpochKeys(self.store)

    @cached_property
    def keys(self) -> KeyFolder:
        """The signing keys that lie on this machine.

        Raises KeyFileError when there is no such folder.
        """
        return KeyFolder.load(self.config.path(self.config.repository.keys))

    @cached_property
    def relief(self) -> ReliefPublisher:
        """Publishes relief. Raises KeyFileError when the online keys are not here."""
        return ReliefPublisher(
            self.registry.relief,
            self.repository,
            self.keys,
            segment_size=self.config.publication.relief_segment_size,
            clock=self.clock,
        )

    @cached_property
    def checkpoints(self) -> Checkpointer:
        """Signs the audit log."""
        return Checkpointer.configured(self.config, self.store)

    def published(self, audience: str) -> Published:
        """A snapshot of what is published for an audience."""
        return Published.now(self.repository, audience)

    def over_all_subjects(
        self,
        make: Callable[..., AbstractContextManager[Callable[[Span], Iterable[Item]]]],
        *arguments: Any,
    ) -> Generator[Item]:
        """Yields what `make(deployment, *arguments)` makes of all subjects, shared by all cores.

        See processes/spans.py for `make`, and for errors.
        """
        reopen = partial(type(self), self.config)
        return over_all_subjects(self, self.store.database, SpanWork(reopen, make, arguments))

    def close(self) -> None:
        """Ends threads and connections. May be repeated."""
        self.registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
