"""The registry's surface is small and pinned; its errors have one root and its texts two languages."""

from __future__ import annotations

import inspect

import pytest

from tipstaff_sdk.texts import text
from tipstaff_server import errors, importing
from tipstaff_server.administration import load, providers
from tipstaff_server.domain import actors, checks, parties
from tipstaff_server.errors import EntryCode, ServerError
from tipstaff_server.listing import reader as listing
from tipstaff_server.registry import erasure as retention
from tipstaff_server.registry import facts as setup
from tipstaff_server.registry import registry, relief_log
from tipstaff_server.registry.disputes import answer as answering
from tipstaff_server.registry.disputes import cases as following
from tipstaff_server.registry.disputes import open as disputes
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.restrictions import drafts as drafting
from tipstaff_server.registry.restrictions import entry as entries
from tipstaff_server.registry.restrictions import submission as submitting
from tipstaff_server.registry.restrictions import summary
from tipstaff_server.registry.restrictions import transitions as acts
from tipstaff_server.vault import vault

SURFACE = {
    actors: ["DECIDERS", "SYSTEM", "Actor", "ActorKind", "require"],
    acts: ["Due", "EndKind", "Ended", "Transitions", "apply"],
    checks: ["ID_BYTES", "MAX_REASON", "check_id", "check_reason"],
    summary: ["RestrictionSummary", "find", "locked", "measures_of", "summary_of"],
    answering: ["AnsweredDispute", "DisputeAnswers", "DisputeOutcome"],
    disputes: ["Chased", "DisputeView", "DisputeOpenings", "OpenedDispute", "view_of"],
    drafting: ["Approval", "Approved", "RestrictionDraft", "Drafts", "draft_row"],
    following: [
        "DisputeCase",
        "DisputeCounts",
        "DisputeCases",
        "CaseProgress",
        "WantedDisputes",
        "dispute_counts",
    ],
    entries: ["Entry", "check", "check_legal_basis", "check_measures", "check_term"],
    parties: [
        "EARLIEST",
        "LATEST",
        "MAX_IDENTIFIERS",
        "MAX_NAMES",
        "ORGANISATION",
        "PERSON",
        "Party",
        "Responsible",
        "canonical_party",
        "check_party",
        "rebuild",
    ],
    importing: ["ImportResult", "Importer"],
    relief_log: ["Lift", "ReliefLog"],
    listing: ["ListingReader", "ListingIdentifier", "ListingSubject"],
    registry: ["Registry"],
    rekeying: ["KeyStatus", "reindex", "retire", "rewrap", "rotate", "status"],
    retention: ["Erased", "Retention", "append"],
    setup: ["initialise", "open_facts"],
    load: ["set_administration"],
    providers: ["Member", "MemberAct", "Providers"],
    submitting: ["Prepared", "Submission", "SubmitStatus", "Submissions"],
    vault: ["KEY_BYTES", "Vault", "create_key_file"],
}


@pytest.mark.parametrize("module", SURFACE, ids=lambda module: module.__name__)
def test_exported_names(module: object) -> None:
    assert sorted(module.__all__) == sorted(SURFACE[module])  # type: ignore[attr-defined,index]


def test_what_may_be_asked_of_a_registry() -> None:
    public = {name for name, _ in inspect.getmembers(registry.Registry) if not name.startswith("_")}
    assert public == {
        *("catalogue", "close", "expire_due", "held_on", "open", "policies", "retention"),
        *("stretch", "stretch_of"),
    }


def test_all_errors_have_one_root_and_stand_in_the_tree() -> None:
    found = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, Exception)
    ]
    assert all(issubclass(item, ServerError) for item in found)
    assert all(item.__name__ in (errors.__doc__ or "") for item in found)


@pytest.mark.parametrize("code", EntryCode)
def test_every_refusal_has_its_text_in_both_languages(code: EntryCode) -> None:
    assert text(f"server.reject.{code}", "zh") != text(f"server.reject.{code}", "en")
