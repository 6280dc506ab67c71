"""The decision: what is believed about one person and one use, now.

No I/O; everything that it looks at is in `DecisionState`.

1.  Canonicalise identifier and name; a bad one raises.
2.  Is the measure one this audience enforces? If not, raise. The service has to be described as the
    measure asks, whoever it is for.
3.  No verified listing, no key for its epoch, or an expired one: UNKNOWN (NO_DATA, EXPIRED).
4.  Token not in the filter: CLEAR (NOT_LISTED).
5.  No record at the locator: CLEAR (FALSE_POSITIVE); record unobtainable: REVIEW (UNCONFIRMED).
6.  Locator found, name does not open it: REVIEW (NAME_MISMATCH); what it opens cannot be read:
    REVIEW (UNCONFIRMED).
7.  No restriction in it covers this measure and service now: CLEAR (NOT_COVERED, NOT_YET_EFFECTIVE,
    LAPSED).
8.  An exemption covers this use: CLEAR (EXEMPT).
9.  Relief lifts every covering restriction: CLEAR (LIFTED).
10. Relief stale or with gaps: REVIEW (STALE_RELIEF).
11. Otherwise: RESTRICTED (IN_FORCE).

Each of the steps 7 to 9 takes restrictions away, and what is left at 10 decides. When none is left
although there were several, the reason is the one on which the clear answer most depends: EXEMPT
before LIFTED, before NOT_YET_EFFECTIVE, before LAPSED, before NOT_COVERED. Steps 7 to 9 need no
fresh relief: they only ever clear.

Steps 3, 7 and 8 go by the clock, held at the floor of the newest signature seen: time that runs
backwards brings back neither a listing nor a term. Step 10 goes by the clock itself, because held
at the floor no relief would ever grow old.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from tipstaff_sdk.decision.decision import Decision, Finding, Outcome, Reason, Verdict
from tipstaff_sdk.decision.evidence import DecisionState, Filter, RecordSource, Service, Stretcher
from tipstaff_sdk.decision.question import Question
from tipstaff_sdk.errors import FormatError, SealError, TipstaffError
from tipstaff_sdk.identity.block import resident_block
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.records import Exemption, Restriction, restrictions_of
from tipstaff_sdk.listing.sealing import EpochKey, SubjectKeys, open_sealed
from tipstaff_sdk.packs.pack import SealedCopy

__all__ = [
    "Decision",
    "DecisionState",
    "Exemption",
    "Filter",
    "Finding",
    "Outcome",
    "Question",
    "Reason",
    "RecordSource",
    "Restriction",
    "Service",
    "Stretcher",
    "Verdict",
    "decide",
    "decide_found",
    "decide_hit",
    "unconfirmed",
]


def decide(
    state: DecisionState | None,
    now: datetime,
    identifier: Identifier | str,
    name: str,
    measure: str,
    service: Service | None = None,
) -> Decision:
    """Decides about one person or organisation, one measure and one service.

    Takes the parts of a `Question` one by one: nearly everybody is clear at step 4, and a question
    is made only for those who are not.

    Args:
        state: what to decide on; None where there is no verified listing.
        now: the moment, aware UTC.
        identifier: a text is a resident ID.
        name: as it is written in the document.
        measure: the code of the measure.
        service: what is bought, as the measure asks for it.

    Raises:
        InvalidIdentifierError: the identifier is not valid.
        InvalidNameError: the name is not valid.
        UnknownMeasureError: the catalogue has no such measure.
        MeasureNotCoveredError: this audience does not enforce the measure.
        InvalidServiceError: the service is not described as the measure asks.
            These five are wrong calls, whoever they are about; anything else that goes wrong is a
            verdict.
    """
    # 1. Canonical, or an error.
    block = identifier.block if isinstance(identifier, Identifier) else resident_block(identifier)
    if block is None:  # a text that is not canonical, if it is a number at all
        identifier = Identifier.parse(cast("str", identifier))
        block = identifier.block
    name = canonical_name(name)
    if state is None:  # 3, before 2: without a listing nobody knows what the audience enforces
        return Decision(Finding(Reason.NO_DATA, measure), now, Verdict.UNKNOWN)
    # 2. A measure of this audience, and a service described as it asks.
    clear = state.require_use(measure, service)
    # 3. A listing to rely on, and the key to read it with.
    if state.key is None or state.may_list is None:
        return _decision(clear, now, Reason.NO_DATA)
    # state.held(now), without the call
    if now >= state.expires_at or state.floor >= state.expires_at:
        return _decision(clear, now, Reason.EXPIRED)
    # 4. What is not in the filter is not listed.
    if not state.may_list(block):
        return Decision(clear, now, Verdict.CLEAR)
    # Made only for those few whom the filter does not let through.
    if not isinstance(identifier, Identifier):
        identifier = Identifier.parse(identifier)
    return _prove(state, state.key, Question(now, identifier, name, measure, service), clear)


def decide_hit(state: DecisionState, question: Question) -> Decision:
    """Takes steps 5 to 11, where steps 1 to 4 were taken for a whole column at once.

    The token has to be in the filter. Raises what `DecisionState.require_use` raises.
    """
    clear = state.require_use(question.measure, question.service)
    if state.key is None:
        return _decision(clear, question.now, Reason.NO_DATA)
    return _prove(state, state.key, question, clear)


def _prove(state: DecisionState, key: EpochKey, question: Question, clear: Finding) -> Decision:
    """Steps 5 and 6: from a hit in the filter to this person's own restrictions."""
    # 5. Is there a record of this number?
    if state.pack is None:
        return _decision(clear, question.now, Reason.UNCONFIRMED)
    try:
        keys = key.derive(state.stretch.stretch(question.identifier))
        copies = state.pack.find(keys.locator)
    except TipstaffError:
        return _decision(clear, question.now, Reason.UNCONFIRMED)
    return _open(state, question, clear, keys, copies)


