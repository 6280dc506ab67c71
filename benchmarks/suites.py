"""All suites, by name. To add one: a module with `run(plan: Plan) -> Figures`, and a line here.

LONG ones run only when they are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import book, checks, filter, keyed, publishing, registry, sync, watch  # noqa: A004  the module is called after what it measures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.support.plan import Figures, Plan

__all__ = ["LONG", "SUITES"]

SUITES: Final[Mapping[str, Callable[[Plan], Figures]]] = {
    "filter": filter.run,
    "keyed": keyed.run,
    "checks": checks.run,
    "book": book.run,
    "watch": watch.run,
    "sync": sync.run,
}

LONG: Final[Mapping[str, Callable[[Plan], Figures]]] = {
    "publishing": publishing.run,
    "registry": registry.run,
}
