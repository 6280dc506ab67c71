"""A file of people, row by row, to a file of verdicts. Memory is bounded by `CHUNK` rows, whatever the file's size."""

from __future__ import annotations

import codecs
import contextlib
import csv
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.cli.render import typed_service
from tipstaff_sdk.decision import Decision
from tipstaff_sdk.errors import FormatError, InvalidServiceError, StorageError, TipstaffError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from tipstaff_sdk.decision import Reason, Verdict
    from tipstaff_sdk.screener import Screener

__all__ = ["RESULT_COLUMNS", "Summary", "screen_file"]

CHUNK: Final = 20_000
RESULT_COLUMNS: Final = ("row", "verdict", "reason", "restriction_ids", "case_numbers", "error")


@dataclass
class Summary:
    """What a file came to."""

    rows: int = 0
    bad_rows: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)


def screen_file(screener: Screener, source: Path, target: Path, *, measure: str, service: Mapping[str, str | float]) -> Summary:
    """Checks each row of `source` (UTF-8 with or without BOM, or GB18030; header with `identifier` and `name`) and writes `target`.

    A column named like an attribute of the measure describes what the row buys, before `service`. `target` appears whole or not at all.
    Rows are numbered from 1 after the header. A wrong row is named in the column `error`.

    Raises:
        FormatError: the file has no such header or is no such text. StorageError: a file cannot be read or written.
    """
    summary = Summary()
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with aside.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(RESULT_COLUMNS)
            for number, entry in _entries(screener, source, measure, service):
                _count(summary, entry)
                writer.writerow(_cells(number, entry))
            out.flush()
            os.fsync(out.fileno())
        aside.replace(target)
    except OSError as error:
        raise StorageError(f"{error.filename or target}: {error.strerror}; check path, permissions and room on the disk") from error
    finally:
        aside.unlink(missing_ok=True)
    return summary


def _entries(
    screener: Screener, source: Path, measure: str, service: Mapping[str, str | float]
) -> Iterator[tuple[int, Decision | TipstaffError]]:
    with source.open("r", encoding=_encoding(source), newline="") as file:
        reader = csv.DictReader(file)
        with _readable(source):
            header = [column.strip().lower() for column in reader.fieldnames or ()]
        if not {"identifier", "name"} <= set(header):
            raise FormatError(f"{source.name}: the header needs the columns identifier and name; it is the file's first line")
        reader.fieldnames = header
        begin = 1
        while chunk := _read(reader, source):
            yield from enumerate(_check_chunk(screener, chunk, measure, service), begin)
            begin += len(chunk)


def _read(reader: csv.DictReader[str], source: Path) -> list[dict[str, str]]:
    with _readable(source):
        return [{column: value or "" for column, value in row.items() if isinstance(column, str)} for row in islice(reader, CHUNK)]


@contextlib.contextmanager
def _readable(source: Path) -> Generator[None]:
    try:
        yield
    except (csv.Error, UnicodeDecodeError):
        # Without the cause: it quotes the text.
        raise FormatError(f"{source.name} is not CSV in UTF-8 or GB18030: save it as one of these") from None


def _check_chunk(
    screener: Screener, chunk: list[dict[str, str]], measure: str, service: Mapping[str, str | float]
) -> list[Decision | TipstaffError]:
    """Rows that buy the same are checked together."""
    catalogue = screener.catalogue
    known = catalogue.measures.get(measure) if catalogue is not None else None
    columns = [attribute.name for attribute in known.attributes if attribute.name in chunk[0]] if known is not None else []
    groups: dict[tuple[str, ...], list[int]] = {}
    for position, row in enumerate(chunk):
        groups.setdefault(tuple(row[column].strip() for column in columns), []).append(position)
    entries: dict[int, Decision | TipstaffError] = {}
    for values, positions in groups.items():
        bought = {**service, **typed_service(dict(zip(columns, values, strict=True)), catalogue, measure)}
        rows = [(chunk[position]["identifier"], chunk[position]["name"]) for position in positions]
        try:
            found: list[Decision | TipstaffError] = list(screener.check_many(rows, measure=measure, service=bought))
        except InvalidServiceError as error:
            if not columns:
                raise
            found = [error] * len(rows)
        entries.update(zip(positions, found, strict=True))
    return [entries[position] for position in range(len(chunk))]


def _encoding(source: Path) -> str:
    """UTF-8 if all of the file is, else GB18030. Read in pieces, once more than needed, because nothing in a CSV says what it is."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with source.open("rb") as file:
        try:
            while piece := file.read(1 << 20):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "gb18030"
    return "utf-8-sig"


def _count(summary: Summary, entry: Decision | TipstaffError) -> None:
    summary.rows += 1
    if isinstance(entry, Decision):
        summary.verdicts[entry.verdict] += 1
        summary.reasons[entry.reason] += 1
    else:
        summary.bad_rows += 1


def _cells(number: int, entry: Decision | TipstaffError) -> tuple[object, ...]:
    if not isinstance(entry, Decision):
        return number, "", "", "", "", str(entry)
    ids = " ".join(restriction.restriction_id.hex() for restriction in entry.restrictions)
    cases = " ".join(restriction.case_number for restriction in entry.restrictions)
    return number, entry.verdict.name, entry.reason.name, ids, cases, ""
