"""The sign-off as a table of attacks: what a builder that is wrong, broken or bought might propose,
and why it is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import delete, update

from tests.support.server import COURT, enter, entry, make, name_of, resident_id
from tipstaff.v1 import listing_pb2
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.listing.sealing import EpochKey, seal
from tipstaff_sdk.packs.bucket_tree import survey
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import PublicationError, SignOffRefusedError
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import build
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.signoff.examine import examine
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_server.storage.models import (
    BuildState,
    DisputeState,
    ListingBuildRow,
    NameRow,
    RestrictionRow,
)
from tipstaff_signing.errors import ProposalError
from tipstaff_signing.keys.files import builder_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tipstaff_server.config import Config
    from tipstaff_server.listing.reader import ListingSubject
    from tipstaff_signing.model import Proposal

AUDIENCE = "aviation"
PEOPLE = 12


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = make(tmp_path_factory.mktemp("signoff") / "operator")
    with Deployment(made) as runtime:
        enter(runtime.registry, [entry(number) for number in range(PEOPLE)])
    return made


@pytest.fixture
def runtime(config: Config) -> Iterator[Deployment]:
    with Deployment(config) as opened:
        yield opened


@dataclass
class Forge:
    """Everything that goes into a listing, open to being tampered with before it is signed by the
    builder's key.
    """

    runtime: Deployment
    subjects: list[ListingSubject]
    parameters: listing_pb2.ListingParameters
    extra_tokens: int = 0
    dropped_tokens: int = 0
    wrong_epoch_key: bool = False
    damage: Callable[[Path], None] | None = None
    epoch_of_files: int | None = None

    @classmethod
    def honest(cls, runtime: Deployment) -> Forge:
        now = runtime.clock()
        publication = runtime.config.publication
        subjects = list(ListingReader(runtime.registry.store).subjects(AUDIENCE, now))
        parameters = listing_pb2.ListingParameters(
            audience=AUDIENCE,
            epoch=runtime.epochs.current(AUDIENCE).number,
            relief_sequence=runtime.registry.relief.head(),
            relief_max_age_seconds=publication.relief_max_age_seconds,
            stretch=runtime.registry.stretch.to_proto(),
            measures=["AIR_TRAVEL"],
            catalogue_version=1,
            subject_count=len(subjects),
            record_count=len(subjects),
        )
        parameters.built_at.FromDatetime(now)
        parameters.expires_at.FromDatetime(
            now + timedelta(seconds=publication.listing_lifetime_seconds)
        )
        return cls(runtime, subjects, parameters)

    def restriction(self, number: int = 0) -> listing_pb2.RecordRestriction:
        """A copy of a subject's restriction that may be changed in place."""
        subject = self.subjects[number]
        changed = listing_pb2.RecordRestriction()
        changed.CopyFrom(subject.restrictions[0])
        self.subjects[number] = replace(subject, restrictions=(changed, *subject.restrictions[1:]))
        return changed

    def propose(self, folder: Path) -> Proposal:
        epoch = self.runtime.epochs.current(AUDIENCE)
        key = EpochKey(AUDIENCE, epoch.number, bytes(32) if self.wrong_epoch_key else epoch.key)
        number = epoch.number if self.epoch_of_files is None else self.epoch_of_files
        identifiers = [item.identifier for subject in self.subjects for item in subject.identifiers]
        tokens = [key.tokeniser.tokens(identifiers)[self.dropped_tokens :]]
        tokens.append(np.arange(self.extra_tokens * 16, dtype=np.uint8).reshape(-1, 16))
        BloomFilter.build(tokens, epoch=number).write(folder / "filter")
        with PackBuilder(number) as pack:
            for subject in self.subjects:
                record = listing_pb2.Record(
                    version=1, subject_type=subject.subject_type, restrictions=subject.restrictions
                )
                for item in subject.identifiers:
                    keys = key.derive(item.stretched)
                    for name in subject.names:
                        name_keys = keys.name_keys(name)
                        pack.add(keys.locator, name_keys.commitment, seal(name_keys, record))
            pack.write(folder / "pack")
        if not self.parameters.HasField("buckets"):
            with Pack.open(folder / "pack") as written:
                self.parameters.buckets.CopyFrom(survey(written))
        if self.damage:
            self.damage(folder)
        files = {
            f"listing/{AUDIENCE}/{name}": folder / name for name in ("parameters", "filter", "pack")
        }
        signer = self.runtime.keys.signer(builder_key(AUDIENCE))
        forced = bool(self.parameters.version)
        self.parameters.version = (
            self.parameters.version or self.runtime.repository.versions(AUDIENCE).listing + 1
        )
        (folder / "parameters").write_bytes(self.parameters.SerializeToString())
        proposal = self.runtime.repository.propose_listing(AUDIENCE, files, signer)
        if not forced and proposal.version != self.parameters.version:
            self.parameters.version = proposal.version + 1
            (folder / "parameters").write_bytes(self.parameters.SerializeToString())
            proposal = self.runtime.repository.propose_listing(AUDIENCE, files, signer)
        return proposal