def decide_found(
    state: DecisionState, question: Question, keys: SubjectKeys, copies: Sequence[SealedCopy]
) -> Decision:
    """Takes steps 5 to 11 where the records at the locator were fetched already.

    Several rows of one person need them once. Raises what `DecisionState.require_use` raises.
    """
    clear = state.require_use(question.measure, question.service)
    return _open(state, question, clear, keys, copies)


def unconfirmed(state: DecisionState, question: Question) -> Decision:
    """Answers as step 5 does when the records cannot be had.

    Raises what `DecisionState.require_use` raises.
    """
    clear = state.require_use(question.measure, question.service)
    return _decision(clear, question.now, Reason.UNCONFIRMED)


def _open(
    state: DecisionState,
    question: Question,
    clear: Finding,
    keys: SubjectKeys,
    copies: Sequence[SealedCopy],
) -> Decision:
    """Step 6: the restrictions in the records that this name opens."""
    if not copies:
        return _decision(clear, question.now, Reason.FALSE_POSITIVE)
    # 6. Does this name open one?
    name_keys = keys.name_keys(question.name)
    own = [copy for copy in copies if copy.commitment == name_keys.commitment]
    if not own:
        return _decision(clear, question.now, Reason.NAME_MISMATCH)
    try:
        restrictions = [
            restriction
            for copy in own
            for restriction in restrictions_of(open_sealed(name_keys, copy.sealed))
        ]
    except (SealError, FormatError):
        return _decision(clear, question.now, Reason.UNCONFIRMED)
    return _judge(state, question, clear, restrictions)


def _judge(
    state: DecisionState, question: Question, clear: Finding, restrictions: Sequence[Restriction]
) -> Decision:
    """Steps 7 to 11: which of the restrictions stand against this use now."""
    now = question.now
    code, relief, at = clear.measure, state.relief, state.held(now)
    # 7. Those that cover this measure and service now.
    covering = [restriction for restriction in restrictions if code in restriction.measures]
    # Enforced, but no longer in the catalogue: what it covers cannot be told.
    if covering and clear.entry is None:
        return _decision(clear, now, Reason.UNCONFIRMED)
    if not covering or (
        clear.entry is not None and not clear.entry.covers_valid(question.service or {})
    ):
        return _decision(clear, now, Reason.NOT_COVERED)
    running = [
        restriction
        for restriction in covering
        if restriction.effective_at <= at < restriction.expires_at
    ]
    if not running:
        coming = any(at < restriction.effective_at for restriction in covering)
        return _decision(clear, now, Reason.NOT_YET_EFFECTIVE if coming else Reason.LAPSED)
    # 8. Less those with an exemption for this use.
    exemptions = tuple(
        exemption
        for restriction in running
        for exemption in restriction.exemptions
        if exemption.permits(code, at)
    )
    exempt = {exemption.restriction_id for exemption in exemptions}
    binding = [restriction for restriction in running if restriction.restriction_id not in exempt]
    # 9. Less those that relief lifts, for everybody or for this person, who has left the posts.
    reaching = [r for r in binding if relief is None or not relief.ends(r.post_ids)]
    standing = tuple(
        r for r in reaching if relief is None or not relief.lifts(r.restriction_id, r.relief_floor)
    )
    if not standing:
        return _decision(
            clear, now, Reason.EXEMPT if exemptions else Reason.LIFTED, exemptions=exemptions
        )
    # 10. Could one have been lifted without our knowing?
    if not state.relief_is_fresh(now):
        return _decision(clear, now, Reason.STALE_RELIEF, standing)
    # 11. No.
    return _decision(clear, now, Reason.IN_FORCE, standing)


def _decision(
    clear: Finding,
    now: datetime,
    reason: Reason,
    restrictions: tuple[Restriction, ...] = (),
    exemptions: tuple[Exemption, ...] = (),
) -> Decision:
    return Decision(
        replace(clear, reason=reason, restrictions=restrictions, exemptions=exemptions),
        now,
        reason.verdict,
    )
