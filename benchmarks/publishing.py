"""Building a listing from scratch and on the last build: the same registry, the same machine, each
in a process of its own.

Half of the changes are people who come, half are restrictions that end. What is measured is
`build`, from opening the deployment to the proposal with its deltas; the sign-off, which reads
everybody whichever way a listing was built, is measured beside it. One in a hundred is changed.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.support.plan import Figures
from tests.support.server import COURT, enter, entry, make
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.signoff.sign_off import sign_off

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from benchmarks.support.plan import Plan

__all__ = ["measure", "run"]

AUDIENCE: Final = "aviation"
MIB: Final = 1024  # ru_maxrss is in KiB


def run(plan: Plan) -> Figures:
    """The suite."""
    subjects = plan.published_subjects
    with tempfile.TemporaryDirectory(prefix="tipstaff-publishing-") as folder:
        found = measure(Path(folder) / "operator", subjects=subjects, changes=subjects // 100)
    return Figures(dict(found), {"subjects": subjects, "changes": subjects // 100})


def measure(folder: Path, *, subjects: int, changes: int) -> dict[str, float]:
    """publish_full_seconds, publish_incremental_seconds, publish_sign_off_seconds, and the peak
    memory of both builds in MiB.

    folder: does not exist yet; a deployment of `subjects` people on SQLite is made there, at a
    stretch that costs nothing.
    """
    config = make(folder, providers=[])
    with Deployment(config) as runtime:
        ids = enter(runtime.registry, [entry(number, ["AIR_TRAVEL"]) for number in range(subjects)])
    _in_process(folder, None)
    with Deployment(config) as runtime:
        started = time.perf_counter()
        sign_off(runtime, AUDIENCE, accept_growth=True)
        signed_off = time.perf_counter() - started
        publishing.publish(runtime, AUDIENCE)
        for restriction in ids[:: max(1, subjects // max(1, changes // 2))][: changes // 2]:
            runtime.registry.restrictions.end(
                restriction, EndKind.RELEASE, "performed", actor=COURT
            )
        enter(
            runtime.registry,
            [entry(subjects + number, ["AIR_TRAVEL"]) for number in range(changes - changes // 2)],
        )
    incremental, incremental_mib = _in_process(folder, changes)
    full, full_mib = _in_process(folder, None)
    return {
        "publish_full_seconds": full,
        "publish_incremental_seconds": incremental,
        "publish_full_mib": full_mib,
        "publish_incremental_mib": incremental_mib,
        "publish_sign_off_seconds": signed_off,
    }


def _in_process(folder: Path, touched: int | None) -> tuple[float, float]:
    """Seconds and MiB of one build; from scratch when `touched` is None, otherwise that many
    subjects have to be read.
    """
    context = multiprocessing.get_context("spawn")
    answers: Queue[tuple[float, float, int | None]] = context.Queue()
    process = context.Process(target=_build, args=(folder, touched is None, answers))
    process.start()
    seconds, mib, read = answers.get(timeout=3_600)
    process.join()
    if read != touched:
        raise RuntimeError(
            f"{read} subjects were read, not {touched}: this measures something else"
        )
    return seconds, mib


def _build(
    folder: Path,
    from_scratch: bool,  # noqa: FBT001  positional through Process
    answers: Queue[tuple[float, float, int | None]],
) -> None:
    started = time.perf_counter()
    with Deployment(Config.load(folder)) as runtime:
        built = build(runtime, AUDIENCE, from_scratch=from_scratch)
    seconds = time.perf_counter() - started
    answers.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB, built.touched))
