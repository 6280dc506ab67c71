"""The question that a decision answers, once its parts are canonical."""

from dataclasses import dataclass
from datetime import datetime

from tipstaff_sdk.decision.evidence import Service
from tipstaff_sdk.identity.identifier import Identifier

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """May this person or organisation be offered this service, at this moment?"""

    now: datetime
    """The moment, aware UTC."""
    identifier: Identifier
    name: str
    """Canonical, see `canonical_name`."""
    measure: str
    """The code of the measure."""
    service: Service | None = None
    """What is bought, as the measure asks for it."""
