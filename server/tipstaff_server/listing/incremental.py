"""Building on what the last build left: whom acts and time have not touched keeps the record that
was sealed then.

1. `plan` asks whether there is a build to go on from (last_build.py), on the same grounds, and who
   was touched since (changed_subjects.py). Where any of that is not certain it says why, and the
   build is from scratch.
2. The builder reads and seals the touched subjects alone.
3. `merge` takes their rows and records out of what was kept and puts the new ones in. Sealing is
   deterministic and layouts follow rules, so the result is, byte for byte, what a build from
   scratch makes (docs/decisions/0023-building-on-the-last-build.md).

The sign-off knows nothing of this: it reads the whole registry, and refuses a listing that is not
what it finds there.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np
from google import protobuf
from sqlalchemy import select

from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.packs.bucket_tree import describe
from tipstaff_sdk.packs.builder import choose_bits, most_bits, numbers_in_buckets
from tipstaff_sdk.packs.merge import merge as merge_packs
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.errors import BuildStateError
from tipstaff_server.listing.changed_subjects import Since, head_of, touched_since
from tipstaff_server.listing.rows import count_change, locators, merge_rows, token_array
from tipstaff_server.logs import log_warning
from tipstaff_server.storage.models import BuildState, ListingBuildRow
from tipstaff_signing.files import sha256_file

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from tipstaff.v1 import listing_pb2
    from tipstaff_sdk.listing.sealing import EpochKey
    from tipstaff_sdk.packs.builder import PackBuilder
    from tipstaff_server.deployment import Deployment
    from tipstaff_server.listing.changed_subjects import Head
    from tipstaff_server.listing.last_build import BuildStates, Kept
    from tipstaff_server.listing.rows import RowWriter
    from tipstaff_server.repository.history import IdentifierChange

__all__ = ["BuildPlan", "Contents", "SealedSubjects", "change_since", "merge", "plan"]

# To be raised by one whenever a change of this program makes another record, token, filter or pack
# of the same registry.
RULES: Final = 1
# When more than this share of the subjects was touched, and more than so many, reading all of them
# in order is no slower.
MOST_TOUCHED: Final = 0.25
MANY_TOUCHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """How a build goes about it.

    `head`, `grounds`: what will be kept with it. `kept`: the build before, if one is whole.
    `touched`: ids of the subjects to be read, ascending; None: all are, and `why` says for what
    reason.
    """

    now: datetime
    head: Head
    grounds: dict[str, str]
    kept: Kept | None
    touched: list[bytes] | None
    why: str = ""

    def scratch(self, why: str) -> BuildPlan:
        """The same from scratch."""
        return BuildPlan(self.now, self.head, self.grounds, self.kept, None, why)


@dataclass(frozen=True, slots=True)
class SealedSubjects:
    """What a build has read and sealed, everybody or touched subjects alone.

    `place`: a folder of its own.
    """

    pack: PackBuilder
    rows: RowWriter
    subjects: int
    place: Path

    @property
    def whole(self) -> bool:
        """Whether the rows say it all: nobody is without a number or a name."""
        rows = self.rows
        return (rows.subjects, rows.copies, rows.nameless) == (
            self.subjects,
            self.pack.record_count,
            0,
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a listing, beside the files `rows` and `pack`: counts, the description of the
    buckets, and what changed.

    `whole`: the rows say it all, so that the next build can go on from them.
    """

    rows: RowWriter
    subjects: int
    records: int
    buckets: listing_pb2.BucketParameters
    change: IdentifierChange | None
    whole: bool = True


def plan(
    runtime: Deployment,
    states: BuildStates,
    key: EpochKey,
    parameters: listing_pb2.ListingParameters,
    now: datetime,
    *,
    from_scratch: bool,
) -> BuildPlan:
    """Step 1. `key`, `parameters`: of the listing to build; `from_scratch`: somebody asks for it.

    Raises DatabaseUnavailableError; OSError.
    """
    kept, why = None, ""
    try:
        kept = states.load()
    except BuildStateError as error:
        why = _reason(key.audience, error)
    states.sweep(kept)
    with runtime.store.read() as session:
        head = head_of(session)
        grounds = _grounds(runtime, key, parameters, head)
        made = BuildPlan(
            now, head, grounds, kept, None, "it was asked for" if from_scratch else why
        )
        if made.why or kept is None:
            return made
        try:
            _check(runtime, session, made, kept, key.audience)
            horizon = timedelta(days=runtime.config.registry.listing_horizon_days)
            since = Since(
                kept.audit_sequence, bytes.fromhex(kept.audit_digest), kept.built_at, kept.subjects
            )
            touched = touched_since(session, head, since, now, horizon)
        except BuildStateError as error:
            return made.scratch(_reason(key.audience, error))
    if len(touched) > max(MANY_TOUCHED, int(kept.subjects * MOST_TOUCHED)):
        return made.scratch("much of the registry was touched since the last build")
    return BuildPlan(now, head, made.grounds, kept, sorted(touched))


