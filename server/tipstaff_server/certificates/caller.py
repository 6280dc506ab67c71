"""Who is calling, and what they may call.

Identity comes from the client certificate alone, from the one URI among its subject alternative
names:

    tipstaff://provider/<audience>/<provider>            a provider, and the audience it belongs to
    tipstaff://authority/<authority>                     an authority's case system
    tipstaff://authority/<authority>/officer/<officer>   an officer of it, by staff number
    tipstaff://operator/<name>                           the operator, and who of it

Nothing in a request says who somebody is. MAY_CALL is the whole authorisation table; a method that
is not in it is nobody's. The operator is absent where a call belongs to an audience: it has none,
and no business with a provider's keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tipstaff_server.errors import NotIdentifiedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAY_CALL", "Caller", "Role", "caller_from_uris", "may_call"]

_WORD = r"[a-z0-9][a-z0-9-]{0,39}"
_PROVIDER = re.compile(rf"tipstaff://provider/(?P<audience>{_WORD})/(?P<name>{_WORD})")
_AUTHORITY = re.compile(
    rf"tipstaff://authority/(?P<name>{_WORD})(?:/officer/(?P<officer>{_WORD}))?"
)
_OPERATOR = re.compile(rf"tipstaff://operator/(?P<name>{_WORD})")


class Role(Enum):
    """What somebody is to the server."""

    PROVIDER = "provider"
    AUTHORITY = "authority"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: a role, a name within it, for a provider its audience, for an authority
    perhaps the officer (empty otherwise).
    """

    role: Role
    name: str
    audience: str = ""
    officer: str = ""

    @property
    def uri(self) -> str:
        """The identity as it stands in the certificate."""
        parts = (
            (self.role.value, self.audience, self.name)
            if self.audience
            else (self.role.value, self.name)
        )
        if self.officer:
            parts = (*parts, "officer", self.officer)
        return "tipstaff://" + "/".join(parts)


_P = frozenset({Role.PROVIDER})
_A = frozenset({Role.AUTHORITY, Role.OPERATOR})
_ALL = _P | _A
_O = frozenset({Role.OPERATOR})

MAY_CALL: Mapping[str, frozenset[Role]] = {
    "/tipstaff.v1.DistributionService/GetMetadata": _P,
    "/tipstaff.v1.DistributionService/GetArtefact": _P,
    "/tipstaff.v1.DistributionService/Watch": _P,
    "/tipstaff.v1.DistributionService/Acknowledge": _P,
    "/tipstaff.v1.DistributionService/GetEpochKeys": _P,
    "/tipstaff.v1.DistributionService/FetchBucket": _P,
    "/tipstaff.v1.DistributionService/ListRemedies": _P,
    "/tipstaff.v1.DistributionService/AnswerRemedy": _P,
    "/tipstaff.v1.EnforcementService/SubmitReports": _P,
    "/tipstaff.v1.EnforcementService/SubmitCoverage": _P,
    "/tipstaff.v1.DisputeService/OpenDispute": _ALL,
    "/tipstaff.v1.DisputeService/GetDispute": _A,
    "/tipstaff.v1.DisputeService/FollowDispute": _ALL,
    "/tipstaff.v1.DisputeService/ListDisputes": _A,
    "/tipstaff.v1.DisputeService/AnswerDispute": _A,
    "/tipstaff.v1.RegistryService/SubmitRestrictions": _A,
    "/tipstaff.v1.RegistryService/GetRestriction": _A,
    "/tipstaff.v1.RegistryService/EndRestriction": _A,
    "/tipstaff.v1.RegistryService/GetDraft": _A,
    "/tipstaff.v1.RegistryService/ApproveRestriction": _A,
    "/tipstaff.v1.RegistryService/ApproveRestrictions": _A,
    "/tipstaff.v1.RegistryService/AmendRestriction": _A,
    "/tipstaff.v1.RegistryService/ExemptRestriction": _A,
    "/tipstaff.v1.RegistryService/SearchRestrictions": _A,
    "/tipstaff.v1.RegistryService/GetHistory": _A,
    "/tipstaff.v1.RegistryService/GetSubject": _A,
    "/tipstaff.v1.RegistryService/AddPost": _A,
    "/tipstaff.v1.RegistryService/EndPost": _A,
    "/tipstaff.v1.RegistryService/AmendPost": _A,
    "/tipstaff.v1.RegistryService/MergeSubjects": _O,
    "/tipstaff.v1.RegistryService/SplitSubject": _O,
    "/tipstaff.v1.RegistryService/CorrectSubject": _O,
    "/tipstaff.v1.StatisticsService/GetStatistics": _O,
}


# Whoever has a certificate may ask whether the server serves: load balancers do, with the
# operator's.
HEALTH = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})


def may_call(caller: Caller, method: str) -> bool:
    """Whether the table lets this caller use a method, given by its full name
    ("/package.Service/Method").
    """
    return method in HEALTH or caller.role in MAY_CALL.get(method, frozenset())


def caller_from_uris(uris: Iterable[bytes | str]) -> Caller:
    """The caller that a certificate's URIs name.

    Raises NotIdentifiedError unless exactly one of them is an identity of ours.
    """
    ours = [uri.decode("utf-8", "replace") if isinstance(uri, bytes) else uri for uri in uris]
    ours = [uri for uri in ours if uri.startswith("tipstaff:")]
    if len(ours) != 1:
        raise NotIdentifiedError(
            f"the certificate has {len(ours)} tipstaff:// identities, exactly 1 is needed; have it"
            " issued again"
        )
    return _parse(ours[0])


def _parse(uri: str) -> Caller:
    if match := _PROVIDER.fullmatch(uri):
        return Caller(Role.PROVIDER, match["name"], match["audience"])
    if match := _AUTHORITY.fullmatch(uri):
        return Caller(Role.AUTHORITY, match["name"], officer=match["officer"] or "")
    if match := _OPERATOR.fullmatch(uri):
        return Caller(Role.OPERATOR, match["name"])
    raise NotIdentifiedError(
        "the certificate's identity is none of tipstaff://provider/<audience>/<provider>,"
        " tipstaff://authority/<authority>, tipstaff://authority/<authority>/officer/<officer>,"
        " tipstaff://operator/<name>; have it issued again"
    )
