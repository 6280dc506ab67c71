"""Subjects: finding whom an entry is on, showing, merging, splitting, and who holds which post."""
