"""Reading a list, a batch at a time: the part of an import that needs no registry.

A long list is read in a process of its own, one batch ahead of the one that writes
(processes/read_ahead.py): two cores then share an import. What holds rules, keys or the database
stays where it was; entries travel with what they are compared by, made on the way.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tipstaff_server.errors import EntryError
from tipstaff_server.importing.convert import Converter, RowError
from tipstaff_server.importing.formats.csv_rows import BrokenRow
from tipstaff_server.importing.formats.sheet import open_sheet
from tipstaff_server.processes.executor import cores
from tipstaff_server.processes.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Generator

    from tipstaff_server.administration.policies import Policies
    from tipstaff_server.errors import EntryCode
    from tipstaff_server.importing.columns import Columns
    from tipstaff_server.importing.formats.encodings import EncodedSource
    from tipstaff_server.registry.restrictions.entry import Entry

__all__ = ["ImportBatch", "Order", "read"]

# Below some ten thousand rows a process takes longer to start than it spares.
WORTH_A_PROCESS = 4 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be read: a list of this authority's, `batch` entries at a time."""

    source: EncodedSource
    authority: str
    list_id: str
    policies: Policies
    batch: int


@dataclass(slots=True)
class ImportBatch:
    """Entries, with the line that each began on and what its fields are called; and rows that are
    refused: line, column, why.

    `position`, `without_number`, `ignored`: bytes read, responsible persons without a number,
    columns passed over, all so far.
    """

    entries: list[Entry] = field(default_factory=list["Entry"])
    places: list[tuple[int, Columns]] = field(default_factory=list["tuple[int, Columns]"])
    refused: list[tuple[int, str, EntryCode]] = field(
        default_factory=list["tuple[int, str, EntryCode]"]
    )
    position: int = 0
    without_number: int = 0
    ignored: tuple[str, ...] = ()


def read(order: Order) -> Generator[ImportBatch]:
    """All batches; there is at least one, and the last one's totals are the file's.

    Raises FileHeaderError, ImportFileError.
    """
    if order.source.size >= WORTH_A_PROCESS and cores() > 1:
        return read_ahead(_read, order)
    return _read(order)


def _read(order: Order) -> Generator[ImportBatch]:
    with open_sheet(order.source) as sheet:
        converter = Converter(sheet.columns, order.list_id, order.policies)
        batch, several = ImportBatch(), False

        def ended() -> ImportBatch:
            batch.position, batch.without_number, batch.ignored = (
                sheet.position(),
                converter.without_number,
                sheet.ignored(),
            )
            return batch

        for row in sheet.rows:
            if isinstance(row, BrokenRow):
                batch.refused.append((row.line, row.column, row.code))
            else:
                columns = row.columns or sheet.columns
                try:
                    entry = converter.entry(row.fields, columns)
                except RowError as error:
                    batch.refused.append((row.line, columns.header(error.field), error.error.code))
                else:
                    with suppress(EntryError):  # whatever is wrong is said where the rules are
                        entry.canonical(order.authority)
                    batch.entries.append(entry)
                    batch.places.append((row.line, columns))
            if max(len(batch.entries), len(batch.refused)) >= order.batch:
                yield ended()
                batch, several = ImportBatch(), True
        if batch.entries or batch.refused or not several:
            yield ended()
