"""The reference machine notices when a step of the decision is wrong: each of these changes to
decision.py has to make it fail.
"""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.test_reference_model import ReferenceMachine, machine_settings
from tipstaff_sdk import screener
from tipstaff_sdk.decision import decide as decision

MUTATIONS = {
    "1 names are taken as they are written": ("name = canonical_name(name)", "name = str(name)"),
    "2 the service is not looked at": (
        "clear = state.require_use(measure, service)",
        "clear = state.clear[measure]",
    ),
    "3 an expired listing answers": (
        "if now >= state.expires_at or state.floor >= state.expires_at:",
        "if False:",
    ),
    "4 the filter is read the wrong way round": ("if not state.may_list(", "if state.may_list("),
    "5 no record counts as a wrong name": ("Reason.FALSE_POSITIVE", "Reason.NAME_MISMATCH"),
    "6 any name opens a record": ("if not own:", "if not copies:"),
    "6 a wrong name is clear": ("Reason.NAME_MISMATCH", "Reason.FALSE_POSITIVE"),
    "7 every measure is covered": ("if code in restriction.measures]", "]"),
    "7 every service is covered": ("not clear.entry.covers_valid(question.service or {})", "False"),
    "7 terms are not looked at": (
        "if restriction.effective_at <= at < restriction.expires_at]",
        "]",
    ),
    "7 a term has no beginning": ("if restriction.effective_at <= at < ", "if at < "),
    "7 a term has no end": (
        "restriction.effective_at <= at < restriction.expires_at]",
        "restriction.effective_at <= at]",
    ),
    "7 coming is past": (
        "Reason.NOT_YET_EFFECTIVE if coming else Reason.LAPSED",
        "Reason.LAPSED if coming else Reason.NOT_YET_EFFECTIVE",
    ),
    "7 the clock is not held": ("state.relief, state.held(now)", "state.relief, now"),
    "8 exemptions permit nothing": ("if restriction.restriction_id not in exempt]", "]"),
    "8 exemptions have no term": ("if exemption.permits(code, at))", ")"),
    "9 relief lifts nothing": (
        "if relief is None or not relief.lifts(r.restriction_id, r.relief_floor))",
        ")",
    ),
    "9 relief forgets the floor": (
        "relief.lifts(r.restriction_id, r.relief_floor)",
        "relief.lifts(r.restriction_id, 0)",
    ),
    "10 relief does not grow old": ("if not state.relief_is_fresh(now):", "if False:"),
    "10 ages go by the held clock": ("state.relief_is_fresh(now)", "state.relief_is_fresh(at)"),
    "11 what stands is only reviewed": (
        "Reason.IN_FORCE, standing",
        "Reason.STALE_RELIEF, standing",
    ),
}
# Nothing in a world of four people is in the filter by chance, and the machine makes no wrong
# calls: the unit tests look at these.
OUT_OF_REACH = {"2 the service is not looked at", "5 no record counts as a wrong name"}


def mutated(name: str) -> Any:
    # As Python writes it: where the formatter breaks a line is not what is looked for.
    source = ast.unparse(ast.parse(inspect.getsource(decision)))
    old, new = MUTATIONS[name]
    assert old in source, f"decision.py has changed: bring the mutation {name!r} up to date"
    module = types.ModuleType("tipstaff_sdk.decision_mutated")
    exec(compile(source.replace(old, new), module.__name__, "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_one_of_the_module_as_it_is(name: str) -> None:
    assert callable(mutated(name).decide)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - OUT_OF_REACH))
def test_a_wrong_step_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screener, "decide", mutated(name).decide)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            ReferenceMachine, settings=settings(machine_settings(400, 40), phases=[Phase.generate])
        )
