"""Many checks on one version of the data: all tokens in one call, all filter look-ups in one call,
and only hits the slow way.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from tipstaff_sdk.columns import resident_ids as columns
from tipstaff_sdk.decision.decide import Decision, Reason
from tipstaff_sdk.errors import InvalidIdentifierError, InvalidNameError, InvalidServiceError
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.screening.engine import BAD, People, Screening, by_person

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tipstaff_sdk.decision.evidence import Service
    from tipstaff_sdk.enforcement.coverage import Coverage
    from tipstaff_sdk.screening.engine import RowError, Settled

__all__ = ["CheckedColumns", "Entry", "check_columns", "check_rows"]

Row: TypeAlias = "tuple[Identifier | str, str]"
Entry: TypeAlias = "Decision | InvalidIdentifierError | InvalidNameError"

_MAX_THREADS: Final = 8


@dataclass(frozen=True)
class CheckedColumns:
    """Answers to columns of people, row by row.

    reasons: (n,) uint8, values of `Reason`, which implies the verdict (`Reason.verdict`); 0 where
    the row is wrong. decisions: by row, for those rows that the filter asked to prove, whatever
    came of it. errors: by row, for the wrong ones.
    """

    reasons: NDArray[np.uint8]
    decisions: Mapping[int, Decision]
    errors: Mapping[int, RowError]


def check_columns(
    screening: Screening, numbers: Any, names: Any, service: Service | None, coverage: Coverage
) -> CheckedColumns:
    """`Screener.check_columns`; see there. Counts what it decided."""
    return _checked(
        screening, People(columns.length(numbers), numbers, names, services=(service,)), coverage
    )


def check_rows(
    screening: Screening, rows: Iterable[Row], service: Service | None, coverage: Coverage
) -> list[Entry]:
    """`Screener.check_many`; see there. Counts what it decided."""
    listed = list(rows)
    texts = [position for position, row in enumerate(listed) if not isinstance(row[0], Identifier)]
    everybody = People(
        count=len(listed),
        numbers=[listed[position][0] for position in texts],
        names=[row[1] for row in listed],
        rows=None if len(texts) == len(listed) else np.array(texts, np.intp),
        others={
            position: row[0]
            for position, row in enumerate(listed)
            if isinstance(row[0], Identifier)
        },
        services=(service,),
    )
    checked = _checked(screening, everybody, coverage)
    entries: list[Entry] = []
    for position, reason in enumerate(checked.reasons.tolist()):
        if reason == BAD:
            entries.append(_entry_error(checked.errors[position]))
        else:
            entries.append(checked.decisions.get(position) or screening.decision(Reason(reason)))
    return entries


def _entry_error(error: RowError) -> InvalidIdentifierError | InvalidNameError:
    if isinstance(error, InvalidServiceError):  # one service for all, which `settle` raises
        raise error
    return error


def _checked(screening: Screening, people: People, coverage: Coverage) -> CheckedColumns:
    settled = screening.settle(people)
    decisions = _proved(screening, settled)
    reasons = settled.reasons
    for row, decision in decisions.items():
        reasons[row] = decision.reason
    for reason, times in enumerate(np.bincount(reasons).tolist()):
        if times and reason != BAD:
            coverage.count(screening.now, (screening.measure, Reason(reason)), times)
    return CheckedColumns(reasons, decisions, settled.errors)


def _proved(screening: Screening, settled: Settled) -> dict[int, Decision]:
    people = by_person(settled.hits)
    threads = min(len(people), os.cpu_count() or 1, _MAX_THREADS)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(screening.prove, people))
    else:
        answers = [screening.prove(hits) for hits in people]
    found = {
        hit.row: decision
        for hits, made in zip(people, answers, strict=True)
        for hit, decision in zip(hits, made, strict=True)
    }
    return dict(sorted(found.items()))
