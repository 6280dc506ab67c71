"""Runs suites. See the package."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suites import LONG, SUITES
from benchmarks.support.chart import Bar, Panel, svg
from benchmarks.support.machine import facts, load
from benchmarks.support.plan import Plan
from benchmarks.support.timing import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[1]
RESULT: Final = ROOT / "build" / "bench.json"
CHART: Final = ROOT / "docs" / "images" / "performance.svg"


def main(arguments: Sequence[str]) -> int:
    """All suites to files, or some to standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, and compare with others on this machine."
    )
    named = f"of {', '.join(SUITES)}; none: all of them; {', '.join(LONG)}: only when named"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=named)
    parser.add_argument(
        "--quick", action="store_true", help="less of everything; of a registry a tenth"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="registry: leaves it there, and goes on where a run before ended",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="where to write [default: build/bench.json, for all suites; some are printed]",
    )
    parser.add_argument(
        "--chart",
        type=Path,
        help="where to draw [default: docs/images/performance.svg, for all suites and not --quick]",
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.suites) - set(SUITES) - set(LONG))
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are: {', '.join([*SUITES, *LONG])}")
    plan = replace(Plan.quick() if options.quick else Plan(), keep=options.keep)
    found = measure(options.suites or list(SUITES), plan, quick=options.quick)
    output, chart = options.output, options.chart
    if not options.suites:
        output, chart = output or RESULT, chart or (None if options.quick else CHART)
    if output is None:
        sys.stdout.write(_text(found))
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(_text(merged(output, found)), encoding="utf-8")
        sys.stdout.write(
            "".join(
                f"{key:28} {_shown(value)}\n"
                for key, value in found.items()
                if not isinstance(value, dict)
            )
        )
        sys.stdout.write(f"all figures: {output}\n")
    failed = [name for name, details in found["suites"].items() if "failed" in details]
    if chart is not None and not failed:
        chart.write_text(draw(found), encoding="utf-8")
    return 1 if failed else 0


def measure(names: Sequence[str], plan: Plan, *, quick: bool) -> dict[str, Any]:
    """Flat keys of all suites, then the machine and each suite's details."""
    flat: dict[str, Any] = {}
    suites: dict[str, Any] = {}
    before = load()
    begin = time.monotonic()
    PATIENCE.seconds, PATIENCE.repeats, PATIENCE.disturbed = plan.patience, 0, 0
    for name in names:
        sys.stderr.write(f"{name} ...\n")
        started = time.monotonic()
        try:
            figures = {**LONG, **SUITES}[name](plan)
        except Exception:  # noqa: BLE001  one suite's failure must not cost the figures of the others
            traceback.print_exc()
            suites[name] = {"failed": traceback.format_exc(limit=-1)}
            continue
        flat.update(figures.flat)
        suites[name] = {**figures.details, "took_seconds": round(time.monotonic() - started, 1)}
    quiet = {"repeats": PATIENCE.repeats, "disturbed_repeats": PATIENCE.disturbed}
    machine = {
        **facts(),
        **quiet,
        "load_before": before,
        "quick": quick,
        "sizes": list(plan.sizes),
        "took_seconds": round(time.monotonic() - begin),
    }
    return {**flat, "machine": machine, "suites": suites}


def merged(output: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What was found, and what `output` has of other suites; a suite that ran by itself keeps its
    own word on the machine.
    """
    try:
        before = json.loads(output.read_text("utf-8"))
        kept: dict[str, Any] = before["suites"]
    except (OSError, ValueError, KeyError, TypeError):
        return found
    if not set(SUITES) <= set(found["suites"]):
        for details in found["suites"].values():
            details["machine"] = found["machine"]
        found = {**found, "machine": before["machine"]}
    flat = {key: value for key, value in before.items() if key not in {"machine", "suites"}}
    return {**flat, **found, "suites": {**kept, **found["suites"]}}


def _text(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def draw(found: dict[str, Any]) -> str:
    """The chart of a whole run."""
    peers = {
        name: figures
        for name, figures in found["suites"]["keyed"]["peers"].items()
        if figures is not None
    }
    size = found["machine"]["sizes"][-1]
    batch = [
        Bar("Tipstaff, two cores", found["batch_check_ns_2core"], ours=True),
        Bar("Tipstaff, one core", found["batch_check_ns"], ours=True),
    ]
    single = [Bar("Tipstaff, one check", found["scalar_check_ns"], ours=True)]
    for name, figures in peers.items():
        at = "" if figures["size"] == size else f" ({figures['size']:,.0f})"
        batch.append(Bar(name + at, figures["batch_check_ns"]))
        single.append(Bar(name + at, figures["scalar_check_ns"]))
    single.append(Bar("Tipstaff, Screener.check whole", found["screener_check_ns"], ours=True))
    if found["redis_lookup_ns"] is not None:
        single.append(Bar("Redis over loopback", found["redis_lookup_ns"]))
    panels = [
        Panel(
            f"Many keyed checks, each, {size:,} subjects", sorted(batch, key=lambda bar: bar.value)
        ),
        Panel(f"One keyed check, {size:,} subjects", sorted(single, key=lambda bar: bar.value)),
    ]
    machine = found["machine"]
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['python']},"
        f" {machine['when'][:10]}"
    )
    note = f"{where}. In brackets: measured at fewer subjects."
    return svg(panels, note)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
