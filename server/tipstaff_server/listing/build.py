"""Builds the listing of one audience: slow, deliberate, and only a proposal until a second key has
signed it off.

1. Read the relief head. Lifts up to it are worked in; whatever is lifted while the build reads is
   behind it, and relief carries that.
2. See whether there is a build to go on from, and whom acts and time have touched since
   (incremental.py). If not, everybody is read.
3. Read those subjects, a page at a time; many of them shared by all cores (processes/spans.py). For
   each identifier make a token for the filter, and for each name of it seal a record.
4. Put them in the place of what they had in the build before, if there is one.
5. Write parameters, filter and pack; the filter is laid out like the published one, as long as the
   tokens fit, and the pack as long as enough people share each bucket.
6. Make deltas from the published filter and pack (deltas.py), and propose all of it with the
   builder's key.
7. Keep what was built, for the next build (last_build.py).

Memory is bounded by a page of subjects, 24 bytes an identifier and 50 a record that is sealed;
sealed records wait on disk. Sealing is deterministic, so what did not change keeps its bytes, and
it does not show in a listing which way it was built.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomFilter, FormatError
from tipstaff_sdk.errors import PackFormatError
from tipstaff_sdk.packs.bucket_tree import survey
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.errors import BuildStateError, PublicationError
from tipstaff_server.listing import incremental
from tipstaff_server.listing.deltas import make_deltas
from tipstaff_server.listing.incremental import Contents, SealedSubjects
from tipstaff_server.listing.last_build import BuildStates, Kept, describe
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.listing.rows import RowWriter, locators, tokens
from tipstaff_server.listing.seal import seal_subjects, sealing
from tipstaff_server.logs import log_info, log_warning
from tipstaff_server.processes.private_folder import private_folder
from tipstaff_server.repository.history import Built, record_build
from tipstaff_signing.files import DISK, write_atomic
from tipstaff_signing.keys.files import builder_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tipstaff_sdk.listing.sealing import EpochKey
    from tipstaff_server.deployment import Deployment
    from tipstaff_server.listing.incremental import BuildPlan
    from tipstaff_server.listing.seal import SealedPart
    from tipstaff_server.repository.published import Published
    from tipstaff_server.vault.epochs import Epoch
    from tipstaff_signing.files import Disk
    from tipstaff_signing.model import Proposal

__all__ = ["build"]

ARTEFACTS = ("parameters", "filter", "pack")
# The k of k-anonymity: how many listed numbers every bucket of a pack holds at least. A listing of
# fewer is one bucket.
LEAST_NUMBERS = 16
# A published filter keeps its layout until it has this many times the room that is needed; small
# ones are not worth the trouble.
MOST_ROOM = 2
LEAST_ROOM = 1_024
# A proposal takes the first free version; when that is not the one in the parameters, they are
# written again.
ATTEMPTS = 3


def build(
    runtime: Deployment, audience: str, *, from_scratch: bool = False, disk: Disk = DISK
) -> Built:
    """Builds and proposes the listing of an audience, on what the last build left.

    `from_scratch`: without it. `disk`: for tests.

    Raises PublicationError: no such audience, or another build of it is running; StorageError,
    SigningError: disk or key refuse.
    """
    if audience not in runtime.repository.audiences():
        raise PublicationError(
            f"there is no audience {audience!r}; audiences are"
            f" {', '.join(runtime.repository.audiences())}"
        )
    with (
        private_folder(runtime.config.folder / ".build", audience, "build") as place,
        # That lock is for this machine, the database's for all of them.
        runtime.store.database.exclusive(f"build/{audience}") as mine,
    ):
        if not mine:
            raise PublicationError(
                f"another build for {audience} is running on another machine; wait for it"
            )
        return _build(runtime, audience, place, from_scratch=from_scratch, disk=disk)


def _build(
    runtime: Deployment, audience: str, place: Path, *, from_scratch: bool, disk: Disk
) -> Built:
    # 1. The relief head, before anything else is read.
    relief_sequence = runtime.registry.relief.head()
    now = runtime.clock()
    epoch = runtime.epochs.current(audience)
    parameters = _parameters(runtime, epoch, relief_sequence, now)

    # 2. Whether there is a build to go on from, and who was touched since.
    states = BuildStates(place.with_suffix(".kept"), disk=disk)
    plan = incremental.plan(
        runtime, states, epoch.master, parameters, now, from_scratch=from_scratch
    )

    # 3. to 5. Rows and pack, then the filter. What is published counts only now, after the long
    # reading: deltas start from what is published when they are made.
    plan, contents = _contents(runtime, epoch.master, plan, states, place)
    published = runtime.published(audience)
    _write_filter(runtime, published, contents.rows, epoch.number, place / "filter")
    parameters.subject_count, parameters.record_count = contents.subjects, contents.records
    parameters.buckets.CopyFrom(contents.buckets)

    # 6. The proposal, with deltas from what is published.
    proposal = _propose(runtime, published, parameters, place)
    built = _built(proposal, parameters, plan, contents)
    record_build(runtime.store, built)

    # 7. What the next build goes on from.
    _keep(audience, plan, states, contents, place)
    log_info(
        "listing_built",
        audience=audience,
        version=built.version,
        touched=built.touched,
        why=built.why,
    )
    return built


def _built(
    proposal: Proposal,
    parameters: listing_pb2.ListingParameters,
    plan: BuildPlan,
    contents: Contents,
) -> Built:
    return Built(
        parameters.audience,
        proposal.version,
        parameters.epoch,
        parameters.relief_sequence,
        contents.subjects,
        contents.records,
        plan.now,
        len(proposal.deltas),
        contents.change,
        bucket_least=parameters.buckets.least_numbers,
        bucket_median=parameters.buckets.median_numbers,
        touched=None if plan.touched is None else len(plan.touched),
        why=plan.why,
    )


def _contents(
    runtime: Deployment,
    key: EpochKey,
    plan: BuildPlan,
    states: BuildStates,
    place: Path,
) -> tuple[BuildPlan, Contents]:
    """The listing's rows and pack in `place`, as planned or, where what was kept turns out not to
    fit, from scratch.
    """
    if plan.touched is not None:
        try:
            return plan, _sealed(runtime, key, plan, states, place)
        except BuildStateError as error:
            log_warning("build_state_unusable", audience=key.audience, reason=str(error))
            plan = plan.scratch(str(error))
            shutil.rmtree(place)
            place.mkdir(mode=0o700)
    return plan, _sealed(runtime, key, plan, states, place)


def _sealed(
    runtime: Deployment,
    key: EpochKey,
    plan: BuildPlan,
    states: BuildStates,
    place: Path,
) -> Contents:
    everybody = plan.touched is None
    parts: Iterator[SealedPart]
    if plan.touched is None:
        parts = runtime.over_all_subjects(sealing, key.audience, key.epoch, plan.now)
    else:
        stretch = runtime.epochs.needed(key.audience, key.epoch).stretch
        parts = seal_subjects(
            ListingReader(runtime.store).chosen(key.audience, plan.now, plan.touched, stretch), key
        )
    keep = _published_bits(runtime.published(key.audience))
    subjects = 0
    with PackBuilder(key.epoch) as pack:
        with RowWriter(place / ("rows" if everybody else "touched")) as rows:
            for part in parts:
                part.put(pack, rows)
                subjects += part.subjects
        sealed = SealedSubjects(pack, rows, subjects, place)
        if not everybody:
            return incremental.merge(plan, states, sealed, least=LEAST_NUMBERS, keep=keep)
        pack.spread(least=LEAST_NUMBERS, keep=keep)
        pack.write(place / "pack")
        whole = sealed.whole
    with Pack.open(place / "pack") as written:
        buckets = survey(written)
    return Contents(
        rows,
        subjects,
        written.record_count,
        buckets,
        incremental.change_since(plan, states, rows),
        whole,
    )


def _keep(
    audience: str, plan: BuildPlan, states: BuildStates, contents: Contents, place: Path
) -> None:
    """Step 7.

    The listing is proposed already: whatever goes wrong here costs the next build its time, and
    nothing else.
    """
    try:
        _check_whole(contents)
        kept = Kept(
            grounds=plan.grounds,
            audit_sequence=plan.head.sequence,
            audit_digest=plan.head.digest.hex(),
            built_at=plan.now,
            scratch_at=(
                plan.now if plan.touched is None or plan.kept is None else plan.kept.scratch_at
            ),
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
        log_warning(
            "build_not_kept", audience=audience, reason=error.strerror or type(error).__name__
        )


def _check_whole(contents: Contents) -> None:
    if not contents.whole:
        raise BuildStateError("somebody is listed without a number, or without a name")
    locators(contents.rows.path)


def _published_bits(published: Published) -> int | None:
    published_pack = published.find(f"listing/{published.audience}/pack")
    if published_pack is not None:
        # When it is damaged there is no layout to keep, and there will be no delta.
        with suppress(PackFormatError), Pack.open(published_pack.file) as pack:
            return pack.bucket_bits
    return None


def _write_filter(
    runtime: Deployment, published: Published, rows: RowWriter, epoch: int, file: Path
) -> None:
    """The filter of these rows' tokens, in the layout of the published one where they fit into that
    and do not leave half of it empty.
    """
    rate = runtime.config.publication.false_positive_rate
    published_filter = published.find(f"listing/{published.audience}/filter")
    with ExitStack() as opened:
        old = None
        if published_filter is not None:
            # When it is damaged there is no layout to keep, and there will be no delta.
            with suppress(FormatError):
                old = opened.enter_context(BloomFilter.open(published_filter.file))
        capacity = None
        if (
            old is not None
            and old.epoch == epoch
            and rows.count <= old.capacity <= MOST_ROOM * (rows.count + LEAST_ROOM)
        ):
            capacity = old.capacity
        BloomFilter.build(tokens(rows.path), fpr=rate, epoch=epoch, capacity=capacity).write(file)


def _parameters(
    runtime: Deployment, epoch: Epoch, relief_sequence: int, now: datetime
) -> listing_pb2.ListingParameters:
    policies = runtime.registry.policies()
    publication = runtime.config.publication
    parameters = listing_pb2.ListingParameters(
        audience=epoch.audience,
        epoch=epoch.number,
        stretch=runtime.registry.stretch_of(epoch).to_proto(),
        relief_sequence=relief_sequence,
        relief_max_age_seconds=publication.relief_max_age_seconds,
        measures=sorted(policies.audience(epoch.audience)),
        catalogue_version=policies.version,
    )
    parameters.built_at.FromDatetime(now)
    parameters.expires_at.FromDatetime(
        now + timedelta(seconds=publication.listing_lifetime_seconds)
    )
    return parameters


def _propose(
    runtime: Deployment,
    published: Published,
    parameters: listing_pb2.ListingParameters,
    place: Path,
) -> Proposal:
    audience = published.audience
    signer = runtime.keys.signer(builder_key(audience))
    files = {f"listing/{audience}/{name}": place / name for name in ARTEFACTS}
    offers = make_deltas(published, files, place)
    deltas = {offer.path: offer.delta for offer in offers}
    artefacts = {**files, **{offer.path: offer.file for offer in offers}}
    parameters.version = published.versions.listing + 1
    for _ in range(ATTEMPTS):
        content = parameters.SerializeToString(deterministic=True)
        write_atomic(place / "parameters", content)
        proposal = runtime.repository.propose_listing(audience, artefacts, signer, deltas=deltas)
        if proposal.version == parameters.version:
            return proposal
        parameters.version = proposal.version + 1
    raise PublicationError(f"other proposals for {audience} keep coming in between; build again")
