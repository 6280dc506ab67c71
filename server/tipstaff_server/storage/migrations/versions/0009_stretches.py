"""Stretches: salt and cost become rows, so that they can change; identifiers keep a second value
meanwhile, epochs name theirs.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SALT, COST = "stretch.salt", "stretch.cost"
IN_USE = "('CURRENT', 'TAKING_OVER')"
META = sa.table("meta", sa.column("name", sa.String), sa.column("value", sa.LargeBinary))
STRETCHES = sa.table(
    "stretches",
    *(sa.column(name, sa.Integer) for name in ("number", "n", "r", "p")),
    sa.column("salt", sa.LargeBinary),
    sa.column("state", sa.String),
    sa.column("begun_at", sa.DateTime(timezone=True)),
    sa.column("ready_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Up."""
    op.create_table(
        "stretches",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("r", sa.Integer(), nullable=False),
        sa.Column("p", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_stretches")),
    )
    connection = op.get_bind()
    facts = {
        row.name: row.value
        for row in connection.execute(sa.select(META).where(META.c.name.in_([SALT, COST])))
    }
    if facts:
        n, r, p = (int.from_bytes(facts[COST][at : at + 4], "big") for at in (0, 4, 8))
        # The first one is as old as the registry, whose age nothing says; nobody asks for it.
        first = {
            "number": 1,
            "salt": facts[SALT],
            "n": n,
            "r": r,
            "p": p,
            "state": "CURRENT",
            "begun_at": datetime(1970, 1, 1, tzinfo=UTC),
        }
        connection.execute(sa.insert(STRETCHES), [first | {"ready_at": first["begun_at"]}])
        connection.execute(sa.delete(META).where(META.c.name.in_([SALT, COST])))
    op.add_column("identifiers", sa.Column("next_stretched", sa.LargeBinary(), nullable=True))
    op.add_column("epoch_keys", sa.Column("stretch", sa.Integer(), nullable=True))
    op.execute("UPDATE epoch_keys SET stretch = 1")
    with op.batch_alter_table("epoch_keys") as table:
        table.alter_column("stretch", existing_type=sa.Integer(), nullable=False)
        table.create_foreign_key(
            op.f("fk_epoch_keys_stretch_stretches"), "stretches", ["stretch"], ["number"]
        )


def downgrade() -> None:
    """Down. Refuses while a change is under way: finish it or cancel it first."""
    connection = op.get_bind()
    found = connection.execute(
        sa.select(STRETCHES).where(STRETCHES.c.state.not_in(["RETIRED", "CANCELLED"]))
    ).all()
    if len(found) > 1 or any(row.state != "CURRENT" for row in found):
        raise RuntimeError(
            "a change of stretch is under way: finish or cancel it (tipstaff-server keys"
            " change-stretch), then downgrade"
        )
    for row in found:
        cost = b"".join(value.to_bytes(4, "big") for value in (row.n, row.r, row.p))
        connection.execute(
            sa.insert(META), [{"name": SALT, "value": row.salt}, {"name": COST, "value": cost}]
        )
    with op.batch_alter_table("epoch_keys") as table:
        table.drop_constraint(op.f("fk_epoch_keys_stretch_stretches"), type_="foreignkey")
        table.drop_column("stretch")
    op.drop_column("identifiers", "next_stretched")
    op.drop_table("stretches")
