"""Enumerations that are numbers on the wire and words to people."""

from enum import IntEnum

__all__ = ["Word"]


class Word(IntEnum):
    """An IntEnum that prints as its name: a log line or a table with a bare number in it helps
    nobody.
    """

    def __str__(self) -> str:
        return self.name

    def __format__(self, format_spec: str) -> str:
        return format(self.name, format_spec)
