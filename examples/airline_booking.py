"""An airline's booking: no ticket for somebody who may not fly (mandatory measure)."""

from __future__ import annotations

import sys

from examples.counter import Answer, Request, answer, dispute, run, timed_check
from tipstaff_sdk import Outcome, Screener, Verdict


def sell(screener: Screener, request: Request) -> Answer:
    """Sell a seat, refuse it on proof, or let a person look."""
    decision, took = timed_check(screener, request, "AIR_TRAVEL")
    if decision.verdict is Verdict.CLEAR:
        return answer("ticket sold", decision, took)
    if decision.verdict is Verdict.RESTRICTED:
        screener.report(decision, Outcome.DENIED)
        return dispute(screener, request, decision, answer("refused", decision, took))
    # REVIEW and UNKNOWN refuse nobody: a colleague looks at the document.
    return answer("supervisor called", decision, took)


if __name__ == "__main__":
    sys.exit(run(sell))
