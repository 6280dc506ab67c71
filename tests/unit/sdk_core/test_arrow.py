"""Columns of other libraries through the Arrow PyCapsule interface: every layout gives the tokens
of a plain list.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import identities
from tipstaff_sdk.columns import arrow
from tipstaff_sdk.columns.arrow import arrow_pieces
from tipstaff_sdk.columns.names import Names
from tipstaff_sdk.errors import InvalidColumnError, InvalidNameError
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.tokens import Tokeniser

STANDARD = "11010519491231002X"
LAYOUTS = {
    "utf8": pa.string(),
    "large utf8": pa.large_string(),
    "utf8 view": pa.string_view(),
    "binary": pa.binary(),
    "large binary": pa.large_binary(),
    "binary view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "small dictionary": pa.dictionary(pa.uint8(), pa.large_string()),
}


@pytest.fixture
def tokeniser() -> Tokeniser:
    return Tokeniser(bytes(range(16)))


def numbers(count: int, seed: int = 1) -> list[str]:
    random = Random(seed)
    return [identities.random_resident_id(random) for _ in range(count)]


def built(texts: list[str | None], layout: str) -> Any:
    return pa.array(texts, pa.string()).cast(LAYOUTS[layout])


def read(column: Any) -> list[bytes | None]:
    return [piece.raw(row) for piece in arrow_pieces(column) for row in range(len(piece.start))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_tokens_of_a_list(tokeniser: Tokeniser, layout: str) -> None:
    texts: list[str | None] = [
        *numbers(200),
        None,
        "",
        "wrong",
        STANDARD.lower(),
        "110105491231002",
        STANDARD + "1",
        *numbers(50, 2),
    ]
    right = tokeniser.resident_column(texts)
    column = built(texts, layout)
    for form in (
        column,
        pa.chunked_array([column[:77], column[77:77], column[77:]]),
        pa.chunked_array([column]),
    ):
        batch = tokeniser.resident_column(form)
        assert batch.bad_rows.tolist() == right.bad_rows.tolist() == [200, 201, 202, 205]
        assert (batch.tokens == right.tokens).all()
    sliced = tokeniser.resident_column(column[13:211])
    assert sliced.bad_rows.tolist() == [row - 13 for row in right.bad_rows.tolist()]
    assert (sliced.tokens == right.tokens[13:211]).all()
    assert tokeniser.resident_column(column[:0]).tokens.shape == (0, 16)
    assert tokeniser.resident_column(pa.nulls(3, column.type)).bad_rows.tolist() == [0, 1, 2]


def test_fixed_size_binary(tokeniser: Tokeniser) -> None:
    texts = numbers(40)
    column = pa.array([*(text.encode() for text in texts), None], pa.binary(18))
    batch = tokeniser.resident_column(column[3:])
    assert batch.bad_rows.tolist() == [37]
    assert (batch.tokens[:37] == tokeniser.resident_column(texts[3:]).tokens).all()


def test_numbers_are_seen_in_place() -> None:
    column = pa.array(numbers(1000), pa.large_string())
    (piece,) = arrow_pieces(column)
    table, _ = piece.table(18)
    assert table.ctypes.data == column.buffers()[2].address
    assert not table.flags.owndata
    (piece,) = arrow_pieces(column[10:])
    assert piece.table(18)[0].ctypes.data == column.buffers()[2].address + 180


def test_long_columns_come_in_pieces(tokeniser: Tokeniser, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*numbers(100), None, *numbers(30, 3)]
    monkeypatch.setattr(arrow, "_PIECE_ROWS", 17)
    for layout in LAYOUTS:
        column = built(texts, layout)[5:]
        assert sum(1 for _ in arrow_pieces(column)) == 8
        assert (
            tokeniser.resident_column(column).tokens == tokeniser.resident_column(texts[5:]).tokens
        ).all()


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=40),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_rows_are_what_their_owner_says(
    texts: list[str | None], layout: str, begin: int, end: int
) -> None:
    column = built(texts, layout)[begin : max(begin, len(texts) - end)]
    expected = [value.encode() if isinstance(value, str) else value for value in column.to_pylist()]
    assert read(column) == expected
    assert read(pa.chunked_array([column, column])) == expected * 2


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([[1], [2]]),
        pa.table({"a": ["x"]}),
        pa.array([1.5]).dictionary_encode(),
        pa.nulls(2),
        pa.array([True]),
    ],
    ids=lambda column: str(getattr(column, "type", "table")),
)
def test_what_holds_no_texts_is_refused(tokeniser: Tokeniser, column: Any) -> None:
    with pytest.raises(InvalidColumnError, match="text"):
        tokeniser.resident_column(column)


class _Broken:
    def __len__(self) -> int:
        return 2

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise NotImplementedError


class _Fails(_Broken):
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        def batches() -> Any:
            yield pa.record_batch({"a": [1]})
            raise ValueError(STANDARD)

        return pa.RecordBatchReader.from_batches(
            pa.schema({"a": pa.int64()}), batches()
        ).__arrow_c_stream__()


class _Lies:
    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return pa.array([STANDARD] * 3).__arrow_c_array__()


@pytest.mark.parametrize(
    "column",
    [_Broken(), _Fails(), _Lies(2), _Lies(4), iter([STANDARD])],
    ids=lambda c: type(c).__name__,
)
def test_columns_that_fail_or_lie_are_refused_without_what_they_hold(
    tokeniser: Tokeniser, column: Any
) -> None:
    with pytest.raises(InvalidColumnError) as caught:
        tokeniser.resident_column(column)
    assert STANDARD not in str(caught.value)


class _Series:
    """A pandas column without Arrow: it has a length and becomes an array."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array(self._values, object)


