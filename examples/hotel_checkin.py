"""A hotel's check-in: `stars` of the house decide whether the measure covers the stay."""

from __future__ import annotations

import sys

from examples.counter import Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import Outcome, Screener, Verdict


def check_in(screener: Screener, request: Request) -> Answer:
    """Give a key, refuse on proof, or let a person look."""
    decision, took = timed_check(screener, request, "STAR_HOTEL", request.service)
    if decision.verdict is Verdict.CLEAR:
        return answer("checked in", decision, took)
    if decision.verdict is Verdict.RESTRICTED:
        screener.report(decision, Outcome.DENIED)
        return dispute(screener, request, decision, answer("refused", decision, took))
    return answer("receptionist called", decision, took)


if __name__ == "__main__":
    sys.exit(run(check_in))
