"""The store: what everything that keeps data is handed.

Database, vault and clock go together: whoever writes a row encrypts some of its columns, and says
when. Acts, which also leave entries in the audit log, are in `audit/act.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.clock import utc_now

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

    from tipstaff_server.clock import Clock
    from tipstaff_server.storage.database import Database
    from tipstaff_server.vault.vault import Vault

__all__ = ["Store"]


@dataclass(slots=True)
class Store:
    """The database, the vault that encrypts some of its columns, and the clock."""

    database: Database
    vault: Vault
    clock: Clock = utc_now

    def read(self) -> AbstractContextManager[Session]:
        """A session that sees one state and writes nothing; see `Database.read`."""
        return self.database.read()

    def write(self) -> AbstractContextManager[Session]:
        """A session that commits when the block ends; see `Database.write`."""
        return self.database.write()
