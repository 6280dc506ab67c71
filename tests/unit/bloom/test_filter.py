"""Building, asking, opening, closing, uniting."""

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vectors.bloom import tokens
from tipstaff_bloom import (
    BloomFilter,
    CapacityError,
    ClosedError,
    EpochMismatchError,
    FormatError,
    GeometryMismatchError,
    TokenError,
    TokenLedger,
    construct,
    probe,
)
from tipstaff_bloom import tokens as token_module
from tipstaff_bloom.geometry import Geometry
from tipstaff_bloom.tokens import check_tokens


def random_tokens(count: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def test_everything_put_in_is_found_both_ways() -> None:
    listed = random_tokens(20_000)
    built = BloomFilter.build(listed)
    assert built.contains_many(listed).all()
    assert all(built.contains(row.tobytes()) for row in listed)


@pytest.mark.parametrize("fpr", [5e-2, 1e-3, 1e-5])
def test_one_and_many_agree_on_others(fpr: float) -> None:
    built = BloomFilter.build(random_tokens(3_000), fpr=fpr)
    asked = random_tokens(30_000, seed=2)
    assert [built.contains(row.tobytes()) for row in asked] == built.contains_many(asked).tolist()


def test_asking_is_contains_of_a_token_made_on_the_way() -> None:
    listed, asked = random_tokens(3_000), random_tokens(30_000, seed=2)
    built = BloomFilter.build(listed, fpr=5e-2)
    rows = [row.tobytes() for row in (*listed, *asked)]
    ask = built.asking(lambda number: rows[number])
    assert [ask(number) for number in range(len(rows))] == [built.contains(row) for row in rows]


def test_asking_refuses_what_is_no_token_and_a_closed_filter(tmp_path: Path) -> None:
    BloomFilter.build(random_tokens(100)).write(tmp_path / "filter")
    opened = BloomFilter.open(tmp_path / "filter")
    ask = opened.asking(bytes)
    for wrong in (b"", bytes(15), bytes(17)):
        with pytest.raises(TokenError, match="16 bytes"):
            ask(wrong)
    opened.close()
    with pytest.raises(ClosedError, match="open it again"):
        ask(bytes(16))


def test_one_and_many_agree_with_nine_free_bits() -> None:
    listed, asked = random_tokens(3_000), random_tokens(30_000, seed=2)
    geometry = Geometry(
        block_count=24, free_bits=9, capacity=3_000
    )  # crowded on purpose: many probes go deep
    built = BloomFilter._filled(geometry, 0, 0, None, iter([check_tokens(listed)]), 1)
    many = built.contains_many(asked)
    assert 0.01 < many.mean() < 0.99
    assert built.contains_many(listed).all()
    assert [built.contains(row.tobytes()) for row in asked] == many.tolist()
    assert BloomFilter.from_buffer(built.to_bytes()).contains_many(asked).tolist() == many.tolist()


def test_the_formula_bit_by_bit() -> None:
    """The documented derivation in plain integers, against the built bits."""
    listed = tokens(0, 40)
    built = BloomFilter.build(listed, fpr=1e-5, capacity=200)
    blocks, free_bits = built.block_count, built.header.geometry.free_bits
    bits: set[int] = set()
    for row in listed:
        x, y = (
            int.from_bytes(row[:8].tobytes(), "little"),
            int.from_bytes(row[8:].tobytes(), "little"),
        )
        word = (x % 2**32) * (8 * blocks) >> 32
        start, step = (x >> 52) % 64, (x >> 52) // 64
        second = start + 1 + step % 21
        third = second + 1 + step % 31
        bits |= {word * 64 + bit % 64 for bit in (start, second, third)}
        z = y % 2**63 + ((x >> 32) % 2**18 << 63)
        bits |= {word // 8 * 512 + (z >> 9 * i) % 512 for i in range(free_bits)}
    assert free_bits > 7
    assert np.flatnonzero(
        np.unpackbits(built.words.view(np.uint8), bitorder="little")
    ).tolist() == sorted(bits)


def test_an_empty_filter_holds_nothing() -> None:
    for empty in (BloomFilter.build(random_tokens(0)), BloomFilter.build([])):
        assert (empty.count, empty.block_count) == (0, 1)
        assert not empty.contains_many(random_tokens(1_000)).any()
        assert not empty.contains(bytes(16))
        assert BloomFilter.from_buffer(empty.to_bytes()).digest == empty.digest


def test_a_stream_of_uneven_chunks_gives_the_same_bytes() -> None:
    listed = random_tokens(10_000)
    whole = BloomFilter.build(listed, epoch=3)
    cuts = [0, 0, 1, 17, 5_000, 5_000, 9_999, 10_000]
    chunks = [listed[a:b] for a, b in pairwise(cuts)]
    assert BloomFilter.build(iter(chunks), epoch=3).to_bytes() == whole.to_bytes()
    assert (
        BloomFilter.build(iter(chunks), epoch=3, capacity=whole.capacity).to_bytes()
        == whole.to_bytes()
    )


def test_a_stream_may_refill_one_array_and_come_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_module, "_PIECE", 100)
    listed = random_tokens(1_234)
    whole = BloomFilter.build(listed).to_bytes()

    def refilled(size: int) -> Iterator[NDArray[np.uint8]]:
        buffer = np.empty((size, 16), np.uint8)
        for start in range(0, len(listed), size):
            rows = listed[start : start + size]
            buffer[: len(rows)] = rows
            yield buffer[: len(rows)]

    for size in (1, 7, 99, 100, 101, 1_000):
        assert BloomFilter.build(refilled(size)).to_bytes() == whole
        assert len(TokenLedger(refilled(size))) == 1_234


@pytest.mark.parametrize(
    "tokens", [None, 5, bytes(32), "0123456789abcdef"], ids=["none", "number", "bytes", "text"]
)
def test_what_is_no_array_and_no_stream_of_arrays_is_refused(tokens: object) -> None:
    with pytest.raises(TokenError, match="uint8"):
        BloomFilter.build(tokens)  # type: ignore[arg-type]  # the point of the test


def test_threads_small_batches_and_the_sparse_path_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = random_tokens(30_000)
    whole = BloomFilter.build(listed).to_bytes()
    monkeypatch.setattr(construct, "_SMALLEST_REGION", 3)
    assert BloomFilter.build(listed).to_bytes() == whole
    monkeypatch.setattr(construct, "_WORTH_THREADS", 1)
    monkeypatch.setattr(construct, "_MORE_THREADS", (1 << 10, 1 << 9))
    assert BloomFilter.build(listed, threads=3).to_bytes() == whole
    monkeypatch.setattr(construct, "BATCH", 4_000)
    assert BloomFilter.build(listed, threads=2).to_bytes() == whole
    monkeypatch.setattr(construct, "_SPARSE", 0)
    assert BloomFilter.build(listed).to_bytes() == whole


def test_many_threads_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    built = BloomFilter.build(random_tokens(5_000))
    asked = np.concatenate([random_tokens(20_001, seed=2), random_tokens(5_000)])
    alone = built.contains_many(asked)
    monkeypatch.setattr(probe, "CHUNK", 1_000)
    monkeypatch.setattr(probe, "THREAD_CHUNK", 1_500)
    for threads in (0, 1, 2, 7, 100):
        assert (built.contains_many(asked, threads=threads) == alone).all()


def test_reads_from_many_threads_at_once_are_right() -> None:
    listed = random_tokens(2_000)
    built = BloomFilter.build(listed)
    asked = np.concatenate([listed, random_tokens(2_000, seed=5)])
    expected = built.contains_many(asked).tolist()

    def ask(number: int) -> bool:
        if number % 2:
            return built.contains_many(asked).tolist() == expected
        return [built.contains(row.tobytes()) for row in asked[::7]] == expected[::7]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(24)))


