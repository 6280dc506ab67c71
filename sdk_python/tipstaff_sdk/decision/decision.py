"""What a check returns: the decision and its words.

A decision is two things: a `Finding`, which every clear answer of one measure and one version of
the data shares, and the moment. So the usual answer costs one small object, and its random id is
drawn only when somebody asks for it.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from tipstaff_sdk.enums import Word
from tipstaff_sdk.listing.catalogue import Force, Measure, Nature
from tipstaff_sdk.listing.records import Exemption, Restriction
from tipstaff_sdk.texts import Bilingual, text

__all__ = ["Decision", "Finding", "Outcome", "Reason", "Verdict"]

_ID_SIZE: Final = 16
_BEIJING: Final = timezone(timedelta(hours=8))


class Verdict(Word):
    """What a check returned; values as in tipstaff.v1.Verdict."""

    CLEAR = 1
    RESTRICTED = 2
    REVIEW = 3
    UNKNOWN = 4


class Reason(Word):
    """Why a check returned it; values as in tipstaff.v1.Reason. Each belongs to one verdict."""

    NO_DATA = 1
    EXPIRED = 2
    NOT_LISTED = 3
    FALSE_POSITIVE = 4
    UNCONFIRMED = 5
    NAME_MISMATCH = 6
    NOT_COVERED = 7
    NOT_YET_EFFECTIVE = 8
    LAPSED = 9
    EXEMPT = 10
    LIFTED = 11
    STALE_RELIEF = 12
    IN_FORCE = 13

    @property
    def verdict(self) -> Verdict:
        """The verdict that this is a reason for."""
        return _VERDICTS.get(self, Verdict.CLEAR)


_VERDICTS: Final = {
    Reason.NO_DATA: Verdict.UNKNOWN,
    Reason.EXPIRED: Verdict.UNKNOWN,
    Reason.UNCONFIRMED: Verdict.REVIEW,
    Reason.NAME_MISMATCH: Verdict.REVIEW,
    Reason.STALE_RELIEF: Verdict.REVIEW,
    Reason.IN_FORCE: Verdict.RESTRICTED,
}


class Outcome(Word):
    """What the provider did; values as in tipstaff.v1.Outcome."""

    DENIED = 1
    DOWNGRADED = 2
    SURCHARGED = 3
    EXEMPTED = 4
    OVERRIDDEN = 5
    REVIEWED_AND_CLEARED = 6
    REVIEWED_AND_DENIED = 7
    WITHDRAWN = 8
    NOTED = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, apart from when: fields as in `Decision`.

    entry: the measure's in the catalogue, None when nothing is known of it.
    """

    reason: Reason
    measure: str
    entry: Measure | None = None
    as_of: datetime | None = None
    listing_version: int = 0
    relief_sequence: int = 0
    restrictions: tuple[Restriction, ...] = ()
    exemptions: tuple[Exemption, ...] = ()


