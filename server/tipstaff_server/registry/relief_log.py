"""The relief log: every lift of the registry, in one sequence, in the order of commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tipstaff_server.administration.policies import visible_sets
from tipstaff_server.registry.unit import RegistryPart
from tipstaff_server.storage.models import HEAD, ReliefHeadRow, ReliefRow

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Lift", "ReliefLog"]


@dataclass(frozen=True, slots=True)
class Lift:
    """One entry of the relief log.

    Attributes:
        sequence: its place in the log, from 1.
        restriction_id: what is lifted; the id of a post that was left, where only that one is.
        at: when it was lifted.
    """

    sequence: int
    restriction_id: bytes
    at: datetime


class ReliefLog(RegistryPart):
    """What publishers read of the relief log; `Unit.lift` writes it."""

    def head(self) -> int:
        """The last relief sequence of the deployment; 0 before the first."""
        with self._store.read() as session:
            return session.execute(
                select(ReliefHeadRow.sequence).where(ReliefHeadRow.id == HEAD)
            ).scalar_one()

    def since(self, audience: str, sequence: int) -> list[Lift]:
        """Lifts after `sequence` that concern the audience, in order.

        Raises:
            NotFoundError: no such audience.
        """
        with self._store.read() as session:
            sets = visible_sets(session, self._store.policies.get(session).audience(audience))
            lifted = func.coalesce(ReliefRow.post_id, ReliefRow.restriction_id).label("lifted")
            rows = session.execute(
                select(ReliefRow.sequence, lifted, ReliefRow.at)
                .where(ReliefRow.sequence > sequence, ReliefRow.measure_set_id.in_(list(sets)))
                .order_by(ReliefRow.sequence)
            )
            return [Lift(row.sequence, row.lifted, row.at) for row in rows]
