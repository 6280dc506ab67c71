"""Every act that the audit log knows, under the name that it is kept by.

A new act gets its name here. `listing/changed_subjects.py` says what each of them changes in
records; a build does not go on over an act that it does not find there.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AuditAct"]


class AuditAct(StrEnum):
    """The name of an act; those of a restriction's life are named as in `lifecycle.Event`."""

    # A restriction, from its entry to its end.
    SUBMIT = "SUBMIT"
    READ_DRAFT = "READ_DRAFT"
    ANNOUNCE = "ANNOUNCE"
    ENTER_FORCE = "ENTER_FORCE"
    AMEND = "AMEND"
    EXEMPT = "EXEMPT"
    SUSPEND = "SUSPEND"
    REINSTATE = "REINSTATE"
    RELEASE = "RELEASE"
    REPAIR = "REPAIR"
    REVOKE = "REVOKE"
    EXPIRE = "EXPIRE"
    SEARCH = "SEARCH"

    # A subject: who it is, and which posts it holds.
    SHOW = "SHOW"
    REVEAL = "REVEAL"
    ACCESS = "ACCESS"
    MERGE = "MERGE"
    SPLIT = "SPLIT"
    CORRECT = "CORRECT"
    MOVE = "MOVE"
    POST_ADD = "POST_ADD"
    POST_BEGUN = "POST_BEGUN"
    POST_AMEND = "POST_AMEND"
    POST_END = "POST_END"
    POST_LEFT = "POST_LEFT"
    ERASE = "ERASE"

    # A dispute, and the remedies that follow one.
    DISPUTE_OPEN = "DISPUTE_OPEN"
    DISPUTE_REMIND = "DISPUTE_REMIND"
    DISPUTE_OVERDUE = "DISPUTE_OVERDUE"
    DISPUTE_REJECTED = "DISPUTE_REJECTED"
    DISPUTE_CORRECTED = "DISPUTE_CORRECTED"
    DISPUTE_REVOKED = "DISPUTE_REVOKED"
    REMEDY_OPEN = "REMEDY_OPEN"
    REMEDY_REOPEN = "REMEDY_REOPEN"
    REMEDY_DELIVER = "REMEDY_DELIVER"
    REMEDY_ANSWER = "REMEDY_ANSWER"
    REMEDY_REMIND = "REMEDY_REMIND"
    REMEDY_OVERDUE = "REMEDY_OVERDUE"

    # The deployment: administration, providers, keys.
    ADMINISTRATION = "ADMINISTRATION"
    ADD_PROVIDER = "ADD_PROVIDER"
    REMOVE_PROVIDER = "REMOVE_PROVIDER"
    RESTORE_PROVIDER = "RESTORE_PROVIDER"
    MOVE_PROVIDER = "MOVE_PROVIDER"
    REGISTER_WRAPPING_KEY = "REGISTER_WRAPPING_KEY"
    VAULT_REWRAP = "VAULT_REWRAP"
    VAULT_ROTATE = "VAULT_ROTATE"
    VAULT_RETIRE = "VAULT_RETIRE"
    VAULT_REINDEX = "VAULT_REINDEX"
    BEGIN_STRETCH = "BEGIN_STRETCH"
    STRETCH_READY = "STRETCH_READY"
    STRETCH_TAKES_OVER = "STRETCH_TAKES_OVER"
    CANCEL_STRETCH = "CANCEL_STRETCH"
