"""The same work for several audiences, in as many processes as there are cores.

Each opens the deployment for itself.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.errors import ServerError, SignOffRefusedError
from tipstaff_server.processes.collector import collect_rarely
from tipstaff_server.processes.executor import map_in_order, open_executor
from tipstaff_signing.errors import SigningError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Literal, TypeAlias

__all__ = ["AudienceOutcome", "for_each_audience"]

Deployed = TypeVar("Deployed")
Result = TypeVar("Result")
_Open: TypeAlias = "Callable[[], AbstractContextManager[Deployed]]"


@dataclass(frozen=True, slots=True)
class AudienceOutcome(Generic[Result]):
    """How it went for one audience: a result, or an error in words."""

    audience: str
    result: Result | None = None
    error: str = ""
    refused: bool = False


def for_each_audience(
    open_deployment: _Open[Deployed],
    audiences: Sequence[str],
    work: Callable[[Deployed, str], Result],
) -> list[AudienceOutcome[Result]]:
    """Does `work` for each audience and returns outcomes in the same order.

    One failure does not hold up the others.

    Args:
        open_deployment: Opens the deployment; a function of a module, or a partial of one.
        audiences: Whom the work is for.
        work: The same kind of function; its result can be pickled.

    Raises:
        ProcessEndedError: A process was killed.
    """
    workers = min(len(audiences), len(os.sched_getaffinity(0)))
    one = partial(_one, open_deployment, work)
    if workers <= 1:
        return [one(audience) for audience in audiences]
    # Forking spares each worker nearly two seconds of imports; it is safe while nothing is open and
    # no thread runs, as in our commands.
    method: Literal["fork", "spawn"] = "fork" if threading.active_count() == 1 else "spawn"
    with open_executor(workers, method) as executor:
        return list(map_in_order(executor, one, audiences, in_flight=len(audiences)))


def _one(
    open_deployment: _Open[Deployed], work: Callable[[Deployed, str], Result], audience: str
) -> AudienceOutcome[Result]:
    logs.configure("error")
    try:
        with collect_rarely(), open_deployment() as deployment:
            return AudienceOutcome(audience, work(deployment, audience))
    except SignOffRefusedError as error:
        return AudienceOutcome(audience, error=str(error), refused=True)
    except (ServerError, SigningError, TipstaffError) as error:
        return AudienceOutcome(audience, error=str(error))
