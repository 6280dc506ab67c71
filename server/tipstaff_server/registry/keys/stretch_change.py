"""Changing how identifiers are stretched, while everything goes on.

    PREPARING ──► READY ──► TAKING_OVER ──► CURRENT ──► RETIRED
        └────────────┴────► CANCELLING ───► CANCELLED

1. `begin`: the next stretch gets a number. Entries go on with the current one, and listings too.
2. `fill` computes it for every identifier, a batch at a time, beside the value that is there
   (`identifiers.next_stretched`). Stopped at any point it goes on where it was: what is missing is
   what has no value. When none is missing, the stretch is READY.
3. From then on a new epoch uses it (vault/epochs.py). Listings of epochs before go on with theirs,
   so providers that hold either decide right; who builds for the new one computes what was entered
   since `fill`, and `tend` keeps that little.
4. Once no epoch in use is of the old one, `tend` takes over: entries use the new stretch, and its
   values move to where the old ones were, a batch at a time; a reader takes the moved or the
   unmoved one. When none is left to move, it is CURRENT, the old one RETIRED.
5. `cancel`, before an epoch uses it, drops what was computed.

Every change of state happens in an act: those lock the audit log's head, so no entry overlaps one.
A batch holds its stretch's row against them instead.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sqlalchemy import bindparam, func, select, update

from tipstaff_sdk.errors import TipstaffError
from tipstaff_sdk.listing.sealing import SALT_SIZE, Stretch
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.errors import InvalidRequestError, LifecycleError
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import EpochKeyRow, IdentifierRow, StretchRow, StretchState
from tipstaff_server.vault import stretch as stretches
from tipstaff_server.vault.columns import NEXT_STRETCHED, NUMBER, STRETCHED, identifier_of
from tipstaff_server.vault.lock import lock_head
from tipstaff_server.vault.stretch import NumberedStretch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.orm import Session

    from tipstaff_server.domain.actors import Actor

__all__ = ["LEAST_COST", "StretchChange", "StretchProgress"]

LEAST_COST = (1 << 12) * 8
"""n * r * p of the default: about 10 ms a guess for whoever holds files and key
(docs/threat-model.md).
"""
BATCH = 1_000
TENDED = 20
"""Batches that `tend` moves or clears at once: some seconds, so that a server's loop goes on."""
UNFINISHED = (
    StretchState.PREPARING,
    StretchState.READY,
    StretchState.TAKING_OVER,
    StretchState.CANCELLING,
)
_TABLE = cast("Table", IdentifierRow.__table__)
_FILL = (
    update(_TABLE)
    .where(_TABLE.c.blind == bindparam("row"), _TABLE.c.next_stretched.is_(None))
    .values(next_stretched=bindparam("new"))
)
_MOVE = (
    update(_TABLE)
    .where(_TABLE.c.blind == bindparam("row"))
    .values(stretched=bindparam("new"), next_stretched=None)
)


@dataclass(frozen=True, slots=True)
class StretchProgress:
    """A change that is under way.

    Attributes:
        coming: the stretch to come.
        done: how many identifiers have its value.
        all: how many identifiers there are.
    """

    coming: NumberedStretch
    done: int
    all: int


