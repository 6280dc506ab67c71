"""Making checkpoints of the audit log, keeping them in the database and in a folder, and reading
them back.

    checkpoints/000000001284.note      one file for each; never overwritten

Copy them to somebody who cannot write the database.

The key is `audit` in the key folder (or in a module that keys.toml names). Replaced ones stay in
`retired/`, to verify what they signed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Self

from sqlalchemy import select

from tipstaff_server.audit.checkpoints import (
    MAX_BYTES,
    Checkpoint,
    key_line,
    open_note,
    origin_of,
    sign,
)
from tipstaff_server.errors import CheckpointError
from tipstaff_server.storage.models import HEAD, AuditCheckpointRow, AuditHeadRow
from tipstaff_server.vault.keys import registry_id_of
from tipstaff_server.vault.lock import lock_head
from tipstaff_signing.files import read_capped, storage_errors, write_atomic
from tipstaff_signing.keys.files import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tipstaff_server.config import AuditSection, Config
    from tipstaff_server.vault.store import Store
    from tipstaff_signing.tuf_names import Key

__all__ = ["KEY", "Checkpointer"]

KEY = "audit"
SUFFIX = ".note"


class Checkpointer:
    """The checkpoints of one registry.

    Safe with several replicas: each entry gets one at most, and each folder gets all.
    """

    def __init__(self, store: Store, keys: Path, folder: Path) -> None:
        self._store = store
        self._keys = keys
        self.folder = folder

    @classmethod
    def configured(cls, config: Config, store: Store) -> Self:
        """Those of the configured registry."""
        folder = config.path(config.audit.checkpoint_folder)
        return cls(store, config.path(config.repository.keys), folder)

    def can_sign(self) -> bool:
        """Says whether the signing key can be used from here."""
        return self._keys.is_dir() and KEY in KeyFolder(self._keys).names()

    def make(self) -> Checkpoint | None:
        """Signs the log as it is.

        Returns:
            The checkpoint; None: the log's last entry has one already.

        Raises:
            KeyFileError: the key cannot be used from here.
            StorageError: the folder cannot be written.
        """
        with self._store.read() as session:
            origin = origin_of(registry_id_of(session))
            head = session.execute(
                select(AuditHeadRow.sequence, AuditHeadRow.digest).where(AuditHeadRow.id == HEAD)
            ).one()
            known = not head.sequence or session.get(AuditCheckpointRow, head.sequence) is not None
        made = None
        if not known:
            made = Checkpoint(
                origin, head.sequence, head.digest, self._store.clock().replace(microsecond=0)
            )
            note = sign(made, KeyFolder.load(self._keys).signer(KEY))
            with self._store.write() as session:
                lock_head(session, self._store.vault)
                if session.get(AuditCheckpointRow, made.sequence) is None:
                    session.add(AuditCheckpointRow(sequence=made.sequence, at=made.at, note=note))
        self.write_out()
        return made

    def make_due(self, rules: AuditSection) -> Checkpoint | None:
        """Signs when there are entries enough, or the last checkpoint is old enough and anything
        was done since.
        """
        with self._store.read() as session:
            head = session.execute(
                select(AuditHeadRow.sequence).where(AuditHeadRow.id == HEAD)
            ).scalar_one()
            last = session.scalar(
                select(AuditCheckpointRow).order_by(AuditCheckpointRow.sequence.desc()).limit(1)
            )
        new = head - (last.sequence if last else 0)
        old = last is None or self._store.clock() - last.at >= timedelta(
            seconds=rules.checkpoint_seconds
        )
        return self.make() if new >= rules.checkpoint_entries or (new > 0 and old) else None

    def write_out(self) -> int:
        """Writes the checkpoints that the folder lacks, and gives how many.

        What is there stays as it is.

        Raises:
            StorageError: the folder cannot be written.
        """
        with self._store.read() as session:
            rows = session.execute(
                select(AuditCheckpointRow.sequence, AuditCheckpointRow.note)
            ).all()
        with storage_errors(f"writing checkpoints to {self.folder}"):
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            there = {path.name for path in self.folder.glob(f"*{SUFFIX}")}
            missing = [row for row in rows if _name(row.sequence) not in there]
            for row in missing:
                write_atomic(self.folder / _name(row.sequence), row.note.encode())
        return len(missing)

    def read(self, folders: Sequence[Path], keys: Sequence[Key]) -> list[Checkpoint]:
        """The checkpoints of the database and of some folders, each signature verified.

        Raises CheckpointError at the first bad one.
        """
        with self._store.read() as session:
            origin = origin_of(registry_id_of(session))
            notes = [
                note.encode()
                for note in session.scalars(
                    select(AuditCheckpointRow.note).order_by(AuditCheckpointRow.sequence)
                )
            ]
        for folder in folders:
            files = sorted(folder.glob(f"*{SUFFIX}"))
            if not files:
                raise CheckpointError(
                    0,
                    f"there are no checkpoints (*{SUFFIX}) in {folder}; give the folder that holds"
                    " them",
                )
            with storage_errors(f"reading checkpoints in {folder}"):
                notes += [read_capped(file, MAX_BYTES) for file in files]
        return [open_note(note, origin, keys) for note in notes]

    def known_keys(self) -> list[Key]:
        """The public keys here that may have signed checkpoints: the one in use, and those it
        replaced.
        """
        public_keys: list[Key] = []
        if self._keys.is_dir() and KEY in KeyFolder(self._keys).public_names():
            public_keys.append(KeyFolder(self._keys).public(KEY))
        retired = KeyFolder(self._keys / "retired")
        return public_keys + [
            retired.public(name) for name in retired.public_names() if name.startswith(f"{KEY}-")
        ]

    def key_line(self) -> str:
        """The verifier key of the key in use, for others' programs. Raises KeyFileError."""
        with self._store.read() as session:
            origin = origin_of(registry_id_of(session))
        return key_line(origin, KeyFolder.load(self._keys).public(KEY))


def _name(sequence: int) -> str:
    return f"{sequence:012}{SUFFIX}"
