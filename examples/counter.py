"""What the example programs share: requests come in as JSON lines, answers go out as JSON lines.

Numbers and names come on standard input rather than as arguments, because everybody on a machine
can read its process list. Answers never repeat them.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tipstaff_sdk import Policy, RemedyOutcome, Screener, TipstaffError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tipstaff_sdk import Decision

# From decision to action: read here, and never written out in a program.
POLICY = Policy.load(Path(__file__).with_name("policy.toml"))


@dataclass(frozen=True)
class Request:
    """Somebody wants something:

    `number` and `name` are theirs, `service` says what, as the measure's rules want it.
    """

    number: str = field(repr=False)
    name: str = field(repr=False)
    service: dict[str, str | float] = field(default_factory=dict[str, "str | float"])
    dispute: str | None = field(default=None, repr=False)


@dataclass
class Answer:
    """What the counter does: `action` is its word, `text` is what it tells the person."""

    action: str
    verdict: str = ""
    reason: str = ""
    text: str = ""
    check_us: float = 0.0
    listing_version: int = 0
    relief_sequence: int = 0
    restriction_ids: tuple[str, ...] = ()
    case_number: str = ""
    suspended: bool = False


def timed_check(
    screener: Screener,
    request: Request,
    measure: str,
    service: dict[str, str | float] | None = None,
) -> tuple[Decision, float]:
    """One check and how long it took, in microseconds."""
    start = time.perf_counter()
    decision = screener.check(request.number, name=request.name, measure=measure, service=service)
    return decision, (time.perf_counter() - start) * 1e6


def answer(action: str, decision: Decision, check_us: float) -> Answer:
    """The counter's answer with the decision's explanation in Chinese."""
    return Answer(
        action=action,
        verdict=decision.verdict.name,
        reason=decision.reason.name,
        text=decision.explain("zh"),
        check_us=round(check_us, 1),
        listing_version=decision.listing_version,
        relief_sequence=decision.relief_sequence,
        restriction_ids=tuple(
            restriction.restriction_id.hex() for restriction in decision.restrictions
        ),
    )


def dispute(screener: Screener, request: Request, decision: Decision, said: Answer) -> Answer:
    """Open a dispute when the person asks for one, and add its case number to the answer."""
    if request.dispute is not None and decision.restrictions:
        opened = screener.dispute(decision, request.dispute)
        said.case_number, said.suspended = opened.case_number, opened.suspended
    return said


def make_good(screener: Screener) -> dict[str, object]:
    """What was done here on restrictions that were wrong is put right, and answered.

    A real counter looks up its bookings.
    """
    owed = screener.remedies()
    for remedy in owed:
        screener.answer_remedy(remedy, RemedyOutcome.RESTORED, "rebooked")
    return {
        "remedies": [
            {"restriction_id": remedy.restriction_id.hex(), "acts": remedy.affected_count}
            for remedy in owed
        ]
    }


def serve(
    screener: Screener, line: str, sell: Callable[[Screener, Request], Answer]
) -> dict[str, object]:
    """One request: somebody buys, somebody follows a dispute by its case number, or the desk looks
    at what it has to make good.
    """
    request = json.loads(line)
    if request.get("make_good"):
        return make_good(screener)
    if case_number := request.get("follow"):
        found = screener.follow_dispute(case_number)
        return {"state": found.state.name, "text": found.explain("zh")}
    return asdict(sell(screener, Request(**request)))


def run(sell: Callable[[Screener, Request], Answer]) -> int:
    """Serve one counter: `python -m examples.<program> KIT/tipstaff.toml < requests > answers`."""
    with Screener.open(sys.argv[1]) as screener:
        if not screener.wait_ready(timeout=30):
            print(
                "no verified listing within 30 s; is the server running? see `tipstaff status`",
                file=sys.stderr,
            )
            return 1
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            try:
                said = serve(screener, line, sell)
            except (TipstaffError, AttributeError, TypeError, ValueError) as error:
                # The message of a TipstaffError says what to do and never repeats what was typed.
                said = asdict(
                    Answer(
                        action="ask again",
                        text=str(error)
                        if isinstance(error, TipstaffError)
                        else "malformed request",
                    )
                )
            print(json.dumps(said, ensure_ascii=False), flush=True)
    return 0
