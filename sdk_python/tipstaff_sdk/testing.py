"""For the tests of those who use the SDK: a screener with answers that the test sets, without
files, server or threads.

    pytest_plugins = ["tipstaff_sdk.testing"]        # in conftest.py: gives the fixture `fake_screener`

    def test_counter_refuses(fake_screener):
        fake_screener.set_answer(Verdict.RESTRICTED, identifier=number, measure="AIR_TRAVEL")
        assert sell_ticket(fake_screener, number, "张三") == "refused"
        assert fake_screener.reports[0].outcome is Outcome.DENIED

`FakeScreener` has the surface of `Screener`; wrong identifiers and names raise as there. It does
not know measures or services, and takes all of them. For the real thing without a network use
`Screener` with `mirror_dir`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from tipstaff_sdk.decision.decide import Decision, Outcome, Reason, Verdict
from tipstaff_sdk.decision.decision import Finding
from tipstaff_sdk.enforcement.disputes import (
    Dispute,
    DisputeGround,
    DisputeProgress,
    DisputeState,
    dispute_request,
)
from tipstaff_sdk.errors import (
    ClosedError,
    InvalidColumnError,
    InvalidIdentifierError,
    InvalidNameError,
    NotFoundError,
    RequestRefusedError,
    TipstaffError,
)
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.records import Restriction
from tipstaff_sdk.screening.bulk import CheckedColumns
from tipstaff_sdk.sync.status import Availability, Status, SyncState
from tipstaff_sdk.texts import Bilingual, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from tipstaff_sdk.enforcement.outbox import OutboxEvent
    from tipstaff_sdk.enforcement.remedies import Remedy, RemedyOutcome
    from tipstaff_sdk.listing.catalogue import Catalogue

__all__ = ["FakeReport", "FakeScreener"]

_USUAL: Final = {
    Verdict.CLEAR: Reason.NOT_LISTED,
    Verdict.RESTRICTED: Reason.IN_FORCE,
    Verdict.REVIEW: Reason.NAME_MISMATCH,
    Verdict.UNKNOWN: Reason.NO_DATA,
}


@dataclass(frozen=True, slots=True)
class FakeReport:
    """One call of `FakeScreener.report`."""

    report_id: bytes
    decision: Decision
    outcome: Outcome
    acted_at: datetime


@dataclass(frozen=True, slots=True)
class _Answer:
    verdict: Verdict
    reason: Reason
    restrictions: tuple[Restriction, ...]


class FakeScreener:
    """A screener whose answers are set with `set_answer`; clear where none was set.

    reports, disputes: what was reported and disputed, in order. owed: the remedies that `remedies`
    gives; tests put them in. failure: an error that `sync` and `dispute` raise, to see how a
    counter fares without a network; None for none. availability: what `status` says; `wait_ready`
    follows it.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        catalogue: Catalogue | None = None,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._answers: dict[tuple[Identifier | None, str | None], _Answer] = {}
        self._listeners: list[Callable[[Status], None]] = []
        self._closed = False
        self.reports: list[FakeReport] = []
        self.disputes: list[Dispute] = []
        self.owed: list[Remedy] = []
        self.failure: TipstaffError | None = None
        self.availability = Availability.FRESH

    @classmethod
    def open(cls, config: str | Path | None = None, **options: object) -> Self:
        """Takes what `Screener.open` takes, and looks at none of it."""
        del config, options
        return cls()

    @classmethod
    async def aopen(cls, config: str | Path | None = None, **options: object) -> Self:
        """As `open`."""
        await asyncio.sleep(0)
        return cls.open(config, **options)

    def set_answer(
        self,
        verdict: Verdict,
        *,
        identifier: Identifier | str | None = None,
        measure: str | None = None,
        reason: Reason | None = None,
        restrictions: Iterable[Restriction] | None = None,
    ) -> None:
        """What `check` answers for this identifier and measure; None stands for all, and the
        narrowest setting wins.

        `reason` is the usual one for the verdict, and RESTRICTED has one synthetic restriction,
        unless they are given.
        """
        if restrictions is None:
            restrictions = (
                [self.restriction(measure or "ANY")] if verdict is Verdict.RESTRICTED else []
            )
        key = (None if identifier is None else _identifier(identifier), measure)
        self._answers[key] = _Answer(verdict, reason or _USUAL[verdict], tuple(restrictions))

    def restriction(self, measure: str) -> Restriction:
        """A synthetic restriction in force now, for a year."""
        now = self._clock()
        return Restriction(
            restriction_id=os.urandom(16),
            measures=frozenset({measure}),
            authority_id="test-court",
            authority_name=Bilingual("测试法院", "Test Court"),
            legal_basis="测试条款",
            case_number="(2026)测执1号",
            effective_at=now - timedelta(days=1),
            expires_at=now + timedelta(days=365),
            exemptions=(),
            dispute=Bilingual("向测试法院提出", "Ask the test court"),
            dispute_suspends=True,
            capacity=None,
            organisation_name="",
            relief_floor=0,
        )

    def check(
        self,
        identifier: Identifier | str,
        *,
        name: str,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> Decision:
        """The answer that was set."""
        del service
        self._require_open()
        known = _identifier(identifier)
        canonical_name(name)
        answer = next(
            found
            for key in _keys(known, measure)
            if (found := self._answers.get(key, _CLEAR if key == (None, None) else None))
        )
        now = self._clock()
        finding = Finding(
            answer.reason, measure, as_of=now, listing_version=1, restrictions=answer.restrictions
        )
        return Decision(finding, now, answer.verdict)

    def check_many(
        self,
        rows: Iterable[tuple[Identifier | str, str]],
        *,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> list[Decision | InvalidIdentifierError | InvalidNameError]:
        """`check` for each row; a wrong row has its error in its place."""
        entries: list[Decision | InvalidIdentifierError | InvalidNameError] = []
        for identifier, name in rows:
            try:
                entries.append(self.check(identifier, name=name, measure=measure, service=service))
            except (InvalidIdentifierError, InvalidNameError) as error:
                entries.append(error)
        return entries

    def check_columns(
        self,
        numbers: Any,
        names: Any,
        *,
        measure: str,
        service: Mapping[str, str | float] | None = None,
    ) -> CheckedColumns:
        """`check` for each row of two columns."""
        given, called = _texts(numbers), _texts(names)
        if len(given) != len(called):
            raise InvalidColumnError(
                f"{len(given)} numbers and {len(called)} names: give columns of one length"
            )
        entries = self.check_many(zip(given, called, strict=True), measure=measure, service=service)
        decisions = {row: entry for row, entry in enumerate(entries) if isinstance(entry, Decision)}
        reasons = np.array(
            [entry.reason if isinstance(entry, Decision) else 0 for entry in entries],
            dtype=np.uint8,
        )
        proven = {
            row: decision
            for row, decision in decisions.items()
            if decision.reason is not Reason.NOT_LISTED
        }
        return CheckedColumns(
            reasons,
            proven,
            {row: entry for row, entry in enumerate(entries) if not isinstance(entry, Decision)},
        )

    def report(
        self, decision: Decision, outcome: Outcome, *, acted_at: datetime | None = None
    ) -> bytes:
        """Keeps it in `reports`."""
        self._require_open()
        report = FakeReport(os.urandom(16), decision, Outcome(outcome), acted_at or self._clock())
        self.reports.append(report)
        return report.report_id

    def dispute(
        self,
        decision: Decision,
        statement: str,
        *,
        restriction: Restriction | None = None,
        ground: DisputeGround = DisputeGround.OTHER,
    ) -> Dispute:
        """Opens one in `disputes`, or raises `failure`."""
        self._require_open()
        dispute_request(decision, statement, restriction, DisputeGround(ground))
        if self.failure is not None:
            raise self.failure
        now = self._clock()
        dispute = Dispute(
            f"TEST-{len(self.disputes) + 1}",
            suspended=True,
            opened_at=now,
            due=now + timedelta(days=15),
        )
        self.disputes.append(dispute)
        return dispute

    def follow_dispute(self, case_number: str) -> DisputeProgress:
        """One of `disputes`, open; or raises `failure`."""
        self._require_open()
        if self.failure is not None:
            raise self.failure
        for dispute in self.disputes:
            if dispute.case_number == case_number:
                day = f"{dispute.due:%Y-%m-%d}"
                said = Bilingual(
                    text("dispute.OPEN", "zh", day=day), text("dispute.OPEN", "en", day=day)
                )
                return DisputeProgress(
                    DisputeState.OPEN,
                    dispute.opened_at,
                    dispute.due,
                    None,
                    overdue=False,
                    text=said,
                )
        raise NotFoundError("there is no such dispute here; check the case number")

    def remedies(self, *, include_answered: bool = False) -> list[Remedy]:
        """Those of `owed` that have no answer, or all; or raises `failure`."""
        self._require_open()
        if self.failure is not None:
            raise self.failure
        return [remedy for remedy in self.owed if include_answered or remedy.outcome is None]

    def answer_remedy(
        self, remedy: Remedy | bytes, outcome: RemedyOutcome, note: str = ""
    ) -> Remedy:
        """Answers one of `owed`, or raises `failure`."""
        self._require_open()
        del note
        if self.failure is not None:
            raise self.failure
        identity = remedy if isinstance(remedy, bytes) else remedy.remedy_id
        for place, known in enumerate(self.owed):
            if known.remedy_id == identity:
                if known.outcome not in {None, outcome}:
                    raise RequestRefusedError("this remedy was answered otherwise already")
                self.owed[place] = replace(known, outcome=outcome)
                return self.owed[place]
        raise NotFoundError("there is no such remedy; put it into `owed` first")

    def sync(self) -> Status:
        """The status, or raises `failure`."""
        self._require_open()
        if self.failure is not None:
            raise self.failure
        return self.status()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Whether `availability` is FRESH, at once."""
        del timeout
        return self.availability is Availability.FRESH and not self._closed

    def status(self) -> Status:
        """A status that fits `availability`, `failure` and what was reported."""
        now = self._clock()
        data = self.availability is not Availability.NONE
        return Status(
            at=now,
            audience="test",
            availability=self.availability,
            listing_version=1 if data else None,
            listing_age=timedelta(0) if data else None,
            listing_expires_at=now + timedelta(days=7) if data else None,
            relief_sequence=0 if data else None,
            relief_age=timedelta(0) if data else None,
            relief_complete=self.availability is Availability.FRESH,
            key_present=data,
            sync_state=SyncState.CLOSED if self._closed else SyncState.OFF,
            sync_since=now,
            last_success=now if data else None,
            last_error=None if self.failure is None else str(self.failure),
            outbox_pending=0,
            outbox_oldest_age=None,
            outbox_set_aside=0,
            outbox_error=None,
        )

    def on_change(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Keeps it; `announce` calls it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def announce(self) -> None:
        """Calls the listeners, as after a change."""
        for callback in tuple(self._listeners):
            callback(self.status())

    @property
    def catalogue(self) -> Catalogue | None:
        """What was given."""
        return self._catalogue

    def set_aside(self) -> list[tuple[OutboxEvent, str]]:
        """Nothing."""
        return []

    def retry_set_aside(self) -> int:
        """0."""
        return 0

    def close(self) -> None:
        """Later calls raise ClosedError. Idempotent."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the screener is closed: open a new one")


_CLEAR: Final = _Answer(Verdict.CLEAR, Reason.NOT_LISTED, ())


def _identifier(identifier: Identifier | str) -> Identifier:
    return identifier if isinstance(identifier, Identifier) else Identifier.parse(identifier)


def _keys(identifier: Identifier, measure: str) -> tuple[tuple[Identifier | None, str | None], ...]:
    """From the narrowest to the widest."""
    return (identifier, measure), (identifier, None), (None, measure), (None, None)


# As a plug-in this module is imported by pytest, so pytest is there; anywhere else it is not asked
# for.
if "pytest" in sys.modules:
    import pytest

    @pytest.fixture
    def fake_screener() -> Iterator[FakeScreener]:
        """A `FakeScreener`, closed after the test."""
        with FakeScreener() as screener:
            yield screener


def _texts(column: Any) -> list[str]:
    """A column's texts, whichever of the real one's kinds it is."""
    for give in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, give):
            column = getattr(column, give)()
            break
    return [value.decode("ascii") if isinstance(value, bytes) else value for value in column]
