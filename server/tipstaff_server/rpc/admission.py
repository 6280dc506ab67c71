"""Who gets in, on every call:

1. the connection is TLS 1.3, with a certificate that names one caller (certificates/peer.py,
   certificates/caller.py);
2. the certificate is neither revoked nor past its end: the handshake saw it once, the connection
   may be older (certificates/revocation.py);
3. the table lets the caller's role use the method (certificates/caller.py);
4. a provider is one that the registry knows, in the audience that its certificate names;
5. the caller has not asked too often (limits.py).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tipstaff_server.certificates.caller import Role, may_call
from tipstaff_server.certificates.peer import peer_of
from tipstaff_server.clock import utc_now
from tipstaff_server.errors import (
    CertificateRefusedError,
    PermissionDeniedError,
    StorageError,
    StreamEnd,
)
from tipstaff_server.logs import log_warning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from tipstaff_server.certificates.caller import Caller
    from tipstaff_server.certificates.peer import Peer
    from tipstaff_server.certificates.revocation import Revocations
    from tipstaff_server.clock import Clock
    from tipstaff_server.rpc.limits import CallerLimits

__all__ = ["Admission", "KnownProviders"]


class KnownProviders:
    """Which providers the registry knows, and in which audience; read again at most every few
    seconds.

    While the registry cannot be read, what was read last holds: calls that need no registry go on.
    """

    def __init__(
        self,
        load: Callable[[], Awaitable[Mapping[str, str]]],
        *,
        fresh_seconds: float = 5.0,
        again_seconds: float = 0.2,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._fresh_seconds = fresh_seconds
        self._again_seconds = again_seconds
        self._monotonic = monotonic
        self._known: Mapping[str, str] | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def audience(self, provider: str) -> str | None:
        """A provider's audience; None when the registry does not know it.

        Raises StorageError when it was never read.
        """
        if self._known is None or self._older_than(
            self._fresh_seconds if provider in self._known else self._again_seconds
        ):
            async with self._reading:
                # Whoever waited for somebody else's reading has its result.
                if self._known is None or self._older_than(self._again_seconds):
                    await self._read()
        return (self._known or {}).get(provider)

    async def refresh(self) -> None:
        """Reads again what is older than a few seconds.

        Raises StorageError when it was never read.
        """
        if self._older_than(self._fresh_seconds):
            async with self._reading:
                if self._older_than(self._fresh_seconds):
                    await self._read()

    def lost(self, caller: Caller) -> bool:
        """Whether a provider was removed, or moved to another audience than its certificate names,
        as of the last reading.
        """
        return (
            self._known is not None
            and caller.role is Role.PROVIDER
            and self._known.get(caller.name) != caller.audience
        )

    async def _read(self) -> None:
        try:
            self._known = await self._load()
        except StorageError:
            if self._known is None:
                raise
            log_warning("providers_not_read")
        self._read_at = self._monotonic()

    def _older_than(self, seconds: float) -> bool:
        return self._monotonic() - self._read_at > seconds


class Admission:
    """The five steps. What is left out is not checked; the server leaves nothing out."""

    def __init__(
        self,
        *,
        revocations: Revocations | None = None,
        providers: KnownProviders | None = None,
        limits: CallerLimits | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._revocations = revocations
        self._providers = providers
        self._limits = limits
        self._clock = clock

    @property
    def most_streams(self) -> int:
        """How many streams of one kind a caller may have open."""
        return 1 << 30 if self._limits is None else self._limits.watches

    async def admit(self, auth_context: Mapping[str, Iterable[bytes]], method: str) -> Peer:
        """Lets a call in.

        Raises NotIdentifiedError, CertificateRefusedError, PermissionDeniedError, CallLimitError,
        StorageError.
        """
        peer = peer_of(auth_context)
        if (reason := self.turned(peer)) is not None:
            raise CertificateRefusedError(
                "this certificate is revoked; ask the operator for a new one"
                if reason is StreamEnd.REVOKED
                else "this certificate has run out; ask the operator for a new one"
            )
        caller = peer.caller
        if not may_call(caller, method):
            raise PermissionDeniedError(
                f"{caller.role.value}s may not use {method.rpartition('/')[2]}; use a certificate"
                " of another role"
            )
        if caller.role is Role.PROVIDER and self._providers is not None:
            await _same_audience(self._providers, caller)
        if self._limits is not None:
            self._limits.call(caller)
        return peer

    async def refresh(self) -> None:
        """Brings up to date what is known of providers.

        Raises StorageError when it was never read.
        """
        if self._providers is not None:
            await self._providers.refresh()

    def over(self, peer: Peer) -> StreamEnd | None:
        """Why a peer's streams end; None while they go on."""
        lost = self._providers is not None and self._providers.lost(peer.caller)
        return self.turned(peer) or (StreamEnd.REMOVED if lost else None)

    def turned(self, peer: Peer) -> StreamEnd | None:
        """Why a certificate that was good at the handshake no longer is; None while it is good."""
        if self._revocations is not None and self._revocations.revoked(peer):
            return StreamEnd.REVOKED
        return StreamEnd.EXPIRED if peer.not_after < self._clock() else None


async def _same_audience(providers: KnownProviders, caller: Caller) -> None:
    audience = await providers.audience(caller.name)
    if audience is None:
        raise PermissionDeniedError(
            f"the registry does not know provider {caller.name!r}; the operator adds it with"
            " `provider add`"
        )
    if audience != caller.audience:
        # Which audience the registry has is not for somebody whose certificate says otherwise.
        raise PermissionDeniedError(
            f"the certificate names audience {caller.audience!r}, the registry has provider"
            f" {caller.name!r} in another; have it reissued"
        )
