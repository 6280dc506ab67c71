"""Check legal restrictions at the counter: what a provider installs.

    from tipstaff_sdk import Screener, Verdict

    with Screener.open("tipstaff.toml") as screener:
        decision = screener.check(number, name=name, measure="AIR_TRAVEL")

Names are loaded when they are first used, so that importing this package costs next to nothing and gRPC comes only with a connection.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tipstaff_sdk.catalogue import Force, Nature
    from tipstaff_sdk.decision import Decision, Exemption, Outcome, Reason, Restriction, Verdict
    from tipstaff_sdk.disputing import Dispute, DisputeGround, DisputeProgress, DisputeState
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
    from tipstaff_sdk.identity import Identifier, IdentifierKind
    from tipstaff_sdk.policy import Action, ActionKind, Policy
    from tipstaff_sdk.records import Capacity
    from tipstaff_sdk.remedying import Remedy, RemedyOutcome
    from tipstaff_sdk.screener import Screener
    from tipstaff_sdk.settings import Settings
    from tipstaff_sdk.status import Availability, Status, SyncState
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
    "Action": "policy",
    "ActionKind": "policy",
    "Availability": "status",
    "Bilingual": "texts",
    "Capacity": "records",
    "Decision": "decision",
    "Dispute": "disputing",
    "DisputeGround": "disputing",
    "DisputeProgress": "disputing",
    "DisputeState": "disputing",
    "Exemption": "decision",
    "Force": "catalogue",
    "Identifier": "identity",
    "IdentifierKind": "identity",
    "Nature": "catalogue",
    "Outcome": "decision",
    "Policy": "policy",
    "Reason": "decision",
    "Remedy": "remedying",
    "RemedyOutcome": "remedying",
    "Restriction": "decision",
    "Screener": "screener",
    "Settings": "settings",
    "Status": "status",
    "SyncState": "status",
    "Verdict": "decision",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
