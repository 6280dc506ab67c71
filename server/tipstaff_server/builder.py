"""Builds the listing of one audience: slow, deliberate, and only a proposal until a second key has signed it off.

1. Read the relief head. Lifts up to it are worked in; whatever is lifted while the build reads is behind it, and relief carries that.
2. Read the audience's subjects, a page at a time.
3. For each identifier make a token for the filter, and for each name of it seal a record for the pack.
4. Write parameters, filter and pack; the filter is laid out like the published one, as long as the tokens fit, and the pack as long as
   enough people share each bucket.
5. Make deltas from the published filter and pack (deltas.py), and propose all of it with the builder's key.
6. Keep the tokens (token_file.py).

Memory is bounded by a page of subjects, 16 bytes a token and 50 a record; sealed records wait on disk. Sealing is deterministic, so what
did not change keeps its bytes.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter, FormatError, TokenLedger
from tipstaff_sdk.bucket_tree import survey
from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.pack import Pack
from tipstaff_sdk.pack_builder import PackBuilder
from tipstaff_sdk.sealing import EpochKey, seal
from tipstaff_server.deltas import make_deltas
from tipstaff_server.errors import PublicationError
from tipstaff_server.models import BuildState, ListingBuildRow
from tipstaff_server.token_file import Change, TokenFile
from tipstaff_signing.files import FileLock, write_atomic
from tipstaff_signing.keys import builder_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from tipstaff_sdk.identity import Identifier
    from tipstaff_sdk.tokens import Tokeniser
    from tipstaff_server.listing import ListingSubject
    from tipstaff_server.runtime import Runtime
    from tipstaff_signing.model import Proposal

__all__ = ["Built", "Counts", "build", "fill"]

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


def build(runtime: Runtime, audience: str) -> Built:
    """Builds and proposes the listing of an audience.

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
            return _build(runtime, audience, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()


def fill(subjects: Iterable[ListingSubject], key: EpochKey, pack: PackBuilder, counts: Counts) -> Iterator[NDArray[np.uint8]]:
    """Seals every subject into `pack` and counts it, while giving the tokens of their identifiers, (n, 16) uint8 at a time."""
    waiting: list[Identifier] = []
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
            waiting.append(item.identifier)
        counts.subjects += 1
        if len(waiting) >= TOKENS_AT_ONCE:
            yield _tokens(waiting, key.tokeniser, counts)
    yield _tokens(waiting, key.tokeniser, counts)


def _tokens(waiting: list[Identifier], tokeniser: Tokeniser, counts: Counts) -> NDArray[np.uint8]:
    tokens = tokeniser.tokens(waiting)
    counts.identifiers += len(waiting)
    waiting.clear()
    return tokens


def _build(runtime: Runtime, audience: str, place: Path) -> Built:
    relief_sequence = runtime.registry.relief_head()
    now = runtime.clock()
    epoch = runtime.epochs.current(audience)
    key = EpochKey(audience, epoch.number, epoch.key)
    counts = Counts()
    files = {f"listing/{audience}/{name}": place / name for name in ("parameters", "filter", "pack")}
    with PackBuilder(epoch.number) as pack:
        subjects = runtime.registry.listing_subjects(audience, now)
        ledger = TokenLedger(fill(subjects, key, pack, counts), epoch=epoch.number)
        pack.spread(least=LEAST_NUMBERS, keep=_published_bits(runtime, audience))
        pack.write(place / "pack")
        records = pack.record_count
    _write_filter(runtime, audience, ledger, place / "filter")
    parameters = _parameters(runtime, audience, now)
    parameters.epoch = epoch.number
    parameters.relief_sequence = relief_sequence
    parameters.subject_count, parameters.record_count = counts.subjects, records
    with Pack.open(place / "pack") as written:
        parameters.buckets.CopyFrom(survey(written))
    proposal = _propose(runtime, audience, parameters, files)
    change = TokenFile(place.with_suffix(".tokens")).replace(ledger)
    built = Built(
        audience,
        proposal.version,
        epoch.number,
        relief_sequence,
        counts.subjects,
        records,
        now,
        len(proposal.deltas),
        change,
        bucket_least=parameters.buckets.least_numbers,
        bucket_median=parameters.buckets.median_numbers,
    )
    _remember(runtime, built)
    return built


def _published_bits(runtime: Runtime, audience: str) -> int | None:
    found = runtime.published(audience).find(f"listing/{audience}/pack", runtime.repository.versions(audience))
    if found is not None:
        # When it is damaged there is no layout to keep, and there will be no delta.
        with suppress(PackFormatError), Pack.open(found.file) as published:
            return published.bucket_bits
    return None


def _write_filter(runtime: Runtime, audience: str, ledger: TokenLedger, file: Path) -> None:
    """The filter of these tokens, in the layout of the published one where they fit into that and do not leave half of it empty."""
    rate = runtime.config.publication.false_positive_rate
    found = runtime.published(audience).find(f"listing/{audience}/filter", runtime.repository.versions(audience))
    with ExitStack() as opened:
        published = None
        if found is not None:
            # When it is damaged there is no layout to keep, and there will be no delta.
            with suppress(FormatError):
                published = opened.enter_context(BloomFilter.open(found.file))
        if published is not None and published.capacity > MOST_ROOM * (len(ledger) + LEAST_ROOM):
            published = None
        ledger.build(fpr=rate, previous=published).write(file)


def _parameters(runtime: Runtime, audience: str, now: datetime) -> listing_pb2.ListingParameters:
    policies = runtime.registry.policies()
    publication = runtime.config.publication
    parameters = listing_pb2.ListingParameters(
        audience=audience,
        relief_max_age_seconds=publication.relief_max_age_seconds,
        stretch=runtime.registry.stretch.to_proto(),
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
                detail=json.dumps({"buckets": {"least": built.bucket_least, "median": built.bucket_median}}),
            )
        )
