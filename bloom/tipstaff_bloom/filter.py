"""The filter: which tokens may be in a set, and which are certainly not."""

from __future__ import annotations

import hashlib
import mmap
import os
from contextlib import suppress
from pathlib import Path
from struct import error as StructError  # noqa: N812  it is a class
from typing import TYPE_CHECKING, Final, Self, TypeVar

import numpy as np

from tipstaff_bloom.construct import set_bits
from tipstaff_bloom.delta import parse_delta
from tipstaff_bloom.errors import (
    CapacityError,
    ClosedError,
    DeltaDigestError,
    FormatError,
    TokenError,
)
from tipstaff_bloom.geometry import PATTERN_INTS, Geometry, default_capacity, expected_fpr, plan
from tipstaff_bloom.probe import other_bits, probe_many, unpack_first
from tipstaff_bloom.tokens import check_tokens, token_chunks
from tipstaff_bloom.wire import (
    HEADER_BYTES,
    Header,
    decode_header,
    encode_header,
    require_same_layout,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from tipstaff_bloom.tokens import Tokens

_ALIGNMENT: Final = 64
Item = TypeVar("Item")


class BloomFilter:
    """An immutable blocked Bloom filter over 16-byte pseudorandom tokens; reads are safe from any
    number of threads.

    Make one with `build`, `from_buffer` or `open`. A token that was put in is always found; another
    one is found with a probability of about the rate the filter was built for, as long as `count`
    does not pass `capacity`.
    """

    __slots__ = (
        "__weakref__",
        "_bit_view",
        "_buffer",
        "_digest",
        "_free_bits",
        "_header",
        "_map",
        "_word_count",
        "_word_view",
        "_words",
    )

    def __init__(self, buffer: memoryview, header: Header, mapped: mmap.mmap | None = None) -> None:
        """Not for callers: use `build`, `from_buffer` or `open`."""
        self._header = header
        self._map = mapped
        self._digest: bytes | None = None
        self._buffer: memoryview | None = buffer
        words = np.frombuffer(buffer, dtype="<u8", offset=HEADER_BYTES)
        words.flags.writeable = False
        self._words: NDArray[np.uint64] | None = words
        self._bit_view = buffer[HEADER_BYTES:]
        self._word_view = self._bit_view.cast("Q")
        self._word_count = header.geometry.words
        self._free_bits = header.geometry.free_bits

    @classmethod
    def build(
        cls,
        tokens: Tokens,
        *,
        fpr: float = 1e-3,
        epoch: int = 0,
        capacity: int | None = None,
        threads: int = 1,
    ) -> BloomFilter:
        """A filter of `tokens`: an array of dtype uint8 and shape (n, 16), or an iterable of such
        arrays of any sizes.

        `capacity` fixes the layout: two filters of equal capacity, rate and epoch can be united and
        differenced. It is the number of tokens up to which the rate `fpr` holds; without it, it is
        the number of tokens and about 3%, and an iterable is held in memory whole. With it, an
        iterable is read in a stream of bounded memory (about 200 MiB). An iterable may yield one
        array refilled. Tokens given twice count twice. `threads` share the work (NumPy releases the
        interpreter lock).

        Raises TokenError for a wrong array, CapacityError when there are more tokens than
        `capacity`, or for a rate, capacity or epoch out of range.
        """
        chunks = token_chunks(tokens)
        if capacity is None:
            held = list(chunks)
            capacity = default_capacity(sum(len(chunk) for chunk in held))
            chunks = iter(held)
        geometry = plan(capacity, fpr)
        return cls._filled(geometry, epoch, 0, None, chunks, threads)

    @classmethod
    def from_buffer(cls, buffer: bytes | bytearray | memoryview | mmap.mmap) -> BloomFilter:
        """A filter over the wire form in `buffer`, without copying it (unless it is not aligned to
        8 bytes).

        The caller must leave a mutable buffer alone as long as the filter is used. Raises
        FormatError for anything that is not exactly one filter in canonical form.
        """
        try:
            view = memoryview(buffer).toreadonly().cast("B")
        except (TypeError, ValueError) as error:
            raise FormatError("a filter is read from a contiguous buffer of bytes") from error
        return cls._checked(view, None)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BloomFilter:
        """A filter over a memory-mapped file; `close()` it or use it as a context manager.

        The file must never be changed in place, only replaced (as published files are). Raises
        FormatError like `from_buffer`, and OSError when the file cannot be read.
        """
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size < HEADER_BYTES:
                raise FormatError(
                    f"a filter has at least {HEADER_BYTES} bytes: fetch the file again"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            return cls._checked(memoryview(mapped), mapped)
        except FormatError:
            with suppress(
                BufferError
            ):  # a traceback may still hold a view; the map then goes with it
                mapped.close()
            raise

    @classmethod
    def _checked(cls, view: memoryview, mapped: mmap.mmap | None) -> BloomFilter:
        header = decode_header(view)
        words = np.frombuffer(view, dtype="<u8", offset=HEADER_BYTES)
        if not words.flags.aligned:
            view = _allocate(header, view).data.toreadonly()
            words = np.frombuffer(view, dtype="<u8", offset=HEADER_BYTES)
        if header.count == 0 and words.any():
            raise FormatError("a filter of no tokens has bits set")
        return cls(view, header, mapped)

    @classmethod
    def _filled(
        cls,
        geometry: Geometry,
        epoch: int,
        count: int,
        base: NDArray[np.uint64] | None,
        chunks: Iterator[NDArray[np.uint64]],
        threads: int,
    ) -> BloomFilter:
        """The bits of `base` and of all tokens, under a header that counts them after `count`."""
        encode_header(Header(geometry, epoch, count))  # refuses a wrong epoch before the work
        buffer = _allocate(Header(geometry, epoch, count))
        words = buffer[HEADER_BYTES:].view("<u8")
        if base is not None:
            words[:] = base
        count += set_bits(words, geometry, _limited(chunks, geometry.capacity - count), threads)
        header = Header(geometry, epoch, count)
        buffer[:HEADER_BYTES] = np.frombuffer(encode_header(header), np.uint8)
        return cls(buffer.data.toreadonly(), header)

    @property
    def epoch(self) -> int:
        """Which key the tokens were made under, 0 to 2^32 - 1."""
        return self._header.epoch

    @property
    def count(self) -> int:
        """Tokens put in; after a union, the sum of both."""
        return self._header.count

    @property
    def capacity(self) -> int:
        """Tokens up to which the wanted rate holds."""
        return self._header.geometry.capacity

    @property
    def block_count(self) -> int:
        """512-bit blocks."""
        return self._header.geometry.block_count

    @property
    def bit_count(self) -> int:
        """Bits of the bit array."""
        return self._header.geometry.bit_count

    @property
    def header(self) -> Header:
        """Geometry, epoch and count together."""
        return self._header

    @property
    def fpr(self) -> float:
        """The false-positive rate to expect at this count."""
        return expected_fpr(self.count / self.block_count, self._header.geometry.free_bits)

    @property
    def words(self) -> NDArray[np.uint64]:
        """The bit array as a read-only array of little-endian 64-bit words, shape (8 *
        block_count,); ClosedError when closed.
        """
        if self._words is None:
            raise ClosedError("this filter was closed; open it again")
        return self._words

    @property
    def digest(self) -> bytes:
        """SHA-256 of the wire form, 32 bytes; computed once."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._open_buffer()).digest()
        return self._digest

    def contains(self, token: bytes) -> bool:
        """Whether one token of 16 bytes may be in the set.

        Raises TokenError for anything else, ClosedError after `close`.
        """
        top: int
        try:
            low, top = unpack_first(token)
            word = low * self._word_count >> 32
            pattern = PATTERN_INTS[top >> 4]
            if self._word_view[word] & pattern != pattern:
                return False
            return other_bits(token, word, self._bit_view, self._free_bits)
        except (StructError, TypeError):
            raise TokenError("a token is 16 bytes") from None
        except ValueError:  # what a released memoryview raises
            raise ClosedError("this filter was closed; open it again") from None

    def asking(self, token_of: Callable[[Item], bytes]) -> Callable[[Item], bool]:
        """`contains(token_of(item))` as one function of `item`, which spares a frame and the
        attributes: 5 to 20 % of the time of both.

        It may be kept and shared between threads, if `token_of` may; it raises what the two raise.
        """
        word_count, free_bits, word_view, bit_view = (
            self._word_count,
            self._free_bits,
            self._word_view,
            self._bit_view,
        )
        unpack, patterns = unpack_first, PATTERN_INTS

        def ask(item: Item) -> bool:
            low: int
            top: int
            token = token_of(item)
            try:
                low, top = unpack(token)
                word = low * word_count >> 32
                pattern = patterns[top >> 4]
                return (word_view[word] & pattern) == pattern and other_bits(
                    token, word, bit_view, free_bits
                )
            except (StructError, TypeError):
                raise TokenError("a token is 16 bytes") from None
            except ValueError:
                raise ClosedError("this filter was closed; open it again") from None

        return ask

    def contains_many(self, tokens: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.bool_]:
        """Whether each token may be in the set: dtype bool, shape (n,), for tokens of dtype uint8
        and shape (n, 16).

        Rows may be strided (they are then copied). `threads` share long arrays. Raises TokenError
        for another type, dtype or shape, ClosedError after `close`.
        """
        return probe_many(self.words, self._header.geometry, check_tokens(tokens), threads)

    def __contains__(self, token: bytes) -> bool:
        return self.contains(token)

    def to_bytes(self) -> bytes:
        """The wire form, a copy."""
        return bytes(self._open_buffer())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the wire form to a new file, flushed to disk.

        Publishing it (rename) is the caller's; OSError when it exists.
        """
        with Path(path).open("xb") as file:
            file.write(self._open_buffer())
            file.flush()
            os.fsync(file.fileno())

    def add(self, tokens: Tokens, *, threads: int = 1) -> BloomFilter:
        """A new filter with these tokens too: same layout and epoch.

        Raises CapacityError when they do not fit any more.
        """
        header = self._header
        return self._filled(
            header.geometry, header.epoch, header.count, self.words, token_chunks(tokens), threads
        )

    def union(self, other: BloomFilter) -> BloomFilter:
        """A new filter of the tokens of both.

        Raises EpochMismatchError or GeometryMismatchError when they are laid out differently.

        Its count is the sum: shared tokens count twice, and past the capacity the rate is no longer
        the wanted one.
        """
        require_same_layout(self._header, other._header)
        header = Header(self._header.geometry, self.epoch, self.count + other.count)
        buffer = _allocate(header)
        np.bitwise_or(self.words, other.words, out=buffer[HEADER_BYTES:].view("<u8"))
        return BloomFilter(buffer.data.toreadonly(), header)

    def apply(self, delta: bytes) -> BloomFilter:
        """The filter that `delta` leads to, as a private copy; this one stays as it is.

        Raises DeltaFormatError for bytes that are not a canonical delta, DeltaBaseError when it
        starts from another filter, DeltaDigestError when the result is not what it promises: fetch
        the full file then.
        """
        parsed = parse_delta(delta, self)
        buffer = _allocate(parsed.header)
        bits = buffer[HEADER_BYTES:]
        bits.view("<u8")[:] = self.words
        np.bitwise_xor.at(
            bits, parsed.flips >> 3, np.left_shift(1, parsed.flips & 7).astype(np.uint8)
        )
        result = BloomFilter(buffer.data.toreadonly(), parsed.header)
        if result.digest != parsed.digest:
            raise DeltaDigestError(
                "the delta does not lead to the filter it promises: fetch the full file"
            )
        return result

    def close(self) -> None:
        """Lets go of the bits; every later use raises ClosedError. Closing twice is fine.

        A check running in another thread ends with its answer or with ClosedError; the file is
        unmapped after the last of them.
        """
        self._words = None
        self._buffer = None
        self._word_view.release()
        self._bit_view.release()
        if self._map is not None:
            with suppress(
                BufferError
            ):  # a running contains_many holds it; the map then goes with its last user
                self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<BloomFilter epoch={self.epoch} count={self.count} capacity={self.capacity}"
            f" blocks={self.block_count}>"
        )

    def _open_buffer(self) -> memoryview:
        if self._buffer is None:
            raise ClosedError("this filter was closed; open it again")
        return self._buffer


def _allocate(header: Header, content: memoryview | None = None) -> NDArray[np.uint8]:
    """A wire form to fill (header written, bits zero unless given), on a cache line so that each
    block is one.
    """
    size = header.total_bytes
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    buffer = memory[start : start + size]
    buffer[:HEADER_BYTES] = np.frombuffer(encode_header(header), np.uint8)
    if content is not None:
        buffer[:] = np.frombuffer(content, np.uint8)
    return buffer


def _limited(chunks: Iterator[NDArray[np.uint64]], room: int) -> Iterator[NDArray[np.uint64]]:
    for chunk in chunks:
        room -= len(chunk)
        if room < 0:
            raise CapacityError(
                "more tokens than the capacity: build a filter with a larger capacity"
            )
        yield chunk
