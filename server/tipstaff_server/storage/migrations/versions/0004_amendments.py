"""Amendments: relief keeps the measures that were lifted; the history of one restriction is found
by an index.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

FILL = (
    "UPDATE relief_log SET measure_set_id = (SELECT measure_set_id FROM restrictions WHERE"
    " restrictions.id = relief_log.restriction_id)"
)


def upgrade() -> None:
    """Up."""
    op.add_column("relief_log", sa.Column("measure_set_id", sa.Integer(), nullable=True))
    op.execute(FILL)
    with op.batch_alter_table("relief_log") as table:
        table.alter_column("measure_set_id", existing_type=sa.Integer(), nullable=False)
        table.create_foreign_key(
            op.f("fk_relief_log_measure_set_id_measure_sets"),
            "measure_sets",
            ["measure_set_id"],
            ["id"],
        )
    op.create_index(
        op.f("ix_audit_log_object_kind_object_id"), "audit_log", ["object_kind", "object_id"]
    )


def downgrade() -> None:
    """Down."""
    op.drop_index(op.f("ix_audit_log_object_kind_object_id"), table_name="audit_log")
    with op.batch_alter_table("relief_log") as table:
        table.drop_constraint(op.f("fk_relief_log_measure_set_id_measure_sets"), type_="foreignkey")
        table.drop_column("measure_set_id")
