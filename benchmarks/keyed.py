"""Keyed checks, from a resident ID to yes or no: many at once, on one core and two, and one at a
time; ours and the peers'.
"""

from __future__ import annotations

import importlib.util
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.filter import random_tokens
from benchmarks.support.machine import load
from benchmarks.support.peers import PEERS
from benchmarks.support.people import resident_ids
from benchmarks.support.plan import Figures, Plan
from benchmarks.support.timing import median_of_each, median_seconds
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.tokens import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["run"]

FPR: Final = 1e-3
CHUNK: Final = (
    1 << 16
)  # rows whose tokens are made before they are looked up: in the second-level cache
_PEER_CHUNK: Final = 100_000
_PEER_ASKED: Final = 100_000


OURS: Final = "Tipstaff"


def run(plan: Plan) -> Figures:
    """The suite."""
    ours = {str(size): _ours(size, plan) for size in plan.sizes}
    peers = _against_peers(plan)
    mine, compared = ours[str(plan.sizes[-1])], peers.pop(OURS)
    others = [figures for figures in peers.values() if figures is not None]
    oracle = peers["bloom-filter2"]
    flat: dict[str, float | None] = {
        "batch_check_ns": mine["batch_check_ns"],
        "batch_check_ns_2core": mine["batch_check_ns_2core"],
        "batch_vs_best_peer": _ratio(
            min((peer["batch_check_ns"] for peer in others), default=None),
            compared,
            "batch_check_ns",
        ),
        "scalar_check_ns": mine["scalar_check_ns"],
        "scalar_vs_best_peer": _ratio(
            min((peer["scalar_check_ns"] for peer in others), default=None),
            compared,
            "scalar_check_ns",
        ),
        "scalar_vs_bloom_filter2": _ratio(
            None if oracle is None else oracle["scalar_check_ns"], compared, "scalar_check_ns"
        ),
    }
    return Figures(
        flat, {"ours": ours, "peers": peers, "ours_among_peers": compared, "load_after": load()}
    )


def _ratio(theirs: float | None, compared: dict[str, float] | None, key: str) -> float | None:
    return None if theirs is None or compared is None else theirs / compared[key]


def batch_check(
    members: BloomFilter, tokeniser: Tokeniser, numbers: Any
) -> list[NDArray[np.bool_]]:
    """What `check_columns` does before it looks at names: verify, make tokens, look up."""
    return [
        members.contains_many(tokeniser.resident_column(numbers[start : start + CHUNK]).tokens)
        for start in range(0, len(numbers), CHUNK)
    ]


def _ours(size: int, plan: Plan) -> dict[str, float]:
    members = BloomFilter.build(random_tokens(size, seed=1), fpr=FPR)
    tokeniser = Tokeniser(bytes(range(16)))
    numbers = resident_ids(plan.asked, seed=2)
    blocks = _blocks(numbers[: plan.asked_singly].tolist())
    tokens = tokeniser.resident_column(numbers).tokens
    hits = int(members.contains_many(tokens).sum())

    once = plan.asked / 1e9
    return {
        "batch_check_ns": median_seconds(
            lambda: batch_check(members, tokeniser, numbers), plan.repeats
        )
        / once,
        "batch_check_ns_2core": _two_processes(
            lambda part: batch_check(members, tokeniser, part), numbers, plan.repeats
        )
        / once,
        "batch_check_ns_2threads": _two_threads(members, tokeniser, numbers, plan.repeats) / once,
        "tokens_ns": median_seconds(lambda: tokeniser.resident_column(numbers), plan.repeats)
        / once,
        "lookup_ns": median_seconds(lambda: members.contains_many(tokens), plan.repeats) / once,
        "scalar_check_ns": median_seconds(
            partial(_each, members.asking(tokeniser.encrypt), blocks), plan.repeats
        )
        / len(blocks)
        * 1e9,
        "load_ns": _load_ns(members, tokens, plan.repeats),
        "aes_ns": _aes_ns(tokens, plan.repeats),
        "hits": float(hits),
    }


