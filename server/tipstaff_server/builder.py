"""Builds the listing of one audience: slow, deliberate, and only a proposal until a second key has signed it off.

1. Read the relief head. Lifts up to it are worked in; whatever is lifted while the build reads is behind it, and relief carries that.
2. See whether there is a build to go on from, and whom acts and time have touched since (incremental.py). If not, everybody is read.
3. Read those subjects, a page at a time. For each identifier make a token for the filter, and for each name of it seal a record.
4. Put them in the place of what they had in the build before, if there is one.
5. Write parameters, filter and pack; the filter is laid out like the published one, as long as the tokens fit, and the pack as long as
   enough people share each bucket.
6. Make deltas from the published filter and pack (deltas.py), and propose all of it with the builder's key.
7. Keep what was built, for the next build (build_state.py).

Memory is bounded by a page of subjects, 24 bytes an identifier and 50 a record that is sealed; sealed records wait on disk. Sealing is
deterministic, so what did not change keeps its bytes, and it does not show in a listing which way it was built.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter, FormatError
from tipstaff_sdk.bucket_tree import survey
from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.pack import Pack
from tipstaff_sdk.pack_builder import PackBuilder
from tipstaff_sdk.sealing import EpochKey, seal
from tipstaff_server import incremental
from tipstaff_server.ahead import read_ahead
from tipstaff_server.build_rows import RowWriter, locators, tokens
from tipstaff_server.build_state import BuildStates, Kept, describe
from tipstaff_server.deltas import make_deltas
from tipstaff_server.errors import BuildStateError, PublicationError
from tipstaff_server.incremental import Contents, Sealed
from tipstaff_server.logs import log_info, log_warning
from tipstaff_server.models import BuildState, ListingBuildRow
from tipstaff_signing.files import DISK, FileLock, write_atomic
from tipstaff_signing.keys import builder_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tipstaff_sdk.identity import Identifier
    from tipstaff_sdk.tokens import Tokeniser
    from tipstaff_server.build_rows import Change
    from tipstaff_server.incremental import Plan
    from tipstaff_server.listing import ListingSubject
    from tipstaff_server.registry import Registry
    from tipstaff_server.runtime import Runtime
    from tipstaff_signing.files import Disk
    from tipstaff_signing.model import Proposal

__all__ = ["Built", "Counts", "build", "fill"]

_Row = tuple[bytes, "Identifier", bytes, int]

ARTEFACTS = ("parameters", "filter", "pack")
TOKENS_AT_ONCE = 16_384
LOCK_SECONDS = 1.0
# The k of k-anonymity: how many listed numbers every bucket of a pack holds at least. A listing of fewer is one bucket.
LEAST_NUMBERS = 16
# A published filter keeps its layout until it has this many times the room that is needed; small ones are not worth the trouble.
MOST_ROOM = 2
LEAST_ROOM = 1_024
# A proposal takes the first free version; when that is not the one in the parameters, they are written again.
ATTEMPTS = 3


@dataclass(slots=True)
class Counts:
    """How much went into a listing."""

    subjects: int = 0
    identifiers: int = 0


@dataclass(frozen=True, slots=True)
class Built:
    """A proposed listing, in figures."""

    audience: str
    version: int
    epoch: int
    relief_sequence: int
    subjects: int
    records: int
    built_at: datetime
    deltas: int = 0
    change: Change | None = None  # in identifiers, since the build before
    bucket_least: int = 0  # listed numbers in the emptiest bucket, and in the median one
    bucket_median: int = 0
    touched: int | None = None  # subjects that were read; None: all, because of `why`
    why: str = ""


def build(runtime: Runtime, audience: str, *, from_scratch: bool = False, disk: Disk = DISK) -> Built:
    """Builds and proposes the listing of an audience, on what the last build left. `from_scratch`: without it. `disk`: for tests.

    Raises PublicationError: no such audience, or another build of it is running; StorageError, SigningError: disk or key refuse.
    """
    if audience not in runtime.repository.audiences():
        raise PublicationError(f"there is no audience {audience!r}; audiences are {', '.join(runtime.repository.audiences())}")
    folder = runtime.config.folder / ".build"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / f"{audience}.lock", timeout=LOCK_SECONDS)
    if not lock.acquire():
        raise PublicationError(f"another build for {audience} is running; wait for it")
    place = folder / audience
    try:
        # What a killed build left behind.
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        # The file lock is for this machine, the database's for all of them.
        with runtime.registry.database.exclusive(f"build/{audience}") as mine:
            if not mine:
                raise PublicationError(f"another build for {audience} is running on another machine; wait for it")
            return _build(runtime, audience, place, from_scratch=from_scratch, disk=disk)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()


def fill(subjects: Iterable[ListingSubject], key: EpochKey, pack: PackBuilder, rows: RowWriter, counts: Counts) -> None:
    """Seals every subject into `pack`, and puts a row with its token into `rows` for each identifier."""
    waiting: list[_Row] = []
    for subject in subjects:
        record = listing_pb2.Record(
            # What reaches through posts asks for software that knows how posts end.
            version=2 if any(restriction.post_ids for restriction in subject.restrictions) else 1,
            subject_type=identity_pb2.SubjectType.ValueType(subject.subject_type),
            restrictions=subject.restrictions,
        )
        for item in subject.identifiers:
            keys = key.derive(item.stretched)
            for name in subject.names:
                name_keys = keys.name_keys(name)
                pack.add(keys.locator, name_keys.commitment, seal(name_keys, record))
            waiting.append((subject.id, item.identifier, keys.locator, len(subject.names)))
        counts.subjects += 1
        if len(waiting) >= TOKENS_AT_ONCE:
            _put(waiting, key.tokeniser, rows, counts)
    _put(waiting, key.tokeniser, rows, counts)


def _put(waiting: list[_Row], tokeniser: Tokeniser, rows: RowWriter, counts: Counts) -> None:
    if waiting:
        subjects, identifiers, places, copies = zip(*waiting, strict=True)
        rows.put(subjects, tokeniser.tokens(identifiers), places, copies)
    counts.identifiers += len(waiting)
    waiting.clear()


def _build(runtime: Runtime, audience: str, place: Path, *, from_scratch: bool, disk: Disk) -> Built:
    relief_sequence = runtime.registry.relief_head()
    now = runtime.clock()
    epoch = runtime.epochs.current(audience)
    key = EpochKey(audience, epoch.number, epoch.key)
    states = BuildStates(place.with_suffix(".kept"), disk=disk)
    parameters = _parameters(runtime, audience, now)
    parameters.epoch = epoch.number
    parameters.stretch.CopyFrom(runtime.registry.stretch_of(epoch).to_proto())
    parameters.relief_sequence = relief_sequence
    plan = incremental.plan(runtime, states, key, parameters, now, from_scratch=from_scratch)
    plan, contents = _contents(runtime, key, plan, states, place)
    _write_filter(runtime, audience, contents.rows, epoch.number, place / "filter")
    parameters.subject_count, parameters.record_count = contents.subjects, contents.records
    parameters.buckets.CopyFrom(contents.buckets)
    proposal = _propose(runtime, audience, parameters, {f"listing/{audience}/{name}": place / name for name in ARTEFACTS})
    built = Built(
        audience,
        proposal.version,
        epoch.number,
        relief_sequence,
        contents.subjects,
        contents.records,
        now,
        len(proposal.deltas),
        contents.change,
        bucket_least=parameters.buckets.least_numbers,
        bucket_median=parameters.buckets.median_numbers,
        touched=None if plan.touched is None else len(plan.touched),
        why=plan.why,
    )
    _remember(runtime, built)
    _keep(audience, plan, states, contents, place)
    log_info("listing_built", audience=audience, version=built.version, touched=built.touched, why=built.why)
    return built


def _contents(runtime: Runtime, key: EpochKey, plan: Plan, states: BuildStates, place: Path) -> tuple[Plan, Contents]:
    """The listing's rows and pack in `place`, as planned or, where what was kept turns out not to fit, from scratch."""
    if plan.touched is not None:
        try:
            return plan, _sealed(runtime, key, plan, states, place)
        except BuildStateError as error:
            log_warning("build_state_unusable", audience=key.audience, reason=str(error))
            plan = plan.scratch(str(error))
            shutil.rmtree(place)
            place.mkdir(mode=0o700)
    return plan, _sealed(runtime, key, plan, states, place)


