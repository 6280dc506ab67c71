"""Many people against one measure, at one moment, on one version of the data: the engine of
`check_many` and of `tipstaff screen`.

`settle` takes steps 1 to 4 of the decision (decision/decide.py) for whole columns: numbers to
tokens, tokens through the filter, names looked through. What the filter does not know is settled
there, at some 50 ns a row. `prove` takes the other steps for one person; it costs a stretch (10
ms), so callers share it out to threads. Who was found to be a false positive is remembered, so that
nobody is stretched for twice in an epoch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from tipstaff_sdk.columns import resident_ids as columns
from tipstaff_sdk.columns.names import Names
from tipstaff_sdk.decision.decide import Decision, DecisionState, Reason, decide_found, unconfirmed
from tipstaff_sdk.decision.decision import Finding
from tipstaff_sdk.decision.question import Question
from tipstaff_sdk.errors import (
    InvalidColumnError,
    InvalidIdentifierError,
    InvalidNameError,
    InvalidServiceError,
    TipstaffError,
)
from tipstaff_sdk.identity.block import BLOCK_SIZE
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.tokens import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from tipstaff_sdk.decision.evidence import Service

__all__ = [
    "BAD",
    "UNPROVED",
    "FalsePositives",
    "Hit",
    "People",
    "RowError",
    "Screening",
    "Settled",
    "by_person",
]

BAD: Final = 0
UNPROVED: Final = 255
_REMEMBERED: Final = 1 << 17
# To look through numbers where there is no key to make tokens with.
_NO_KEY: Final = Tokeniser(bytes(16))

RowError: TypeAlias = InvalidIdentifierError | InvalidNameError | InvalidServiceError


class _Members(Protocol):
    def contains_many(self, tokens: NDArray[np.uint8]) -> NDArray[np.bool_]: ...


class FalsePositives:
    """Whom the filter asked about without a record: locators by token, for one epoch and cost of
    stretching. Thread-safe, bounded.

    A locator says where to look again when the listing is a newer one, so an entry never stands in
    for the look itself.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._basis: object = None
        self._locators: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def locator(self, state: DecisionState, token: bytes) -> bytes | None:
        """Where the record would be; None when nothing is known of this token."""
        return self._locators.get(token) if self._basis == _basis(state) else None

    def remember(self, state: DecisionState, token: bytes, locator: bytes) -> None:
        """Keeps the newest `limit` of them."""
        basis = _basis(state)
        with self._lock:
            if self._basis != basis:
                self._basis, self._locators = basis, {}
            while len(self._locators) >= self._limit:
                del self._locators[next(iter(self._locators))]
            self._locators[token] = locator

    def __len__(self) -> int:
        return len(self._locators)

    def __repr__(self) -> str:
        return f"FalsePositives({len(self)} remembered)"

    def after_fork_in_child(self) -> None:
        """A lock of its own."""
        self._lock = threading.Lock()


def _basis(state: DecisionState) -> object:
    return state.parameters.audience, state.parameters.epoch, state.stretch


@dataclass(frozen=True)
class People:
    """Columns of people, `count` rows.

    numbers: a column of resident IDs (listing/tokens.py says what is one) for the rows in `rows`,
    (m,) intp ascending; None: for all rows. others: for all other rows, the identifier of another
    kind, or what is wrong with it. names: a column of names, `count` long. services: what is
    bought, in all its different forms; service_of: (count,) intp, which of them each row has; None:
    all the first.
    """

    count: int
    numbers: Any
    names: Any
    rows: NDArray[np.intp] | None = None
    others: Mapping[int, Identifier | InvalidIdentifierError] = field(
        default_factory=dict[int, Identifier | InvalidIdentifierError]
    )
    services: Sequence[Service | None] = (None,)
    service_of: NDArray[np.intp] | None = None