class StretchChange(RegistryPart):
    """What changes the stretch. Any number of processes may use it at once."""

    def under_way(self) -> StretchProgress | None:
        """The change that has begun and is not over; None when there is none."""
        with self._store.read() as session:
            coming = _unfinished(session)
            if coming is None:
                return None
            counts = select(func.count(IdentifierRow.next_stretched), func.count())
            done, every = session.execute(counts.select_from(IdentifierRow)).one()
        return StretchProgress(coming, done, every)

    def begin(
        self, *, n: int, r: int, p: int, new_salt: bool, weaker: bool, actor: Actor
    ) -> NumberedStretch:
        """Takes step 1. The same change again goes on with the one that has begun.

        Raises:
            InvalidRequestError: no scrypt cost, nothing would change, or weaker than now or than
                LEAST_COST and not `weaker`.
            LifecycleError: another change is under way.
        """
        with self._store.act(actor) as unit:
            now, coming = stretches.current(unit.session), _unfinished(unit.session)
            if coming is not None:
                return _same(now, coming, (n, r, p), new_salt=new_salt)
            wanted = _checked(now.stretch, (n, r, p), new_salt=new_salt, weaker=weaker)
            number = (unit.session.scalar(select(func.max(StretchRow.number))) or 0) + 1
            row = StretchRow(
                number=number,
                salt=wanted.salt,
                n=n,
                r=r,
                p=p,
                state=StretchState.PREPARING,
                begun_at=unit.now,
                ready_at=None,
            )
            unit.session.add(row)
            facts = {"n": n, "r": r, "p": p, "new_salt": new_salt}
            unit.note(AuditAct.BEGIN_STRETCH, _object(number), detail=facts)
            return NumberedStretch.of(row)

    def fill(
        self, number: int, progress: Callable[[int, int], None] = lambda _done, _all: None
    ) -> None:
        """Takes step 2 to its end: a stretch for each identifier, on all cores.

        Raises:
            LifecycleError: it was cancelled meanwhile.
            DatabaseUnavailableError: start it again then; nothing is lost.
        """
        threads = self._store.stretcher.threads
        with ThreadPoolExecutor(threads, thread_name_prefix="restretch") as pool:
            while True:
                self._fill_all(number, pool, progress)
                if self._ready(number):
                    return

    def _fill_all(
        self, number: int, pool: ThreadPoolExecutor, progress: Callable[[int, int], None]
    ) -> None:
        change, last = self.under_way(), b""
        done, every = (0, 0) if change is None else (change.done, change.all)
        while rows := self._fill_batch(number, pool, last):
            last = rows[-1]
            done += len(rows)
            progress(done, max(done, every))

    def _fill_batch(self, number: int, pool: ThreadPoolExecutor, last: bytes) -> list[bytes]:
        """Computes outside a transaction, and writes where nobody else has meanwhile; the rows that
        it was about.
        """
        vault = self._store.vault
        with self._store.read() as session:
            stretch = stretches.of_number(session, number).stretch
            missing = select(IdentifierRow.blind, IdentifierRow.value).where(
                IdentifierRow.next_stretched.is_(None)
            )
            rows = session.execute(
                missing.where(IdentifierRow.blind > last).order_by(IdentifierRow.blind).limit(BATCH)
            ).all()
        numbers = [vault.decrypt(NUMBER, row.blind, row.value) for row in rows]
        identifiers = [identifier_of(number) for number in numbers]
        values = list(pool.map(stretch.stretch, identifiers))
        with self._store.write() as session:
            if rows:
                lock_head(session, vault)
            _hold(session, number, (StretchState.PREPARING, StretchState.READY))
            values_found = [
                {"row": row.blind, "new": vault.encrypt(NEXT_STRETCHED, row.blind, value)}
                for row, value in zip(rows, values, strict=True)
            ]
            if values_found:
                session.connection().execute(_FILL, values_found)
        return [row.blind for row in rows]

    def _ready(self, number: int) -> bool:
        """Whether it is READY: not while an identifier lacks its value."""
        with self._store.act() as unit:
            row = _hold(unit.session, number, (StretchState.PREPARING, StretchState.READY))
            if (
                unit.session.scalar(
                    select(IdentifierRow.blind)
                    .where(IdentifierRow.next_stretched.is_(None))
                    .limit(1)
                )
                is not None
            ):
                return False
            if row.state is StretchState.PREPARING:
                row.state, row.ready_at = StretchState.READY, unit.now
                unit.note(AuditAct.STRETCH_READY, _object(number))
        return True

    def cancel(self, *, actor: Actor) -> int:
        """Takes step 5 to its end; gives the number of the stretch.

        Raises:
            LifecycleError: there is nothing to cancel, or an epoch uses it already.
        """
        with self._store.act(actor) as unit:
            coming = _unfinished(unit.session)
            if coming is None or coming.state is StretchState.TAKING_OVER:
                raise LifecycleError("no change of stretch is under way that could be cancelled")
            if (
                unit.session.scalar(
                    select(EpochKeyRow.epoch).where(EpochKeyRow.stretch == coming.number).limit(1)
                )
                is not None
            ):
                raise LifecycleError(
                    "an epoch uses the new stretch already, so it cannot be cancelled: let it"
                    " finish, then change the stretch back"
                )
            row = _hold(
                unit.session,
                coming.number,
                (StretchState.PREPARING, StretchState.READY, StretchState.CANCELLING),
            )
            if row.state is not StretchState.CANCELLING:
                row.state = StretchState.CANCELLING
                unit.note(AuditAct.CANCEL_STRETCH, _object(coming.number))
        while not self._clear(coming.number):
            pass
        return coming.number

    def tend(self, batches: int = TENDED) -> StretchState | None:
        """Takes steps 3 to 5 as far as their time has come, some batches at a time.

        For a server's loop. `fill` is not its business.

        Returns:
            How it stands then; None: nothing is under way.
        """
        with self._store.read() as session:
            coming = _unfinished(session)
        if coming is None or coming.state is StretchState.PREPARING:
            return None if coming is None else coming.state
        if coming.state is StretchState.READY and not (
            self._kept_up(coming.number) and self._take_over(coming.number)
        ):
            return coming.state
        step = self._clear if coming.state is StretchState.CANCELLING else self._move
        for _ in range(batches):
            if step(coming.number):
                return None
        return (
            StretchState.CANCELLING
            if coming.state is StretchState.CANCELLING
            else StretchState.TAKING_OVER
        )

    def _kept_up(self, number: int) -> bool:
        """One batch of what was entered since; whether that was all."""
        with ThreadPoolExecutor(1, thread_name_prefix="restretch") as pool:
            return len(self._fill_batch(number, pool, b"")) < BATCH

    def _take_over(self, number: int) -> bool:
        """Whether the new stretch is what entries use: not while an epoch of another one is in use,
        or a value is missing.
        """
        with self._store.act() as unit:
            row = _hold(unit.session, number, (StretchState.READY, StretchState.TAKING_OVER))
            if row.state is StretchState.TAKING_OVER:
                return True
            in_use = (EpochKeyRow.retired_at.is_(None)) | (EpochKeyRow.retired_at > unit.now)
            others = select(EpochKeyRow.epoch).where(EpochKeyRow.stretch != number, in_use).limit(1)
            missing = (
                select(IdentifierRow.blind).where(IdentifierRow.next_stretched.is_(None)).limit(1)
            )
            of_its_own = select(EpochKeyRow.epoch).where(EpochKeyRow.stretch == number).limit(1)
            if (
                any(unit.session.scalar(query) is not None for query in (others, missing))
                or unit.session.scalar(of_its_own) is None
            ):
                return False
            _hold(
                unit.session, stretches.current(unit.session).number, stretches.ENTERED_BY
            ).state = StretchState.RETIRED
            row.state = StretchState.TAKING_OVER
            unit.note(AuditAct.STRETCH_TAKES_OVER, _object(number))
        return True

    def _move(self, number: int) -> bool:
        """One batch of step 4; whether it was the last."""
        vault = self._store.vault
        with self._store.write() as session:
            lock_head(session, vault)
            row = _hold(
                session, number, (StretchState.TAKING_OVER, StretchState.CURRENT), alone=True
            )
            computed = _computed(session)
            moved = [
                {
                    "row": blind,
                    "new": vault.encrypt(
                        STRETCHED, blind, vault.decrypt(NEXT_STRETCHED, blind, value)
                    ),
                }
                for blind, value in computed
            ]
            if moved:
                session.connection().execute(_MOVE, moved)
            elif row.state is StretchState.TAKING_OVER:
                row.state = StretchState.CURRENT
        return not computed

    def _clear(self, number: int) -> bool:
        """One batch of step 5; whether it was the last."""
        with self._store.write() as session:
            row = _hold(
                session, number, (StretchState.CANCELLING, StretchState.CANCELLED), alone=True
            )
            computed = [blind for blind, _ in _computed(session)]
            if computed:
                session.execute(
                    update(IdentifierRow)
                    .where(IdentifierRow.blind.in_(computed))
                    .values(next_stretched=None)
                )
            else:
                row.state = StretchState.CANCELLED
        return not computed


