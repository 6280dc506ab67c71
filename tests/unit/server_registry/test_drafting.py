"""Two persons where a list asks for them: one enters, another approves, and until then nothing of
it is to be seen anywhere.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from tests.support.registry import (
    AIRLINE,
    COURT,
    NOW,
    OPERATOR,
    TAX,
    World,
    entry,
    listed,
    organisation,
    person,
    responsible,
    submit,
)
from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.audit.log import verify
from tipstaff_server.domain.actors import SYSTEM, Actor
from tipstaff_server.domain.lifecycle import WHO, Event, State, check_may
from tipstaff_server.errors import (
    EntryCode,
    InvalidRequestError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    StaleVersionError,
)
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.registry.restrictions.drafts import Approval, Approved
from tipstaff_server.registry.restrictions.submission import SubmitStatus
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.signoff.reader import read
from tipstaff_server.storage.models import DraftRow, IdentifierRow, NameRow, ResponsibleLinkRow

if TYPE_CHECKING:
    from tipstaff_server.domain.parties import Party
    from tipstaff_server.registry.restrictions.entry import Entry

LI, WANG = Actor.authority("court", "clerk-7"), Actor.authority("court", "clerk-8")


def draft_entry(party: Party | None = None, **changes: Any) -> Entry:
    return entry(party, **({"list_id": "exit-ban"} | changes))


def draft(world: World, item: Entry | None = None, actor: Actor = LI) -> bytes:
    return submit(world, item or draft_entry(), actor=actor)


def approve(world: World, restriction: bytes, actor: Actor = WANG, **given: Any) -> State:
    return world.registry.restrictions.approve(
        Approval(restriction, "checked against the file", Precondition(**given)), actor
    ).state


def acts(world: World, restriction: bytes) -> list[tuple[str, str]]:
    found = world.registry.restrictions.history(restriction, OPERATOR)
    return [(item.act, item.actor) for item in found]


def count(world: World, table: type) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_draft_is_in_no_listing_and_no_relief_until_another_person_approves(world: World) -> None:
    restriction = draft(world)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.DRAFT
    assert listed(world) == {}
    with pytest.raises(NotFoundError):
        world.registry.restrictions.get(restriction, actor=AIRLINE)
    assert approve(world, restriction) is State.ACTIVE
    assert [
        item.restriction_id for item in listed(world)[person(0).identifiers[0]].restrictions
    ] == [restriction]
    assert world.registry.relief.head() == 0
    assert acts(world, restriction) == [
        ("SUBMIT", "authority:court/clerk-7"),
        ("ANNOUNCE", "authority:court/clerk-8"),
        ("ENTER_FORCE", "system:clock"),
    ]
    assert count(world, DraftRow) == 0
    verify(world.registry.store)


def test_nobody_approves_what_they_entered_and_nobody_in_particular_does_either(
    world: World,
) -> None:
    restriction = draft(world)
    for actor, hint in ((LI, "another person"), (COURT, "names an officer")):
        with pytest.raises(PermissionDeniedError, match=hint):
            approve(world, restriction, actor)
    for stranger in (Actor.authority("tax", "clerk-8"), TAX):
        with pytest.raises(ServerError):
            approve(world, restriction, stranger)
    for outsider in (AIRLINE, SYSTEM):
        with pytest.raises(PermissionDeniedError, match="drafts are for"):
            approve(world, restriction, outsider)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.DRAFT
    assert approve(world, restriction, OPERATOR) is State.ACTIVE


def test_the_operator_who_imported_does_not_approve_either(world: World) -> None:
    restriction = draft(world, actor=OPERATOR)
    with pytest.raises(PermissionDeniedError, match="another person"):
        approve(world, restriction, OPERATOR)
    assert approve(world, restriction, LI) is State.ACTIVE


def test_an_entry_by_nobody_in_particular_is_refused(world: World) -> None:
    answer = world.registry.restrictions.submit(draft_entry(), authority="court", actor=COURT)
    assert (answer.status, answer.code) == (SubmitStatus.REJECTED, EntryCode.OFFICER_MISSING)
    assert "officer" in answer.detail


def test_a_draft_widens_nothing_that_is_in_force(world: World) -> None:
    """A second number, another name, a responsible person: all of that would reach restrictions of
    others, by one hand.
    """
    company, known = organisation(0), person(1)
    submit(world, entry(company, case_number="A"))
    submit(world, entry(known, case_number="B"))
    before = (
        listed(world),
        [count(world, table) for table in (IdentifierRow, NameRow, ResponsibleLinkRow)],
    )
    more = known.identifiers + person(2).identifiers
    wider = type(known)(known.type, more, (*known.names, "别名"))
    through_company = draft(
        world, draft_entry(company, case_number="C", responsible=(responsible(3),))
    )
    through_person = draft(world, draft_entry(wider, case_number="D"))
    assert (
        listed(world),
        [count(world, table) for table in (IdentifierRow, NameRow, ResponsibleLinkRow)],
    ) == before
    approve(world, through_company)
    assert {
        item.restriction_id for item in listed(world)[person(3).identifiers[0]].restrictions
    } >= {through_company}
    approve(world, through_person)
    subject = listed(world)[person(2).identifiers[0]]
    assert len(subject.restrictions) == 2
    assert "别名" in subject.names


def test_a_draft_on_a_new_subject_adds_one_number_and_no_name(world: World) -> None:
    both = type(person(0))(
        person(0).type, person(0).identifiers + person(1).identifiers, person(0).names
    )
    restriction = draft(world, draft_entry(both))
    assert (count(world, IdentifierRow), count(world, NameRow)) == (1, 0)
    # Somebody else's entry on the second number is on that number alone.
    submit(world, entry(person(1), case_number="other"))
    assert set(listed(world)) == {person(1).identifiers[0]}
    with pytest.raises(
        LifecycleError,
        match=r"cannot be put in force as it stands.*different subjects.*enter it anew",
    ):
        approve(world, restriction)
    assert world.registry.restrictions.get(restriction, actor=COURT).state is State.DRAFT
    assert set(listed(world)) == {person(1).identifiers[0]}


def test_what_could_never_be_entered_is_refused_as_a_draft_already(world: World) -> None:
    submit(world, entry(person(0)))
    answer = world.registry.restrictions.submit(
        draft_entry(person(0, "另一人"), case_number="x"), authority="court", actor=LI
    )
    assert answer.code is EntryCode.NAME_CONFLICT
    item = draft_entry(organisation(0), case_number="y", responsible=(responsible(0),))
    wrong = item.responsible[0].party
    changed = type(item.responsible[0])(1, type(wrong)(wrong.type, wrong.identifiers, ("另一人",)))
    answer = world.registry.restrictions.submit(
        draft_entry(organisation(0), case_number="y", responsible=(changed,)),
        authority="court",
        actor=LI,
    )
    assert answer.code is EntryCode.NAME_CONFLICT
    assert count(world, DraftRow) == 0


def test_the_same_draft_again_is_the_same_draft_and_another_under_its_number_is_refused(
    world: World,
) -> None:
    restriction = draft(world)
    again = world.registry.restrictions.submit(draft_entry(), authority="court", actor=WANG)
    assert (again.status, again.restriction_id) == (SubmitStatus.UNCHANGED, restriction)
    other = world.registry.restrictions.submit(
        draft_entry(legal_basis="另一依据"), authority="court", actor=LI
    )
    assert other.code is EntryCode.CASE_CONFLICT


@pytest.mark.parametrize("published", [None, NOW - timedelta(days=30)])
def test_the_notice_runs_from_the_approval(world: World, published: Any) -> None:
    def change(values: dict[str, Any]) -> None:
        next(item for item in values["lists"] if item["id"] == "exit-ban")["notice_days"] = 7

    administer(world, change)
    restriction = draft(world, draft_entry(published_at=published))
    later = world.clock.turn(days=20)
    assert world.registry.expire_due(later).activated == 0
    assert approve(world, restriction) is State.NOTICED
    assert world.registry.restrictions.get(
        restriction, actor=COURT
    ).effective_at == later + timedelta(days=7)
    assert world.registry.expire_due(later + timedelta(days=7)).activated == 1


def test_a_notice_longer_than_what_is_left_of_the_term_is_said(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        next(item for item in values["lists"] if item["id"] == "exit-ban")["notice_days"] = 7

    administer(world, change)
    restriction = draft(world, draft_entry(expires_at=NOW + timedelta(days=10)))
    world.clock.turn(days=4)
    with pytest.raises(
        LifecycleError, match="before the notice period ends; amend the draft, or withdraw it"
    ):
        approve(world, restriction)


def test_drafts_are_withdrawn_without_relief_and_lapse_with_their_term(world: World) -> None:
    withdrawn, lapsing = draft(world), draft(world, draft_entry(person(1)))
    for kind in (EndKind.RELEASE, EndKind.REPAIR):
        with pytest.raises(
            LifecycleError, match="not possible in state DRAFT; possible: ANNOUNCE, EXPIRE, REVOKE"
        ):
            world.registry.restrictions.end(withdrawn, kind, "x", actor=COURT)
    ended = world.registry.restrictions.end(
        withdrawn, EndKind.REVOKE, "entered by mistake", actor=LI
    )
    assert (ended.restriction.state, ended.relief_sequence) == (State.REVOKED, 0)
    assert world.registry.expire_due(NOW + timedelta(days=300)).expired == 1
    assert world.registry.restrictions.get(lapsing, actor=COURT).state is State.EXPIRED
    for restriction in (withdrawn, lapsing):
        with pytest.raises(LifecycleError, match="no draft"):
            approve(world, restriction)
    assert count(world, DraftRow) == 0
    assert world.registry.relief.head() == 0


def test_a_draft_is_not_disputed(world: World) -> None:
    with pytest.raises(LifecycleError, match="withdraw it"):
        world.registry.disputes.open(draft(world), "x", request_id=bytes(16), actor=COURT)


def test_whoever_amends_a_draft_does_not_approve_it(world: World) -> None:
    restriction = draft(world)
    with pytest.raises(PermissionDeniedError, match="names an officer"):
        world.registry.restrictions.amend(restriction, Amendment(("EXIT",)), "x", COURT)
    world.registry.restrictions.amend(
        restriction, Amendment(("AIR_TRAVEL", "EXIT")), "one more", WANG
    )
    with pytest.raises(PermissionDeniedError, match="another person"):
        approve(world, restriction, WANG)
    assert approve(world, restriction, LI) is State.ACTIVE
    assert world.registry.restrictions.get(restriction, actor=COURT).measures == (
        "AIR_TRAVEL",
        "EXIT",
    )


def test_one_person_makes_less_but_never_more_of_what_two_put_in_force(world: World) -> None:
    restriction = draft(world)
    approve(world, restriction)
    for more in (
        Amendment(("AIR_TRAVEL", "EXIT", "LOAN_PRICING")),
        Amendment(expires_at=NOW + timedelta(days=400)),
    ):
        with pytest.raises(LifecycleError, match="more takes two persons"):
            world.registry.restrictions.amend(restriction, more, "x", WANG)
    assert (
        world.registry.restrictions.amend(
            restriction, Amendment(("AIR_TRAVEL",)), "x", COURT
        ).relief_sequence
        == 1
    )


def test_the_second_person_sees_what_the_first_entered_and_that_is_kept(world: World) -> None:
    item = draft_entry(
        organisation(0), responsible=(responsible(1),), published_at=NOW - timedelta(days=3)
    )
    restriction = draft(world, item)
    world.registry.restrictions.amend(restriction, Amendment(("EXIT",)), "x", LI)
    found = world.registry.restrictions.read_draft(restriction, WANG)
    assert (found.entered_by, found.entered_at) == (str(LI), NOW)
    again = type(item).from_proto(found.entry)
    assert (again.party, again.responsible, again.published_at) == (
        item.party,
        item.responsible,
        item.published_at,
    )
    assert (again.measures, found.restriction.measures) == (("EXIT",), ("EXIT",))
    assert organisation(0).names[0] not in repr(found)
    assert ("READ_DRAFT", str(WANG)) in acts(world, restriction)
    with pytest.raises(NotFoundError):
        world.registry.restrictions.read_draft(restriction, Actor.authority("tax", "clerk-1"))
    approve(world, restriction)
    with pytest.raises(LifecycleError, match="no draft"):
        world.registry.restrictions.read_draft(restriction, WANG)


def test_neither_numbers_nor_names_of_a_draft_are_in_the_database(world: World) -> None:
    restriction = draft(world, draft_entry(person(5), case_number="z"))
    raw = world.raw()
    assert restriction in raw or not world.is_sqlite
    for secret in (person(5).identifiers[0].number, person(5).names[0]):
        assert secret.encode() not in raw


def test_a_stale_version_and_a_repeated_key(world: World) -> None:
    restriction = draft(world)
    with pytest.raises(StaleVersionError, match="look at it again"):
        approve(world, restriction, version=9)
    assert approve(world, restriction, version=1, key="k") is State.ACTIVE
    assert approve(world, restriction, version=1, key="k") is State.ACTIVE
    with pytest.raises(LifecycleError, match="no draft"):
        approve(world, restriction)
    assert [act for act, _ in acts(world, restriction)] == ["SUBMIT", "ANNOUNCE", "ENTER_FORCE"]


def test_several_at_once_are_answered_one_by_one(world: World) -> None:
    mine, others = draft(world), draft(world, draft_entry(person(1)), WANG)
    asked = [Approval(item, "x") for item in (mine, others, bytes(16), b"short")]
    done = world.registry.restrictions.approve_many(asked, WANG)
    assert [item.restriction is not None for item in done] == [True, False, False, False]
    assert all(
        hint in item.detail
        for item, hint in zip(
            done, ("", "another person", "no such restriction", "16 bytes"), strict=True
        )
    )
    assert isinstance(done[0], Approved)
    with pytest.raises(InvalidRequestError, match="500"):
        world.registry.restrictions.approve_many([asked[0]] * 501, WANG)


def test_two_replicas_that_approve_at_once_approve_once(world: World) -> None:
    replicas = [world.replica() for _ in range(3)]
    restriction = draft(world)

    def decide(index: int) -> bool:
        try:
            replicas[index].restrictions.approve(Approval(restriction, "x"), WANG)
        except LifecycleError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(decide, range(3))) == [False, False, True]
    assert [act for act, _ in acts(world, restriction)].count("ANNOUNCE") == 1
    verify(world.registry.store)


def test_for_the_sign_off_it_is_there_from_the_approval_on(world: World) -> None:
    """A listing built between entry and approval does not hold it, and is right."""
    restriction = draft(world)
    world.clock.turn(hours=3)
    approve(world, restriction)
    (reached,) = read(world.store, "aviation")
    assert reached.restrictions[restriction].entered_at == NOW + timedelta(hours=3)


def test_an_entitlement_that_was_withdrawn_meanwhile_stops_the_approval(world: World) -> None:
    restriction = draft(world)

    def change(values: dict[str, Any]) -> None:
        values["authorities"][0]["entitlements"].remove("AIR_TRAVEL")

    administer(world, change)
    with pytest.raises(LifecycleError, match="not entitled to: AIR_TRAVEL"):
        approve(world, restriction)


@pytest.mark.parametrize("event", Event)
def test_who_may_is_held_for_every_event(event: Event) -> None:
    for actor in (COURT, OPERATOR, AIRLINE, SYSTEM):
        if actor.kind in WHO[event]:
            check_may(event, actor.kind)
        else:
            with pytest.raises(PermissionDeniedError, match=f"does not {event}"):
                check_may(event, actor.kind)


def administer(world: World, change: Any) -> None:
    values = json.loads(Administration.load().document())
    change(values)
    made = Administration.from_document(json.dumps(values), "changed")
    set_administration(world.store, made, actor=OPERATOR)
