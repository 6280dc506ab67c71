"""A hotel's check-in: `stars` of the house decide whether the measure covers the stay."""

from __future__ import annotations

import sys

from examples.counter import POLICY, Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import ActionKind, Outcome, Screener


def check_in(screener: Screener, request: Request) -> Answer:
    """Give a key, refuse on proof, or let a person look."""
    decision, took = timed_check(screener, request, "STAR_HOTEL", request.service)
    action = POLICY.action(decision).kind
    if action is ActionKind.ALLOW:
        return answer("checked in", decision, took)
    if action is ActionKind.REFUSE:
        screener.report(decision, Outcome.DENIED)
        return dispute(screener, request, decision, answer("refused", decision, took))
    return answer("receptionist called", decision, took)


if __name__ == "__main__":
    sys.exit(run(check_in))
