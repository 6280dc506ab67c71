"""From a row of a list to an entry.

Where the file is silent, the list's own policy speaks: its default measures, legal basis and term.
What it does not say either refuses the row; nothing is guessed about a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tipstaff.v1 import identity_pb2
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.domain.parties import ORGANISATION, PERSON, Party, Responsible
from tipstaff_server.errors import EntryCode, EntryError
from tipstaff_server.importing.cells import Item, texts_of
from tipstaff_server.importing.columns import Columns, Field, kind_of, subject_type_of
from tipstaff_server.importing.dates import add_duration, parse_moment, parse_term
from tipstaff_server.registry.restrictions.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tipstaff_server.administration.document import ListSpec
    from tipstaff_server.administration.policies import Policies
    from tipstaff_server.importing.cells import Cell

__all__ = ["Converter", "RowError"]

MAX_FIELD = 2_000
_SEPARATORS = re.compile(r"[;；、,，|\s]+")
_NO_TEXT = re.compile("[\0\ufffd\ud800-\udfff]")
_MASKED = re.compile(r"[*＊×]|[xX]{3,}")
_CAPACITIES = (
    (
        Field.LEGAL_REPRESENTATIVE,
        Field.LEGAL_REPRESENTATIVE_NUMBER,
        Field.LEGAL_REPRESENTATIVE_KIND,
        identity_pb2.CAPACITY_LEGAL_REPRESENTATIVE,
    ),
    (
        Field.PRINCIPAL,
        Field.PRINCIPAL_NUMBER,
        Field.PRINCIPAL_KIND,
        identity_pb2.CAPACITY_PRINCIPAL,
    ),
    (
        Field.DIRECTLY_RESPONSIBLE,
        Field.DIRECTLY_RESPONSIBLE_NUMBER,
        Field.DIRECTLY_RESPONSIBLE_KIND,
        identity_pb2.CAPACITY_DIRECTLY_RESPONSIBLE,
    ),
    (
        Field.ACTUAL_CONTROLLER,
        Field.ACTUAL_CONTROLLER_NUMBER,
        Field.ACTUAL_CONTROLLER_KIND,
        identity_pb2.CAPACITY_ACTUAL_CONTROLLER,
    ),
)
_NUMBERS = (
    (Field.NUMBER, None),
    (Field.RESIDENT_ID, IdentifierKind.RESIDENT_ID),
    (Field.ORGANISATION_CODE, IdentifierKind.ORGANISATION_CODE),
)


class RowError(Exception):
    """A row is refused: the error, and the column that it lies in (None: the row as a whole)."""

    def __init__(self, error: EntryError, field: Field | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.field = field


@dataclass(slots=True)
class _Cells:
    """One row's cells; remembers the one looked at last, so that an error knows where it is."""

    columns: Columns
    fields: Sequence[Cell]
    last: Field | None = None

    def value(self, field: Field) -> str:
        """The one text in it; empty when there is none."""
        self.last = field
        cell = self.columns.cell(self.fields, field)
        if isinstance(cell, str):
            return cell
        texts = self.all(field)
        if len(texts) > 1 or not all(isinstance(item, str) for item in texts):
            raise EntryError(EntryCode.FIELD_TYPE, "one text belongs here")
        return str(texts[0]) if texts else ""

    def all(self, field: Field) -> tuple[str | Item, ...]:
        """Everything in it."""
        self.last = field
        cell = self.columns.cell(self.fields, field)
        if isinstance(cell, str):
            return (cell,) if cell else ()
        return tuple(item for item in cell if item != "")

    def texts(self, field: Field) -> tuple[str, ...]:
        """All texts in it, where nothing else belongs."""
        texts = self.all(field)
        if not all(isinstance(item, str) for item in texts):
            raise EntryError(EntryCode.FIELD_TYPE, "texts belong here")
        return tuple(str(item) for item in texts)


