"""Check legal restrictions at the counter: what a provider installs.

    from tipstaff_sdk import Screener, Verdict

    with Screener.open("tipstaff.toml") as screener:
        decision = screener.check(number, name=name, measure="AIR_TRAVEL")

Names are loaded when they are first used, so that importing this package costs next to nothing and
gRPC comes only with a connection.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tipstaff_sdk.decision.decision import Decision, Outcome, Reason, Verdict
    from tipstaff_sdk.decision.policy import Action, ActionKind, Policy
    from tipstaff_sdk.enforcement.disputes import (
        Dispute,
        DisputeGround,
        DisputeProgress,
        DisputeState,
    )
    from tipstaff_sdk.enforcement.remedies import Remedy, RemedyOutcome
    from tipstaff_sdk.errors import (
        ClosedError,
        ConfigurationError,
        FormatError,
        InvalidIdentifierError,
        InvalidNameError,
        InvalidServiceError,
        MeasureNotCoveredError,
        NotDisputableError,
        NotReadyError,
        OutboxError,
        OutboxFullError,
        StorageError,
        TipstaffError,
        TransportError,
        UnknownMeasureError,
        UntrustedError,
    )
    from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
    from tipstaff_sdk.listing.catalogue import Force, Nature
    from tipstaff_sdk.listing.records import Capacity, Exemption, Restriction
    from tipstaff_sdk.screener import Screener
    from tipstaff_sdk.settings import Settings
    from tipstaff_sdk.sync.status import Availability, Status, SyncState
    from tipstaff_sdk.texts import Bilingual

__all__ = [
    "Action",
    "ActionKind",
    "Availability",
    "Bilingual",
    "Capacity",
    "ClosedError",
    "ConfigurationError",
    "Decision",
    "Dispute",
    "DisputeGround",
    "DisputeProgress",
    "DisputeState",
    "Exemption",
    "Force",
    "FormatError",
    "Identifier",
    "IdentifierKind",
    "InvalidIdentifierError",
    "InvalidNameError",
    "InvalidServiceError",
    "MeasureNotCoveredError",
    "Nature",
    "NotDisputableError",
    "NotReadyError",
    "OutboxError",
    "OutboxFullError",
    "Outcome",
    "Policy",
    "Reason",
    "Remedy",
    "RemedyOutcome",
    "Restriction",
    "Screener",
    "Settings",
    "Status",
    "StorageError",
    "SyncState",
    "TipstaffError",
    "TransportError",
    "UnknownMeasureError",
    "UntrustedError",
    "Verdict",
]

# Where each name that is not an error lives.
_HOMES: Final = {
    "Action": "decision.policy",
    "ActionKind": "decision.policy",
    "Availability": "sync.status",
    "Bilingual": "texts",
    "Capacity": "listing.records",
    "Decision": "decision.decision",
    "Dispute": "enforcement.disputes",
    "DisputeGround": "enforcement.disputes",
    "DisputeProgress": "enforcement.disputes",
    "DisputeState": "enforcement.disputes",
    "Exemption": "listing.records",
    "Force": "listing.catalogue",
    "Identifier": "identity.identifier",
    "IdentifierKind": "identity.identifier",
    "Nature": "listing.catalogue",
    "Outcome": "decision.decision",
    "Policy": "decision.policy",
    "Reason": "decision.decision",
    "Remedy": "enforcement.remedies",
    "RemedyOutcome": "enforcement.remedies",
    "Restriction": "listing.records",
    "Screener": "screener",
    "Settings": "settings",
    "Status": "sync.status",
    "SyncState": "sync.status",
    "Verdict": "decision.decision",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