@dataclass(frozen=True, repr=False)
class Hit:
    """A row that the filter asks to prove."""

    row: int
    token: bytes
    identifier: Identifier
    name: str
    service: Service | None

    def __repr__(self) -> str:
        return f"Hit(row={self.row})"


class Settled(NamedTuple):
    """What columns come to.

    reasons: (n,) uint8, values of `Reason`; BAD where the row is in `errors`, UNPROVED where it is
    among `hits`. hits: rows in ascending order.
    """

    reasons: NDArray[np.uint8]
    hits: list[Hit]
    errors: dict[int, RowError]


class Screening:
    """See the module.

    Safe to share between threads. `now` is aware UTC; `state` is None where there is no verified
    listing.
    """

    def __init__(
        self,
        state: DecisionState | None,
        now: datetime,
        measure: str,
        known: FalsePositives | None = None,
    ) -> None:
        self.state = state
        self.now = now
        self.measure = measure
        self._known = FalsePositives() if known is None else known
        if state is None or state.key is None:
            self.settled = Reason.NO_DATA
        else:
            self.settled = (
                Reason.EXPIRED if state.held(now) >= state.expires_at else Reason.NOT_LISTED
            )

    def at(self, moment: datetime) -> Screening:
        """The same data, for another moment."""
        return Screening(self.state, moment, self.measure, self._known)

    def settle(self, people: People) -> Settled:
        """Steps 1 to 4 for all rows.

        Wrong rows are in `errors`, by the first thing wrong: number, name, service.

        Raises:
            UnknownMeasureError, MeasureNotCoveredError; InvalidServiceError where all rows share
                one service. InvalidColumnError.
        """
        wrong_services = self._wrong_services(people)
        tokeniser, members = self._look_up()
        errors: dict[int, RowError] = {}
        tokens = _tokens(tokeniser, people, errors)
        names = Names.of(people.names, people.count)
        for row, error in names.bad.items():
            errors.setdefault(row, error)
        if people.service_of is not None and wrong_services:
            for row in np.flatnonzero(np.isin(people.service_of, list(wrong_services))).tolist():
                errors.setdefault(row, wrong_services[int(people.service_of[row])])
        reasons = np.full(people.count, self.settled, np.uint8)
        if members is not None:
            reasons[members(tokens)] = UNPROVED
        if errors:
            reasons[np.fromiter(errors, np.intp, len(errors))] = BAD
        return Settled(
            reasons, self._hits(people, tokens, np.flatnonzero(reasons == UNPROVED), names), errors
        )

    def _wrong_services(self, people: People) -> dict[int, InvalidServiceError]:
        """Step 2.

        Where each row has its own service, a wrong one is the row's fault and not the call's.
        """
        if self.state is None:
            return {}
        wrong: dict[int, InvalidServiceError] = {}
        for number, service in enumerate(people.services):
            try:
                self.state.require_use(self.measure, service)
            except InvalidServiceError as error:
                if people.service_of is None:
                    raise
                wrong[number] = error
        return wrong

    def _look_up(self) -> tuple[Tokeniser, Callable[[NDArray[np.uint8]], NDArray[np.bool_]] | None]:
        """Steps 3 and 4: what makes tokens, and what says which of them to prove; None where no
        filter has a say.
        """
        state = self.state
        if state is None or state.key is None or self.settled is not Reason.NOT_LISTED:
            return _NO_KEY, None
        many: _Members | None = state.filter if hasattr(state.filter, "contains_many") else None  # type: ignore[assignment]
        if many is not None:
            return state.key.tokeniser, many.contains_many
        contains = state.filter.contains
        return state.key.tokeniser, lambda tokens: np.fromiter(
            (contains(row.tobytes()) for row in tokens), np.bool_, len(tokens)
        )

    def _hits(
        self, people: People, tokens: NDArray[np.uint8], rows: NDArray[np.intp], names: Names
    ) -> list[Hit]:
        if not len(rows):
            return []
        at = rows if people.rows is None else np.searchsorted(people.rows, rows)
        resident = [row not in people.others for row in rows.tolist()]
        texts = iter(columns.texts(people.numbers, at[resident].tolist()))
        hits: list[Hit] = []
        for row, is_resident in zip(rows.tolist(), resident, strict=True):
            other = None if is_resident else people.others[row]
            identifier = (
                other
                if isinstance(other, Identifier)
                else Identifier.resident_id(next(texts) or "")
            )
            service = people.services[
                0 if people.service_of is None else int(people.service_of[row])
            ]
            hits.append(Hit(row, tokens[row].tobytes(), identifier, names.canonical(row), service))
        return hits

    def prove(self, hits: Sequence[Hit]) -> list[Decision]:
        """Steps 5 to 11 for rows of one person (one token), one decision each.

        Takes the time of a stretch, without the interpreter's lock.
        """
        state, first = self.state, hits[0]
        if state is None or state.key is None:  # without them there are no hits
            return [self.decision(Reason.NO_DATA) for _ in hits]
        try:
            if state.pack is None:
                return [unconfirmed(state, self._question(hit)) for hit in hits]
            locator = self._known.locator(state, first.token)
            if locator is not None and not state.pack.find(locator):
                return [self.decision(Reason.FALSE_POSITIVE) for _ in hits]
            keys = state.key.derive(state.stretch.stretch(first.identifier))
            copies = state.pack.find(keys.locator)
        except TipstaffError:
            return [unconfirmed(state, self._question(hit)) for hit in hits]
        if not copies:
            self._known.remember(state, first.token, keys.locator)
        return [decide_found(state, self._question(hit), keys, copies) for hit in hits]

    def _question(self, hit: Hit) -> Question:
        return Question(self.now, hit.identifier, hit.name, self.measure, hit.service)

    def decision(self, reason: Reason) -> Decision:
        """The decision of a row about which nothing else was found."""
        return Decision(self._findings(reason), self.now, reason.verdict)

    def _findings(self, reason: Reason) -> Finding:
        if self.state is None:
            return Finding(reason, self.measure)
        clear = self.state.clear[self.measure]
        return clear if clear.reason is reason else replace(clear, reason=reason)


