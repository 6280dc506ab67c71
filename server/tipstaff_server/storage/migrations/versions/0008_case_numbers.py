"""Restrictions are found by their case number through an index, in the order of ids; posts whose
term ends, by that moment.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    op.create_index(op.f("ix_restrictions_case_number_id"), "restrictions", ["case_number", "id"])
    op.create_index(op.f("ix_responsible_links_valid_until"), "responsible_links", ["valid_until"])


def downgrade() -> None:
    """Down."""
    op.drop_index(op.f("ix_responsible_links_valid_until"), table_name="responsible_links")
    op.drop_index(op.f("ix_restrictions_case_number_id"), table_name="restrictions")
