"""From verified files to what decisions are made on.

One `Loaded` is one consistent version of everything: whoever holds a reference goes on using it,
whatever a sync does meanwhile. Filter and pack are mapped, not read; a version that shares them
with the one before shares the mapping too. They are unmapped when the last reference goes, so a
check in another thread is never cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from google.protobuf.message import DecodeError

from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomError, BloomFilter
from tipstaff_sdk.decision.decide import DecisionState
from tipstaff_sdk.errors import FormatError, ParametersError, StorageError
from tipstaff_sdk.listing.catalogue import Catalogue
from tipstaff_sdk.listing.relief import Relief, parse_segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch
from tipstaff_sdk.packs.pack import Pack
from tipstaff_sdk.sync.buckets import BucketSource
from tipstaff_sdk.sync.status import Availability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tipstaff_sdk.sync.buckets import FetchBucket
    from tipstaff_signing import RoleState, Target, VerifiedState

Mapped = TypeVar("Mapped", BloomFilter, Pack)

__all__ = ["Loaded", "listing_epoch", "load_state", "role_names"]

_MAX_SMALL: Final = 32 << 20
"""Catalogue, parameters and relief segments are read whole; none is larger (a million lifts are 24
MB).
"""


@dataclass(frozen=True, slots=True)
class Artefact(Generic[Mapped]):
    """A mapped file and the SHA-256 that it has."""

    sha256: str
    content: Mapped


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version of the data, ready for checks, and what `status()` says of it.

    `pack` or `buckets`, depending on the profile.
    """

    state: DecisionState
    verified: VerifiedState
    listing_metadata_version: int
    listing_version: int
    listing_signed_at: datetime
    listing_expires_at: datetime
    relief_sequence: int
    relief_signed_at: datetime
    relief_complete: bool
    relief_max_age: timedelta
    key_present: bool
    filter: Artefact[BloomFilter]
    pack: Artefact[Pack] | None
    buckets: BucketSource | None

    def availability(self, now: datetime) -> Availability:
        """What checks at `now` can be answered from: steps 3 and 10 of the decision, for nobody in
        particular.
        """
        if now >= self.listing_expires_at or not self.key_present:
            return Availability.NONE
        if not self.relief_complete or now - self.relief_signed_at > self.relief_max_age:
            return Availability.CACHED
        return Availability.FRESH


def role_names(audience: str) -> tuple[str, str]:
    """The delegated roles that an audience's provider reads."""
    return f"listing-{audience}", f"relief-{audience}"


def listing_epoch(verified: VerifiedState, audience: str) -> int | None:
    """The epoch whose key the listing needs; None while no listing has been published."""
    target = verified.roles[role_names(audience)[0]].targets.get(f"listing/{audience}/parameters")
    return None if target is None else _parameters(target, audience).epoch


def load_state(
    verified: VerifiedState,
    audience: str,
    keys: Mapping[int, bytes],
    *,
    previous: Loaded | None,
    fetch: FetchBucket | None = None,
) -> Loaded | None:
    """Opens a verified version; None while no listing has been published.

    With `fetch`, records come from there: the lean profile.

    Raises:
        FormatError: an artefact is not what it should be although it is signed; tell the operator.
        StorageError: a file cannot be read.
    """
    if not verified.roles[role_names(audience)[0]].targets:
        return None
    try:
        return _load(verified, audience, keys, previous, fetch)
    except BloomError as error:
        raise FormatError(
            f"the filter cannot be used ({error}): the last data stays in use; sync again, then"
            " tell the operator"
        ) from error
    except OSError as error:
        raise StorageError(
            f"a verified file cannot be read ({error.strerror}): check state_dir, then sync again"
        ) from error


def _load(
    verified: VerifiedState,
    audience: str,
    keys: Mapping[int, bytes],
    previous: Loaded | None,
    fetch: FetchBucket | None,
) -> Loaded:
    listing, relief_role = (verified.roles[name] for name in role_names(audience))
    parameters = _parameters(_target(listing, f"listing/{audience}/parameters"), audience)
    members = _open(
        _target(listing, f"listing/{audience}/filter"),
        BloomFilter.open,
        None if previous is None else previous.filter,
    )
    pack = buckets = None
    if fetch is None:
        pack = _open(
            _target(listing, f"listing/{audience}/pack"),
            Pack.open,
            None if previous is None else previous.pack,
        )
    else:
        buckets = BucketSource(parameters, fetch, None if previous is None else previous.buckets)
    segments = [parse_segment(_read(target.file)) for target in relief_role.targets.values()]
    relief = Relief.from_segments(segments, parameters.relief_sequence, relief_role.signed_at)
    state = DecisionState(
        parameters=parameters,
        catalogue=Catalogue.from_bytes(_read(_target(verified.roles["targets"], "catalogue").file)),
        filter=members.content,
        pack=buckets if pack is None else pack.content,
        relief=relief,
        epoch_keys={epoch: EpochKey(audience, epoch, master) for epoch, master in keys.items()},
        stretch=Stretch.from_proto(parameters.stretch),
    )
    return Loaded(
        state=state,
        verified=verified,
        listing_metadata_version=listing.version,
        listing_version=parameters.version,
        listing_signed_at=listing.signed_at,
        listing_expires_at=parameters.expires_at.ToDatetime(UTC),
        relief_sequence=relief.head,
        relief_signed_at=relief.signed_at,
        relief_complete=relief.complete,
        relief_max_age=timedelta(seconds=parameters.relief_max_age_seconds),
        key_present=parameters.epoch in keys,
        filter=members,
        pack=pack,
        buckets=buckets,
    )


def _open(
    target: Target, open_: Callable[[Path], Mapped], kept: Artefact[Mapped] | None
) -> Artefact[Mapped]:
    return (
        kept
        if kept is not None and kept.sha256 == target.sha256
        else Artefact(target.sha256, open_(target.file))
    )


def _parameters(target: Target, audience: str) -> listing_pb2.ListingParameters:
    try:
        parameters = listing_pb2.ListingParameters.FromString(_read(target.file))
    except DecodeError as error:
        raise ParametersError(
            "the listing's parameters do not parse: update tipstaff, or tell the operator"
        ) from error
    if parameters.audience != audience:
        raise ParametersError(
            f"the listing is for audience {parameters.audience!r}, not {audience!r}: tell the"
            " operator"
        )
    return parameters


def _target(role: RoleState, path: str) -> Target:
    try:
        return role.targets[path]
    except KeyError:
        raise FormatError(
            f"{role.name} has no {path}: tell the operator, and update tipstaff"
        ) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_SMALL + 1)
    if len(content) > _MAX_SMALL:
        raise FormatError(f"{path.name} is larger than {_MAX_SMALL} bytes: tell the operator")
    return content
