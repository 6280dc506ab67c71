"""Restrictions are found by their case number through an index, in the order of ids."""

from collections.abc import Sequence

from alembic import op

revision: str = "0008"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    op.create_index(op.f("ix_restrictions_case_number_id"), "restrictions", ["case_number", "id"])


def downgrade() -> None:
    """Down."""
    op.drop_index(op.f("ix_restrictions_case_number_id"), table_name="restrictions")
