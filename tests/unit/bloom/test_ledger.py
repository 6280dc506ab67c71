"""The ledger of tokens that a listing is updated from."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.vectors.bloom import tokens
from tipstaff_bloom import BloomFilter, FormatError, LedgerError, TokenError, TokenLedger, diff

NONE = tokens(0, 0)


def rows(ledger: TokenLedger) -> set[bytes]:
    return {row.tobytes() for row in ledger.tokens}


def test_it_is_sorted_and_keeps_each_token_once() -> None:
    ledger = TokenLedger([tokens(50, 100), tokens(0, 60), NONE], epoch=2)
    raw = [row.tobytes() for row in ledger.tokens]
    assert raw == sorted({row.tobytes() for row in tokens(0, 100)})
    assert (len(ledger), ledger.epoch) == (100, 2)
    assert not ledger.tokens.flags.writeable


def test_an_update_is_set_arithmetic() -> None:
    ledger = TokenLedger(tokens(0, 100))
    after = ledger.update(added=tokens(100, 130), removed=tokens(10, 20))
    assert rows(after) == rows(TokenLedger([tokens(0, 10), tokens(20, 130)]))
    assert [row.tobytes() for row in after.tokens] == sorted(rows(after))
    assert len(ledger) == 100


def test_updates_of_nothing_from_nothing_and_to_nothing() -> None:
    empty = TokenLedger()
    full = empty.update(added=tokens(0, 5), removed=NONE)
    assert rows(full) == rows(TokenLedger(tokens(0, 5)))
    assert len(full.update(added=NONE, removed=tokens(0, 5))) == 0
    assert len(empty.update(added=NONE, removed=NONE)) == 0


def test_a_token_moved_out_and_in_again_stays() -> None:
    ledger = TokenLedger(tokens(0, 10))
    assert rows(ledger.update(added=tokens(3, 5), removed=tokens(3, 5))) == rows(ledger)


def test_tokens_that_end_in_zero_bytes_are_told_apart() -> None:
    listed = np.zeros((3, 16), np.uint8)
    listed[1, 0], listed[2, 0], listed[2, 15] = 1, 1, 1
    ledger = TokenLedger(listed)
    assert len(ledger) == 3
    assert rows(ledger.update(added=NONE, removed=listed[1:2])) == {
        listed[0].tobytes(),
        listed[2].tobytes(),
    }


def test_changes_that_do_not_fit_are_refused() -> None:
    ledger = TokenLedger(tokens(0, 100))
    with pytest.raises(LedgerError, match="1 tokens to remove are not in the ledger"):
        ledger.update(added=NONE, removed=tokens(99, 101))
    with pytest.raises(LedgerError, match="already"):
        ledger.update(added=tokens(99, 101), removed=NONE)
    with pytest.raises(LedgerError):
        TokenLedger().update(added=NONE, removed=tokens(0, 1))
    with pytest.raises(TokenError):
        ledger.update(added=np.zeros((1, 15), np.uint8), removed=NONE)


def test_its_filter_is_a_fresh_build_and_keeps_the_layout_of_the_previous_one() -> None:
    ledger = TokenLedger(tokens(0, 1_000), epoch=6)
    first = ledger.build()
    assert first.to_bytes() == BloomFilter.build(tokens(0, 1_000), epoch=6).to_bytes()
    changed = ledger.update(added=tokens(1_000, 1_030), removed=tokens(0, 20))
    second = changed.build(previous=first)
    assert first.apply(diff(first, second)).to_bytes() == second.to_bytes()
    assert second.contains_many(changed.tokens).all()


def test_it_takes_a_new_layout_when_the_old_one_is_too_small_or_of_another_epoch() -> None:
    first = TokenLedger(tokens(0, 100)).build()
    grown = TokenLedger(tokens(0, 200)).build(previous=first)
    assert grown.capacity > first.capacity
    assert TokenLedger(tokens(0, 10), epoch=1).build(previous=first).capacity < first.capacity


def test_the_file_brings_it_back_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = TokenLedger(tokens(0, 100), epoch=2)
    ledger.write(path)
    again = TokenLedger.open(path)
    assert (again.epoch, (again.tokens == ledger.tokens).all()) == (2, True)
    with pytest.raises(FileExistsError):
        ledger.write(path)


def ledger_bytes(tmp_path: Path, count: int) -> bytes:
    path = tmp_path / f"ledger-{count}"
    TokenLedger(tokens(0, count), epoch=2).write(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0, "<B", 0),
        (8, "<H", 2),
        (10, "<H", 1),
        (16, "<Q", 9),
        (16, "<Q", 2**64 - 1),
        (24, "<B", 1),
        (32, "<B", 0),
        (64, "<B", 0),
    ],
    ids=[
        "magic",
        "version",
        "reserved",
        "count",
        "largest count",
        "reserved tail",
        "digest",
        "a token",
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, offset: int, form: str, value: int) -> None:
    content = bytearray(ledger_bytes(tmp_path, 10))
    if form == "<B":
        content[offset] ^= 0x55
    else:
        struct.pack_into(form, content, offset, value)
    path = tmp_path / "changed"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="registry"):
        TokenLedger.open(path)


def test_truncated_longer_and_unsorted_files_are_refused(tmp_path: Path) -> None:
    content = ledger_bytes(tmp_path, 10)
    swapped = content[80:96] + content[64:80] + content[96:]
    for wrong in (
        b"",
        content[:63],
        content[:-1],
        content + b"\0",
        content[:32] + hashlib.sha256(swapped).digest() + swapped,
    ):
        path = tmp_path / "wrong"
        path.write_bytes(wrong)
        with pytest.raises(FormatError, match="registry"):
            TokenLedger.open(path)


def test_an_empty_ledger_has_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    TokenLedger(epoch=9).write(path)
    assert (len(TokenLedger.open(path)), TokenLedger.open(path).epoch) == (0, 9)


def test_the_repr_names_no_token() -> None:
    assert repr(TokenLedger(tokens(0, 3), epoch=1)) == "<TokenLedger epoch=1 count=3>"