@pytest.mark.parametrize(
    "token",
    [b"", bytes(15), bytes(17), "0123456789abcdef", None, 7, np.zeros(15, np.uint8), [0] * 16],
    ids=["empty", "short", "long", "text", "none", "number", "short array", "list"],
)
def test_a_token_that_is_not_16_bytes_is_refused(token: object) -> None:
    built = BloomFilter.build(random_tokens(10))
    with pytest.raises(TokenError, match="16 bytes"):
        built.contains(token)  # type: ignore[arg-type]  # the point of the test


def test_other_buffers_of_16_bytes_are_tokens_too() -> None:
    listed = random_tokens(10)
    built = BloomFilter.build(listed)
    assert built.contains(bytearray(listed[3].tobytes()))
    assert built.contains(memoryview(listed[3].tobytes()))
    assert listed[3].tobytes() in built


WRONG_ARRAYS = {
    "not an array": [[0] * 16],
    "bytes": bytes(32),
    "none": None,
    "one row, one dimension": np.zeros(16, np.uint8),
    "three dimensions": np.zeros((2, 2, 16), np.uint8),
    "rows of 15": np.zeros((4, 15), np.uint8),
    "rows of 17": np.zeros((4, 17), np.uint8),
    "no columns": np.zeros((4, 0), np.uint8),
    "signed": np.zeros((4, 16), np.int8),
    "wide": np.zeros((4, 16), np.uint16),
    "numbers": np.zeros((4, 2), np.uint64),
    "objects": np.zeros((4, 16), object),
    "flags": np.zeros((4, 16), np.bool_),
    "no dimension": np.array(0, np.uint8),
}


