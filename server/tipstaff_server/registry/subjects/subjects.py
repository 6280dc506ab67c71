"""Subjects: everything that may be done with one."""

from __future__ import annotations

from tipstaff_server.registry.subjects.merge import SubjectMerger
from tipstaff_server.registry.subjects.split import SubjectSplitter
from tipstaff_server.registry.subjects.view import SubjectViewer

__all__ = ["Subjects"]


class Subjects(SubjectViewer, SubjectMerger, SubjectSplitter):
    """Showing, merging, splitting and correcting subjects; each part stands in its module."""
