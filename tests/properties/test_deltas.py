"""Whatever changes between listings: a delta applied to the old file is the new one, byte for byte,
over any number of steps.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.packs import Entry, build
from tipstaff_bloom import BloomFilter, TokenLedger, diff
from tipstaff_sdk.errors import PackDeltaError
from tipstaff_sdk.packs.assembly import assemble
from tipstaff_sdk.packs.delta import PackDelta, apply_deltas
from tipstaff_sdk.packs.diff import write_delta
from tipstaff_sdk.packs.pack import Pack

# A version is which subjects are in it, each in one of three states. Few locators and commitments,
# so that they meet and share buckets.
NUMBERS = st.integers(0, 40)
VERSIONS = st.lists(
    st.dictionaries(NUMBERS, st.integers(0, 2), max_size=30), min_size=2, max_size=5
)
BITS = st.integers(0, 5)


def entry(number: int, state: int) -> Entry:
    locator = bytes([number % 8 << 5]) + bytes(6) + bytes([number % 3])
    sealed = hashlib.shake_128(bytes([number, state])).digest((256 << state % 2) + 16)
    return locator, hashlib.md5(bytes([number])).digest(), sealed


def pack_of(version: dict[int, int], bits: int) -> bytes:
    return build((entry(*item) for item in version.items()), bucket_bits=bits)


@given(VERSIONS, BITS)
def test_a_chain_of_pack_deltas_gives_the_last_pack(
    versions: list[dict[int, int]], bits: int
) -> None:
    packs = [pack_of(versions[0], bits)]
    deltas: list[PackDelta] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, version in enumerate(versions[1:]):
            new = pack_of(version, bits)
            if new == packs[-1]:
                continue
            path = Path(folder) / str(number)
            write_delta(Pack(packs[-1]), Pack(new), path, max_bytes=1 << 20)
            deltas.append(PackDelta(path.read_bytes()))
            packs.append(new)
    for start in range(len(deltas)):
        for end in range(start + 1, len(deltas) + 1):
            assert b"".join(apply_deltas(Pack(packs[start]), deltas[start:end])) == packs[end]
            Pack(packs[end]).verify()


@given(st.binary(max_size=700), st.dictionaries(NUMBERS, st.integers(0, 2), max_size=10), BITS)
def test_bytes_that_are_no_delta_are_refused(
    data: bytes, version: dict[int, int], bits: int
) -> None:
    base = Pack(pack_of(version, bits))
    header = b"tipspdel\0\1" + bytes([bits]) + b"\0\0\0\0\5" + base.record_count.to_bytes(8, "big")
    for attempt in (data, header + data, header + base.record_count.to_bytes(8, "big") + data):
        try:
            list(apply_deltas(base, [PackDelta(attempt)]))
        except PackDeltaError:
            continue
        raise AssertionError("taken for a delta")


TOKENS = np.stack(
    [
        np.frombuffer(hashlib.sha256(bytes([number])).digest()[:16], np.uint8)
        for number in range(256)
    ]
)


@given(st.lists(st.sets(st.integers(0, 255), min_size=60, max_size=120), min_size=2, max_size=4))
def test_a_chain_of_filter_deltas_gives_the_last_filter(versions: list[set[int]]) -> None:
    """Built from ledgers, with the layout of the one before; the tokens themselves are the oracle."""
    filters = [BloomFilter.build(TOKENS[sorted(versions[0])], epoch=7, capacity=4_000)]
    with tempfile.TemporaryDirectory() as folder:
        base, deltas = Path(folder) / "base", list[Path]()
        base.write_bytes(filters[0].to_bytes())
        for number, version in enumerate(versions[1:]):
            ledger = TokenLedger(TOKENS[sorted(version)], epoch=7)
            new = ledger.build(previous=filters[-1])
            deltas.append(Path(folder) / str(number))
            deltas[-1].write_bytes(diff(filters[-1], new))
            filters.append(new)
            made = b"".join(assemble("listing/rail/filter", base, deltas))
            assert made == new.to_bytes()
            assert made == BloomFilter.build(ledger.tokens, epoch=7, capacity=4_000).to_bytes()
            assert BloomFilter.from_buffer(made).contains_many(ledger.tokens).all()
