"""Many checks on one version of the data: all tokens in one call, all filter look-ups in one call, and only hits the slow way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tipstaff_bloom import BloomFilter
from tipstaff_sdk.decision import Decision, State, Verdict, decide
from tipstaff_sdk.errors import InvalidIdentifierError, InvalidNameError
from tipstaff_sdk.identity import Identifier
from tipstaff_sdk.names import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from tipstaff_sdk.coverage import Coverage
    from tipstaff_sdk.tokens import Tokeniser

__all__ = ["Entry", "check_rows"]

Row: TypeAlias = "tuple[Identifier | str, str]"
Entry: TypeAlias = "Decision | InvalidIdentifierError | InvalidNameError"


def check_rows(
    state: State | None,
    now: datetime,
    rows: Iterable[Row],
    measure: str,
    service: Mapping[str, str | float] | None,
    coverage: Coverage,
) -> list[Entry]:
    """`Screener.check_many` on `state`; see there. Counts what it decided."""
    listed = list(rows)
    if state is not None:
        state.require_use(measure, service)
    if state is None or state.key is None or now >= state.expires_at or not isinstance(state.filter, BloomFilter):
        # The filter decides nothing here.
        entries = [_slow(state, now, row, measure, service) for row in listed]
    else:
        certain = _certainly_clear(state.filter, state.key.tokeniser, listed)
        entries = _fast(state, now, listed, certain, measure, service)
    for reason, times in Counter(entry.reason for entry in entries if isinstance(entry, Decision)).items():
        coverage.count(now, (measure, reason), times)
    return entries


def _slow(state: State | None, now: datetime, row: Row, measure: str, service: Mapping[str, str | float] | None) -> Entry:
    try:
        return decide(state, now, row[0], row[1], measure, service)
    except (InvalidIdentifierError, InvalidNameError) as error:
        return error


def _fast(
    state: State,
    now: datetime,
    rows: Sequence[Row],
    certain: NDArray[np.bool_],
    measure: str,
    service: Mapping[str, str | float] | None,
) -> list[Entry]:
    clear = state.require_use(measure, service)
    entries: list[Entry] = []
    for row, is_clear in zip(rows, certain.tolist(), strict=True):
        if not is_clear:
            entries.append(_slow(state, now, row, measure, service))
            continue
        try:
            canonical_name(row[1])
        except InvalidNameError as error:
            entries.append(error)
        else:
            entries.append(Decision(clear, now, Verdict.CLEAR))
    return entries


def _certainly_clear(members: BloomFilter, tokeniser: Tokeniser, rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Per row whether its identifier is right and certainly not in the filter; shape (n,). The others go the slow way."""
    certain = np.zeros(len(rows), np.bool_)
    texts = [(position, row[0]) for position, row in enumerate(rows) if isinstance(row[0], str)]
    others = [(position, row[0]) for position, row in enumerate(rows) if isinstance(row[0], Identifier)]
    if texts:
        batch = tokeniser.resident_column([text for _, text in texts])
        clear = ~members.contains_many(batch.tokens)
        clear[batch.bad_rows] = False
        certain[[position for position, _ in texts]] = clear
    if others:
        tokens = tokeniser.tokens([identifier for _, identifier in others])
        certain[[position for position, _ in others]] = ~members.contains_many(tokens)
    return certain
