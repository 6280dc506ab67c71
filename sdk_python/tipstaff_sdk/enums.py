"""The base of the enumerations: integers on the wire, names in logs and tables."""

from enum import IntEnum

__all__ = ["Word"]


class Word(IntEnum):
    """An IntEnum that prints as its name, because a bare number in a log line helps nobody."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, format_spec: str) -> str:
        return format(self.name, format_spec)
