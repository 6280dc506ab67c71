"""Wrapped keys, reasons apart from the log, checkpoints of the log, the mark of what was erased.

A database that goes down keeps its wrapped keys and reasons aside in `meta`, which every version
has: without its keys nothing in it would open again. The older program refuses such a key and
leaves the database alone.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REASON, KEY, EXEMPTION = "aside.reason.", "aside.key.", "aside.exemption."

META = sa.table("meta", sa.column("name", sa.String), sa.column("value", sa.LargeBinary))
REASONS = sa.table(
    "audit_reasons", sa.column("sequence", sa.BigInteger), sa.column("sealed", sa.LargeBinary)
)
EXEMPTIONS = sa.table(
    "exemptions", sa.column("id", sa.LargeBinary), sa.column("reason", sa.LargeBinary)
)
KEYS = sa.table(
    "vault_keys",
    sa.column("purpose", sa.String),
    sa.column("version", sa.SmallInteger),
    sa.column("wrapper", sa.String),
    sa.column("wrapped", sa.LargeBinary),
    sa.column("created_at", sa.DateTime(timezone=True)),
    sa.column("replaced_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Up."""
    op.create_table(
        "vault_keys",
        sa.Column("purpose", sa.String(length=24), nullable=False),
        sa.Column("version", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("wrapper", sa.String(length=220), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("purpose", "version", name=op.f("pk_vault_keys")),
    )
    op.create_table(
        "audit_reasons",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_reasons")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_checkpoints")),
    )
    op.add_column(
        "audit_head",
        sa.Column("vault_generation", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("restrictions", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("subjects", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("exemptions", sa.Column("reason", sa.LargeBinary(), nullable=True))
    _bring_back()


def downgrade() -> None:
    """Down. Checkpoints are in the folders of those who keep them."""
    _put_aside()
    added = (
        ("exemptions", "reason"),
        ("subjects", "erased_at"),
        ("restrictions", "erased_at"),
        ("audit_head", "vault_generation"),
    )
    for table, column in added:
        # Not in a batch: SQLite would copy the table and drop the old one, which others refer to.
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for table in ("audit_checkpoints", "audit_reasons", "vault_keys"):
        op.drop_table(table)


def _put_aside() -> None:
    connection = op.get_bind()
    rows: list[dict[str, Any]] = [
        {"name": f"{REASON}{row.sequence}", "value": row.sealed}
        for row in connection.execute(sa.select(REASONS)).all()
    ]
    found = connection.execute(sa.select(EXEMPTIONS).where(EXEMPTIONS.c.reason.is_not(None))).all()
    rows += [{"name": f"{EXEMPTION}{row.id.hex()}", "value": row.reason} for row in found]
    for key in connection.execute(sa.select(KEYS)).all():
        times = [key.created_at.isoformat(), key.replaced_at.isoformat() if key.replaced_at else ""]
        facts = "\n".join([key.wrapper, *times]).encode() + b"\n" + key.wrapped
        rows.append({"name": f"{KEY}{key.purpose}.{key.version}", "value": facts})
    if rows:
        connection.execute(META.insert(), rows)


def _bring_back() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(META).where(META.c.name.like("aside.%"))).all():
        if row.name.startswith(REASON):
            connection.execute(
                REASONS.insert().values(
                    sequence=int(row.name.removeprefix(REASON)), sealed=row.value
                )
            )
        elif row.name.startswith(EXEMPTION):
            which = EXEMPTIONS.c.id == bytes.fromhex(row.name.removeprefix(EXEMPTION))
            connection.execute(EXEMPTIONS.update().where(which).values(reason=row.value))
        else:
            purpose, _, version = row.name.removeprefix(KEY).partition(".")
            wrapper, created, replaced, wrapped = row.value.split(b"\n", 3)
            connection.execute(
                KEYS.insert().values(
                    purpose=purpose,
                    version=int(version),
                    wrapper=wrapper.decode(),
                    wrapped=wrapped,
                    created_at=datetime.fromisoformat(created.decode()),
                    replaced_at=datetime.fromisoformat(replaced.decode()) if replaced else None,
                )
            )
    connection.execute(META.delete().where(META.c.name.like("aside.%")))
