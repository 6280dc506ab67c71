"""Posts: whether one is held, the relief that ends it; exemptions for one person."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up. Nobody could leave a post before, so all are held."""
    op.add_column("responsible_links", sa.Column("state", sa.String(length=24), nullable=True))
    op.add_column(
        "responsible_links", sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("responsible_links", sa.Column("relief_sequence", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE responsible_links SET state = 'HELD', changed_at = valid_from, relief_sequence = 0"
    )
    with op.batch_alter_table("responsible_links") as table:
        table.alter_column("state", existing_type=sa.String(length=24), nullable=False)
        table.alter_column("changed_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        table.alter_column("relief_sequence", existing_type=sa.BigInteger(), nullable=False)
    op.create_index(op.f("ix_responsible_links_state"), "responsible_links", ["state"])
    op.add_column("relief_log", sa.Column("post_id", sa.LargeBinary(length=16), nullable=True))
    with op.batch_alter_table("exemptions") as table:
        table.add_column(sa.Column("subject_id", sa.LargeBinary(length=16), nullable=True))
        table.create_foreign_key(
            op.f("fk_exemptions_subject_id_subjects"), "subjects", ["subject_id"], ["id"]
        )
    op.create_index(op.f("ix_exemptions_subject_id"), "exemptions", ["subject_id"])


def downgrade() -> None:
    """Down.

    What was for one person, or about one post, cannot be told from the rest without its column: it
    goes.
    """
    op.execute("DELETE FROM exemptions WHERE subject_id IS NOT NULL")
    op.drop_index(op.f("ix_exemptions_subject_id"), table_name="exemptions")
    with op.batch_alter_table("exemptions") as table:
        table.drop_constraint(op.f("fk_exemptions_subject_id_subjects"), type_="foreignkey")
        table.drop_column("subject_id")
    op.execute("DELETE FROM relief_log WHERE post_id IS NOT NULL")
    op.drop_column("relief_log", "post_id")
    op.execute("DELETE FROM responsible_links WHERE state <> 'HELD'")
    op.drop_index(op.f("ix_responsible_links_state"), table_name="responsible_links")
    with op.batch_alter_table("responsible_links") as table:
        table.drop_column("relief_sequence")
        table.drop_column("changed_at")
        table.drop_column("state")
