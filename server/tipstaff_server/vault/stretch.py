"""Which stretch is in use, and the stretched form of an identifier under one of them.

    current     how identifiers are stretched as they are entered: `identifiers.stretched`
    newest      what a new epoch uses: the current one, or the next, once it is ready

An epoch keeps the stretch that it began with, and a listing says it in its signed parameters.
`Stretched` gives S under one of them whatever a change is doing meanwhile
(registry/keys/stretch_change.py): every value is found by the state that the same transaction sees.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import select

from tipstaff_sdk.listing.sealing import Stretch
from tipstaff_server.errors import NotFoundError, StretchRetiredError
from tipstaff_server.storage.models import IdentifierRow, StretchRow, StretchState
from tipstaff_server.vault.columns import NEXT_STRETCHED, STRETCHED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from sqlalchemy.orm import Session

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_server.vault.vault import Vault

__all__ = [
    "IDENTIFIER",
    "NumberedStretch",
    "StretchPool",
    "Stretched",
    "current",
    "newest",
    "of_number",
]

IDENTIFIER = (
    IdentifierRow.subject_id,
    IdentifierRow.blind,
    IdentifierRow.value,
    IdentifierRow.stretched,
    IdentifierRow.next_stretched,
)
"""Columns to select for `Stretched.of`."""
ENTERED_BY = (StretchState.CURRENT, StretchState.TAKING_OVER)
FOR_EPOCHS = (*ENTERED_BY, StretchState.READY)


@dataclass(frozen=True, slots=True)
class NumberedStretch:
    """A stretch, its number, and where it stood when it was read."""

    number: int
    stretch: Stretch
    state: StretchState

    @classmethod
    def of(cls, row: StretchRow) -> NumberedStretch:
        """From its row."""
        return cls(row.number, Stretch(salt=row.salt, n=row.n, r=row.r, p=row.p), row.state)


def current(session: Session) -> NumberedStretch:
    """The one that identifiers are entered with.

    Raises NotFoundError in a database without a registry.
    """
    return _one(session, ENTERED_BY)


def newest(session: Session) -> NumberedStretch:
    """The one that an epoch made now uses."""
    return _one(session, FOR_EPOCHS)


def of_number(session: Session, number: int) -> NumberedStretch:
    """Any of them. Raises NotFoundError."""
    row = session.scalar(
        select(StretchRow)
        .where(StretchRow.number == number)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFoundError(f"there is no stretch {number} in this registry")
    return NumberedStretch.of(row)


def _one(session: Session, states: tuple[StretchState, ...]) -> NumberedStretch:
    query = (
        select(StretchRow)
        .where(StretchRow.state.in_(states))
        .order_by(StretchRow.number.desc())
        .limit(1)
    )
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise NotFoundError("the database holds no registry yet; run `tipstaff-server init`")
    return NumberedStretch.of(row)


class Stretched:
    """S of identifiers under the stretch `number`, for rows read in the same transaction as this.

    Raises StretchRetiredError: its values are no longer kept, or not yet; NotFoundError: there is
    none of that number.
    """

    def __init__(self, session: Session, vault: Vault, number: int | None = None) -> None:
        self._vault = vault
        numbered = current(session) if number is None else of_number(session, number)
        if numbered.state not in FOR_EPOCHS:
            raise StretchRetiredError(
                f"stretch {numbered.number} is {numbered.state.lower()}: build again, with the epoch that"
                " is in use now"
            )
        self._stretch, self._state = numbered.stretch, numbered.state

    def of(self, row: Any, identifier: Identifier) -> bytes:
        """32 bytes. `row` has the columns of IDENTIFIER.

        Of what was entered since the next stretch was ready it may have to be computed, which takes
        its time.
        """
        if self._state is not StretchState.CURRENT and row.next_stretched is not None:
            return self._vault.decrypt(NEXT_STRETCHED, row.blind, row.next_stretched)
        if self._state is StretchState.READY:
            return self._stretch.stretch(identifier)
        return self._vault.decrypt(STRETCHED, row.blind, row.stretched)


class StretchPool:
    """A pool of threads over `Stretch`.

    Threads start at the first use; `close` (or a with block) ends them.

    `number` is that of the stretch in use; whoever computes first and writes later compares it in
    between.
    """

    def __init__(self, stretch: Stretch, *, threads: int, number: int = 1) -> None:
        self.stretch = stretch
        self.number = number
        self.threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="stretch")

    def submit(self, identifier: Identifier) -> Future[bytes]:
        """Starts stretching; the future gives 32 bytes."""
        return self._pool.submit(self.stretch.stretch, identifier)

    def submit_many(self, identifiers: Sequence[Identifier]) -> Future[list[bytes]]:
        """Starts stretching several, one after another in one thread; the future gives 32 bytes for
        each, in order.
        """
        return self._pool.submit(
            lambda: [self.stretch.stretch(identifier) for identifier in identifiers]
        )

    def close(self) -> None:
        """Ends the threads, dropping what has not been begun. May be repeated."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
