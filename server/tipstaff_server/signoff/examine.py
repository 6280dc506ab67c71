"""The independent sign-off of a listing: a second process with a second key, which looks at
everything again before it signs.

1. The parameters are this deployment's, and newer than what is published.
2. Everybody whom the registry restricts is found in the filter and in the pack, and the sealed
   record opens.
3. Whatever a record says stands in the registry, with a legal basis and a running term, and is
   neither disputed nor ended.
4. Nothing is in the pack, nor counted in the filter, that is not in the registry; its buckets are
   those that the parameters describe.
5. The additions stay below the churn guard's bound; a first listing is exempt.
6. Each delta is published already, or gives the new filter or pack when applied to the published
   one (listing/deltas.py).

The registry goes on while a listing is built, so each comparison is as of the build: what was
lifted since then is covered by relief, which counts from the listing's own sequence, and what was
entered since then is not missed. Reasons name restrictions by id, never a person.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomError, BloomFilter
from tipstaff_sdk.errors import FormatError, SealError
from tipstaff_sdk.listing.sealing import open_sealed
from tipstaff_sdk.packs.bucket_tree import survey
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.domain.lifecycle import LISTED, State
from tipstaff_server.errors import SignOffRefusedError
from tipstaff_server.signoff import reader as standing
from tipstaff_server.signoff.churn import additions
from tipstaff_server.signoff.deltas import examine_deltas
from tipstaff_server.signoff.findings import Findings
from tipstaff_server.signoff.pack_lookup import PackLookup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from google.protobuf.timestamp_pb2 import Timestamp

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.listing.sealing import EpochKey, SubjectKeys
    from tipstaff_server.deployment import Deployment
    from tipstaff_server.domain.spans import Span
    from tipstaff_server.repository.published import Published
    from tipstaff_server.signoff.reader import Held, Reached, StandingRestriction
    from tipstaff_signing.model import Proposal

__all__ = ["examine"]

OLDEST_BUILD = timedelta(days=1)
CLOCK_TOLERANCE = timedelta(minutes=5)


def examine(runtime: Deployment, proposal: Proposal, *, accept_growth: bool = False) -> None:
    """Looks at everything.

    Raises SignOffRefusedError with all reasons; returns when there is none.
    """
    findings = Findings()
    audience = proposal.audience
    published = runtime.published(audience)
    expected = {f"listing/{audience}/{name}" for name in ("parameters", "filter", "pack")}
    if proposal.artefacts.keys() - proposal.deltas.keys() != expected:
        raise SignOffRefusedError(
            [f"the proposal holds other files than {', '.join(sorted(expected))}"]
        )
    try:
        files = {
            name: proposal.artefacts[f"listing/{audience}/{name}"]
            for name in ("parameters", "filter", "pack")
        }
        parameters = listing_pb2.ListingParameters.FromString(files["parameters"].read_bytes())
        with (
            BloomFilter.open(files["filter"]) as filter_,
            Pack.open(files["pack"]) as pack,
        ):
            _check_parameters(runtime, published, proposal, parameters, findings)
            _compare(runtime, parameters, files, (filter_, pack), findings)
            if not accept_growth:
                _check_growth(runtime, published, parameters, pack, findings)
        for reason in examine_deltas(published, proposal):
            findings.add(reason)
    except (DecodeError, FormatError, BloomError) as error:
        # Damaged, or not what a listing consists of: there is nothing to compare.
        findings.add(f"a file of the proposal is not readable ({type(error).__name__})")
    if reasons := findings.reasons():
        raise SignOffRefusedError(reasons)


def _check_parameters(
    runtime: Deployment,
    published: Published,
    proposal: Proposal,
    parameters: listing_pb2.ListingParameters,
    findings: Findings,
) -> None:
    publication = runtime.config.publication
    policies = runtime.registry.policies()
    before = published.parameters()
    built_at, now = _moment(parameters.built_at), runtime.clock()
    lifetime = _moment(parameters.expires_at) - built_at
    epochs = {epoch.number: epoch for epoch in runtime.epochs.in_use(proposal.audience)}
    epoch = epochs.get(parameters.epoch)
    rules = {
        "the audience is another one": parameters.audience != proposal.audience,
        "the version is not the proposal's": parameters.version != proposal.version,
        "the version is not newer than the published one": parameters.version
        <= published.versions.listing,
        "the epoch is not in use": epoch is None,
        "it was built too long ago, or in the future": (
            not now - OLDEST_BUILD <= built_at <= now + CLOCK_TOLERANCE
        ),
        "it is valid for longer than configured": (
            not timedelta(0) < lifetime <= timedelta(seconds=publication.listing_lifetime_seconds)
        ),
        "the cost or salt of stretching is not the registry's": (
            epoch is not None
            and parameters.stretch != runtime.registry.stretch_of(epoch).to_proto()
        ),
        "the measures are not the audience's": (
            list(parameters.measures) != sorted(policies.audience(proposal.audience))
        ),
        "the catalogue is not the current one": parameters.catalogue_version != policies.version,
        "the relief sequence has not been given out yet": (
            parameters.relief_sequence > runtime.registry.relief.head()
        ),
        "the relief sequence goes backwards": (
            before is not None and parameters.relief_sequence < before.relief_sequence
        ),
        "the age allowed to relief is not the configured one": (
            parameters.relief_max_age_seconds != publication.relief_max_age_seconds
        ),
    }
    for what, broken in rules.items():
        if broken:
            findings.add(what)


def _check_growth(
    runtime: Deployment,
    published: Published,
    parameters: listing_pb2.ListingParameters,
    pack: Pack,
    findings: Findings,
) -> None:
    before = published.parameters()
    if before is None or not before.record_count:
        return
    with Pack.open(published.path(f"listing/{published.audience}/pack")) as old:
        # Another epoch is another key: no record looks like before, so only the numbers can be
        # compared.
        added = (
            additions(old, pack)
            if before.epoch == parameters.epoch
            else pack.record_count - old.record_count
        )
    publication = runtime.config.publication
    bound = max(publication.churn_floor, int(before.record_count * publication.churn_max_growth))
    if added > bound:
        findings.add(
            f"{added} records are new beside {before.record_count} published ones, and the churn"
            f" guard's bound is {bound}: look at what was entered, and if it is right, sign off"
            " with --accept-growth"
        )


def _compare(
    runtime: Deployment,
    parameters: listing_pb2.ListingParameters,
    files: Mapping[str, Path],
    opened: tuple[BloomFilter, Pack],
    findings: Findings,
) -> None:
    """Registry, filter and pack, everybody in turn, shared by all cores; then what only the whole
    shows.
    """
    filter_, pack = opened
    epoch = runtime.epochs.get(parameters.audience, parameters.epoch)
    if epoch is None:
        return
    if {filter_.epoch, pack.epoch} != {epoch.number}:
        findings.add("filter and pack are not of the epoch that the parameters name")
    seen: Counter[str] = Counter()
    for found in runtime.over_all_subjects(
        _examining, files["parameters"], files["filter"], files["pack"]
    ):
        findings.absorb(found.findings)
        seen += found.seen
    counts = {
        "the pack holds sealed records that belong to nobody in the registry": (
            pack.record_count != seen["records"]
        ),
        "the filter counts other identifiers than the pack has records for": (
            filter_.count != seen["identifiers"]
        ),
        "the parameters count other records than the pack holds": (
            parameters.record_count != pack.record_count
        ),
        "the parameters count other subjects than the pack holds": (
            parameters.subject_count != seen["subjects"]
        ),
        "the parameters describe other buckets than the pack has": (
            parameters.buckets != survey(pack)
        ),
    }
    for what, broken in counts.items():
        if broken:
            findings.add(what)


@contextmanager
def _examining(
    runtime: Deployment, parameters: Path, filter_: Path, pack: Path
) -> Generator[Callable[[Span], Iterator[_Examined]]]:
    """What a process that shares a sign-off does with a span.

    Raises PublicationError: the epoch is gone.
    """
    said = listing_pb2.ListingParameters.FromString(parameters.read_bytes())
    epoch = runtime.epochs.needed(said.audience, said.epoch)
    key = epoch.master
    horizon = timedelta(days=runtime.config.registry.listing_horizon_days)
    with BloomFilter.open(filter_) as members, Pack.open(pack) as records:
        lookup = PackLookup(records)

        def examine_span(span: Span) -> Iterator[_Examined]:
            examination = _Examination(said, key, members, lookup, horizon)
            for reached in standing.read(runtime.store, epoch.audience, epoch.stretch, span):
                examination.subject(reached)
            yield examination.found

        yield examine_span


@dataclass(slots=True)
class _Examined:
    """What was found, and how many records, subjects and identifiers of the registry are in the
    listing.
    """

    findings: Findings = field(default_factory=Findings)
    seen: Counter[str] = field(default_factory=Counter[str])


class _Examination:
    """Registry, filter and pack held against each other, subject by subject."""

    def __init__(
        self,
        parameters: listing_pb2.ListingParameters,
        key: EpochKey,
        members: BloomFilter,
        lookup: PackLookup,
        horizon: timedelta,
    ) -> None:
        self._parameters = parameters
        self._key = key
        self._filter = members
        self._lookup = lookup
        self._built_at = _moment(parameters.built_at)
        self._horizon = horizon
        self.found = _Examined()
        self._findings = self.found.findings
        self._seen = self.found.seen

    def subject(self, reached: Reached) -> None:
        """Looks at one."""
        must = {item.id for item in reached.restrictions.values() if self._must(item)}
        # Entered since the build: perhaps with a name or a number that the build could not know of.
        grown = any(item.entered_at >= self._built_at for item in reached.restrictions.values())
        records = 0
        for identifier, stretched in reached.identifiers:
            keys = self._key.derive(stretched)
            found = list(self._records(keys, reached.names))
            for record in found:
                self._record(record, reached, must)
            if must and not grown and len(found) < len(reached.names):
                self._findings.add("somebody restricted has no record in the pack", min(must))
            if found:
                self._identifier(identifier)
            records += len(found)
        self._seen["records"] += records
        self._seen["subjects"] += bool(records)

    def _identifier(self, identifier: Identifier) -> None:
        self._seen["identifiers"] += 1
        if not self._filter.contains(self._key.tokeniser.token(identifier)):
            self._findings.add("somebody with a record is not in the filter")

    def _records(self, keys: SubjectKeys, names: set[str]) -> Iterator[listing_pb2.Record]:
        for name in names:
            name_keys = keys.name_keys(name)
            if sealed := self._lookup.sealed(keys.locator, name_keys.commitment):
                try:
                    yield open_sealed(name_keys, sealed)
                except (SealError, FormatError):
                    self._findings.add("a sealed record does not open")

    def _record(self, record: listing_pb2.Record, reached: Reached, must: set[bytes]) -> None:
        if record.subject_type != reached.subject_type:
            self._findings.add("a record says person of an organisation, or the reverse")
        said = [restriction.restriction_id for restriction in record.restrictions]
        if len(set(said)) < len(said):
            self._findings.add("a record names a restriction twice")
        for missing in must - set(said):
            self._findings.add("a restriction in force is missing in a record", missing)
        for restriction in record.restrictions:
            self._restriction(restriction, reached.restrictions.get(restriction.restriction_id))

    def _restriction(
        self, said: listing_pb2.RecordRestriction, known: StandingRestriction | None
    ) -> None:
        if known is None:
            self._findings.add(
                "a record names a restriction that the registry does not have for this subject",
                said.restriction_id,
            )
            return
        rules = {
            "a restriction has ended or is disputed, and no relief after this listing says so": (
                not self._covered(known)
            ),
            "a restriction has no legal basis": not known.legal_basis.strip(),
            "a restriction's term is not running": not (
                known.effective_at < known.expires_at and known.expires_at > self._built_at
            ),
            "a restriction begins beyond the horizon": (
                known.effective_at > self._built_at + self._horizon
            ),
            "a record says something else than the registry": not _same(
                said, known, self._built_at
            ),
            "a record names a post that is not held, and no relief after this listing says so": (
                not self._posts_covered(said, known)
            ),
            "a record would ignore lifts that it must not ignore": (
                said.relief_floor > known.relief_floor
            ),
            "an exemption is missing in a record": bool(
                self._exempted(known) - {item.exemption_id for item in said.exemptions}
            ),
        }
        for what, broken in rules.items():
            if broken:
                self._findings.add(what, known.id)

    def _covered(self, known: StandingRestriction) -> bool:
        """In force, or ended by its term (the record says when), or lifted so late that relief
        carries it.
        """
        return (
            known.state in LISTED
            or known.state is State.EXPIRED
            or known.relief_sequence > self._parameters.relief_sequence
        )

    def _must(self, known: StandingRestriction) -> bool:
        """Whether the build has to have seen it as in force: nothing that may have happened since
        put it in force.
        """
        in_force = known.state in LISTED and known.entered_at < self._built_at < known.expires_at
        if known.posts and not any(post.was_held(self._built_at) for post in known.posts.values()):
            return False
        unchanged = known.relief_floor == 0 or known.relief_floor < self._parameters.relief_sequence
        return in_force and unchanged and known.effective_at <= self._built_at + self._horizon

    def _posts_covered(
        self, said: listing_pb2.RecordRestriction, known: StandingRestriction
    ) -> bool:
        """All are known, and held or left so late that relief carries it; what reaches through
        posts names at least one.
        """
        posts = [known.posts.get(post) for post in said.post_ids]
        covered = all(
            post is not None and post.is_covered(self._parameters.relief_sequence) for post in posts
        )
        return covered and bool(posts) == bool(known.posts)

    def _exempted(self, known: StandingRestriction) -> set[bytes]:
        shown = set(known.measures)
        concerning = [
            item
            for item in known.exemptions
            if not item.measures or shown & set(item.measures.split())
        ]
        return {
            item.id for item in concerning if item.created_at < self._built_at < item.valid_until
        }


def _same(
    said: listing_pb2.RecordRestriction, known: StandingRestriction, built_at: datetime
) -> bool:
    posts = [known.posts[post] for post in said.post_ids if post in known.posts]
    return (
        tuple(said.measures) == known.measures
        and said.authority_id == known.authority_id
        and said.legal_basis == known.legal_basis
        and said.case_number == known.case_number
        and _moment(said.effective_at) == known.effective_at
        and _same_end(_moment(said.expires_at), known.expires_at, posts, built_at)
        and said.capacity == min((post.capacity for post in posts), default=0)
    )


def _same_end(said: datetime, expires_at: datetime, posts: list[Held], built_at: datetime) -> bool:
    """Through posts it ends with the last of them; what was said of their ends since the build, the
    build could not know.
    """
    if any(post.changed_at >= built_at for post in posts):
        return said <= expires_at
    ends = [post.valid_until for post in posts if post.valid_until is not None]
    return said == (min(expires_at, max(ends)) if posts and len(ends) == len(posts) else expires_at)


def _moment(value: Timestamp) -> datetime:
    return value.ToDatetime(UTC)