def buckets(**said: Any) -> Callable[[Forge], None]:
    """True but for what is `said`: the buckets of the honest pack."""

    def tamper(forge: Forge) -> None:
        forge.damage = lambda _: forge.parameters.buckets.MergeFrom(
            listing_pb2.BucketParameters(**said)
        )

    return tamper


def nobody(number: int = 5_000) -> Callable[[Forge], None]:
    """Somebody whom no authority restricted."""

    def tamper(forge: Forge) -> None:
        other = forge.subjects[0]
        identifier = resident_id(number)
        item = replace(
            other.identifiers[0],
            identifier=identifier,
            stretched=forge.runtime.registry.stretch.stretch(identifier),
        )
        forge.subjects.append(replace(other, identifiers=(item,), names=(name_of(number),)))
        forge.parameters.subject_count += 1
        forge.parameters.record_count += 1

    return tamper


def change(field: str, value: Any) -> Callable[[Forge], None]:
    """One field of one restriction says something else."""

    def tamper(forge: Forge) -> None:
        restriction = forge.restriction()
        if isinstance(value, datetime):
            getattr(restriction, field).FromDatetime(value)
        elif isinstance(value, list):
            getattr(restriction, field)[:] = value
        else:
            setattr(restriction, field, value)

    return tamper


def parameter(field: str, value: Any) -> Callable[[Forge], None]:
    def tamper(forge: Forge) -> None:
        if isinstance(value, timedelta):
            getattr(forge.parameters, field).FromDatetime(forge.runtime.clock() + value)
        elif isinstance(value, list):
            getattr(forge.parameters, field)[:] = value
        else:
            setattr(forge.parameters, field, value)

    return tamper


def forge(**changes: Any) -> Callable[[Forge], None]:
    return lambda it: [setattr(it, name, value) for name, value in changes.items()] and None


def drop(forge: Forge) -> None:
    forge.subjects.pop()
    forge.parameters.subject_count -= 1
    forge.parameters.record_count -= 1


def second_name(forge: Forge) -> None:
    forge.subjects[0] = replace(forge.subjects[0], names=(*forge.subjects[0].names, "somebodyelse"))
    forge.parameters.record_count += 1


def other_name(forge: Forge) -> None:
    forge.subjects[0] = replace(forge.subjects[0], names=("somebodyelse",))


def somebody_elses_restriction(forge: Forge) -> None:
    forge.subjects[0] = replace(forge.subjects[0], restrictions=forge.subjects[1].restrictions)


def twice(forge: Forge) -> None:
    forge.subjects[0] = replace(forge.subjects[0], restrictions=forge.subjects[0].restrictions * 2)


def swap_type(forge: Forge) -> None:
    forge.subjects[0] = replace(forge.subjects[0], subject_type=2)