def _sealed(runtime: Runtime, key: EpochKey, plan: Plan, states: BuildStates, place: Path) -> Contents:
    registry, counts = runtime.registry, Counts()
    everybody = plan.touched is None
    epoch = runtime.epochs.get(key.audience, key.epoch)
    stretch = None if epoch is None else epoch.stretch
    if plan.touched is None:
        subjects = read_ahead(runtime, _everybody, key.audience, plan.now, stretch)
    else:
        subjects = registry.listing_chosen(key.audience, plan.now, plan.touched, stretch)
    keep = _published_bits(runtime, key.audience)
    with PackBuilder(key.epoch) as pack:
        with RowWriter(place / ("rows" if everybody else "touched")) as rows:
            fill(subjects, key, pack, rows, counts)
        sealed = Sealed(pack, rows, counts.subjects, place)
        if not everybody:
            return incremental.merge(plan, states, sealed, least=LEAST_NUMBERS, keep=keep)
        pack.spread(least=LEAST_NUMBERS, keep=keep)
        pack.write(place / "pack")
        whole = sealed.whole
    with Pack.open(place / "pack") as written:
        buckets = survey(written)
    return Contents(rows, counts.subjects, written.record_count, buckets, incremental.change_since(plan, states, rows), whole)


def _keep(audience: str, plan: Plan, states: BuildStates, contents: Contents, place: Path) -> None:
    """Step 7. The listing is proposed already: whatever goes wrong here costs the next build its time, and nothing else."""
    try:
        _check_whole(contents)
        kept = Kept(
            grounds=plan.grounds,
            audit_sequence=plan.head.sequence,
            audit_digest=plan.head.digest.hex(),
            built_at=plan.now,
            scratch_at=plan.now if plan.touched is None or plan.kept is None else plan.kept.scratch_at,
            subjects=contents.subjects,
            records=contents.records,
            rows=describe(place / "rows", "rows"),
            pack=describe(place / "pack", "pack"),
        )
        states.keep(kept, place / "rows", place / "pack")
    except BuildStateError as error:
        states.forget()
        log_warning("build_not_kept", audience=audience, reason=str(error))
    except OSError as error:
        log_warning("build_not_kept", audience=audience, reason=error.strerror or type(error).__name__)


