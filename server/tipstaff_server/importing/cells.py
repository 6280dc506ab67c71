"""A cell of a list, whatever the format: text, a list of texts, or a list of objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cell", "Item", "texts_of"]


@dataclass(frozen=True, slots=True)
class Item:
    """A number with its kind, or a responsible person.

    `capacity` as in the contract; 0: none was said.
    """

    names: tuple[str, ...] = field(default=(), repr=False)
    numbers: tuple[str, ...] = field(default=(), repr=False)
    kind: str = ""
    capacity: int = 0


Cell: TypeAlias = str | tuple[str | Item, ...]


def texts_of(cell: Cell) -> Iterator[str]:
    """Every text in a cell."""
    if isinstance(cell, str):
        yield cell
        return
    for item in cell:
        if isinstance(item, str):
            yield item
        else:
            yield from (*item.names, *item.numbers, item.kind)