def _load_ns(members: BloomFilter, tokens: NDArray[np.uint8], repeats: int) -> float:
    """One load at a random place of the filter, and nothing else: what memory asks for at least."""
    places = (tokens.view(np.uint64)[:, 0] % np.uint64(len(members.words))).astype(np.intp)
    taken = np.empty(CHUNK, np.uint64)

    def load_each() -> None:
        for start in range(0, len(places) - CHUNK + 1, CHUNK):
            np.take(members.words, places[start : start + CHUNK], out=taken, mode="clip")

    return median_seconds(load_each, repeats) / (len(places) // CHUNK * CHUNK or 1) * 1e9


def _aes_ns(blocks: NDArray[np.uint8], repeats: int) -> float:
    """One AES-128 block, in chunks as tokens are made."""
    cipher = Cipher(algorithms.AES(bytes(16)), modes.ECB()).encryptor()
    out = np.empty(CHUNK * 16 + 15, np.uint8)

    def encrypt() -> None:
        for start in range(0, len(blocks), CHUNK):
            part = blocks[start : start + CHUNK]
            cipher.update_into(part.data.cast("B"), out[: part.nbytes + 15].data)

    return median_seconds(encrypt, repeats) / len(blocks) * 1e9


def _two_processes(work: Callable[[Any], object], numbers: NDArray[Any], repeats: int) -> float:
    """Median seconds of both halves at once, in two forked processes that share the filter's
    memory, as a pre-forking server's do.
    """
    halves = np.array_split(numbers, 2)
    rounds = 10  # so that starting the processes weighs little

    def both() -> None:
        children = [_forked(partial(_repeated, work, half, rounds)) for half in halves]
        for child in children:
            if os.waitpid(child, 0)[1]:
                raise RuntimeError("a forked check failed")

    return median_seconds(both, repeats) / rounds


def _repeated(work: Callable[[Any], object], half: NDArray[Any], rounds: int) -> None:
    for _ in range(rounds):
        work(half)


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _two_threads(
    members: BloomFilter, tokeniser: Tokeniser, numbers: NDArray[Any], repeats: int
) -> float:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  after the forks

    halves = np.array_split(numbers, 2)
    with ThreadPoolExecutor(2) as pool:
        return median_seconds(
            lambda: list(pool.map(lambda half: batch_check(members, tokeniser, half), halves)),
            repeats,
        )


def _against_peers(plan: Plan) -> dict[str, dict[str, float] | None]:
    """Ours at the largest size, and each peer at the largest one within its limit, taking turns;
    None for those not installed.

    Turns are of about equal time, so ours are of more numbers.
    """
    numbers: Sequence[bytes] = resident_ids(min(_PEER_ASKED, plan.asked), seed=2).tolist()
    alone = numbers[: plan.asked_singly]
    found: dict[str, dict[str, float] | None] = {}
    many: dict[str, Callable[[], object]] = {}
    single: dict[str, Callable[[], object]] = {}
    members = BloomFilter.build(random_tokens(plan.sizes[-1], seed=1), fpr=FPR)
    tokeniser = Tokeniser(bytes(range(16)))
    found[OURS] = {"size": float(plan.sizes[-1])}
    many[OURS] = partial(batch_check, members, tokeniser, resident_ids(plan.asked, seed=2))
    single[OURS] = partial(_each, members.asking(tokeniser.encrypt), _blocks(alone))
    for peer in PEERS:
        found[peer.name] = None
        if importlib.util.find_spec(peer.module) is None:
            continue
        size = max(
            (size for size in plan.peer_sizes if size <= peer.limit), default=plan.peer_sizes[0]
        )
        begin = time.perf_counter()
        theirs = peer.build(size, _items(size))
        found[peer.name] = {
            "size": float(size),
            "build_ns_per_key": (time.perf_counter() - begin) / size * 1e9,
        }
        many[peer.name] = partial(peer.many(theirs), numbers)
        single[peer.name] = partial(_each, peer.one(theirs), alone)
    for key, work, count, of_ours in (
        ("batch_check_ns", many, len(numbers), plan.asked),
        ("scalar_check_ns", single, len(alone), len(alone)),
    ):
        for name, seconds in median_of_each(work, plan.repeats).items():
            figures = found[name]
            if figures is not None:
                figures[key] = seconds / (of_ours if name == OURS else count) * 1e9
    return found


def _each(one: Callable[[bytes], object], numbers: Sequence[bytes]) -> None:
    for number in numbers:
        one(number)


def _blocks(numbers: Sequence[bytes]) -> list[bytes]:
    """What is asked for singly: numbers that were read already (`Identifier.block`), as the peers
    are given theirs.
    """
    return [Identifier.resident_id(number.decode()).block for number in numbers]


def _items(size: int) -> Iterator[list[bytes]]:
    """What keyed hashing of `size` subjects gives: random bytes, 16 each."""
    for start in range(0, size, _PEER_CHUNK):
        tokens = random_tokens(min(_PEER_CHUNK, size - start), seed=start)
        yield [row.tobytes() for row in tokens]
