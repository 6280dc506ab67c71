"""The audit log shows every way of tampering with it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text

from tests.support.registry import COURT, World, entry, person, submit
from tipstaff_server.audit import reasons
from tipstaff_server.audit.log import PAGE, verify
from tipstaff_server.errors import AuditError, LifecycleError
from tipstaff_server.registry.restrictions.transitions import EndKind
from tipstaff_server.storage.models import AuditRow

if TYPE_CHECKING:
    from tipstaff_server.storage.database import Database


def fill(world: World, count: int = 5) -> int:
    """Some acts; the number of entries."""
    ids = [submit(world, entry(person(index), case_number=str(index))) for index in range(count)]
    world.registry.restrictions.end(ids[0], EndKind.RELEASE, "performed", actor=COURT)
    return verify(world.registry.store)


def rows(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(AuditRow)) or 0


def test_every_act_is_there_with_actor_time_and_reason(world: World) -> None:
    before = rows(world.database)
    restriction = submit(world, entry())
    world.clock.turn(minutes=1)
    world.registry.restrictions.end(restriction, EndKind.REPAIR, "paid in full", actor=COURT)
    with world.database.read() as session:
        made = session.scalars(select(AuditRow).order_by(AuditRow.sequence)).all()[before:]
    assert [(row.act, row.actor, row.object_kind, row.object_id) for row in made] == [
        ("SUBMIT", "authority:court", "restriction", restriction),
        ("REPAIR", "authority:court", "restriction", restriction),
    ]
    assert made[1].at - made[0].at == timedelta(minutes=1)
    assert json.loads(made[1].detail) == {
        "from": "ACTIVE",
        "to": "REPAIRED",
        "version": 2,
        "relief_sequence": 1,
    }
    assert made[1].reason is not None
    assert b"paid" not in made[1].reason
    with world.database.read() as session:
        assert reasons.read(session, world.vault, made) == {made[1].sequence: "paid in full"}


def test_a_refused_act_leaves_no_entry(world: World) -> None:
    restriction = submit(world, entry())
    world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    before = rows(world.database)
    with pytest.raises(LifecycleError):
        world.registry.restrictions.end(restriction, EndKind.RELEASE, "x", actor=COURT)
    assert rows(world.database) == before
    assert verify(world.registry.store) == before


TAMPERING = {
    "an altered act": "UPDATE audit_log SET act = 'RELEASE' WHERE sequence = :n",
    "an altered actor": "UPDATE audit_log SET actor = 'authority:tax' WHERE sequence = :n",
    "an altered time": "UPDATE audit_log SET at = '2020-01-01 00:00:00.000000' WHERE sequence = :n",
    "an altered detail": "UPDATE audit_log SET detail = '{}' WHERE sequence = :n",
    "another object": "UPDATE audit_log SET object_id = :bytes WHERE sequence = :n",
    "an added reason": "UPDATE audit_log SET reason = :bytes WHERE sequence = :n",
    "an altered digest": "UPDATE audit_log SET digest = :bytes WHERE sequence = :n",
    "a missing entry": "DELETE FROM audit_log WHERE sequence = :n",
    "two entries exchanged": (
        "UPDATE audit_log SET sequence = CASE sequence WHEN :n THEN -1 WHEN :n + 1 THEN :n ELSE"
        " sequence END"
    ),
    "all later entries gone": "DELETE FROM audit_log WHERE sequence >= :n",
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_shows_where_it_is(world: World, case: str) -> None:
    count = fill(world)
    target = count - 3
    with world.database.write() as session:
        if "exchanged" in case:
            for statement in (
                "UPDATE audit_log SET sequence = -1 WHERE sequence = :n",
                "UPDATE audit_log SET sequence = :n WHERE sequence = :n + 1",
                "UPDATE audit_log SET sequence = :n + 1 WHERE sequence = -1",
            ):
                session.execute(text(statement), {"n": target})
        else:
            session.execute(
                text(TAMPERING[case]),
                {"n": target} | ({"bytes": bytes(32)} if ":bytes" in TAMPERING[case] else {}),
            )
    with pytest.raises(AuditError, match=str(target)) as caught:
        verify(world.registry.store)
    assert caught.value.sequence == target


@pytest.mark.parametrize(
    "change", ["sequence = sequence - 1", "sequence = sequence + 1", "digest = :bytes"]
)
def test_a_head_that_does_not_fit_shows(world: World, change: str) -> None:
    fill(world)
    with world.database.write() as session:
        session.execute(
            text(f"UPDATE audit_head SET {change}"),
            {"bytes": bytes(32)} if ":bytes" in change else {},
        )
    with pytest.raises(AuditError):
        verify(world.registry.store)


def test_an_entry_put_in_between_shows(world: World) -> None:
    count = fill(world)
    with world.database.write() as session:
        session.execute(
            text(
                "INSERT INTO audit_log SELECT sequence + 1, at, actor, act, object_kind, object_id,"
                " detail, reason, digest FROM audit_log WHERE sequence = :n"
            ),
            {"n": count},
        )
        session.execute(text("UPDATE audit_head SET sequence = sequence + 1"))
    with pytest.raises(AuditError) as caught:
        verify(world.registry.store)
    assert caught.value.sequence == count + 1


def test_logs_longer_than_a_page_verify(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tipstaff_server.audit.log.PAGE", 3)
    assert fill(world, 12) > 12
    assert PAGE > 3
