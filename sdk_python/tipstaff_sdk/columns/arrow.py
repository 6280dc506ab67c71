"""Text columns over the Arrow PyCapsule interface: pyarrow, polars, pandas, DuckDB and others,
without depending on any of them.

An object with `__arrow_c_array__` or `__arrow_c_stream__` hands over the structures of the Arrow C
data interface (https://arrow.apache.org/docs/format/CDataInterface.html, .../CStreamInterface.html,
.../CDataInterface/PyCapsuleInterface.html), which are read here with ctypes. What they point to is
seen in place, never copied, and lives as long as the piece that is being looked at.

Read are the layouts of text and bytes: utf8, large utf8, utf8 view, binary, large binary, binary
view, fixed-size binary, and all of these under a dictionary. Memory of the same process is trusted
to be as long as it says; types are not.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tipstaff_sdk.errors import InvalidColumnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ArrowTexts", "arrow_pieces", "is_arrow"]

_WANTED: Final = (
    "pass a column of texts (utf8, large utf8, utf8 view, binary, fixed-size binary, or a"
    " dictionary of these)"
)
_VIEW_INLINE: Final = 12
_PIECE_ROWS: Final = 1 << 18
_INDEX_TYPES: Final = {
    "c": "i1",
    "C": "u1",
    "s": "i2",
    "S": "u2",
    "i": "i4",
    "I": "u4",
    "l": "i8",
    "L": "u8",
}
_OFFSET_TYPES: Final[dict[str, type[np.int32 | np.int64]]] = {
    "u": np.int32,
    "z": np.int32,
    "U": np.int64,
    "Z": np.int64,
}

_Bytes: TypeAlias = NDArray[np.uint8]
_Numbers: TypeAlias = NDArray[np.int64]


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _ArrowStream(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]
_ArrowStream._fields_ = [
    (
        "get_schema",
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_ArrowStream), ctypes.POINTER(_Schema)),
    ),
    (
        "get_next",
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_ArrowStream), ctypes.POINTER(_Array)),
    ),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(_ArrowStream))),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_ArrowStream))),
    ("private_data", ctypes.c_void_p),
]

_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class ArrowTexts(NamedTuple):
    """Texts of one piece, wherever they lie: row i is `buffers[source[i]][start[i] : start[i] +
    length[i]]`.

    source: (n,) intp, or None where there is one buffer. start, length: (n,) int64. valid: (n,)
    bool, or None where no row is null. packed: whether rows lie one after the other in the one
    buffer, so that rows of one length are a table. utf8: whether the type says that it is text, so
    that nobody has to look.
    """

    buffers: tuple[_Bytes, ...]
    source: NDArray[np.intp] | None
    start: _Numbers
    length: _Numbers
    valid: NDArray[np.bool_] | None
    packed: bool
    utf8: bool

    def part(self, begin: int, end: int) -> ArrowTexts:
        """Rows `begin` to `end`."""
        rows = slice(begin, end)
        return self._replace(
            source=None if self.source is None else self.source[rows],
            start=self.start[rows],
            length=self.length[rows],
            valid=None if self.valid is None else self.valid[rows],
        )

    def taken(self, rows: Any) -> ArrowTexts:
        """Some rows, by index or mask."""
        return ArrowTexts(
            self.buffers,
            None if self.source is None else self.source[rows],
            self.start[rows],
            self.length[rows],
            None if self.valid is None else self.valid[rows],
            packed=False,
            utf8=self.utf8,
        )

    def present(self, width: int) -> NDArray[np.bool_]:
        """Which rows are not null and `width` bytes long."""
        right: NDArray[np.bool_] = self.length == width
        return right if self.valid is None else right & self.valid

    def raw(self, row: int) -> bytes | None:
        """The bytes of a row; None when it is null."""
        if self.valid is not None and not self.valid[row]:
            return None
        buffer = self.buffers[0 if self.source is None else int(self.source[row])]
        return buffer[self.start[row] : self.start[row] + self.length[row]].tobytes()

    def table(self, width: int) -> tuple[_Bytes, NDArray[np.bool_] | None]:
        """Rows of `width` bytes as (n, width), in place where the layout allows, and which rows
        those are (None: all).

        The others are zeros.
        """
        fits = self.present(width)
        if fits.all():
            if self.packed and len(fits):
                begin = int(self.start[0])
                return self.buffers[0][begin : begin + width * len(fits)].reshape(-1, width), None
            return self._gather(None, width), None
        rows = np.zeros((len(fits), width), np.uint8)
        rows[fits] = self._gather(fits, width)
        return rows, fits

    def _gather(self, chosen: NDArray[np.bool_] | None, width: int) -> _Bytes:
        start = self.start if chosen is None else self.start[chosen]
        if self.source is None:
            return _windows(self.buffers[0], start, width)
        source = self.source if chosen is None else self.source[chosen]
        rows = np.empty((len(start), width), np.uint8)
        numbers: list[int] = np.unique(source).tolist()
        for number in numbers:
            here = source == number
            rows[here] = _windows(self.buffers[number], start[here], width)
        return rows


def _windows(buffer: NDArray[np.uint8], start: _Numbers, width: int) -> _Bytes:
    if not len(start):
        return np.empty((0, width), np.uint8)
    windows: _Bytes = np.lib.stride_tricks.as_strided(
        buffer, (len(buffer) - width + 1, width), (1, 1), writeable=False
    )
    return windows[start]


def is_arrow(column: object) -> bool:
    """Whether a column can be had over the PyCapsule interface."""
    return hasattr(column, "__arrow_c_array__") or hasattr(column, "__arrow_c_stream__")


def arrow_pieces(column: Any) -> Iterator[ArrowTexts]:
    """The pieces of a column; each is valid until the next one is taken.

    Raises InvalidColumnError when they are no texts.
    """
    if hasattr(column, "__arrow_c_array__"):
        # The capsules release what they hold when they go, after the reader is done with the piece.
        capsules = _exported(column.__arrow_c_array__)
        schema = _at(capsules[0], b"arrow_schema", _Schema)
        yield from _pieces(schema, _at(capsules[1], b"arrow_array", _Array))
        del capsules
    else:
        capsule = _exported(column.__arrow_c_stream__)
        yield from _stream_pieces(_at(capsule, b"arrow_array_stream", _ArrowStream))
        del capsule


def _exported(export: Callable[[], Any]) -> Any:
    try:
        return export()
    except Exception as error:  # noqa: BLE001  whatever another library raises for a type that it cannot export
        raise InvalidColumnError(
            f"The column cannot be read through Arrow ({type(error).__name__}): {_WANTED}."
        ) from None


def _at(capsule: object, name: bytes, kind: type[Any]) -> Any:
    return kind.from_address(_capsule_pointer(capsule, name))


def _stream_pieces(stream: Any) -> Iterator[ArrowTexts]:
    schema = _Schema()
    _must(stream.get_schema(stream, schema))
    try:
        while True:
            array = _Array()
            _must(stream.get_next(stream, array))
            if not array.release:
                return
            try:
                yield from _pieces(schema, array)
            finally:
                array.release(array)
    finally:
        schema.release(schema)


def _must(status: int) -> None:
    if status:
        raise InvalidColumnError(
            "The column ended with an error of the library it comes from: read it there first."
        )


def _pieces(schema: Any, array: Any) -> Iterator[ArrowTexts]:
    """An array in pieces of bounded length, since where each row starts takes 16 bytes."""
    for begin in range(0, array.length, _PIECE_ROWS) or (0,):
        piece = _Array.from_buffer_copy(array)
        piece.offset, piece.length = array.offset + begin, min(array.length - begin, _PIECE_ROWS)
        yield _texts(schema, piece)


def _texts(schema: Any, array: Any) -> ArrowTexts:
    if schema.dictionary:
        return _dictionary(schema, array)
    code = schema.format.decode("ascii", "replace")
    valid = _validity(array)
    if code in _OFFSET_TYPES:
        return _offsets(array, _OFFSET_TYPES[code], valid)._replace(utf8=code in "uU")
    if code in {"vu", "vz"}:
        return _views(array, valid)._replace(utf8=code == "vu")
    if code.startswith("w:"):
        width = int(code[2:])
        start = (np.arange(array.length, dtype=np.int64) + array.offset) * width
        data = _buffer(array, 1, (array.length + array.offset) * width)
        return ArrowTexts(
            (data,),
            None,
            start,
            np.full(array.length, width, np.int64),
            valid,
            packed=True,
            utf8=False,
        )
    raise InvalidColumnError(f"An Arrow column of format {code!r} holds no texts: {_WANTED}.")


def _offsets(
    array: Any, kind: type[np.int32 | np.int64], valid: NDArray[np.bool_] | None
) -> ArrowTexts:
    if not array.length:
        return ArrowTexts(
            (_NO_BYTES,), None, _NO_NUMBERS, _NO_NUMBERS, None, packed=True, utf8=False
        )
    size = np.dtype(kind).itemsize
    offsets = (
        _buffer(array, 1, (array.offset + array.length + 1) * size)
        .view(kind)[array.offset :]
        .astype(np.int64)
    )
    return ArrowTexts(
        (_buffer(array, 2, int(offsets[-1])),),
        None,
        offsets[:-1],
        np.diff(offsets),
        valid,
        packed=True,
        utf8=False,
    )


def _views(array: Any, valid: NDArray[np.bool_] | None) -> ArrowTexts:
    """Rows up to 12 bytes lie in the view itself, which is buffer 0 here; the others say in which
    buffer.
    """
    more = array.n_buffers - 3
    raw = _buffer(array, 1, (array.offset + array.length) * 16)[array.offset * 16 :]
    views = raw.view(np.int32).reshape(-1, 4)
    sizes = (
        _buffer(array, array.n_buffers - 1, more * 8).view(np.int64) if more > 0 else _NO_NUMBERS
    )
    length = views[:, 0].astype(np.int64)
    inline = length <= _VIEW_INLINE
    if valid is not None:
        inline |= ~valid
    source = np.where(inline, 0, views[:, 2].astype(np.intp) + 1)
    start = np.where(inline, np.arange(len(views), dtype=np.int64) * 16 + 4, views[:, 3])
    buffers = (raw, *(_buffer(array, number + 2, int(size)) for number, size in enumerate(sizes)))
    return ArrowTexts(buffers, source, start, length, valid, packed=False, utf8=False)


def _dictionary(schema: Any, array: Any) -> ArrowTexts:
    kind = _INDEX_TYPES.get(schema.format.decode("ascii", "replace"))
    if kind is None:
        raise InvalidColumnError(
            f"An Arrow dictionary without integer indices cannot be read: {_WANTED}."
        )
    size = np.dtype(kind).itemsize
    index = (
        _buffer(array, 1, (array.offset + array.length) * size)
        .view(kind)[array.offset :]
        .astype(np.intp)
    )
    valid = _validity(array)
    if valid is not None:
        index = np.where(valid, index, 0)
    values = _texts(schema.dictionary.contents, array.dictionary.contents)
    if not len(values.start):  # then every row is null
        nothing = np.zeros(len(index), np.int64)
        return ArrowTexts(
            (_NO_BYTES,),
            None,
            nothing,
            nothing,
            np.zeros(len(index), np.bool_),
            packed=False,
            utf8=False,
        )
    rows = values.taken(index)
    if valid is not None:
        rows = rows._replace(valid=valid if rows.valid is None else valid & rows.valid)
    return rows


def _validity(array: Any) -> NDArray[np.bool_] | None:
    if array.null_count == 0 or not array.length or not array.buffers[0]:
        return None
    end = array.offset + array.length
    bits = np.unpackbits(_buffer(array, 0, -(-end // 8)), bitorder="little", count=end)
    return bits[array.offset :].view(np.bool_)


_NO_BYTES: Final[_Bytes] = np.empty(0, np.uint8)
_NO_NUMBERS: Final[_Numbers] = np.empty(0, np.int64)


def _buffer(array: Any, number: int, size: int) -> _Bytes:
    address = array.buffers[number]
    if not address or not size:
        return _NO_BYTES
    memory: Any = (ctypes.c_uint8 * size).from_address(address)
    seen: _Bytes = np.frombuffer(memory, np.uint8)
    return seen
