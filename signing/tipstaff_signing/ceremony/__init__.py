"""Ceremonies: who signs what by hand, with keys that lie offline, and rotating keys."""
