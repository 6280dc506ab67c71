"""Due process: remedies, deadlines of disputes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    op.create_table(
        "remedies",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("affected", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reminded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("escalated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=24), nullable=True),
        sa.Column("note", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.id"], name=op.f("fk_remedies_provider_id_providers")
        ),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_remedies_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remedies")),
        sa.UniqueConstraint(
            "restriction_id", "provider_id", name=op.f("uq_remedies_restriction_id_provider_id")
        ),
    )
    op.create_index(op.f("ix_remedies_provider_id_state"), "remedies", ["provider_id", "state"])
    op.create_index(op.f("ix_remedies_state_due_at"), "remedies", ["state", "due_at"])
    with op.batch_alter_table("disputes") as table:
        table.add_column(sa.Column("reminded_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("escalated_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Down."""
    with op.batch_alter_table("disputes") as table:
        table.drop_column("escalated_at")
        table.drop_column("reminded_at")
    op.drop_table("remedies")
