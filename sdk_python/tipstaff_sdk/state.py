"""From verified files to what decisions are made on.

One `Loaded` is one consistent version of everything: whoever holds a reference goes on using it, whatever a sync does meanwhile. Filter
and pack are mapped, not read; a version that shares them with the one before shares the mapping too. They are unmapped when the last
reference goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomError, BloomFilter
from tipstaff_sdk.catalogue import Catalogue
from tipstaff_sdk.decision import State
from tipstaff_sdk.errors import FormatError, ParametersError, StorageError
from tipstaff_sdk.pack import Pack
from tipstaff_sdk.relief import Relief, parse_segment
from tipstaff_sdk.sealing import EpochKey, Stretch
from tipstaff_sdk.status import Availability

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tipstaff_signing import RoleState, Target, VerifiedState

__all__ = ["Loaded", "listing_epoch", "load_state", "role_names"]

_SMALL: Final = 64 << 20