class Converter:
    """Turns the rows of one file into entries for one list.

    `without_number`: responsible persons that no number was given for.
    """

    def __init__(self, columns: Columns, list_id: str, policies: Policies) -> None:
        self._columns = columns
        self._list: ListSpec = policies.lists[list_id]
        self._codes = {item.code: item.code for item in policies.administration.measures}
        self._codes |= {item.title.zh: item.code for item in policies.administration.measures}
        self.without_number = 0

    def entry(self, fields: Sequence[Cell], columns: Columns | None = None) -> Entry:
        """One entry; `columns`: where a row has its own. Raises RowError."""
        columns = columns or self._columns
        _check_shape(fields, columns)
        cells = _Cells(columns, fields)
        try:
            return self._entry(cells)
        except EntryError as error:
            raise RowError(error, cells.last) from None

    def _entry(self, cells: _Cells) -> Entry:
        party = _party(cells)
        case_number = cells.value(Field.CASE_NUMBER)
        if not case_number:
            raise EntryError(EntryCode.CASE_NUMBER, "the case number is missing")
        opened, published = _optional(cells, Field.CASE_OPENED), _optional(cells, Field.PUBLISHED)
        effective = _optional(cells, Field.EFFECTIVE) or published or opened
        if effective is None:
            raise EntryError(
                EntryCode.DATE_MISSING, "neither 生效时间 nor 发布时间 nor 立案时间 is given"
            )
        responsible = self._responsible(cells) if party.type == ORGANISATION else ()
        measures = self._measures(cells)
        return Entry(
            party=party,
            list_id=self._list.id,
            measures=measures,
            legal_basis=cells.value(Field.LEGAL_BASIS) or self._list.default_legal_basis,
            case_number=case_number,
            effective_at=effective,
            expires_at=self._expires(cells, effective),
            case_opened_at=opened,
            published_at=published,
            decided_by=cells.value(Field.DECIDED_BY),
            responsible=responsible,
        )

    def _measures(self, cells: _Cells) -> tuple[str, ...]:
        several = cells.texts(Field.MEASURES)
        if len(several) > 1:
            return tuple(sorted({self._measure(item) for item in several}))
        text = cells.value(Field.MEASURES)
        parts = [part for part in _SEPARATORS.split(text) if part]
        if text in self._codes:  # a title may hold a separator: 限制旅游、度假
            return (self._codes[text],)
        codes = {self._codes.get(part, self._codes.get(part.upper())) for part in parts}
        if None in codes:
            codes = self._titles(text)
        return tuple(sorted(code for code in codes if code)) or tuple(
            sorted(self._list.default_measures)
        )

    def _measure(self, text: str) -> str:
        code = self._codes.get(text, self._codes.get(text.upper()))
        if code is None:
            raise EntryError(EntryCode.MEASURE_UNKNOWN, "a measure is not in the catalogue")
        return code

    def _titles(self, text: str) -> set[str | None]:
        """Several titles of which one holds a separator: the longest are taken out first, and
        nothing may remain.
        """
        codes: set[str | None] = set()
        for name in sorted(self._codes, key=len, reverse=True):
            if re.search(rf"(?:^|[;；、,，|\s]){re.escape(name)}(?:$|[;；、,，|\s])", text):
                codes.add(self._codes[name])
                text = text.replace(name, ";")
        if _SEPARATORS.sub("", text):
            raise EntryError(EntryCode.MEASURE_UNKNOWN, "a measure is not in the catalogue")
        return codes

    def _expires(self, cells: _Cells, effective: datetime) -> datetime:
        if term := cells.value(Field.TERM):
            end = parse_term(term, effective)
            if (date := cells.value(Field.EXPIRES)) and parse_moment(date) != end:
                raise EntryError(EntryCode.TERM_INVALID, "期限 and 到期日 contradict each other")
            return end
        if date := cells.value(Field.EXPIRES):
            return parse_term(date, effective)
        if self._list.default_term:
            return add_duration(effective, self._list.default_term)
        raise EntryError(EntryCode.TERM_MISSING, "no term is given, and the list has no default")

    def _responsible(self, cells: _Cells) -> tuple[Responsible, ...]:
        people: list[Responsible] = []
        for name_field, number_field, kind_field, capacity in _CAPACITIES:
            kind = _kind(cells, kind_field) or IdentifierKind.RESIDENT_ID
            name, number = cells.value(name_field), cells.value(number_field)
            if name and not number:
                self.without_number += 1
            if not number:
                continue
            if not name:
                raise EntryError(
                    EntryCode.RESPONSIBLE_PERSON, "a responsible person's name is missing"
                )
            try:
                identifier = _identifier(number, kind)
            except EntryError:
                raise EntryError(
                    EntryCode.RESPONSIBLE_PERSON, "a responsible person's number is wrong"
                ) from None
            people.append(Responsible(int(capacity), Party(PERSON, (identifier,), (name,))))
        for item in cells.all(Field.RESPONSIBLE_PERSONS):
            if isinstance(item, str) or not item.numbers:
                self.without_number += 1
            else:
                people.append(_person(item))
        return tuple(people)


def _person(item: Item) -> Responsible:
    if not item.capacity or not item.names:
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON, "a responsible person's capacity or name is missing"
        )
    kind = kind_of(item.kind) if item.kind else IdentifierKind.RESIDENT_ID
    if kind is None:
        raise EntryError(
            EntryCode.IDENTIFIER_KIND, "the kind of a responsible person's number is not known"
        )
    try:
        identifiers = tuple(dict.fromkeys(_identifier(number, kind) for number in item.numbers))
    except EntryError:
        raise EntryError(
            EntryCode.RESPONSIBLE_PERSON, "a responsible person's number is wrong"
        ) from None
    return Responsible(item.capacity, Party(PERSON, identifiers, item.names))


