"""Versions of the administration: who loaded which and when, and what differs between two."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import select

from tipstaff_server.administration.document import Administration
from tipstaff_server.errors import NotFoundError
from tipstaff_server.storage.models import AdministrationRow, AuditRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tipstaff_server.vault.store import Store


__all__ = ["Version", "differences", "load_version", "versions"]

_KINDS = {
    "measures": ("measure", "code"),
    "authorities": ("authority", "id"),
    "lists": ("list", "id"),
    "audiences": ("audience", "id"),
}
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the administration.

    `actor`: who loaded it; `digest`: SHA-256 of its document, 32 bytes.
    """

    version: int
    made_at: datetime
    actor: str
    digest: bytes


def versions(store: Store) -> list[Version]:
    """All of them, the first one first."""
    with store.read() as session:
        entries = session.execute(
            select(AuditRow.object_id, AuditRow.actor).where(
                AuditRow.object_kind == "administration"
            )
        )
        actors = {int.from_bytes(row.object_id, "big"): row.actor for row in entries}
        rows = session.execute(
            select(
                AdministrationRow.version, AdministrationRow.made_at, AdministrationRow.digest
            ).order_by(AdministrationRow.version)
        )
        return [
            Version(row.version, row.made_at, actors.get(row.version, ""), row.digest)
            for row in rows
        ]


def load_version(store: Store, version: int | None = None) -> Administration:
    """One version, or the current one. Raises NotFoundError."""
    query = (
        select(AdministrationRow.version, AdministrationRow.document)
        .order_by(AdministrationRow.version.desc())
        .limit(1)
    )
    if version is not None:
        query = query.where(AdministrationRow.version == version)
    with store.read() as session:
        row = session.execute(query).first()
    if row is None:
        raise NotFoundError(
            "there is no such version of the administration; see `administration history`"
        )
    return Administration.parse(row.document.encode(), f"administration version {row.version}")


def differences(old: Administration, new: Administration) -> list[str]:
    """One line for each thing that was added (+), left out (-) or changed (~), by kind and id; the
    same administration gives none.
    """
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [
        line
        for group, (kind, key) in _KINDS.items()
        for line in _of_kind(kind, key, before[group], after[group])
    ]


def _of_kind(
    kind: str, key: str, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> Iterator[str]:
    old, new = ({item[key]: item for item in items} for items in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"+ {kind} {name}"
        elif name not in new:
            yield f"- {kind} {name}"
        else:
            for field in new[name]:
                if old[name][field] != new[name][field]:
                    yield f"~ {kind} {name}: {field}: {_change(old[name][field], new[name][field])}"


def _change(old: Any, new: Any) -> str:
    before, after = _codes(old), _codes(new)
    if before is None or after is None:
        return f"{_short(old)} -> {_short(new)}"
    return (
        " ".join(
            [
                *(f"+{item}" for item in after if item not in before),
                *(f"-{item}" for item in before if item not in after),
            ]
        )
        or "order"
    )


def _codes(value: Any) -> list[str] | None:
    """A list of codes; None for anything else."""
    if not isinstance(value, list):
        return None
    codes = [item for item in cast("list[object]", value) if isinstance(item, str)]
    return codes if len(codes) == len(cast("list[object]", value)) else None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