def by_person(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Hits of one token together, in order of their first rows."""
    groups: dict[bytes, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.token, []).append(hit)
    return list(groups.values())


def _tokens(tokeniser: Tokeniser, people: People, errors: dict[int, RowError]) -> NDArray[np.uint8]:
    """Tokens of all rows, (count, 16); those of the rows that it puts into `errors` mean nothing."""
    batch = tokeniser.resident_column(people.numbers)
    rows = people.rows
    if len(batch.tokens) != (people.count if rows is None else len(rows)):
        raise InvalidColumnError(
            f"There are {len(batch.tokens)} numbers for {people.count} rows: pass columns of one"
            " length."
        )
    wrong = batch.bad_rows.tolist()
    for at, text in zip(wrong, columns.texts(people.numbers, wrong), strict=True):
        errors[at if rows is None else int(rows[at])] = _why(text)
    if rows is None:
        return batch.tokens
    tokens = np.zeros((people.count, BLOCK_SIZE), np.uint8)
    tokens[rows] = batch.tokens
    identifiers: dict[int, Identifier] = {}
    for row, other in people.others.items():
        if isinstance(other, Identifier):
            identifiers[row] = other
        else:
            errors[row] = other
    if identifiers:
        tokens[list(identifiers)] = tokeniser.tokens(identifiers.values())
    return tokens


def _why(text: str | None) -> InvalidIdentifierError:
    if text is None:
        return InvalidIdentifierError(
            "The number is missing or not text: read it from the document again."
        )
    try:
        Identifier.resident_id(text)
    except InvalidIdentifierError as error:
        return error
    return InvalidIdentifierError(
        "The number changed while it was read: leave the column alone meanwhile."
    )