def _check_whole(contents: Contents) -> None:
    if not contents.whole:
        raise BuildStateError("somebody is listed without a number, or without a name")
    locators(contents.rows.path)


def _everybody(registry: Registry, audience: str, now: datetime, stretch: int | None) -> Iterator[ListingSubject]:
    return registry.listing_subjects(audience, now, stretch)


def _published_bits(runtime: Runtime, audience: str) -> int | None:
    found = runtime.published(audience).find(f"listing/{audience}/pack", runtime.repository.versions(audience))
    if found is not None:
        # When it is damaged there is no layout to keep, and there will be no delta.
        with suppress(PackFormatError), Pack.open(found.file) as published:
            return published.bucket_bits
    return None


def _write_filter(runtime: Runtime, audience: str, rows: RowWriter, epoch: int, file: Path) -> None:
    """The filter of these rows' tokens, in the layout of the published one where they fit into that and do not leave half of it empty."""
    rate = runtime.config.publication.false_positive_rate
    found = runtime.published(audience).find(f"listing/{audience}/filter", runtime.repository.versions(audience))
    with ExitStack() as opened:
        published = None
        if found is not None:
            # When it is damaged there is no layout to keep, and there will be no delta.
            with suppress(FormatError):
                published = opened.enter_context(BloomFilter.open(found.file))
        capacity = None
        if published is not None and published.epoch == epoch and rows.count <= published.capacity <= MOST_ROOM * (rows.count + LEAST_ROOM):
            capacity = published.capacity
        BloomFilter.build(tokens(rows.path), fpr=rate, epoch=epoch, capacity=capacity).write(file)


def _parameters(runtime: Runtime, audience: str, now: datetime) -> listing_pb2.ListingParameters:
    policies = runtime.registry.policies()
    publication = runtime.config.publication
    parameters = listing_pb2.ListingParameters(
        audience=audience,
        relief_max_age_seconds=publication.relief_max_age_seconds,
        measures=sorted(policies.audience(audience)),
        catalogue_version=policies.version,
    )
    parameters.built_at.FromDatetime(now)
    parameters.expires_at.FromDatetime(now + timedelta(seconds=publication.listing_lifetime_seconds))
    return parameters


def _propose(runtime: Runtime, audience: str, parameters: listing_pb2.ListingParameters, files: dict[str, Path]) -> Proposal:
    signer = runtime.keys.signer(builder_key(audience))
    versions = runtime.repository.versions(audience)
    offers = make_deltas(runtime.published(audience), versions, files, files[f"listing/{audience}/parameters"].parent)
    deltas = {offer.path: offer.delta for offer in offers}
    artefacts = {**files, **{offer.path: offer.file for offer in offers}}
    parameters.version = versions.listing + 1
    for _ in range(ATTEMPTS):
        write_atomic(files[f"listing/{audience}/parameters"], parameters.SerializeToString(deterministic=True))
        proposal = runtime.repository.propose_listing(audience, artefacts, signer, deltas=deltas)
        if proposal.version == parameters.version:
            return proposal
        parameters.version = proposal.version + 1
    raise PublicationError(f"other proposals for {audience} keep coming in between; build again")


def _remember(runtime: Runtime, built: Built) -> None:
    with runtime.registry.database.write() as session:
        session.merge(
            ListingBuildRow(
                audience_id=built.audience,
                version=built.version,
                epoch=built.epoch,
                relief_sequence=built.relief_sequence,
                subject_count=built.subjects,
                record_count=built.records,
                state=BuildState.BUILT,
                built_at=built.built_at,
                published_at=None,
                detail=json.dumps(
                    {
                        "buckets": {"least": built.bucket_least, "median": built.bucket_median},
                        "touched": built.touched,
                        "why": built.why,
                    }
                ),
            )
        )
