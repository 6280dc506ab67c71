"""What an examination found, in words."""

from __future__ import annotations

from collections import Counter

__all__ = ["EXAMPLES", "Findings"]

EXAMPLES = 3


class Findings:
    """What speaks against a listing, counted by kind, with the ids of a few restrictions each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, what: str, restriction_id: bytes = b"") -> None:
        """Notes one thing."""
        self._counts[what] += 1
        examples = self._examples.setdefault(what, [])
        if restriction_id and len(examples) < EXAMPLES:
            examples.append(restriction_id.hex())

    def absorb(self, others: Findings) -> None:
        """Notes what somebody else has found."""
        self._counts += others._counts
        for what, examples in others._examples.items():
            known = self._examples.setdefault(what, [])
            known += examples[: EXAMPLES - len(known)]

    def reasons(self) -> list[str]:
        """One sentence for each kind of finding."""
        return [
            _sentence(what, count, self._examples[what]) for what, count in self._counts.items()
        ]


def _sentence(what: str, count: int, examples: list[str]) -> str:
    details = [f"{count} times"] if count > 1 else []
    if examples:
        details.append("restriction " + ", ".join(examples))
    return f"{what} ({'; '.join(details)})" if details else what
