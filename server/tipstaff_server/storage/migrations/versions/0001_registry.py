"""The registry as first released: administration, subjects, restrictions, relief, feedback, audit."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Up."""
    op.create_table(
        "administrations",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_administrations")),
    )
    op.create_table(
        "audiences",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("title_zh", sa.String(length=500), nullable=False),
        sa.Column("title_en", sa.String(length=500), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audiences")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_log",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("act", sa.String(length=40), nullable=False),
        sa.Column("object_kind", sa.String(length=24), nullable=False),
        sa.Column("object_id", sa.LargeBinary(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "authorities",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("title_zh", sa.String(length=500), nullable=False),
        sa.Column("title_en", sa.String(length=500), nullable=False),
        sa.Column("region", sa.String(length=500), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("entry_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "lists",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("title_zh", sa.String(length=500), nullable=False),
        sa.Column("title_en", sa.String(length=500), nullable=False),
        sa.Column("dispute_effect", sa.String(length=24), nullable=False),
        sa.Column("dispute_zh", sa.String(length=500), nullable=False),
        sa.Column("dispute_en", sa.String(length=500), nullable=False),
        sa.Column("answer_days", sa.Integer(), nullable=False),
        sa.Column("notice_days", sa.Integer(), nullable=False),
        sa.Column("default_term", sa.String(length=32), nullable=False),
        sa.Column("default_legal_basis", sa.String(length=500), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lists")),
    )
    op.create_table(
        "measure_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("codes", sa.String(length=2000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measure_sets")),
        sa.UniqueConstraint("codes", name=op.f("uq_measure_sets_codes")),
    )
    op.create_table(
        "measures",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_measures")),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "relief_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relief_head")),
    )
    op.create_table(
        "subjects",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subjects")),
    )
    op.create_table(
        "audience_measures",
        sa.Column("audience_id", sa.String(length=40), nullable=False),
        sa.Column("measure", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"],
            ["audiences.id"],
            name=op.f("fk_audience_measures_audience_id_audiences"),
        ),
        sa.ForeignKeyConstraint(
            ["measure"], ["measures.code"], name=op.f("fk_audience_measures_measure_measures")
        ),
        sa.PrimaryKeyConstraint("audience_id", "measure", name=op.f("pk_audience_measures")),
    )
    op.create_table(
        "entitlements",
        sa.Column("authority_id", sa.String(length=64), nullable=False),
        sa.Column("measure", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_entitlements_authority_id_authorities"),
        ),
        sa.ForeignKeyConstraint(
            ["measure"], ["measures.code"], name=op.f("fk_entitlements_measure_measures")
        ),
        sa.PrimaryKeyConstraint("authority_id", "measure", name=op.f("pk_entitlements")),
    )
    op.create_table(
        "epoch_keys",
        sa.Column("audience_id", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_epoch_keys_audience_id_audiences")
        ),
        sa.PrimaryKeyConstraint("audience_id", "epoch", name=op.f("pk_epoch_keys")),
    )
    op.create_table(
        "identifiers",
        sa.Column("blind", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("stretched", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subjects.id"], name=op.f("fk_identifiers_subject_id_subjects")
        ),
        sa.PrimaryKeyConstraint("blind", name=op.f("pk_identifiers")),
    )
    op.create_index(op.f("ix_identifiers_subject_id"), "identifiers", ["subject_id"], unique=False)
    op.create_table(
        "imports",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("file_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("authority_id", sa.String(length=64), nullable=False),
        sa.Column("list_id", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"], ["authorities.id"], name=op.f("fk_imports_authority_id_authorities")
        ),
        sa.ForeignKeyConstraint(["list_id"], ["lists.id"], name=op.f("fk_imports_list_id_lists")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_table(
        "list_measures",
        sa.Column("list_id", sa.String(length=64), nullable=False),
        sa.Column("measure", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["list_id"], ["lists.id"], name=op.f("fk_list_measures_list_id_lists")
        ),
        sa.ForeignKeyConstraint(
            ["measure"], ["measures.code"], name=op.f("fk_list_measures_measure_measures")
        ),
        sa.PrimaryKeyConstraint("list_id", "measure", name=op.f("pk_list_measures")),
    )
    op.create_table(
        "listing_builds",
        sa.Column("audience_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("relief_sequence", sa.BigInteger(), nullable=False),
        sa.Column("subject_count", sa.BigInteger(), nullable=False),
        sa.Column("record_count", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_listing_builds_audience_id_audiences")
        ),
        sa.PrimaryKeyConstraint("audience_id", "version", name=op.f("pk_listing_builds")),
    )
    op.create_table(
        "names",
        sa.Column("subject_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("blind", sa.LargeBinary(length=32), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subjects.id"], name=op.f("fk_names_subject_id_subjects")
        ),
        sa.PrimaryKeyConstraint("subject_id", "blind", name=op.f("pk_names")),
    )
    op.create_table(
        "providers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("audience_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("enforced_listing", sa.BigInteger(), nullable=False),
        sa.Column("enforced_relief_sequence", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_providers_audience_id_audiences")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_providers")),
    )
    op.create_index(op.f("ix_providers_audience_id"), "providers", ["audience_id"], unique=False)
    op.create_table(
        "responsible_links",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("organisation_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("capacity", sa.SmallInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["subjects.id"],
            name=op.f("fk_responsible_links_organisation_id_subjects"),
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["subjects.id"], name=op.f("fk_responsible_links_person_id_subjects")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responsible_links")),
        sa.UniqueConstraint(
            "organisation_id",
            "person_id",
            "capacity",
            "valid_from",
            name=op.f("uq_responsible_links_organisation_id_person_id_capacity_valid_from"),
        ),
    )
    op.create_index(
        op.f("ix_responsible_links_person_id"), "responsible_links", ["person_id"], unique=False
    )
    op.create_table(
        "restrictions",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("authority_id", sa.String(length=64), nullable=False),
        sa.Column("list_id", sa.String(length=64), nullable=False),
        sa.Column("measure_set_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("legal_basis", sa.String(length=500), nullable=False),
        sa.Column("case_number", sa.String(length=100), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("case_opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("relief_floor", sa.BigInteger(), nullable=False),
        sa.Column("relief_sequence", sa.BigInteger(), nullable=False),
        sa.Column("entry_digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_restrictions_authority_id_authorities"),
        ),
        sa.ForeignKeyConstraint(
            ["list_id"], ["lists.id"], name=op.f("fk_restrictions_list_id_lists")
        ),
        sa.ForeignKeyConstraint(
            ["measure_set_id"],
            ["measure_sets.id"],
            name=op.f("fk_restrictions_measure_set_id_measure_sets"),
        ),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subjects.id"], name=op.f("fk_restrictions_subject_id_subjects")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restrictions")),
        sa.UniqueConstraint(
            "subject_id",
            "authority_id",
            "case_number",
            name=op.f("uq_restrictions_subject_id_authority_id_case_number"),
        ),
    )
    op.create_index(
        op.f("ix_restrictions_state_effective_at"),
        "restrictions",
        ["state", "effective_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_restrictions_state_expires_at"),
        "restrictions",
        ["state", "expires_at"],
        unique=False,
    )
    op.create_table(
        "coverage",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("count_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("measure", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked", sa.BigInteger(), nullable=False),
        sa.Column("clear", sa.BigInteger(), nullable=False),
        sa.Column("filter_hits", sa.BigInteger(), nullable=False),
        sa.Column("restricted", sa.BigInteger(), nullable=False),
        sa.Column("review", sa.BigInteger(), nullable=False),
        sa.Column("unknown", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["measure"], ["measures.code"], name=op.f("fk_coverage_measure_measures")
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.id"], name=op.f("fk_coverage_provider_id_providers")
        ),
        sa.PrimaryKeyConstraint("provider_id", "count_id", name=op.f("pk_coverage")),
    )
    op.create_index(
        op.f("ix_coverage_provider_id_measure_hour"),
        "coverage",
        ["provider_id", "measure", "hour"],
        unique=False,
    )
    op.create_table(
        "disputes",
        sa.Column("case_number", sa.String(length=32), nullable=False),
        sa.Column("opened_by", sa.String(length=100), nullable=False),
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("decision_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("ground", sa.String(length=24), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("suspends", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("relief_sequence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_disputes_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint("case_number", name=op.f("pk_disputes")),
        sa.UniqueConstraint(
            "opened_by", "request_id", name=op.f("uq_disputes_opened_by_request_id")
        ),
    )
    op.create_index(op.f("ix_disputes_answer_due_at"), "disputes", ["answer_due_at"], unique=False)
    op.create_index(
        op.f("ix_disputes_restriction_id"), "disputes", ["restriction_id"], unique=False
    )
    op.create_table(
        "exemptions",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("measures", sa.String(length=2000), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason_zh", sa.String(length=500), nullable=False),
        sa.Column("reason_en", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_exemptions_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exemptions")),
    )
    op.create_index(
        op.f("ix_exemptions_restriction_id"), "exemptions", ["restriction_id"], unique=False
    )
    op.create_table(
        "relief_log",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_relief_log_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_relief_log")),
    )
    op.create_index(
        op.f("ix_relief_log_restriction_id"), "relief_log", ["restriction_id"], unique=False
    )
    op.create_table(
        "reports",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("report_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("decision_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("measure", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("listing_version", sa.BigInteger(), nullable=False),
        sa.Column("relief_sequence", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["measure"], ["measures.code"], name=op.f("fk_reports_measure_measures")
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.id"], name=op.f("fk_reports_provider_id_providers")
        ),
        sa.PrimaryKeyConstraint("provider_id", "report_id", name=op.f("pk_reports")),
    )
    op.create_index(op.f("ix_reports_acted_at"), "reports", ["acted_at"], unique=False)
    op.create_index(
        op.f("ix_reports_provider_id_measure_outcome"),
        "reports",
        ["provider_id", "measure", "outcome"],
        unique=False,
    )
    op.create_table(
        "report_restrictions",
        sa.Column("restriction_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("report_id", sa.LargeBinary(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id", "report_id"],
            ["reports.provider_id", "reports.report_id"],
            name=op.f("fk_report_restrictions_provider_id_report_id_reports"),
        ),
        sa.ForeignKeyConstraint(
            ["restriction_id"],
            ["restrictions.id"],
            name=op.f("fk_report_restrictions_restriction_id_restrictions"),
        ),
        sa.PrimaryKeyConstraint(
            "restriction_id", "provider_id", "report_id", name=op.f("pk_report_restrictions")
        ),
    )


def downgrade() -> None:
    """Down."""
    op.drop_table("report_restrictions")
    op.drop_index(op.f("ix_reports_provider_id_measure_outcome"), table_name="reports")
    op.drop_index(op.f("ix_reports_acted_at"), table_name="reports")
    op.drop_table("reports")
    op.drop_index(op.f("ix_relief_log_restriction_id"), table_name="relief_log")
    op.drop_table("relief_log")
    op.drop_index(op.f("ix_exemptions_restriction_id"), table_name="exemptions")
    op.drop_table("exemptions")
    op.drop_index(op.f("ix_disputes_restriction_id"), table_name="disputes")
    op.drop_index(op.f("ix_disputes_answer_due_at"), table_name="disputes")
    op.drop_table("disputes")
    op.drop_index(op.f("ix_coverage_provider_id_measure_hour"), table_name="coverage")
    op.drop_table("coverage")
    op.drop_index(op.f("ix_restrictions_state_expires_at"), table_name="restrictions")
    op.drop_index(op.f("ix_restrictions_state_effective_at"), table_name="restrictions")
    op.drop_table("restrictions")
    op.drop_index(op.f("ix_responsible_links_person_id"), table_name="responsible_links")
    op.drop_table("responsible_links")
    op.drop_index(op.f("ix_providers_audience_id"), table_name="providers")
    op.drop_table("providers")
    op.drop_table("names")
    op.drop_table("listing_builds")
    op.drop_table("list_measures")
    op.drop_table("imports")
    op.drop_index(op.f("ix_identifiers_subject_id"), table_name="identifiers")
    op.drop_table("identifiers")
    op.drop_table("epoch_keys")
    op.drop_table("entitlements")
    op.drop_table("audience_measures")
    op.drop_table("subjects")
    op.drop_table("relief_head")
    op.drop_table("meta")
    op.drop_table("measures")
    op.drop_table("measure_sets")
    op.drop_table("lists")
    op.drop_table("idempotency_keys")
    op.drop_table("authorities")
    op.drop_table("audit_log")
    op.drop_table("audit_head")
    op.drop_table("audiences")
    op.drop_table("administrations")
