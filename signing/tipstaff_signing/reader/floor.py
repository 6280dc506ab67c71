"""What was seen before, kept apart from the cache: wiping the cache, or setting the clock back,
must not reopen a rollback.

    <state>/floor.json
    {"format": 1, "view": "aviation", "newest": "2026-07-01T08:00:00Z",
     "keys": {"timestamp": "<sha256>", "snapshot": "<sha256>"},
     "accepted": {"root": 1, "timestamp": 95, "snapshot": 95, "targets": 1, "listing-aviation": 7, ...},
     "seen": {"timestamp": 96}}

- `accepted` are the versions that were in force; state on disk must not be below them, nor anything
  fetched.
- `seen` are versions of a timestamp or snapshot that verified although the update then failed;
  nothing fetched may be below them.
- `newest` is the latest time of signing among what was believed; the clock must not be earlier,
  less a tolerance of minutes.
- `keys` names the root's keys for these roles. When the root changes the timestamp's keys, its
  floor is dropped; when it changes the snapshot's, those of the snapshot and all that it names
  (specification 5.3.11: recovery from a thief who ran the numbers up).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from tipstaff_signing.errors import ClockError, RollbackError, StateCorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tipstaff_signing.chain import Chain
    from tipstaff_signing.tuf_names import Root

__all__ = ["Floor"]

_FORMAT = 1
TableT = TypeVar("TableT", int, str)
_KEYED = ("timestamp", "snapshot")


@dataclass(frozen=True, slots=True)
class Floor:
    """See the module. An empty one lets everything pass."""

    accepted: Mapping[str, int] = field(default_factory=dict[str, int])
    seen: Mapping[str, int] = field(default_factory=dict[str, int])
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    newest: datetime | None = None

    def check_clock(
        self, now: datetime, tolerance: timedelta, newest: datetime | None = None
    ) -> None:
        """Raises ClockError when `now` is before the latest signing seen, or before `newest`, less
        the tolerance.
        """
        latest = max((time for time in (self.newest, newest) if time is not None), default=None)
        if latest is not None and now < latest - tolerance:
            raise ClockError(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but data was signed at"
                f" {latest:%Y-%m-%d %H:%M} UTC: set the clock (NTP); until then nobody can say what"
                " has expired"
            )

    def check_state(self, chain: Chain) -> None:
        """Raises RollbackError when state on disk is below what was in force.

        A newer root than its own may be known meanwhile.
        """
        self._check(chain, {**self.applicable(chain.root).accepted, "root": 0})

    def check_update(self, chain: Chain) -> None:
        """Raises RollbackError when something fetched is below what was in force or seen."""
        floor = self.applicable(chain.root)
        self._check(chain, _higher(floor.accepted, floor.seen))

    def applicable(self, root: Root) -> Floor:
        """This floor without what a change of keys in `root` recovers from.

        A root older than the newest seen changes nothing.
        """
        if self._knows_newer(root):
            return self
        dropped: set[str] = set()
        for role in _KEYED:
            if role in self.keys and self.keys[role] != _keys_of(root, role):
                dropped.add(role)
        if "snapshot" in dropped:
            dropped |= {
                name for name in {**self.accepted, **self.seen} if name not in {"root", "timestamp"}
            }
        return replace(
            self,
            accepted={
                name: version for name, version in self.accepted.items() if name not in dropped
            },
            seen={name: version for name, version in self.seen.items() if name not in dropped},
        )

    def raised(self, chain: Chain) -> Floor:
        """The floor after `chain` came into force."""
        if self._knows_newer(chain.root):
            return self
        floor = self.applicable(chain.root)
        return replace(self._met(floor, chain), accepted=_higher(floor.accepted, _versions(chain)))

    def warned(self, prefix: Chain) -> Floor:
        """The floor after an update failed that proved `prefix`.

        The root counts as accepted: it stays in force.
        """
        if self._knows_newer(prefix.root):
            return self
        floor = self.applicable(prefix.root)
        versions = _versions(prefix)
        root = {"root": versions.pop("root")}
        return replace(
            self._met(floor, prefix),
            accepted=_higher(floor.accepted, root),
            seen=_higher(floor.seen, versions),
        )

    def to_bytes(self, view: str) -> bytes:
        """The file."""
        newest = self.newest.strftime("%Y-%m-%dT%H:%M:%SZ") if self.newest else None
        content = {
            "format": _FORMAT, "view": view, "newest": newest, "keys": self.keys, "accepted": self.accepted, "seen": self.seen,
        }  # fmt: skip
        return json.dumps(content, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Floor, str]:
        """The floor in a file, and its view.

        Raises:
            StateCorruptError: it is damaged.
        """
        try:
            content = cast("dict[str, object]", json.loads(data))
            newest = content["newest"]
            view = {_FORMAT: content["view"]}[cast("int", content["format"])]
            floor = cls(
                accepted=_table(content["accepted"], int),
                seen=_table(content["seen"], int),
                keys=_table(content["keys"], str),
                newest=(
                    datetime.strptime(str(newest), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
                    if newest is not None
                    else None
                ),
            )
            return floor, str(view)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StateCorruptError(
                "floor.json is damaged, so old data could not be told from new: restore it from a"
                " backup, or, if you trust the server and the network now, delete it and refresh"
            ) from error

    def _knows_newer(self, root: Root) -> bool:
        return root.version < self.accepted.get("root", 0)

    @staticmethod
    def _check(chain: Chain, lowest: Mapping[str, int]) -> None:
        for name, signed in chain.signed().items():
            if signed.version < lowest.get(name, 0):
                raise RollbackError(
                    f"{name} has version {signed.version}, but {lowest[name]} was seen before: the"
                    " source is behind, or replays old data"
                )

    def _met(self, floor: Floor, chain: Chain) -> Floor:
        newest = chain.newest_signing()
        return replace(
            floor,
            keys={**floor.keys, **{role: _keys_of(chain.root, role) for role in _KEYED}},
            newest=max(newest, self.newest) if self.newest else newest,
        )


def _versions(chain: Chain) -> dict[str, int]:
    return {name: signed.version for name, signed in chain.signed().items()}


def _higher(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: max(first.get(name, 0), second.get(name, 0)) for name in {**first, **second}}


def _keys_of(root: Root, role: str) -> str:
    named = root.get_delegated_role(role)
    values = sorted(
        json.dumps(root.get_key(keyid).keyval, sort_keys=True)
        for keyid in named.keyids
        if keyid in root.keys
    )
    return hashlib.sha256(json.dumps([named.threshold, values]).encode()).hexdigest()


def _table(value: object, kind: type[TableT]) -> dict[str, TableT]:
    table = cast("dict[str, object]", value)
    checked = {name: item for name, item in table.items() if type(item) is kind}
    if len(checked) != len(table):
        raise ValueError("an entry is of another type")
    return checked
