"""Erasing what was kept for long enough: what goes, what stands against it, what stays verifiable."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from tests.support.keeping import Search, write_reasons_as_before
from tests.support.messages import denial
from tests.support.registry import (
    AIRLINE,
    COURT,
    OPERATOR,
    World,
    entry,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff_server.audit.log import verify
from tipstaff_server.config import RetentionSection
from tipstaff_server.enforcement.reports import Feedback
from tipstaff_server.errors import AuditError, Blocked, NotFoundError, RetentionError
from tipstaff_server.registry.keys import reencryption as sealed
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.storage.models import (
    AuditReasonRow,
    AuditRow,
    BuildState,
    IdentifierRow,
    ListingBuildRow,
    NameRow,
    RemedyOutcome,
    RestrictionRow,
    SubjectRow,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tipstaff_server.registry.erasure import Retention

RULES = RetentionSection(days=100, lists={"court-dishonest": 1_000})


def retention(world: World) -> Retention:
    return world.registry.retention(RULES)


def ended(world: World, index: int, kind: EndKind = EndKind.RELEASE, **changes: object) -> bytes:
    """A restriction on made-up person `index` that ended now."""
    restriction = submit(
        world, entry(person(index), case_number=f"（2026）虚01执{index}号", **changes)
    )
    world.registry.restrictions.end(
        restriction, kind, f"{person(index).names[0]} paid", actor=COURT
    )
    return restriction


def later(world: World, days: float = 101) -> None:
    world.clock.turn(days=days)
    world.registry.expire_due(world.clock())


def count(world: World, table: type) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_what_is_erased_leaves_nothing_of_the_person_and_a_whole_log(
    world: World, tmp_path: Path
) -> None:
    gone, stays = ended(world, 0), submit(world, entry(person(1), case_number="stays"))
    world.registry.disputes.open(stays, "no", request_id=b"d" * 16, actor=OPERATOR)
    later(world)
    done = retention(world).erase(OPERATOR, None)
    assert (done.restrictions, done.subjects, done.blocked) == (1, 1, {})
    with world.database.read() as session:
        row = session.get_one(RestrictionRow, gone)
        assert (row.case_number, row.legal_basis, row.decided_by) == (
            f"erased-{gone.hex()}",
            "",
            None,
        )
        assert row.erased_at == world.clock()
        assert session.get_one(SubjectRow, row.subject_id).erased_at == world.clock()
        assert (
            session.scalars(
                select(IdentifierRow).where(IdentifierRow.subject_id == row.subject_id)
            ).all()
            == []
        )
        told = session.execute(
            select(AuditRow.object_kind, AuditRow.object_id)
            .where(AuditRow.act == "ERASE")
            .order_by(AuditRow.sequence)
        ).all()
        assert [tuple(item) for item in told] == [
            ("restriction", gone),
            ("subject", row.subject_id),
        ]
    assert count(world, AuditReasonRow) == 0
    assert (count(world, IdentifierRow), count(world, NameRow)) == (1, 1)
    assert verify(world.registry.store) > 0
    assert [item.reason for item in world.registry.restrictions.history(gone, OPERATOR)] == [
        "",
        "",
        "",
    ]
    with pytest.raises(NotFoundError):
        world.registry.held_on(person(0).identifiers[0], actor=OPERATOR)
    assert retention(world).erase(OPERATOR, None).restrictions == 0
    world.registry.close()
    assert Search([person(0).names[0], person(0).identifiers[0].number])(world.raw()) == set()


def test_whoever_comes_again_is_somebody_new(world: World) -> None:
    first = ended(world, 0)
    later(world)
    retention(world).erase(OPERATOR, None)
    again = submit(
        world,
        entry(
            person(0), case_number="（2026）虚01执0号", expires_at=world.clock() + timedelta(days=9)
        ),
    )
    assert again != first
    with world.database.read() as session:
        assert (
            session.get_one(RestrictionRow, again).subject_id
            != session.get_one(RestrictionRow, first).subject_id
        )


def test_the_archive_holds_everything_before_it_goes(world: World, tmp_path: Path) -> None:
    restriction = submit(world, entry(person(0)))
    world.registry.disputes.open(restriction, "我不是他", request_id=b"d" * 16, actor=OPERATOR)
    world.registry.restrictions.end(restriction, EndKind.REPAIR, "paid in full", actor=COURT)
    later(world)
    archive = tmp_path / "archive.jsonl"
    assert retention(world).export(archive) == 1
    retention(world).erase(OPERATOR, archive)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    exported, erased = map(json.loads, archive.read_text("utf-8").splitlines())
    assert exported == erased
    assert erased["restriction_id"] == restriction.hex()
    assert erased["subject"]["names"] == list(person(0).names)
    assert erased["subject"]["identifiers"] == [["RESIDENT_ID", person(0).identifiers[0].number]]
    assert erased["disputes"][0]["statement"] == "我不是他"
    assert [item["act"] for item in erased["history"]] == [
        "SUBMIT",
        "DISPUTE_OPEN",
        "SUSPEND",
        "REPAIR",
    ] or len(erased["history"]) == 4
    assert "paid in full" in {item["reason"] for item in erased["history"]}


def in_force(world: World) -> bytes:
    return submit(world, entry(person(0), expires_at=world.clock() + timedelta(days=900)))


def suspended(world: World) -> bytes:
    made = in_force(world)
    world.registry.disputes.open(made, "no", request_id=b"d" * 16, actor=OPERATOR)
    return made


def just_ended(world: World) -> bytes:
    made = in_force(world)
    world.clock.turn(days=50)
    world.registry.restrictions.end(made, EndKind.RELEASE, "paid", actor=COURT)
    return made


def of_a_list_kept_longer(world: World) -> bytes:
    return ended(world, 0, list_id="court-dishonest")


def under_an_open_remedy(world: World) -> bytes:
    made = in_force(world)
    report = denial(
        made, world.clock(), report_id=b"r" * 16, decision_id=b"d" * 16, listing_version=1
    )
    Feedback(world.store).submit_reports(AIRLINE.id, [report])
    world.registry.restrictions.end(made, EndKind.REVOKE, "somebody else", actor=COURT)
    return made


def in_a_listing_that_may_be_in_use(world: World) -> bytes:
    made = ended(world, 0)
    publish(world, 5, built_at=world.clock() - timedelta(days=1))
    return made


def publish(world: World, version: int, **changes: object) -> None:
    """A published listing of one audience, as the publisher records it."""
    facts = {
        "epoch": 1,
        "relief_sequence": 0,
        "subject_count": 1,
        "record_count": 1,
        "detail": "{}",
        "state": BuildState.PUBLISHED,
    }
    times = {"built_at": world.clock(), "published_at": world.clock()}
    with world.database.write() as session:
        session.add(
            ListingBuildRow(audience_id="aviation", version=version, **(facts | times | changes))
        )


STANDS_AGAINST = {
    Blocked.IN_FORCE: in_force,
    Blocked.TERM: just_ended,
    Blocked.REMEDY: under_an_open_remedy,
    Blocked.LISTED: in_a_listing_that_may_be_in_use,
}


@pytest.mark.parametrize("case", [*STANDS_AGAINST, "suspended", "of a list kept longer"])
def test_what_may_not_be_erased_is_refused_with_why(world: World, case: str) -> None:
    make = (
        STANDS_AGAINST.get(case)
        or {"suspended": suspended, "of a list kept longer": of_a_list_kept_longer}[case]
    )  # type: ignore[call-overload]
    restriction = make(world)
    later(world, 60 if case == Blocked.TERM else 101)
    expected = {"suspended": Blocked.IN_FORCE, "of a list kept longer": Blocked.TERM}.get(
        case, case
    )
    with pytest.raises(RetentionError) as caught:
        retention(world).erase_one(restriction, OPERATOR, None)
    assert caught.value.blocked == expected
    assert retention(world).erase(OPERATOR, None).restrictions == 0
    assert retention(world).due().restrictions == 0
    assert world.registry.held_on(person(0).identifiers[0], actor=OPERATOR)["names"] == list(
        person(0).names
    )


def test_an_answered_remedy_and_nine_listings_later_it_may_go(world: World) -> None:
    restriction = under_an_open_remedy(world)
    publish(world, 1, built_at=world.clock() - timedelta(days=1))
    (remedy,) = world.registry.remedies.mine(AIRLINE)
    world.registry.remedies.answer(
        remedy.remedy_id, RemedyOutcome.RESTORED, f"told {person(0).names[0]}", AIRLINE
    )
    later(world)
    for version in range(2, 10):
        publish(world, version)
        with pytest.raises(RetentionError, match="nine"):
            retention(world).erase_one(restriction, OPERATOR, None)
    publish(world, 10)
    assert retention(world).erase_one(restriction, OPERATOR, None).subjects == 1
    assert verify(world.registry.store) > 0
    assert world.registry.remedies.all(OPERATOR)[0].note == ""
    with pytest.raises(RetentionError) as caught:
        retention(world).erase_one(restriction, OPERATOR, None)
    assert caught.value.blocked is Blocked.ERASED


def test_persons_go_with_the_last_organisation_they_answer_for_and_not_before(world: World) -> None:
    links = {"responsible": (responsible(7),), "expires_at": world.clock() + timedelta(days=900)}
    first = submit(world, entry(organisation(1), case_number="1", **links))
    second = submit(world, entry(organisation(2), case_number="2", **links))
    world.registry.restrictions.end(first, EndKind.RELEASE, "paid", actor=COURT)
    later(world)
    assert retention(world).erase(OPERATOR, None).subjects == 1
    held = world.registry.held_on(person(7).identifiers[0], actor=OPERATOR)
    assert len(held["responsible_for"]) == 1
    assert held["responsible_for"][0]["restrictions"][0]["restriction_id"] == second.hex()
    world.registry.restrictions.end(second, EndKind.RELEASE, "paid", actor=COURT)
    later(world)
    assert retention(world).erase(OPERATOR, None).subjects == 2
    assert (count(world, IdentifierRow), count(world, NameRow)) == (0, 0)


def test_reasons_about_whoever_was_merged_into_a_subject_go_with_it(world: World) -> None:
    ended(world, 0)
    ended(world, 1)
    stays, goes = (Reference(identifier=person(index).identifiers[0]) for index in range(2))
    world.registry.subjects.merge(
        stays, goes, f"{person(1).names[0]} is {person(0).names[0]}", OPERATOR
    )
    later(world)
    done = retention(world).erase(OPERATOR, None)
    assert (done.restrictions, done.subjects) == (2, 1)
    assert count(world, AuditReasonRow) == 0
    assert verify(world.registry.store) > 0


def test_a_subject_with_another_restriction_stays(world: World) -> None:
    ended(world, 0)
    other = submit(
        world, entry(person(0), case_number="other", expires_at=world.clock() + timedelta(days=900))
    )
    later(world)
    done = retention(world).erase(OPERATOR, None)
    assert (done.restrictions, done.subjects) == (1, 0)
    held = world.registry.held_on(person(0).identifiers[0], actor=OPERATOR)
    assert [item["case_number"].startswith("erased-") for item in held["restrictions"]].count(
        False
    ) == 1
    assert other.hex() in {item["restriction_id"] for item in held["restrictions"]}


def test_reasons_of_older_programs_go_with_their_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        write_reasons_as_before(patch)
        restriction = ended(world, 0)
    later(world)
    with pytest.raises(RetentionError, match="vault rotate") as caught:
        retention(world).erase_one(restriction, OPERATOR, None)
    assert caught.value.blocked is Blocked.OLD_REASONS
    rekeying.rotate(world.store, actor=OPERATOR)
    assert sum(sealed.reencrypt(world.store)) > 0
    assert rekeying.retire(world.store, actor=OPERATOR) == [1]
    assert world.registry.restrictions.history(restriction, OPERATOR)[-1].reason.endswith("paid")
    retention(world).erase_one(restriction, OPERATOR, None)
    assert world.registry.restrictions.history(restriction, OPERATOR)[1].reason == ""
    rekeying.rotate(world.store, actor=OPERATOR)
    sum(sealed.reencrypt(world.store))
    with world.database.read() as session:
        assert sealed.counts(session).keys() <= {3}
    assert verify(world.registry.store) > 0


def test_an_archive_that_cannot_be_written_or_that_others_read_stops_it(
    world: World, tmp_path: Path
) -> None:
    restriction = ended(world, 0)
    later(world)
    (tmp_path / "open").touch(0o644)
    for bad in (tmp_path / "open", tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(RetentionError) as caught:
            retention(world).erase_one(restriction, OPERATOR, bad)
        assert caught.value.blocked is Blocked.ARCHIVE
    assert (
        world.registry.held_on(person(0).identifiers[0], actor=OPERATOR)["restrictions"][0][
            "case_number"
        ]
        == "（2026）虚01执0号"
    )


def test_a_reason_that_goes_without_an_erasure_shows(world: World) -> None:
    ended(world, 0)
    with world.database.write() as session:
        session.delete(session.scalars(select(AuditReasonRow)).one())
    with pytest.raises(AuditError, match="nothing says that it was erased"):
        verify(world.registry.store)


def test_erasing_many_goes_in_batches_and_reports_what_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tipstaff_server.registry.erasure.BATCH", 3)
    for index in range(7):
        ended(world, index)
    under_an_open_remedy_of = submit(
        world, entry(person(0), case_number="x", expires_at=world.clock() + timedelta(days=900))
    )
    later(world)
    assert retention(world).due().restrictions == 7
    done = retention(world).erase(OPERATOR, None)
    assert (done.restrictions, done.subjects, done.blocked) == (7, 6, {})
    assert (
        world.registry.restrictions.get(under_an_open_remedy_of, actor=OPERATOR).state == "ACTIVE"
    )
