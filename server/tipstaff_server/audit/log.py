"""The audit log: every act, chained by hashes, written in the transaction of the act itself.

    digest(n) = SHA-256(digest(n-1) || JSON array of everything else in entry n)        digest(0) = 32 zero bytes

`verify` recomputes the chain: an altered, inserted, missing or reordered entry breaks it where it
is, and a shortened log does not reach the head. Reasons are kept beside the log (reasons.py); the
chain covers a commitment to each. A log that was written anew from the beginning shows by the
checkpoints that somebody else keeps (checkpoints.py).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from tipstaff_server.audit import reasons
from tipstaff_server.domain.acts import AuditAct
from tipstaff_server.errors import AuditError
from tipstaff_server.storage.bulk import bulk_insert
from tipstaff_server.storage.models import HEAD, AuditHeadRow, AuditReasonRow, AuditRow
from tipstaff_server.vault.lock import lock_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tipstaff_server.audit.checkpoints import Checkpoint
    from tipstaff_server.domain.actors import Actor
    from tipstaff_server.vault.store import Store
    from tipstaff_server.vault.vault import Vault

__all__ = ["START", "AuditLog", "verify"]

START = bytes(32)
PAGE = 2_000
_quoted = lru_cache(4_096)(encode_basestring_ascii)


class AuditLog:
    """Adds entries within one transaction.

    Making one locks the head, so acts of several replicas queue up here, in one order.
    """

    def __init__(self, session: Session, vault: Vault) -> None:
        self._session = session
        self._vault = vault
        self._sequence, self._digest = lock_head(session, vault)
        self._rows: list[dict[str, Any]] = []
        self._reasons: list[dict[str, Any]] = []

    def add(
        self,
        at: datetime,
        actor: Actor,
        act: AuditAct,
        subject: tuple[str, bytes],
        *,
        detail: Mapping[str, object] | str | None = None,
        reason: str = "",
    ) -> None:
        """Adds the entry of one act on one thing.

        Args:
            at: when.
            actor: who.
            act: what.
            subject: the kind of the thing ("restriction") and its id.
            detail: facts without personal data, or `detail_text` of them.
            reason: why; kept encrypted beside the log.
        """
        self._sequence += 1
        row: dict[str, Any] = {
            "sequence": self._sequence,
            "at": at,
            "actor": str(actor),
            "act": str(act),
            "object_kind": subject[0],
            "object_id": subject[1],
            "detail": detail if isinstance(detail, str) else detail_text(detail or {}),
            "reason": self._reason(reason) if reason else None,
        }
        self._digest = chain(self._digest, row)
        row["digest"] = self._digest
        self._rows.append(row)

    def flush(self) -> None:
        """Writes what was added. To be called once, before the commit."""
        if not self._rows:
            return
        bulk_insert(self._session, AuditRow, self._rows)
        bulk_insert(self._session, AuditReasonRow, self._reasons)
        self._session.execute(
            update(AuditHeadRow)
            .where(AuditHeadRow.id == HEAD)
            .values(sequence=self._sequence, digest=self._digest)
        )
        self._rows, self._reasons = [], []

    def _reason(self, text: str) -> bytes:
        commitment, sealed = reasons.seal(self._vault, self._sequence, text)
        self._reasons.append({"sequence": self._sequence, "sealed": sealed})
        return commitment


def detail_text(detail: Mapping[str, object]) -> str:
    """Facts as the log keeps them."""
    return json.dumps(detail, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def chain(before: bytes, row: Mapping[str, Any]) -> bytes:
    """The digest of an entry, given the one before it."""
    at: datetime = row["at"]
    reason: bytes | None = row["reason"]
    sealed = "null" if reason is None else f'"{reason.hex()}"'
    # The array that json.dumps gives, put together by hand: this is the larger part of what an
    # entry costs.
    words = f"{_quoted(row['actor'])},{_quoted(row['act'])},{_quoted(row['object_kind'])}"
    rest = f'"{row["object_id"].hex()}",{_quoted(row["detail"])},{sealed}'
    array = f'[{row["sequence"]},"{_moment(at)}",{words},{rest}]'
    return hashlib.sha256(before + array.encode()).digest()


@lru_cache(64)  # all entries of one act are of one moment
def _moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


def verify(store: Store, checkpoints: Iterable[Checkpoint] = ()) -> int:
    """Recomputes the whole chain, a page at a time.

    Args:
        store: where the log is.
        checkpoints: with signatures that were verified (checkpoints.py). Each has to fit the log, or
            the log was written anew, or shortened.

    Returns:
        The number of entries.

    Raises:
        AuditError: at the first wrong entry.
    """
    given = sorted(checkpoints, key=lambda item: item.sequence)
    with store.read() as session:
        head = session.execute(
            select(AuditHeadRow.sequence, AuditHeadRow.digest).where(AuditHeadRow.id == HEAD)
        ).one()
    if given and given[-1].sequence > head.sequence:
        raise AuditError(
            head.sequence + 1,
            f"audit entries {head.sequence + 1} to {given[-1].sequence} are missing: a checkpoint"
            " names them",
        )
    walk = _Walk(given)
    while walk.last < head.sequence:
        with store.read() as session:
            page = session.scalars(
                select(AuditRow)
                .where(AuditRow.sequence > walk.last, AuditRow.sequence <= head.sequence)
                .order_by(AuditRow.sequence)
                .limit(PAGE)
            ).all()
            gone = reasons.check(session, store.vault, page)
        if not page:
            raise AuditError(
                walk.last + 1, f"audit entries from {walk.last + 1} to {head.sequence} are missing"
            )
        for row in page:
            walk.step(row)
        walk.forget(gone, page)
    if walk.digest != head.digest:
        raise AuditError(walk.last, f"the log's head does not fit its last entry {walk.last}")
    walk.end()
    return walk.last


class _Walk:
    """Where `verify` stands: the last entry, its digest, checkpoints to come, reasons that are gone
    and not known to be erased.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self.digest, self.last = START, 0
        self._before = 0
        self._checkpoints = deque(checkpoints)
        self._gone: dict[tuple[str, bytes], int] = {}

    def step(self, row: AuditRow) -> None:
        """The next entry. Raises AuditError."""
        if row.sequence != self.last + 1:
            raise AuditError(self.last + 1, f"audit entry {self.last + 1} is missing")
        self.digest = chain(self.digest, vars(row))
        if self.digest != row.digest:
            raise AuditError(
                row.sequence,
                f"audit entry {row.sequence} was altered, or stands where another one was",
            )
        self.last = row.sequence
        while self._checkpoints and self._checkpoints[0].sequence == self.last:
            if self._checkpoints.popleft().digest != self.digest:
                first = self._before + 1
                raise AuditError(
                    first,
                    f"the log was written anew: one of the audit entries {first} to {self.last} is"
                    " not what was signed",
                )
            self._before = self.last

    def forget(self, gone: Sequence[AuditRow], page: Sequence[AuditRow]) -> None:
        """Reasons may be gone only where a later entry says that they were erased."""
        for row in gone:
            self._gone.setdefault((row.object_kind, row.object_id), row.sequence)
        for row in page:
            if row.act == AuditAct.ERASE:
                self._gone.pop((row.object_kind, row.object_id), None)

    def end(self) -> None:
        """Raises AuditError: a reason is missing."""
        if self._gone:
            first = min(self._gone.values())
            raise AuditError(
                first,
                f"the reason of audit entry {first} is missing, and nothing says that it was"
                " erased",
            )
