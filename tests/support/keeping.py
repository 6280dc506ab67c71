"""Registries as older programs left them, and the raw search for what must not be in a database's
files.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import delete, update

from tipstaff_server.audit.log import AuditLog
from tipstaff_server.storage.models import Meta, VaultKeyRow
from tipstaff_server.vault.keys import check_value, registry_id_of
from tipstaff_server.vault.vault import Vault
from tipstaff_server.vault.wrapping import LocalKey, expand

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from tests.support.registry import World

PREFIX_BYTES = 3
CHUNK = 1 << 22


def make_bare(world: World) -> Vault:
    """Makes an empty registry one of before there were wrapped keys, whose keys come from its root
    key; its vault.
    """
    key = LocalKey.from_file(world.folder / "registry.key")
    with world.database.write() as session:
        session.execute(delete(VaultKeyRow))
        check = check_value(expand(key.root, b"index", 32), registry_id_of(session))
        session.execute(update(Meta).where(Meta.name == "vault.check").values(value=check))
    return Vault.open(world.folder / "registry.key")


def write_reasons_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes reasons into the log itself from now on, encrypted, as older programs did."""

    def reason(log: AuditLog, text: str) -> bytes:
        return log._vault.encrypt_text("audit_log.reason", log._sequence.to_bytes(8, "big"), text)

    monkeypatch.setattr(AuditLog, "_reason", reason)


def spellings(text: str) -> set[bytes]:
    """How a text might stand in a file: as it is, in other encodings, in hexadecimal digits, in the
    middle of base64.
    """
    plain = {text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "gb18030")}
    utf8 = text.encode()
    found = plain | {utf8.hex().encode(), utf8.hex().upper().encode()}
    for shift in range(3):
        # Only characters of base64 that depend on nothing but the text.
        whole = base64.b64encode(bytes(shift) + utf8).rstrip(b"=")
        start = -(-shift * 8 // 6)
        found.add(whole[start : (shift + len(utf8)) * 8 // 6])
    return {item for item in found if len(item) >= 2 * PREFIX_BYTES}


class Search:
    """Looks for many texts at once, in any spelling: one pass over the content, however many they
    are.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._meaning = {spelling: text for text in texts for spelling in spellings(text)}
        # By the first three bytes, which a table of bits finds in bulk; then by whole spellings of
        # each length.
        self._lengths: dict[bytes, set[int]] = {}
        self._wanted = np.zeros(1 << 24, bool)
        for spelling in self._meaning:
            self._lengths.setdefault(spelling[:PREFIX_BYTES], set()).add(len(spelling))
        for prefix in self._lengths:
            self._wanted[int.from_bytes(prefix, "big")] = True

    def __call__(self, content: bytes) -> set[str]:
        """Returns the texts that stand anywhere in the content."""
        raw, found = np.frombuffer(content, np.uint8), set[str]()
        for begin in range(0, max(0, len(raw) - PREFIX_BYTES + 1), CHUNK):
            part = raw[begin : begin + CHUNK + PREFIX_BYTES - 1].astype(np.uint32)
            windows = part[:-2] << 16 | part[1:-1] << 8 | part[2:]
            for position in (np.flatnonzero(self._wanted[windows]) + begin).tolist():
                for length in self._lengths[content[position : position + PREFIX_BYTES]]:
                    if (
                        text := self._meaning.get(content[position : position + length])
                    ) is not None:
                        found.add(text)
        return found
