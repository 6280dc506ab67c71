"""A railway's booking: no G train seat for somebody restricted, but second class on the D train of
the same route.
"""

from __future__ import annotations

import sys

from examples.counter import POLICY, Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import ActionKind, Outcome, Screener, Verdict

OFFER: dict[str, str | float] = {"train_class": "D", "seat": "SECOND"}


def sell(screener: Screener, request: Request) -> Answer:
    """Sell the seat asked for, or offer the one that stays allowed."""
    decision, took = timed_check(screener, request, "RAIL_HIGH_CLASS", request.service)
    action = POLICY.action(decision).kind
    if action is ActionKind.ALLOW:
        return answer("seat sold", decision, took)
    if action is not ActionKind.OFFER_ALTERNATIVE:
        return answer("supervisor called", decision, took)
    said = answer("refused", decision, took)
    instead = screener.check(
        request.number, name=request.name, measure="RAIL_HIGH_CLASS", service=OFFER
    )
    if instead.verdict is Verdict.CLEAR:
        said.action = "refused; D train second class offered"
        screener.report(decision, Outcome.DOWNGRADED)
    else:
        screener.report(decision, Outcome.DENIED)
    return dispute(screener, request, decision, said)


if __name__ == "__main__":
    sys.exit(run(sell))