def _check_shape(fields: Sequence[Cell], columns: Columns) -> None:
    extra = [cell for cell in fields[columns.width :] if not isinstance(cell, str) or cell.strip()]
    if extra:
        raise RowError(EntryError(EntryCode.TOO_MANY_FIELDS, "more fields than columns"), None)
    if len(fields) < columns.width:
        raise RowError(EntryError(EntryCode.TOO_FEW_FIELDS, "fewer fields than columns"), None)
    if _plain(fields):
        return
    for field, index in columns.of.items():
        for text in texts_of(fields[index]):
            if len(text) > MAX_FIELD:
                raise RowError(EntryError(EntryCode.FIELD_TOO_LONG, "too long"), field)
            if _NO_TEXT.search(text):
                raise RowError(
                    EntryError(
                        EntryCode.CONTROL_CHARACTER,
                        "a NUL, a replacement character, or half of a pair",
                    ),
                    field,
                )


def _plain(fields: Sequence[Cell]) -> bool:
    """Whether there are short clean texts only: what nearly all rows of a CSV file are, asked at
    once.
    """
    texts = cast("Sequence[str]", fields)
    try:
        return max(map(len, texts), default=0) <= MAX_FIELD and not _NO_TEXT.search("".join(texts))
    except TypeError:  # lists and objects among them
        return False


def _party(cells: _Cells) -> Party:
    said = cells.value(Field.SUBJECT_TYPE)
    expected = subject_type_of(said)
    if said and expected is None:
        raise EntryError(
            EntryCode.SUBJECT_TYPE, "the type of subject is neither a person nor an organisation"
        )
    kind = _kind(cells, Field.KIND) or (
        IdentifierKind.ORGANISATION_CODE if expected == ORGANISATION else None
    )
    given = [(item, hint, field) for field, hint in _NUMBERS for item in cells.all(field)]
    if not given:
        cells.last = next((field for field, _ in _NUMBERS if field in cells.columns.of), None)
        raise EntryError(EntryCode.IDENTIFIER_MISSING, "the number is missing")
    identifiers: list[Identifier] = []
    for item, hint, field in given:
        cells.last = field
        identifiers += _numbers(item, hint, kind)
    types = {
        ORGANISATION if item.kind is IdentifierKind.ORGANISATION_CODE else PERSON
        for item in identifiers
    }
    if len(types) > 1 or (expected is not None and types != {expected}):
        raise EntryError(EntryCode.SUBJECT_TYPE, "the type of subject does not fit the number")
    names = cells.texts(Field.NAME)
    if not names:
        raise EntryError(EntryCode.NAME_MISSING, "the name is missing")
    party = Party(types.pop(), tuple(dict.fromkeys(identifiers)), names)
    party.canonical_names()
    return party


def _numbers(
    item: str | Item, hint: IdentifierKind | None, kind: IdentifierKind | None
) -> list[Identifier]:
    """The numbers of one element: of the column's kind, of the row's, or of their own where an
    object names it.
    """
    if isinstance(item, Item):
        own = kind_of(item.kind) if item.kind else kind
        if item.kind and own is None:
            raise EntryError(EntryCode.IDENTIFIER_KIND, "the kind of number is not known")
        if not item.numbers:
            raise EntryError(EntryCode.IDENTIFIER_MISSING, "the number is missing")
        return [number for text in item.numbers for number in _numbers(text, hint, own)]
    if kind is not None and hint is not None and kind is not hint:
        raise EntryError(EntryCode.IDENTIFIER_KIND, "the kind of number does not fit its column")
    return [_identifier(item, hint or kind)]


def _kind(cells: _Cells, field: Field) -> IdentifierKind | None:
    text = cells.value(field)
    kind = kind_of(text)
    if text and kind is None:
        raise EntryError(EntryCode.IDENTIFIER_KIND, "the kind of number is not known")
    return kind


def _identifier(text: str, kind: IdentifierKind | None) -> Identifier:
    """A number of the kind named; without one a resident ID or an organisation code, whichever it
    is, if it is only one of them.
    """
    kinds = (
        (kind,)
        if kind is not None
        else (IdentifierKind.RESIDENT_ID, IdentifierKind.ORGANISATION_CODE)
    )
    identifiers: list[Identifier] = []
    detail = ""
    for candidate in kinds:
        try:
            identifiers.append(Identifier(candidate, text))
        except InvalidIdentifierError as error:
            detail = str(error)
    if len(identifiers) > 1:
        raise EntryError(
            EntryCode.IDENTIFIER_KIND, "the number could be of two kinds; say which in 证件类型"
        )
    if not identifiers:
        # Looked at last: XXX may well stand in a good organisation code.
        code = EntryCode.IDENTIFIER_MASKED if _MASKED.search(text) else EntryCode.IDENTIFIER_INVALID
        raise EntryError(code, detail)
    return identifiers[0]


def _optional(cells: _Cells, field: Field) -> datetime | None:
    text = cells.value(field)
    return parse_moment(text) if text else None
