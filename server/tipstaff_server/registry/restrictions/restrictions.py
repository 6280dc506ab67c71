"""Restrictions: everything that may be done with one."""

from __future__ import annotations

from tipstaff_server.registry.restrictions.amendments import Amendments
from tipstaff_server.registry.restrictions.drafts import Drafts
from tipstaff_server.registry.restrictions.exempt import Exemptions
from tipstaff_server.registry.restrictions.search import Search
from tipstaff_server.registry.restrictions.submission import Submissions
from tipstaff_server.registry.restrictions.transitions import Transitions

__all__ = ["Restrictions"]


class Restrictions(Submissions, Drafts, Transitions, Amendments, Exemptions, Search):
    """Entering, approving, ending, correcting, exempting, searching; each part in its module."""