def merge(
    plan: BuildPlan, states: BuildStates, sealed: SealedSubjects, *, least: int, keep: int | None
) -> Contents:
    """Step 3: what was kept, with what `sealed` holds of the touched subjects in the place of what
    they had.

    `least`, `keep`: as for PackBuilder.spread. Raises BuildStateError: what was kept is not what it
    should be; OSError.
    """
    kept, place = plan.kept, sealed.place
    if kept is None or plan.touched is None:
        raise BuildStateError("there is nothing to merge with", damaged=False)
    if not sealed.whole:
        raise BuildStateError(
            "somebody is listed without a number, or without a name", damaged=False
        )
    touched = np.frombuffer(b"".join(plan.touched), "S16")
    rows = merge_rows(
        states.path(kept.rows), kept.rows.sha256, touched, sealed.rows.path, place / "rows"
    )
    records = (
        kept.records - int(rows.gone["copies"].sum(dtype=np.uint64)) + sealed.pack.record_count
    )
    numbers = locators(place / "rows")
    bits = choose_bits(numbers, most_bits(records), least=least, keep=keep)
    sealed.pack.settle(bits)
    sealed.pack.write(place / "come")
    if (
        _merge_packs(
            states.path(kept.pack),
            kept.pack.sha256,
            np.sort(rows.gone["locator"].astype(np.uint64)),
            place,
        )
        != records
    ):
        raise BuildStateError("the kept pack holds other records than the kept rows say")
    with Pack.open(place / "pack") as written:
        buckets = describe(written, numbers_in_buckets(numbers, bits))
    subjects = kept.subjects - rows.gone_subjects + sealed.subjects
    return Contents(
        rows.writer,
        subjects,
        records,
        buckets,
        count_change(rows.gone["token"], rows.come["token"]),
    )


def _merge_packs(old: Path, sha256: str, gone: NDArray[np.uint64], place: Path) -> int:
    """Writes the new pack; its records."""
    if sha256_file(old)[1] != sha256:
        raise BuildStateError("the kept pack is damaged")
    try:
        with Pack.open(old) as before, Pack.open(place / "come") as come:
            return merge_packs(before, gone, come, place / "pack")
    except PackFormatError as error:
        raise BuildStateError(f"the kept pack does not fit the kept rows ({error})") from error


def change_since(plan: BuildPlan, states: BuildStates, rows: RowWriter) -> IdentifierChange | None:
    """Which identifiers came and went since the build before, for one that was made from scratch;
    None: not to be said.
    """
    kept = plan.kept
    if kept is None or any(
        kept.grounds.get(ground) != plan.grounds[ground] for ground in ("epoch", "epoch key")
    ):
        return None
    try:
        before = token_array(states.path(kept.rows), kept.rows.sha256)
    except BuildStateError:
        return None
    return count_change(before, token_array(rows.path, rows.sha256))


def _reason(audience: str, error: BuildStateError) -> str:
    if error.damaged:
        log_warning("build_state_unusable", audience=audience, reason=str(error))
    return str(error)


def _check(
    runtime: Deployment, session: Session, made: BuildPlan, kept: Kept, audience: str
) -> None:
    """Raises BuildStateError: everything has to be read, whoever was touched."""
    for ground in sorted(made.grounds.keys() | kept.grounds.keys()):
        if made.grounds.get(ground) != kept.grounds.get(ground):
            raise BuildStateError(
                f"the {ground} is another one than in the last build", damaged=False
            )
    age = made.now - kept.scratch_at
    if age >= timedelta(seconds=runtime.config.publication.from_scratch_interval_seconds):
        raise BuildStateError("the last build from scratch is as old as configured", damaged=False)
    row = ListingBuildRow
    last = session.scalar(
        select(row.state).where(row.audience_id == audience).order_by(row.version.desc()).limit(1)
    )
    if last is BuildState.REFUSED:
        raise BuildStateError("the sign-off refused the last listing", damaged=False)


def _grounds(
    runtime: Deployment, key: EpochKey, parameters: listing_pb2.ListingParameters, head: Head
) -> dict[str, str]:
    """What every record rests on beside the registry's entries.

    A name goes into a sentence: "the … is another one".
    """
    libraries = f"protobuf {protobuf.__version__}, unicode {unicodedata.unidata_version}"
    return {
        "program": f"tipstaff {version('tipstaff')}, rules {RULES}, {libraries}",
        "epoch": str(key.epoch),
        "epoch key": hashlib.sha256(b"tipstaff/v1/build-state\0" + key.token_key).hexdigest(),
        "stretch": hashlib.sha256(
            parameters.stretch.SerializeToString(deterministic=True)
        ).hexdigest(),
        "administration": str(head.administration),
        "measures": " ".join(parameters.measures),
        "horizon": f"{runtime.config.registry.listing_horizon_days} days",
    }