@pytest.mark.parametrize("array", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS.keys())
def test_arrays_of_another_kind_are_refused(array: object) -> None:
    built = BloomFilter.build(random_tokens(10))
    with pytest.raises(TokenError, match="uint8"):
        built.contains_many(array)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TokenError, match="uint8"):
        # The point of the test
        BloomFilter.build([random_tokens(3), array])  # type: ignore[list-item]


def test_no_rows_are_fine() -> None:
    answer = BloomFilter.build(random_tokens(10)).contains_many(np.zeros((0, 16), np.uint8))
    assert (answer.dtype, answer.shape) == (np.dtype(np.bool_), (0,))


def test_strided_read_only_and_unaligned_rows_answer_like_plain_ones() -> None:
    listed = random_tokens(1_000)
    built = BloomFilter.build(listed)
    wide = np.zeros((1_000, 40), np.uint8)
    wide[:, 3:19] = listed
    raw = np.frombuffer(b"x" + listed.tobytes(), np.uint8)[1:].reshape(-1, 16)
    for view in (listed[::3], listed[::-1], wide[:, 3:19], np.asfortranarray(listed), raw):
        assert built.contains_many(view).all()
    assert (
        BloomFilter.build(wide[:, 3:19]).to_bytes()
        == BloomFilter.build(raw).to_bytes()
        == built.to_bytes()
    )


def test_more_tokens_than_the_capacity_are_refused() -> None:
    with pytest.raises(CapacityError, match="larger capacity"):
        BloomFilter.build(random_tokens(11), capacity=10)
    with pytest.raises(CapacityError):
        BloomFilter.build(random_tokens(10), capacity=10).add(random_tokens(1))


@pytest.mark.parametrize("epoch", [-1, 2**32])
def test_an_epoch_out_of_range_is_refused(epoch: int) -> None:
    with pytest.raises(CapacityError, match="epoch"):
        BloomFilter.build(random_tokens(1), epoch=epoch)


def test_adding_is_building_with_all() -> None:
    first, more = random_tokens(5_000), random_tokens(3, seed=2)
    capacity = 6_000
    grown = BloomFilter.build(first, capacity=capacity, epoch=2).add(more)
    assert (
        grown.to_bytes() == BloomFilter.build([first, more], capacity=capacity, epoch=2).to_bytes()
    )


def test_a_union_holds_both_and_counts_both() -> None:
    one, two = random_tokens(500), random_tokens(400, seed=2)
    united = BloomFilter.build(one, capacity=900).union(BloomFilter.build(two, capacity=900))
    assert united.to_bytes() == BloomFilter.build([one, two], capacity=900).to_bytes()


def test_filters_laid_out_differently_are_not_united() -> None:
    one = BloomFilter.build(random_tokens(10), capacity=100)
    with pytest.raises(EpochMismatchError, match="epochs differ"):
        one.union(BloomFilter.build(random_tokens(10), capacity=100, epoch=1))
    with pytest.raises(GeometryMismatchError, match="full file"):
        one.union(BloomFilter.build(random_tokens(10), capacity=101))
    with pytest.raises(GeometryMismatchError):
        one.union(BloomFilter.build(random_tokens(10), capacity=100, fpr=1e-4))


