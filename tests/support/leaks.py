"""Looking for thousands of numbers and names in megabytes of files, all at once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = 3  # bytes by which a place is chosen: as many as one Chinese character takes


def occurring(secrets: Iterable[bytes], content: bytes) -> set[bytes]:
    """Returns the secrets, each of three bytes or more, that stand anywhere in the content."""
    by_head: dict[bytes, set[bytes]] = defaultdict(set)
    for secret in secrets:
        assert len(secret) >= HEAD, secret
        by_head[secret[:HEAD]].add(secret)
    wanted = np.zeros(1 << (8 * HEAD), np.bool_)
    wanted[[int.from_bytes(head, "big") for head in by_head]] = True
    read = np.frombuffer(content, np.uint8).astype(np.uint32)
    heads = read[:-2] << 16 | read[1:-1] << 8 | read[2:]
    found: set[bytes] = set()
    for place in np.flatnonzero(wanted[heads]).tolist():
        alike = by_head[content[place : place + HEAD]]
        found |= {secret for secret in alike - found if content.startswith(secret, place)}
    return found