def truncate(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1]) and None


def flip(name: str, position: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[position] ^= 1
        (folder / name).write_bytes(data)

    return damage


LATER = datetime(2031, 1, 1, tzinfo=UTC)
ATTACKS: dict[str, tuple[Callable[[Forge], Any], str]] = {
    "somebody whom nobody restricted": (nobody(), "belong to nobody in the registry"),
    "somebody left out": (drop, "has no record in the pack"),
    "an added name": (second_name, "belong to nobody in the registry"),
    "another name": (other_name, "has no record in the pack"),
    "another person's restriction": (somebody_elses_restriction, "does not have for this subject"),
    "a restriction twice in a record": (twice, "names a restriction twice"),
    "a person said to be an organisation": (swap_type, "person of an organisation"),
    "an invented restriction": (
        change("restriction_id", bytes(16)),
        "does not have for this subject",
    ),
    "a longer term": (change("expires_at", LATER), "something else than the registry"),
    "an earlier beginning": (
        change("effective_at", datetime(2020, 1, 1, tzinfo=UTC)),
        "something else than the registry",
    ),
    "a measure more": (
        change("measures", ["AIR_TRAVEL", "EXIT"]),
        "something else than the registry",
    ),
    "another legal basis": (change("legal_basis", "none"), "something else than the registry"),
    "another case number": (
        change("case_number", "(2026)京0105执999号"),
        "something else than the registry",
    ),
    "another authority": (change("authority_id", "tax"), "something else than the registry"),
    "a capacity that is none": (change("capacity", 1), "something else than the registry"),
    "a floor that would ignore lifts": (change("relief_floor", 1 << 40), "would ignore lifts"),
    "an identifier missing in the filter": (forge(dropped_tokens=1), "not in the filter"),
    "more in the filter": (forge(extra_tokens=3), "filter counts other identifiers"),
    "another epoch's key": (forge(wrong_epoch_key=True), "has no record in the pack"),
    "filter and pack of another epoch": (forge(epoch_of_files=7), "not of the epoch"),
    "a truncated pack": (forge(damage=truncate("pack")), "not readable"),
    "a truncated filter": (forge(damage=truncate("filter")), "not readable"),
    "a flipped bit in a sealed record": (forge(damage=flip("pack", -20)), "not readable"),
    "a flipped bit in the filter's header": (forge(damage=flip("filter", 0)), "not readable"),
    "another audience": (parameter("audience", "rail"), "audience is another one"),
    "a version that is not the proposal's": (
        parameter("version", 1 << 40),
        "version is not the proposal's",
    ),
    "an epoch that is not in use": (parameter("epoch", 9), "epoch is not in use"),
    "built in the future": (
        parameter("built_at", timedelta(hours=1)),
        "too long ago, or in the future",
    ),
    "built long ago": (parameter("built_at", timedelta(days=-3)), "too long ago, or in the future"),
    "valid for too long": (parameter("expires_at", timedelta(days=400)), "valid for longer"),
    "over before it begins": (parameter("expires_at", timedelta(days=-400)), "valid for longer"),
    "a cheaper stretch": (
        lambda forge: setattr(forge.parameters.stretch, "n", 4),
        "stretching is not the registry's",
    ),
    "more measures than the audience has": (
        parameter("measures", ["AIR_TRAVEL", "EXIT"]),
        "measures are not the audience's",
    ),
    "another catalogue": (parameter("catalogue_version", 99), "catalogue is not the current one"),
    "relief from the future": (parameter("relief_sequence", 10_000), "not been given out yet"),
    "stale relief allowed": (parameter("relief_max_age_seconds", 1 << 30), "age allowed to relief"),
    "another root of the buckets": (buckets(root=bytes(32)), "describe other buckets"),
    "buckets said to be fuller": (buckets(least_numbers=1_000), "describe other buckets"),
    "another size of answers": (buckets(answer_size=1 << 20), "describe other buckets"),
    "no buckets": (lambda forge: forge.parameters.buckets.SetInParent(), "describe other buckets"),
    "records miscounted": (parameter("record_count", 1), "count other records"),
    "subjects miscounted": (parameter("subject_count", 1), "count other subjects"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_listing_that_was_tampered_with_is_refused_with_the_reason(
    runtime: Deployment, tmp_path: Path, attack: str
):
    tamper, reason = ATTACKS[attack]
    tampered = Forge.honest(runtime)
    tamper(tampered)
    proposal = tampered.propose(tmp_path)
    with pytest.raises(SignOffRefusedError) as refused:
        sign_off(runtime, AUDIENCE)
    assert reason in str(refused.value)
    assert_kept_aside(runtime, proposal)


def assert_kept_aside(runtime: Deployment, proposal: Proposal) -> None:
    """Refused: nothing waits any more, the reasons are kept and name nobody, and it cannot be
    published.
    """
    assert runtime.repository.proposal(AUDIENCE) is None
    kept = json.loads(
        (
            runtime.repository.path / "refused" / AUDIENCE / str(proposal.version) / "reasons.json"
        ).read_text()
    )
    text = json.dumps(kept, ensure_ascii=False)
    assert kept["reasons"]
    for number in (*range(PEOPLE), 5_000):
        assert resident_id(number).number not in text
        assert name_of(number) not in text
    with pytest.raises(PublicationError):
        publishing.publish(runtime, AUDIENCE)
    with pytest.raises(ProposalError):
        runtime.repository.publish_listing(
            proposal, runtime.keys.signer("snapshot"), runtime.keys.signer("timestamp")
        )


def test_an_honest_forge_is_signed_off(runtime: Deployment, tmp_path: Path):
    """Otherwise the table above would prove nothing."""
    proposal = Forge.honest(runtime).propose(tmp_path)
    assert sign_off(runtime, AUDIENCE) == proposal.version
    assert sign_off(runtime, AUDIENCE) == proposal.version, "signing off twice changes nothing"


def test_files_that_do_not_belong_are_refused(runtime: Deployment, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"x")
    files = {
        f"listing/{AUDIENCE}/parameters": tmp_path / "x",
        f"listing/{AUDIENCE}/more": tmp_path / "x",
    }
    runtime.repository.propose_listing(AUDIENCE, files, runtime.keys.signer(builder_key(AUDIENCE)))
    with pytest.raises(SignOffRefusedError, match="other files"):
        sign_off(runtime, AUDIENCE)


def test_parameters_that_do_not_parse_are_refused(runtime: Deployment, tmp_path: Path):
    Forge.honest(runtime).propose(tmp_path)
    (tmp_path / "parameters").write_bytes(b"\xff\xff")
    files = {
        f"listing/{AUDIENCE}/{name}": tmp_path / name for name in ("parameters", "filter", "pack")
    }
    runtime.repository.propose_listing(AUDIENCE, files, runtime.keys.signer(builder_key(AUDIENCE)))
    with pytest.raises(SignOffRefusedError, match="DecodeError"):
        sign_off(runtime, AUDIENCE)


def test_without_a_proposal_there_is_nothing_to_sign(runtime: Deployment):
    with pytest.raises(PublicationError, match="build"):
        sign_off(runtime, "hospitality")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment of its own, for what changes the registry."""
    made = make(tmp_path / "operator")
    with Deployment(made) as opened:
        enter(opened.registry, [entry(number) for number in range(PEOPLE)])
        yield opened


def the_restriction(runtime: Deployment, number: int) -> bytes:
    """The id of `entry(number)`: entering it again changes nothing and gives it."""
    return enter(runtime.registry, [entry(number)])[0]


def test_what_is_lifted_after_the_build_does_not_hold_up_the_listing_because_relief_carries_it(
    fresh: Deployment,
):
    restrictions = [the_restriction(fresh, number) for number in range(3)]
    build(fresh, AUDIENCE)
    fresh.registry.restrictions.end(restrictions[0], EndKind.RELEASE, "performed", actor=COURT)
    fresh.registry.disputes.open(
        restrictions[1],
        "wrong",
        request_id=bytes(16),
        actor=Actor.provider("skyline-air", AUDIENCE),
    )
    sign_off(fresh, AUDIENCE)
    publishing.publish(fresh, AUDIENCE)
    published = fresh.published(AUDIENCE)
    (segment,) = published.segments()
    assert (segment.first, segment.last) == (1, 2)


def test_what_was_lifted_before_the_build_must_not_be_in_it(fresh: Deployment, tmp_path: Path):
    stale = Forge.honest(fresh)
    fresh.registry.restrictions.end(
        the_restriction(fresh, 0), EndKind.REVOKE, "wrong person", actor=COURT
    )
    stale.parameters.relief_sequence = fresh.registry.relief.head()
    stale.propose(tmp_path)
    with pytest.raises(SignOffRefusedError, match="has ended or is disputed"):
        sign_off(fresh, AUDIENCE)


def test_what_is_entered_after_the_build_is_not_missed(fresh: Deployment):
    build(fresh, AUDIENCE)
    enter(fresh.registry, [entry(100), entry(0, case="(2026)京0105执777号")])
    sign_off(fresh, AUDIENCE)


def test_a_suspended_restriction_that_is_in_force_again_may_be_in_it_or_not(
    fresh: Deployment, tmp_path: Path
):
    before = Forge.honest(fresh)
    restriction = the_restriction(fresh, 0)
    opened = fresh.registry.disputes.open(
        restriction, "wrong", request_id=bytes(16), actor=Actor.provider("skyline-air", AUDIENCE)
    )
    build(fresh, AUDIENCE)
    fresh.registry.disputes.answer(
        opened.dispute.case_number, DisputeState.REJECTED, "right after all", actor=COURT
    )
    sign_off(fresh, AUDIENCE)
    before.parameters.relief_sequence = fresh.registry.relief.head()
    before.propose(tmp_path)
    assert sign_off(fresh, AUDIENCE)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"legal_basis": " "}, "no legal basis"),
        ({"expires_at": datetime(2021, 1, 1, tzinfo=UTC)}, "term is not running"),
        (
            {
                "effective_at": datetime(2040, 1, 1, tzinfo=UTC),
                "expires_at": datetime(2041, 1, 1, tzinfo=UTC),
            },
            "beyond the horizon",
        ),
    ],
)
def test_a_registry_that_is_itself_wrong_is_not_signed(
    fresh: Deployment, tmp_path: Path, values: dict[str, Any], reason: str
):
    forge = Forge.honest(fresh)
    with fresh.registry.store.database.write() as session:
        session.execute(
            update(RestrictionRow)
            .where(RestrictionRow.id == the_restriction_of(forge))
            .values(**values)
        )
    forge.propose(tmp_path)
    with pytest.raises(SignOffRefusedError, match=reason):
        sign_off(fresh, AUDIENCE)


def the_restriction_of(forge: Forge) -> bytes:
    return forge.subjects[0].restrictions[0].restriction_id


def test_an_exemption_must_not_be_left_out(fresh: Deployment, tmp_path: Path):
    restriction, now = the_restriction(fresh, 0), fresh.clock()
    without = Forge.honest(fresh)
    fresh.registry.restrictions.exempt(
        restriction,
        measures=[],
        valid=(now, now + timedelta(days=30)),
        why=("奔丧", "a funeral"),
        actor=COURT,
    )
    without.parameters.built_at.FromDatetime(fresh.clock())
    without.propose(tmp_path)
    with pytest.raises(SignOffRefusedError, match="an exemption is missing"):
        sign_off(fresh, AUDIENCE)
    build(fresh, AUDIENCE)
    sign_off(fresh, AUDIENCE)


def test_the_churn_guard_holds_up_a_flood_and_a_person_may_let_it_pass(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
):
    publication = fresh.config.publication.model_copy(
        update={"churn_floor": 2, "churn_max_growth": 0.25}
    )
    monkeypatch.setattr(
        fresh, "config", fresh.config.model_copy(update={"publication": publication})
    )
    build(fresh, AUDIENCE)
    sign_off(fresh, AUDIENCE)
    publishing.publish(fresh, AUDIENCE)
    enter(fresh.registry, [entry(number) for number in range(200, 203)])
    build(fresh, AUDIENCE)
    sign_off(fresh, AUDIENCE)
    publishing.publish(fresh, AUDIENCE)
    enter(fresh.registry, [entry(number) for number in range(300, 304)])
    build(fresh, AUDIENCE)
    with pytest.raises(SignOffRefusedError, match=r"4 records are new beside 15 .* bound is 3"):
        sign_off(fresh, AUDIENCE)
    build(fresh, AUDIENCE)
    sign_off(fresh, AUDIENCE, accept_growth=True)
    publishing.publish(fresh, AUDIENCE)


def test_a_refused_listing_does_not_hold_up_relief(fresh: Deployment, tmp_path: Path):
    build(fresh, AUDIENCE)
    sign_off(fresh, AUDIENCE)
    publishing.publish(fresh, AUDIENCE)
    forge = Forge.honest(fresh)
    drop(forge)
    forge.propose(tmp_path)
    with pytest.raises(SignOffRefusedError):
        sign_off(fresh, AUDIENCE)
    fresh.registry.restrictions.end(
        the_restriction(fresh, 3), EndKind.RELEASE, "performed", actor=COURT
    )
    assert fresh.relief.publish(AUDIENCE) == 1


def test_the_history_of_builds_says_what_became_of_each(fresh: Deployment):
    first = build(fresh, AUDIENCE).version
    with fresh.registry.store.database.write() as session:
        session.execute(delete(NameRow).where(NameRow.position == 0))
    with pytest.raises(SignOffRefusedError):
        sign_off(fresh, AUDIENCE)
    with fresh.registry.store.database.read() as session:
        row = session.get(ListingBuildRow, (AUDIENCE, first))
        assert row is not None
        assert row.state is BuildState.REFUSED
        assert json.loads(row.detail)["reasons"]


def test_it_looks_at_a_copy_that_the_builder_cannot_reach(
    runtime: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder who shows one listing and has another one signed: files are exchanged while the
    sign-off looks.
    """
    build(runtime, AUDIENCE)
    proposal = runtime.repository.proposal(AUDIENCE)
    assert proposal is not None
    left_behind = runtime.config.folder / ".sign-off" / AUDIENCE
    left_behind.mkdir(parents=True)
    (left_behind / "of-one-that-was-killed").touch()
    seen: list[Path] = []

    def looking(opened: Deployment, looked_at: Proposal, **options: Any) -> None:
        seen.extend(looked_at.artefacts.values())
        assert {file.parent for file in seen} == {left_behind}
        assert {file.name for file in left_behind.iterdir()} == {file.name for file in seen}
        assert left_behind.stat().st_mode & 0o777 == 0o700
        with pytest.raises(PublicationError, match="another sign-off for aviation is running"):
            sign_off(runtime, AUDIENCE)
        for file in proposal.artefacts.values():
            file.write_bytes(b"what is to be signed")
        examine(opened, looked_at, **options)

    monkeypatch.setattr("tipstaff_server.signoff.sign_off.examine", looking)
    with pytest.raises(ProposalError, match="not what the builder signed"):
        sign_off(runtime, AUDIENCE)
    assert len(seen) == 3
    assert not left_behind.exists()
    unsigned = runtime.repository.proposal(AUDIENCE)
    assert unsigned is not None
    assert not unsigned.complete
