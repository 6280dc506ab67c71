"""What stands in one field of one row: a text, or where the file has lists and objects, several
texts or items.

    CSV           "张三"
    JSON, Arrow   "张三"   ["张三", "曾用名"]
                  [{"id_type": "护照", "id_number": "…"}]   [{"capacity": "法定代表人", "name": …}]

Numbers are texts everywhere: as a JSON or Arrow number one loses its zeros, its X or its last
digits without anybody noticing.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, cast

from tipstaff_server.errors import EntryCode, EntryError
from tipstaff_server.importing.cells import Cell, Item
from tipstaff_server.importing.columns import Field, capacity_of, field_of, is_capacity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["cell_of"]

MAX_ITEMS = 100


def cell_of(value: object) -> Cell:
    """A value of a JSON object or an Arrow column.

    Raises EntryError: FIELD_TYPE, FIELD_TOO_LONG, RESPONSIBLE_PERSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, date):  # and datetime, which is one
        return (
            value.isoformat(timespec="seconds")
            if isinstance(value, datetime)
            else value.isoformat()
        )
    if isinstance(value, dict):
        return (_item(cast("Mapping[object, object]", value)),)
    if isinstance(value, list):
        return tuple(_element(item) for item in _bounded(cast("list[object]", value)))
    raise _wrong()


def _element(value: object) -> str | Item:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        return _item(cast("Mapping[object, object]", value))
    raise _wrong()


def _item(value: Mapping[object, object]) -> Item:
    """Keys as headers are; unknown ones are passed over."""
    names: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    kind, capacity = "", 0
    for key, content in value.items():
        if content is None or not isinstance(key, str):
            continue
        known = field_of(key)
        if is_capacity(key):
            capacity = _capacity(content)
        elif known is Field.NAME:
            names += _texts(content)
        elif known in {Field.NUMBER, Field.RESIDENT_ID}:
            numbers += _texts(content)
        elif known is Field.KIND:
            (kind,) = _texts(content) or ("",)
    return Item(names, numbers, kind, capacity)


def _capacity(content: object) -> int:
    capacity = capacity_of(content) if isinstance(content, str) else None
    if capacity is None:
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON, "a responsible person's capacity is not known"
        )
    return capacity


def _texts(content: object) -> tuple[str, ...]:
    """One text, or several. Raises EntryError."""
    given = _bounded(cast("list[object]", content)) if isinstance(content, list) else [content]
    if not all(isinstance(item, str) for item in given):
        raise _wrong()
    return tuple(text for item in given if (text := str(item).strip()))


def _bounded(items: list[object]) -> list[object]:
    if len(items) > MAX_ITEMS:
        raise EntryError(EntryCode.FIELD_TOO_LONG, f"more than {MAX_ITEMS} in one list")
    return items


def _wrong() -> EntryError:
    return EntryError(EntryCode.FIELD_TYPE, "not a text, nor a list of texts or of objects")
