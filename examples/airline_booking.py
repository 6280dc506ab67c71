"""An airline's booking: no ticket for somebody who may not fly (mandatory measure)."""

from __future__ import annotations

import sys

from examples.counter import POLICY, Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import ActionKind, Outcome, Screener


def sell(screener: Screener, request: Request) -> Answer:
    """Sell a seat, refuse it on proof, or let a person look."""
    decision, took = timed_check(screener, request, "AIR_TRAVEL")
    action = POLICY.action(decision).kind
    if action is ActionKind.ALLOW:
        return answer("ticket sold", decision, took)
    if action is ActionKind.REFUSE:
        screener.report(decision, Outcome.DENIED)
        return dispute(screener, request, decision, answer("refused", decision, took))
    # Nobody is refused without proof: a colleague looks at the document.
    return answer("supervisor called", decision, took)


if __name__ == "__main__":
    sys.exit(run(sell))
