"""The same work for several audiences, in as many processes as there are cores.

Each opens the deployment for itself.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.config import Config
from tipstaff_server.deployment import Runtime
from tipstaff_server.errors import ServerError, SignOffRefusedError
from tipstaff_server.processes.gc_tuning import collect_rarely
from tipstaff_signing.errors import SigningError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Outcome", "for_each"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """How it went for one audience: a result, or an error in words."""

    audience: str
    result: Result | None = None
    error: str = ""
    refused: bool = False


def for_each(
    config: Path, audiences: Sequence[str], work: Callable[[Runtime, str], Result]
) -> list[Outcome[Result]]:
    """Does `work`, a function of a module, for each audience; outcomes in the same order.

    One failure does not hold up the others.
    """
    workers = min(len(audiences), os.cpu_count() or 1)
    if workers <= 1:
        return [_one(config, audience, work) for audience in audiences]
    # Forking spares each child a second of imports; it is safe while nothing is open and no thread
    # runs, as in our commands.
    method = "fork" if threading.active_count() == 1 else "spawn"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(_one, [config] * len(audiences), audiences, [work] * len(audiences)))


def _one(config: Path, audience: str, work: Callable[[Runtime, str], Result]) -> Outcome[Result]:
    logs.configure("error")
    try:
        with collect_rarely(), Runtime(Config.load(config)) as runtime:
            return Outcome(audience, work(runtime, audience))
    except SignOffRefusedError as error:
        return Outcome(audience, error=str(error), refused=True)
    except (ServerError, SigningError, TipstaffError) as error:
        return Outcome(audience, error=str(error))
