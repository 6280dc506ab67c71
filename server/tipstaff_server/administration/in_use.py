"""What an administration may leave out: only what nothing rests on any more.

It is then retired, never deleted.

A list, an authority or a measure that a restriction in force rests on cannot go: its record could
not be written any more, or would end a restriction without anybody having decided so. An audience
cannot go while it has providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tipstaff_server.domain.lifecycle import TERMINAL
from tipstaff_server.errors import AdministrationError
from tipstaff_server.storage.models import MeasureSetRow, ProviderRow, RestrictionRow

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from tipstaff_server.administration.document import Administration

__all__ = ["refuse_in_use"]


def refuse_in_use(session: Session, administration: Administration) -> None:
    """Raises AdministrationError, with a line for each thing that is left out although something
    rests on it.
    """
    kept = {
        "list": {item.id for item in administration.lists},
        "authority": {item.id for item in administration.authorities},
        "measure": {item.code for item in administration.measures},
        "audience": {item.id for item in administration.audiences},
    }
    used = {
        "list": _restrictions_by(session, RestrictionRow.list_id),
        "authority": _restrictions_by(session, RestrictionRow.authority_id),
        "measure": _restrictions_by_measure(session),
        "audience": _providers(session),
    }
    resting = dict.fromkeys(kept, "restrictions that rest on it have not ended") | {
        "audience": "providers belong to it"
    }
    lines = [
        f"{kind} {name!r} is left out, but {count:,} {resting[kind]}"
        for kind, names in used.items()
        for name, count in sorted(names.items())
        if name not in kept[kind]
    ]
    if lines:
        raise AdministrationError(
            "; ".join(lines)
            + ": put it back into the file, or first end the restrictions, move or remove the"
            " providers; nothing was changed"
        )


def _restrictions_by(session: Session, column: InstrumentedAttribute[str]) -> dict[str, int]:
    query = (
        select(column, func.count())
        .where(RestrictionRow.state.not_in(sorted(TERMINAL)))
        .group_by(column)
    )
    return {name: count for name, count in session.execute(query)}  # noqa: C416  rows are not pairs to the type checker


def _restrictions_by_measure(session: Session) -> dict[str, int]:
    query = (
        select(MeasureSetRow.codes, func.count())
        .join(RestrictionRow, RestrictionRow.measure_set_id == MeasureSetRow.id)
        .where(RestrictionRow.state.not_in(sorted(TERMINAL)))
        .group_by(MeasureSetRow.codes)
    )
    counts: dict[str, int] = {}
    for codes, count in session.execute(query):
        for code in codes.split():
            counts[code] = counts.get(code, 0) + count
    return counts


def _providers(session: Session) -> dict[str, int]:
    query = (
        select(ProviderRow.audience_id, func.count())
        .where(ProviderRow.removed_at.is_(None))
        .group_by(ProviderRow.audience_id)
    )
    return {name: count for name, count in session.execute(query)}  # noqa: C416  rows are not pairs to the type checker
