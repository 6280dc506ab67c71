"""How much one caller may ask for: token buckets for calls, artefact bytes and wrong case numbers,
and a cap on open watches.

A bucket holds at most `burst` tokens and gains `rate` a second. Whoever finds something in it may
take what it needs, into debt if need be: a listing larger than a bucket can still be had, and the
debt is waited off before the next one. Whoever finds nothing is told how long to wait. Everything
here runs on the event loop, so there are no locks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tipstaff_server.errors import CallLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tipstaff_server.certificates.caller import Caller
    from tipstaff_server.config import LimitsSection

__all__ = ["Buckets", "CallerLimits"]

# Callers are known by certificate, so there are not many; full buckets are forgotten beyond this
# number.
MAX_BUCKETS = 10_000


class Buckets:
    """A bucket for each key."""

    def __init__(
        self, rate: float, burst: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: str, amount: float) -> float:
        """Takes `amount` and returns 0, or takes nothing and returns how many seconds to wait."""
        level, now = self._level(key)
        if level <= 0:
            return (1 - level) / self._rate
        self._set(key, level - amount, now)
        return 0.0

    def give_back(self, key: str, amount: float) -> None:
        """Returns what was taken and not used."""
        level, now = self._level(key)
        self._set(key, min(self._burst, level + amount), now)

    def _level(self, key: str) -> tuple[float, float]:
        now = self._monotonic()
        level, at = self._levels.get(key, (self._burst, now))
        return min(self._burst, level + (now - at) * self._rate), now

    def _set(self, key: str, level: float, now: float) -> None:
        if len(self._levels) >= MAX_BUCKETS and key not in self._levels:
            self._levels = {
                name: kept
                for name, kept in self._levels.items()
                if self._level(name)[0] < self._burst
            }
        self._levels[key] = (level, now)


class CallerLimits:
    """The limits of the configuration, for each caller by itself."""

    def __init__(
        self, limits: LimitsSection, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._calls = Buckets(limits.calls_per_second, limits.calls_burst, monotonic=monotonic)
        self._bytes = Buckets(
            limits.artefact_bytes_per_second, limits.artefact_burst_bytes, monotonic=monotonic
        )

        tries = limits.unknown_case_numbers_per_hour
        self._case_numbers = Buckets(tries / 3_600, tries, monotonic=monotonic)

    @property
    def watches(self) -> int:
        """How many watches a caller may have open."""
        return self._limits.watches

    def call(self, caller: Caller) -> None:
        """Counts a call. Raises CallLimitError."""
        if wait := self._calls.take(caller.uri, 1):
            raise CallLimitError(
                f"too many calls: {self._limits.calls_per_second:g} a second are allowed", wait
            )

    def artefact(self, caller: Caller, size: int) -> None:
        """Counts `size` bytes of an artefact before they are sent. Raises CallLimitError."""
        if wait := self._bytes.take(caller.uri, size):
            rate = self._limits.artefact_bytes_per_second / (1 << 20)
            raise CallLimitError(
                f"too many downloads: {rate:.3g} MiB a second are allowed in the long run", wait
            )

    def case_number(self, caller: Caller) -> None:
        """Counts a dispute's number before it is looked up, as if it did not exist.

        Raises CallLimitError.
        """
        if wait := self._case_numbers.take(caller.uri, 1):
            allowed = self._limits.unknown_case_numbers_per_hour
            raise CallLimitError(
                f"too many case numbers that do not exist: {allowed} an hour are allowed; read the"
                " number again",
                wait,
            )

    def case_number_known(self, caller: Caller) -> None:
        """Takes that back: it existed."""
        self._case_numbers.give_back(caller.uri, 1)

    def not_sent(self, caller: Caller, size: int) -> None:
        """Gives back what a download did not send after all."""
        self._bytes.give_back(caller.uri, size)
