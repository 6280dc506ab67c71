"""Two persons where a list asks for them, grounds of disputes in fixed words, providers that were
removed.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    op.create_table(
        "drafts",
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("entered_by", sa.String(length=100), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_drafts_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint("restriction_id", name=op.f("pk_drafts")),
    )
    op.add_column(
        "restrictions", sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "lists",
        sa.Column("approval", sa.String(length=24), nullable=False, server_default="ONE_PERSON"),
    )
    op.add_column("providers", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE disputes SET ground = 'OTHER' WHERE ground = 'GENERAL'")


def downgrade() -> None:
    """Down.

    Drafts stay drafts, which the older program can withdraw; what they would have added is gone.
    """
    op.execute("UPDATE disputes SET ground = 'GENERAL' WHERE ground = 'OTHER'")
    op.drop_column("providers", "removed_at")
    op.drop_column("lists", "approval")
    op.drop_column("restrictions", "approved_at")
    op.drop_table("drafts")