def _computed(session: Session) -> list[tuple[bytes, bytes]]:
    """A batch of rows that have a value of the stretch to come: which, and the value."""
    query = select(IdentifierRow.blind, IdentifierRow.next_stretched).where(
        IdentifierRow.next_stretched.is_not(None)
    )
    rows = session.execute(query.order_by(IdentifierRow.blind).limit(BATCH))
    return [(row.blind, row.next_stretched or b"") for row in rows]


def _unfinished(session: Session) -> NumberedStretch | None:
    row = session.scalar(
        select(StretchRow)
        .where(StretchRow.state.in_(UNFINISHED))
        .execution_options(populate_existing=True)
    )
    return None if row is None else NumberedStretch.of(row)


def _hold(
    session: Session, number: int, states: Sequence[StretchState], *, alone: bool = False
) -> StretchRow:
    """The row, locked until the commit, in one of these states.

    Raises LifecycleError: somebody has moved it on.
    """
    query = select(StretchRow).where(StretchRow.number == number).with_for_update(read=not alone)
    row = session.scalars(query.execution_options(populate_existing=True)).one()
    if row.state not in states:
        raise LifecycleError(
            f"stretch {number} is {row.state.lower()} by now; see `tipstaff-server keys"
            " change-stretch --status`"
        )
    return row


def _checked(now: Stretch, cost: tuple[int, int, int], *, new_salt: bool, weaker: bool) -> Stretch:
    try:
        wanted = Stretch(secrets.token_bytes(SALT_SIZE) if new_salt else now.salt, *cost)
    except TipstaffError:
        raise InvalidRequestError(
            "that is no scrypt cost: n a power of two, r and p positive, 128 * n * r at most 256"
            " MiB, p at most 16"
        ) from None
    if wanted == now:
        raise InvalidRequestError("that is the stretch in use: give another cost, or --new-salt")
    n, r, p = cost
    least = max(LEAST_COST, now.n * now.r * now.p)
    if n * r * p < least and not weaker:
        raise InvalidRequestError(
            f"n * r * p would be {n * r * p}, and {least} is the least: weaker is cheaper for a"
            " thief, too; --weaker takes it nevertheless"
        )
    return wanted


def _same(
    now: NumberedStretch, coming: NumberedStretch, cost: tuple[int, int, int], *, new_salt: bool
) -> NumberedStretch:
    has_new_salt = coming.stretch.salt != now.stretch.salt
    same = (
        coming.stretch.n,
        coming.stretch.r,
        coming.stretch.p,
    ) == cost and has_new_salt == new_salt
    if not same or coming.state not in {StretchState.PREPARING, StretchState.READY}:
        raise LifecycleError(
            f"another change of stretch is under way (n={coming.stretch.n}, r={coming.stretch.r},"
            f" p={coming.stretch.p}, {coming.state.lower()}): let it finish, or cancel it"
        )
    return coming


def _object(number: int) -> tuple[str, bytes]:
    return "stretch", number.to_bytes(4, "big")
