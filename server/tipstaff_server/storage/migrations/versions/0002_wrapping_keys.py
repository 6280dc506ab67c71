"""A provider may register the key that epoch keys are sealed to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    with op.batch_alter_table("providers") as table:
        table.add_column(sa.Column("wrapping_key", sa.LargeBinary(length=32), nullable=True))


def downgrade() -> None:
    """Down."""
    with op.batch_alter_table("providers") as table:
        table.drop_column("wrapping_key")
