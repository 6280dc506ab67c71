"""Building: the same content gives the same bytes, what is sealed opens with the SDK, versions
agree, one build at a time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.server import COURT, MEASURES, enter, entry, make, name_of, resident_id
from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.sealing import EpochKey, open_sealed
from tipstaff_sdk.packs.pack import Pack, parse_bucket
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.parties import Party, Responsible
from tipstaff_server.errors import PublicationError
from tipstaff_server.listing import publish as publishing
from tipstaff_server.listing.build import LEAST_NUMBERS, build
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.repository.history import published_listings
from tipstaff_server.signoff.sign_off import sign_off
from tipstaff_server.storage.models import BuildState, ListingBuildRow
from tipstaff_signing.files import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORGANISATION = Identifier.organisation("91110000802100433B")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(make(tmp_path / "operator")) as opened:
        yield opened


def files(runtime: Deployment, audience: str) -> dict[str, bytes]:
    proposal = runtime.repository.proposal(audience)
    assert proposal is not None
    return {path.rpartition("/")[2]: file.read_bytes() for path, file in proposal.artefacts.items()}


def records(
    runtime: Deployment, audience: str, identifier: Identifier, name: str
) -> list[listing_pb2.Record]:
    """What a provider that knows number and name finds, or nothing."""
    made = files(runtime, audience)
    epoch = runtime.epochs.current(audience)
    key = EpochKey(audience, epoch.number, epoch.key)
    found = BloomFilter.from_buffer(made["filter"]).contains(key.tokeniser.token(identifier))
    subject = key.derive(runtime.registry.stretch.stretch(identifier))
    keys = subject.name_keys(name)
    opened = [
        open_sealed(keys, copy.sealed)
        for copy in Pack(made["pack"]).find(subject.locator)
        if copy.commitment == keys.commitment
    ]
    assert found or not opened
    return opened


def test_everybody_is_found_and_the_record_says_what_the_registry_says(runtime: Deployment):
    ids = enter(runtime.registry, [entry(number) for number in range(30)])
    built = build(runtime, "aviation")
    assert (built.subjects, built.records, built.version) == (30, 30, 2)
    for number in range(30):
        (record,) = records(runtime, "aviation", resident_id(number), name_of(number))
        (restriction,) = record.restrictions
        assert restriction.restriction_id == ids[number]
        assert list(restriction.measures) == ["AIR_TRAVEL"]
        assert restriction.legal_basis == entry(number).legal_basis


def test_an_audience_sees_only_its_measures_and_only_those_it_concerns(runtime: Deployment):
    enter(runtime.registry, [entry(1, ["RAIL_HIGH_CLASS"]), entry(2, MEASURES)])
    assert build(runtime, "aviation").subjects == 1
    assert build(runtime, "rail").subjects == 2
    assert not records(runtime, "aviation", resident_id(1), name_of(1))
    (record,) = records(runtime, "rail", resident_id(2), name_of(2))
    assert list(record.restrictions[0].measures) == ["RAIL_HIGH_CLASS"]


def test_several_restrictions_are_one_record_sorted_by_id(runtime: Deployment):
    ids = enter(
        runtime.registry, [entry(1, case=f"(2026)京0105执{number}号") for number in range(5)]
    )
    build(runtime, "aviation")
    (record,) = records(runtime, "aviation", resident_id(1), name_of(1))
    assert [restriction.restriction_id for restriction in record.restrictions] == sorted(ids)


def test_every_number_under_every_name_has_its_own_copy(runtime: Deployment):
    passport = Identifier.from_proto(
        identity_pb2.Identifier(kind=identity_pb2.IDENTIFIER_KIND_PASSPORT, number="E12345678")
    )
    plain = entry(1)
    names = (name_of(1), "John Smith")
    party = Party(plain.party.type, (resident_id(1), passport), names)
    enter(runtime.registry, [replace(plain, party=party)])
    built = build(runtime, "aviation")
    assert (built.subjects, built.records) == (1, 4)
    for identifier in (resident_id(1), passport):
        for name in (name_of(1), "john smith"):
            assert len(records(runtime, "aviation", identifier, name)) == 1


def test_a_restricted_organisation_reaches_its_legal_representative(runtime: Deployment):
    plain = entry(1)
    party = Party(
        int(identity_pb2.SUBJECT_TYPE_ORGANISATION), (ORGANISATION,), ("北京某某有限公司",)
    )
    person = Responsible(
        int(identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE),
        Party(plain.party.type, (resident_id(7),), (name_of(7),)),
    )
    enter(runtime.registry, [replace(plain, party=party, responsible=(person,))])
    assert build(runtime, "aviation").subjects == 2
    (record,) = records(runtime, "aviation", resident_id(7), name_of(7))
    assert record.restrictions[0].capacity == identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE
    sign_off(runtime, "aviation")


def test_what_has_not_changed_keeps_its_bytes(runtime: Deployment):
    enter(runtime.registry, [entry(number) for number in range(20)])
    build(runtime, "aviation")
    first = files(runtime, "aviation")
    build(runtime, "aviation")
    second = files(runtime, "aviation")
    assert (second["filter"], second["pack"]) == (first["filter"], first["pack"])
    assert second["parameters"] != first["parameters"]


def test_an_empty_listing_is_a_listing(runtime: Deployment):
    assert build(runtime, "aviation").records == 0
    sign_off(runtime, "aviation")
    publishing.publish(runtime, "aviation")
    parameters = runtime.published("aviation").parameters()
    assert parameters is not None
    assert parameters.record_count == 0


def test_the_version_in_the_parameters_is_the_proposals_whatever_was_refused_before(
    runtime: Deployment,
):
    before = 1
    for _ in range(3):
        built = build(runtime, "aviation")
        assert built.version > before
        assert (
            listing_pb2.ListingParameters.FromString(
                files(runtime, "aviation")["parameters"]
            ).version
            == built.version
        )
        before = built.version
        proposal = runtime.repository.proposal("aviation")
        assert proposal is not None
        runtime.repository.refuse(proposal, ["a test"])


def test_relief_goes_on_where_the_listing_was_read(runtime: Deployment):
    ids = enter(runtime.registry, [entry(number) for number in range(3)])
    runtime.registry.restrictions.end(ids[0], EndKind.RELEASE, "performed", actor=COURT)
    built = build(runtime, "aviation")
    assert built.relief_sequence == 1
    assert built.subjects == 2
    assert not records(runtime, "aviation", resident_id(0), name_of(0))


def test_one_build_of_an_audience_at_a_time_and_nothing_is_left_of_a_killed_one(
    runtime: Deployment,
):
    build(runtime, "aviation")
    folder = runtime.config.folder / ".build"
    with (
        FileLock(folder / "aviation.lock", timeout=0),
        pytest.raises(PublicationError, match="another build"),
    ):
        build(runtime, "aviation")
    (folder / "aviation").mkdir()
    (folder / "aviation" / "pack").write_bytes(b"half")
    build(runtime, "aviation")
    assert not (folder / "aviation").exists()


def test_an_unknown_audience_is_named_with_those_that_exist(runtime: Deployment):
    with pytest.raises(PublicationError, match="banking"):
        build(runtime, "navy")


def test_a_build_is_remembered(runtime: Deployment):
    built = build(runtime, "aviation")
    with runtime.registry.store.database.read() as session:
        row = session.get(ListingBuildRow, ("aviation", built.version))
        assert row is not None
        assert (row.state, row.record_count, row.epoch) == (BuildState.BUILT, 0, 1)


def test_after_a_rotation_the_next_listing_uses_the_new_key(runtime: Deployment):
    enter(runtime.registry, [entry(number) for number in range(5)])
    build(runtime, "aviation")
    old = files(runtime, "aviation")
    sign_off(runtime, "aviation")
    publishing.publish(runtime, "aviation")
    runtime.epochs.rotate("aviation", timedelta(days=7))
    assert build(runtime, "aviation").epoch == 2
    assert files(runtime, "aviation")["pack"] != old["pack"]
    assert len(records(runtime, "aviation", resident_id(3), name_of(3))) == 1
    sign_off(runtime, "aviation")


def test_the_catalogue_is_signed_again_only_when_it_changed(runtime: Deployment):
    assert not publishing.refresh_catalogue(runtime)


def test_enough_numbers_share_each_bucket_and_the_parameters_say_how_many(runtime: Deployment):
    enter(runtime.registry, [entry(number) for number in range(200)])
    built = build(runtime, "aviation")
    made = files(runtime, "aviation")
    said = listing_pb2.ListingParameters.FromString(made["parameters"]).buckets
    pack = Pack(made["pack"])
    sizes = sorted(
        len({locator for locator, _ in parse_bucket(pack.bucket(n), n, pack.bucket_bits)})
        for n in range(1 << pack.bucket_bits)
    )
    assert said.bits == pack.bucket_bits > 0
    assert sizes[0] >= LEAST_NUMBERS
    assert (
        (said.least_numbers, said.median_numbers)
        == (sizes[0], sizes[(len(sizes) - 1) // 2])
        == (built.bucket_least, built.bucket_median)
    )
    sign_off(runtime, "aviation")
    publishing.publish(runtime, "aviation")
    (listing,) = published_listings(runtime.store)
    assert (listing.audience, listing.version, listing.records) == ("aviation", built.version, 200)
    assert (listing.bucket_least, listing.bucket_median) == (
        built.bucket_least,
        built.bucket_median,
    )
