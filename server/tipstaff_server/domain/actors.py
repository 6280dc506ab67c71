"""Who acts on the registry.

Comes from the certificate, the command line or the scheduler, never from a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tipstaff_server.errors import PermissionDeniedError

__all__ = ["DECIDERS", "SYSTEM", "Actor", "ActorKind", "require"]


class ActorKind(StrEnum):
    """What somebody is to the registry."""

    AUTHORITY = "authority"
    PROVIDER = "provider"
    OPERATOR = "operator"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """A kind, an id within it, for a provider its audience, for an authority perhaps the officer.

    As text, and in the audit log: `authority:court`, `authority:court/clerk-7`.
    """

    kind: ActorKind
    id: str
    audience: str = ""
    officer: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}/{self.officer}" if self.officer else f"{self.kind}:{self.id}"

    @property
    def is_person(self) -> bool:
        """Whether it is known who of the authority or the operator acts: an authority's case system
        is nobody in particular.
        """
        return self.kind is ActorKind.OPERATOR or bool(self.officer)

    @classmethod
    def authority(cls, authority_id: str, officer: str = "") -> Actor:
        """An authority, and who of it if that is known: acts on its own restrictions only."""
        return cls(ActorKind.AUTHORITY, authority_id, officer=officer)

    @classmethod
    def provider(cls, provider_id: str, audience: str) -> Actor:
        """A provider: knows of the restrictions of its audience only."""
        return cls(ActorKind.PROVIDER, provider_id, audience)

    @classmethod
    def operator(cls, name: str) -> Actor:
        """The operator: may act for any authority."""
        return cls(ActorKind.OPERATOR, name)


DECIDERS = frozenset({ActorKind.AUTHORITY, ActorKind.OPERATOR})
"""Who decides about restrictions and subjects."""

SYSTEM = Actor(ActorKind.SYSTEM, "clock")
"""What happens by itself when its time has come."""


def require(actor: Actor, kinds: frozenset[ActorKind], refusal: str) -> None:
    """Lets only some kinds of actors pass.

    Raises:
        PermissionDeniedError: another kind; `refusal` says who may.
    """
    if actor.kind not in kinds:
        raise PermissionDeniedError(refusal)
