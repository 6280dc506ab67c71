"""From a batch of texts to people: kinds of numbers, and what each row buys."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tipstaff_sdk.book.layout import kind_of
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.screening.engine import People

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tipstaff_sdk.book.batches import Batch
    from tipstaff_sdk.decision.evidence import Service
    from tipstaff_sdk.listing.catalogue import Catalogue

__all__ = ["people_of", "typed_service"]

_RESIDENT: Final = IdentifierKind.RESIDENT_ID
_UNKNOWN_KIND: Final = (
    "The kind of number is not known: write one of "
    + ", ".join(kind.name for kind in IdentifierKind)
    + "."
)


def people_of(batch: Batch, service: Service, catalogue: Catalogue | None, measure: str) -> People:
    """The rows of a batch; `service` is what all of them buy, apart from their own columns."""
    services, service_of = _services(batch, service, catalogue, measure)
    count = len(batch.numbers)
    kinds = None if batch.kinds is None else _kinds(batch.kinds)
    if kinds is None or (kinds == _RESIDENT).all():
        return People(count, batch.numbers, batch.names, services=services, service_of=service_of)
    rows = np.flatnonzero(kinds == _RESIDENT)
    others: dict[int, Identifier | InvalidIdentifierError] = {
        row: _identifier(int(kinds[row]), batch.numbers[row].as_py())
        for row in np.flatnonzero(kinds != _RESIDENT).tolist()
    }
    numbers = batch.numbers.take(_arrow_indices(rows))
    return People(
        count,
        numbers,
        batch.names,
        rows=rows,
        others=others,
        services=services,
        service_of=service_of,
    )


def _arrow_indices(rows: NDArray[np.intp]) -> Any:
    from tipstaff_sdk.book.arrow_library import pyarrow  # noqa: PLC0415  only where a file mixes kinds

    return pyarrow().array(rows)


def _identifier(kind: int, text: str | None) -> Identifier | InvalidIdentifierError:
    if not kind:
        return InvalidIdentifierError(_UNKNOWN_KIND)
    if text is None:
        return InvalidIdentifierError(
            "The number is missing or not text: read it from the document again."
        )
    try:
        return Identifier(IdentifierKind(kind), text)
    except InvalidIdentifierError as error:
        return error


def _kinds(column: Any) -> NDArray[np.uint8]:
    """By row; 0 where it is not known."""
    values, index = _distinct(column)
    by_value = np.array([kind_of(value) or 0 for value in values], np.uint8)
    return by_value[index]


def _distinct(column: Any) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts of a column, and which of them each row has; a null reads as an empty
    text.
    """
    coded = column.fill_null("").dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False).astype(
        np.int64
    )


def _services(
    batch: Batch, service: Service, catalogue: Catalogue | None, measure: str
) -> tuple[list[Service | None], NDArray[np.intp] | None]:
    if not batch.services or not len(batch.numbers):
        return [service or None], None
    code = np.zeros(len(batch.numbers), np.int64)
    texts: list[tuple[str, list[str]]] = []
    for attribute, column in batch.services.items():
        values, index = _distinct(column)
        code = code * len(values) + index
        texts.append((attribute, values))
    found, service_of = np.unique(code, return_inverse=True)
    return [
        typed_service({**service, **_decode(int(one), texts)}, catalogue, measure) for one in found
    ], service_of


def _decode(code: int, texts: list[tuple[str, list[str]]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for attribute, known in reversed(texts):
        code, place = divmod(code, len(known))
        values[attribute] = known[place].strip()
    return values


def typed_service(
    service: Mapping[str, str | float], catalogue: Catalogue | None, measure: str
) -> dict[str, str | float]:
    """Texts become numbers where the catalogue says that the attribute is one; what is no number
    stays, and the check says so.
    """
    typed = dict(service)
    known = None if catalogue is None else catalogue.measures.get(measure)
    for attribute in known.attributes if known is not None else ():
        value = typed.get(attribute.name)
        if isinstance(value, str) and not attribute.choices:
            with contextlib.suppress(ValueError):
                typed[attribute.name] = float(value)
    return typed
