"""Answers as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tipstaff_sdk.texts import text

if TYPE_CHECKING:
    from tipstaff_sdk.book.run import Summary
    from tipstaff_sdk.decision.decide import Decision
    from tipstaff_sdk.enforcement.disputes import DisputeProgress
    from tipstaff_sdk.sync.status import Status

__all__ = [
    "decision",
    "decision_fields",
    "progress",
    "status",
    "status_fields",
    "summary",
    "summary_fields",
]


def decision(made: Decision, lang: str, *, as_json: bool) -> None:
    """One decision: in words, or all its fields."""
    if as_json:
        _print_json({**decision_fields(made), "explanation": made.explain(lang)})
    else:
        _console().print(made.explain(lang), markup=False)


def progress(found: DisputeProgress, lang: str, *, as_json: bool) -> None:
    """Where a dispute stands: in words, or all its fields."""
    if not as_json:
        _console().print(found.explain(lang), markup=False)
        return
    fields: dict[str, object] = {
        "state": found.state.name,
        "opened_at": found.opened_at.isoformat(),
        "due": found.due.isoformat(),
        "answered_at": None if found.answered_at is None else found.answered_at.isoformat(),
        "overdue": found.overdue,
    }
    _print_json({**fields, "explanation": found.explain(lang)})


def decision_fields(made: Decision) -> dict[str, object]:
    """A decision as JSON values. It holds nothing of whom it is about."""
    return {
        "decision_id": made.decision_id.hex(),
        "verdict": made.verdict.name,
        "reason": made.reason.name,
        "measure": made.measure,
        "restrictions": [
            {
                "restriction_id": restriction.restriction_id.hex(),
                "authority_id": restriction.authority_id,
                "legal_basis": restriction.legal_basis,
                "case_number": restriction.case_number,
                "effective_at": restriction.effective_at.isoformat(),
                "expires_at": restriction.expires_at.isoformat(),
            }
            for restriction in made.restrictions
        ],
        "as_of": _json(made.as_of),
        "decided_at": _json(made.decided_at),
        "listing_version": made.listing_version,
        "relief_sequence": made.relief_sequence,
    }


def status(now: Status, lang: str, *, as_json: bool) -> None:
    """A screener's status."""
    if as_json:
        _print_json(status_fields(now))
        return
    table = Table("", "", show_header=False, box=None, pad_edge=False)
    for key, value in _status_rows(now, lang):
        table.add_row(text(f"cli.status.{key}", lang), value)
    _console().print(table)


def status_fields(now: Status) -> dict[str, object]:
    """A status as JSON values; ages in seconds."""
    fields: dict[str, object] = {"ready": now.ready}
    for name in type(now).__dataclass_fields__:
        fields[name] = _json(getattr(now, name))
    return fields


def _status_rows(now: Status, lang: str) -> list[tuple[str, str]]:
    none = text("cli.none", lang)

    def shown(value: object) -> str:
        if value is None:
            return none
        if isinstance(value, bool):
            return text("cli.yes" if value else "cli.no", lang)
        if isinstance(value, timedelta):
            return text("cli.ago", lang, time=_span(value))
        return (
            value.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
            if isinstance(value, datetime)
            else str(value)
        )

    return [
        ("audience", now.audience),
        ("availability", now.availability.name),
        ("listing", shown(now.listing_version)),
        ("listing_age", shown(now.listing_age)),
        ("listing_expires_at", shown(now.listing_expires_at)),
        ("relief", shown(now.relief_sequence)),
        ("relief_age", shown(now.relief_age)),
        ("relief_complete", shown(now.relief_complete)),
        ("key_present", shown(now.key_present)),
        ("sync", f"{now.sync_state.name} ({shown(now.sync_since)})"),
        ("last_success", shown(now.last_success)),
        ("last_error", shown(now.last_error)),
        ("outbox", shown(now.outbox_pending)),
        ("outbox_oldest", shown(now.outbox_oldest_age)),
        ("outbox_set_aside", shown(now.outbox_set_aside)),
        ("outbox_error", shown(now.outbox_error)),
    ]


def summary(found: Summary, lang: str, *, as_json: bool) -> None:
    """What a screened book came to."""
    if as_json:
        _print_json(summary_fields(found))
        return
    table = Table(text("cli.verdict", lang), text("cli.reason", lang), text("cli.rows", lang))
    table.columns[2].justify = "right"
    for reason, number in sorted(
        found.reasons.items(), key=lambda item: (item[0].verdict, item[0])
    ):
        table.add_row(text(f"verdict.{reason.verdict.name}", lang), reason.name, f"{number:,}")
    if found.bad_rows:
        table.add_row(text("cli.bad_rows", lang), "", f"{found.bad_rows:,}")
    console = _console()
    console.print(table)
    if found.resumed_rows:
        console.print(text("cli.resumed", lang, rows=f"{found.resumed_rows:,}"), soft_wrap=True)
    console.print(text("cli.result_file", lang, path=found.result), markup=False, soft_wrap=True)
    if found.bad_rows:
        console.print(
            text("cli.rejects_file", lang, path=found.rejects), markup=False, soft_wrap=True
        )


def summary_fields(found: Summary) -> dict[str, object]:
    """A summary as JSON values; times in seconds."""
    return {
        "rows": found.rows,
        "bad_rows": found.bad_rows,
        "verdicts": {verdict.name: number for verdict, number in sorted(found.verdicts.items())},
        "reasons": {reason.name: number for reason, number in sorted(found.reasons.items())},
        "decided_at": found.moment.isoformat(),
        "listing_version": found.listing_version,
        "relief_sequence": found.relief_sequence,
        "output": str(found.result),
        "rejects": str(found.rejects),
        "resumed_rows": found.resumed_rows,
        "seconds": round(found.seconds, 3),
        "rows_per_second": round((found.rows - found.resumed_rows) / found.seconds)
        if found.seconds > 0
        else None,
        "parsing_seconds": round(found.parsing, 3),
        "settling_seconds": round(found.settling, 3),
    }


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.value if isinstance(value, Enum) else value


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
