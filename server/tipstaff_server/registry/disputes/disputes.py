"""Disputes: everything that may be done with one."""

from __future__ import annotations

from tipstaff_server.registry.disputes.answer import DisputeAnswers
from tipstaff_server.registry.disputes.cases import DisputeCases
from tipstaff_server.registry.disputes.open import DisputeOpenings

__all__ = ["Disputes"]


class Disputes(DisputeOpenings, DisputeAnswers, DisputeCases):
    """Opening, answering and following disputes; each part stands in its module."""
