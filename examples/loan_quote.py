"""A bank's loan quote: a recommended measure is advice, so the loan is priced and not refused."""

from __future__ import annotations

import sys

from examples.counter import POLICY, Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import ActionKind, Outcome, Screener

BASE_RATE = 3.45  # per cent a year
SURCHARGE = 1.20  # percentage points, the bank's own risk table


def quote(screener: Screener, request: Request) -> Answer:
    """Quote a yearly rate; a restriction raises it, nothing else does."""
    decision, took = timed_check(screener, request, "LOAN_PRICING")
    if POLICY.action(decision).kind is not ActionKind.PRICE:
        return answer(f"quoted {BASE_RATE:.2f}%", decision, took)
    screener.report(decision, Outcome.SURCHARGED)
    return dispute(
        screener, request, decision, answer(f"quoted {BASE_RATE + SURCHARGE:.2f}%", decision, took)
    )


if __name__ == "__main__":
    sys.exit(run(quote))