def test_what_becomes_an_array_is_read_as_one(tokeniser: Tokeniser) -> None:
    assert tokeniser.resident_column(_Series([STANDARD, None, "x"])).bad_rows.tolist() == [1, 2]
    assert list(Names.of(_Series(["张三", None]), 2).bad) == [1]


NAMES = [
    "张三",
    "Zhang San",
    "",
    " ",
    "·",
    "张\t三",
    "阿凡提·买买提",
    "x" * 200,
    "x" * 201,
    "\u3000",
    "a\x00",
    "\x85",
    "﷽" * 20,
    "-",
    "1",
    None,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_looked_through_as_one_by_one(layout: str) -> None:
    expected: dict[int, str] = {}
    for row, name in enumerate(NAMES):
        try:
            canonical_name(name or "")
        except InvalidNameError as error:
            expected[row] = str(error)
    for column in (built(NAMES, layout), NAMES, np.array(NAMES, object)):
        names = Names.of(column, len(NAMES))
        assert sorted(names.bad) == sorted(expected)
        for row, name in enumerate(NAMES):
            if row not in names.bad:
                assert names.canonical(row) == canonical_name(name or "")


@given(
    st.lists(
        st.one_of(
            st.text(max_size=12),
            st.text(st.sampled_from("张三A z·.\t\n\u4dc0\u3400é\u200b"), max_size=300),
        ),
        max_size=20,
    )
)
def test_whatever_the_names_the_quick_look_refuses_the_same(texts: list[str]) -> None:
    try:
        column = pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half a character: Arrow does not take it
        return
    assert sorted(Names.of(column, len(texts)).bad) == sorted(Names.of(texts, len(texts)).bad)


@pytest.mark.parametrize(
    "column",
    ["张三", b"x", 7, {"a": 1}, np.array([1]), np.array([["a"]]), np.array([b"a"])],
    ids=repr,
)
def test_what_holds_no_names_is_refused(column: Any) -> None:
    with pytest.raises(InvalidColumnError):
        Names.of(column, 1)


def test_columns_of_different_lengths_are_refused() -> None:
    for column in (["a", "b"], pa.array(["a", "b"])):
        with pytest.raises(InvalidColumnError, match="2 names for 3 numbers"):
            Names.of(column, 3)