class Decision:
    """The answer to one check.

    Immutable; holds and shows neither identifier nor name of the person.

    verdict, reason      what, and why
    decision_id          16 random bytes, for reports and disputes
    decided_at           the moment that the check was made for, aware UTC
    measure              the code that was asked for
    force, nature        of the measure, from the catalogue; None when nothing is known of it
    restrictions         those in force that cover this use, with RESTRICTED and with
                         REVIEW for stale relief; otherwise empty
    exemptions           those that permit this use, with EXEMPT; otherwise empty
    still_allowed        what the measure leaves allowed, or None
    as_of                when the listing was built: what was entered later is not known
                         here; None without a listing
    listing_version, relief_sequence     the data used; 0 without a listing
    """

    __slots__ = ("_decided_at", "_finding", "_id", "reason", "verdict")

    # Plain slots, because counting checks reads them every time.
    verdict: Verdict
    reason: Reason

    def __init__(
        self,
        finding: Finding,
        decided_at: datetime,
        verdict: Verdict,
        decision_id: bytes | None = None,
    ) -> None:
        """Made by `decide`."""
        self._finding = finding
        self._decided_at = decided_at
        self._id = decision_id
        self.verdict = verdict
        self.reason = finding.reason

    @property
    def decision_id(self) -> bytes:
        """16 random bytes, the same at each call."""
        if self._id is None:
            with _ids.lock:
                if self._id is None:
                    self._id = os.urandom(_ID_SIZE)
        return self._id

    @property
    def decided_at(self) -> datetime:
        """The moment that the check was made for, aware UTC."""
        return self._decided_at

    @property
    def measure(self) -> str:
        """The code that was asked for."""
        return self._finding.measure

    @property
    def force(self) -> Force | None:
        """Whether the provider must or may act."""
        return self._finding.entry.force if self._finding.entry else None

    @property
    def nature(self) -> Nature | None:
        """Whether the measure takes away or grants."""
        return self._finding.entry.nature if self._finding.entry else None

    @property
    def restrictions(self) -> tuple[Restriction, ...]:
        """Restrictions in force that cover this use."""
        return self._finding.restrictions

    @property
    def exemptions(self) -> tuple[Exemption, ...]:
        """Exemptions that permit this use."""
        return self._finding.exemptions

    @property
    def still_allowed(self) -> Bilingual | None:
        """What the measure leaves allowed."""
        return self._finding.entry.still_allowed if self._finding.entry else None

    @property
    def as_of(self) -> datetime | None:
        """When the listing was built, aware UTC."""
        return self._finding.as_of

    @property
    def listing_version(self) -> int:
        """Version of the listing used."""
        return self._finding.listing_version

    @property
    def relief_sequence(self) -> int:
        """Last relief sequence used."""
        return self._finding.relief_sequence

    def explain(self, lang: str = "zh") -> str:
        """The decision in words for the person at the counter, some lines in 'zh' or 'en'.

        Says the verdict, why, and for what is in force: authority, legal basis, case number, term,
        what stays allowed, how to dispute. Raises ConfigurationError for another language.
        """
        return "\n".join(_lines(self, self._finding, lang))

    def __repr__(self) -> str:
        return f"Decision({self.verdict.name}, {self.reason.name}, measure={self.measure!r})"

    def __reduce__(self) -> "tuple[type[Decision], tuple[Finding, datetime, Verdict, bytes]]":
        return Decision, (self._finding, self._decided_at, self.verdict, self.decision_id)


class _Ids:
    """Guards the drawing of ids; a forked child gets a lock of its own, because nobody there would
    open an inherited one.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.Lock()


_ids: Final = _Ids()


def _lines(decision: Decision, finding: Finding, lang: str) -> Iterator[str]:
    verdict, reason = _words(decision, finding)
    measure = (
        f"{finding.entry.title.get(lang)} ({finding.measure})" if finding.entry else finding.measure
    )
    yield text("decision.headline", lang, verdict=text(verdict, lang), measure=measure)
    yield text(reason, lang)
    if decision.verdict is Verdict.RESTRICTED and decision.force is not None:
        yield text(f"decision.{decision.force.name.lower()}", lang)
    for restriction in finding.restrictions:
        yield from _restriction_lines(restriction, lang)
    for exemption in finding.exemptions:
        yield text(
            "decision.exemption",
            lang,
            reason=exemption.reason.get(lang),
            end=_moment(exemption.valid_until),
        )
    if finding.restrictions and decision.still_allowed is not None:
        yield text("decision.still_allowed", lang, still_allowed=decision.still_allowed.get(lang))
    if finding.as_of is not None:
        yield text("decision.as_of", lang, as_of=_moment(finding.as_of))


def _words(decision: Decision, finding: Finding) -> tuple[str, str]:
    """Keys of the headline's word and of the reason: an incentive is no restriction, and a
    recommended measure is advice.
    """
    if decision.verdict is Verdict.RESTRICTED and decision.nature is Nature.INCENTIVE:
        return "verdict.GRANTED", "reason.GRANTED"
    if decision.verdict is Verdict.RESTRICTED and decision.force is Force.RECOMMENDED:
        return "verdict.ADVISED", f"reason.{finding.reason.name}"
    return f"verdict.{decision.verdict.name}", f"reason.{finding.reason.name}"


def _restriction_lines(restriction: Restriction, lang: str) -> Iterator[str]:
    yield text("decision.authority", lang, authority=restriction.authority_name.get(lang))
    yield text("decision.legal_basis", lang, legal_basis=restriction.legal_basis)
    yield text("decision.case_number", lang, case_number=restriction.case_number)
    yield text(
        "decision.term",
        lang,
        start=_moment(restriction.effective_at),
        end=_moment(restriction.expires_at),
    )
    if restriction.capacity is not None:
        yield text(
            "decision.capacity", lang, capacity=text(f"capacity.{restriction.capacity.name}", lang)
        )
    yield text("decision.dispute", lang, dispute=restriction.dispute.get(lang))
    if restriction.dispute_suspends:
        yield text("decision.dispute_suspends", lang)


def _moment(moment: datetime) -> str:
    """As people there read it: the minute, in the one time zone of the country whose authorities
    set the terms.
    """
    return moment.astimezone(_BEIJING).strftime("%Y-%m-%d %H:%M")
