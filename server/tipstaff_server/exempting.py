"""Why something is permitted inside a restriction: two texts for the counter, encrypted, because
people write what happened to whom.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tipstaff_server.storage.models import ExemptionRow
    from tipstaff_server.vault.vault import Vault

__all__ = ["COLUMN", "read", "seal"]

COLUMN = "exemptions.reason"


def seal(vault: Vault, exemption: bytes, why: tuple[str, str]) -> bytes:
    """Both texts, Chinese and English, as they are stored."""
    return vault.encrypt_text(
        COLUMN, exemption, json.dumps(why, ensure_ascii=False, separators=(",", ":"))
    )


def read(vault: Vault, row: ExemptionRow) -> tuple[str, str]:
    """Both texts, Chinese and English. Raises VaultDataError."""
    if row.reason is None:
        return row.reason_zh, row.reason_en
    zh, en = json.loads(vault.decrypt_text(COLUMN, row.id, row.reason))
    return zh, en