def test_a_buffer_is_used_without_a_copy() -> None:
    wire = bytearray(BloomFilter.build(random_tokens(100)).to_bytes())
    view = BloomFilter.from_buffer(wire)
    assert np.shares_memory(view.words, np.frombuffer(wire, np.uint8))
    assert not view.words.flags.writeable


def test_an_unaligned_buffer_is_copied_and_right() -> None:
    built = BloomFilter.build(random_tokens(100))
    shifted = memoryview(b"x" + built.to_bytes())[1:]
    view = BloomFilter.from_buffer(shifted)
    assert view.to_bytes() == built.to_bytes()
    assert view.words.flags.aligned
    assert view.contains_many(random_tokens(100)).all()


def test_opening_maps_the_file_and_closing_lets_go(tmp_path: Path) -> None:
    listed = random_tokens(300)
    path = tmp_path / "filter"
    built = BloomFilter.build(listed, epoch=4)
    built.write(path)
    assert path.read_bytes() == built.to_bytes()
    with BloomFilter.open(path) as opened:
        assert isinstance(opened._map, mmap.mmap)
        assert opened.contains_many(listed).all()
        assert opened.contains(listed[0].tobytes())
        assert (opened.epoch, opened.count, opened.digest) == (4, 300, built.digest)
        contains = opened.contains
    assert opened._map.closed
    opened.close()
    for use in (
        lambda: opened.contains(bytes(16)),
        lambda: contains(bytes(16)),
        lambda: opened.contains_many(listed),
        opened.to_bytes,
        lambda: opened.union(built),
        lambda: built.union(opened),
    ):
        with pytest.raises(ClosedError, match="open it again"):
            use()


def test_closing_while_others_ask_gives_answers_or_closed(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    listed = random_tokens(5_000)
    BloomFilter.build(listed).write(path)
    opened = BloomFilter.open(path)
    started = threading.Barrier(3)

    def ask(*, many: bool) -> str:
        started.wait()
        try:
            while True:
                found = (
                    opened.contains_many(listed).all()
                    if many
                    else opened.contains(listed[0].tobytes())
                )
                if not found:
                    return "wrong"
        except ClosedError:
            return "closed"

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, many=True), pool.submit(ask, many=False)]
        started.wait()
        opened.close()
        assert [future.result(timeout=20) for future in asking] == ["closed", "closed"]


def test_a_written_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        BloomFilter.build(random_tokens(1)).write(path)
    assert path.read_bytes() == b"mine"


def test_a_missing_file_is_the_systems_error_and_a_short_one_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BloomFilter.open(tmp_path / "none")
    for size in (0, 1, 63):
        (tmp_path / "short").write_bytes(bytes(size))
        with pytest.raises(FormatError, match="fetch"):
            BloomFilter.open(tmp_path / "short")


def test_a_wrong_file_leaves_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(bytes(128))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  counts, does not join
    for _ in range(5):
        with pytest.raises(FormatError):
            BloomFilter.open(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  counts, does not join


def test_a_forked_child_reads_the_same_map(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    listed = random_tokens(100)
    BloomFilter.build(listed).write(path)
    code = (
        "import os, sys, numpy as np; from tipstaff_bloom import BloomFilter;f ="
        f" BloomFilter.open({str(path)!r}); t = np.random.default_rng(1).integers(0, 256, (100,"
        " 16), dtype=np.uint8);pid = os.fork();ok = bool(f.contains_many(t).all()) and"
        " f.contains(t[5].tobytes());os._exit(0 if ok else 1) if pid == 0 else sys.exit(0 if ok"
        " and os.waitpid(pid, 0)[1] == 0 else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_repr_names_no_token_and_the_rate_is_told() -> None:
    built = BloomFilter.build(random_tokens(1_000), epoch=5)
    assert (
        repr(built)
        == f"<BloomFilter epoch=5 count=1000 capacity={built.capacity} blocks={built.block_count}>"
    )
    assert 0 < built.fpr < 1e-3
    assert built.bit_count == built.block_count * 512
