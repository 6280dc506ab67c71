"""Keyed checks, from a resident ID to yes or no: many at once, on one core and two, and one at a time; ours and the peers'."""

from __future__ import annotations

import importlib.util
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.filter import median_seconds, random_tokens
from benchmarks.machine import load
from benchmarks.peers import PEERS, Peer
from benchmarks.people import resident_ids
from benchmarks.plan import Figures, Plan
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.identity import Identifier
from tipstaff_sdk.tokens import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["run"]

FPR: Final = 1e-3
CHUNK: Final = 1 << 16  # rows whose tokens are made before they are looked up: in the second-level cache
_PEER_CHUNK: Final = 100_000
_PEER_ASKED: Final = 100_000


def run(plan: Plan) -> Figures:
    """The suite."""
    found = Figures()
    ours: dict[str, dict[str, float]] = {}
    for size in plan.sizes:
        ours[str(size)] = _ours(size, plan)
    peers = {peer.name: _peer(peer, plan) for peer in PEERS}
    mine = ours[str(plan.sizes[-1])]
    found.flat["batch_check_ns"] = mine["batch_check_ns"]
    found.flat["batch_check_ns_2core"] = mine["batch_check_ns_2core"]
    found.flat["scalar_check_ns"] = mine["scalar_check_ns"]
    found.flat["batch_vs_best_peer"] = _ratio(_best(peers, "batch_check_ns"), mine["batch_check_ns"])
    found.flat["scalar_vs_best_peer"] = _ratio(_best(peers, "scalar_check_ns"), mine["scalar_check_ns"])
    found.flat["scalar_vs_bloom_filter2"] = _ratio((peers["bloom-filter2"] or {}).get("scalar_check_ns"), mine["scalar_check_ns"])
    found.details = {"ours": ours, "peers": peers, "load_after": load()}
    return found


def _best(peers: dict[str, dict[str, float] | None], key: str) -> float | None:
    """The fastest peer's time at the largest size it was measured at."""
    times = [figures[key] for figures in peers.values() if figures is not None]
    return min(times) if times else None


def _ratio(theirs: float | None, ours: float) -> float | None:
    return None if theirs is None else theirs / ours


def batch_check(members: BloomFilter, tokeniser: Tokeniser, numbers: Any) -> list[NDArray[np.bool_]]:
    """What `check_columns` does before it looks at names: verify, make tokens, look up."""
    return [
        members.contains_many(tokeniser.resident_column(numbers[start : start + CHUNK]).tokens) for start in range(0, len(numbers), CHUNK)
    ]


def _ours(size: int, plan: Plan) -> dict[str, float]:
    members = BloomFilter.build(random_tokens(size, seed=1), fpr=FPR)
    tokeniser = Tokeniser(bytes(range(16)))
    numbers = resident_ids(plan.asked, seed=2)
    identifiers = [Identifier.resident_id(number.decode()) for number in numbers[: plan.asked_singly].tolist()]
    tokens = tokeniser.resident_column(numbers).tokens
    hits = int(members.contains_many(tokens).sum())

    def singly() -> None:
        token, contains = tokeniser.token, members.contains
        for identifier in identifiers:
            contains(token(identifier))

    once = plan.asked / 1e9
    return {
        "batch_check_ns": median_seconds(lambda: batch_check(members, tokeniser, numbers), plan.repeats) / once,
        "batch_check_ns_2core": _two_processes(lambda part: batch_check(members, tokeniser, part), numbers, plan.repeats) / once,
        "batch_check_ns_2threads": _two_threads(members, tokeniser, numbers, plan.repeats) / once,
        "tokens_ns": median_seconds(lambda: tokeniser.resident_column(numbers), plan.repeats) / once,
        "lookup_ns": median_seconds(lambda: members.contains_many(tokens), plan.repeats) / once,
        "scalar_check_ns": median_seconds(singly, plan.repeats) / len(identifiers) * 1e9,
        "hits": float(hits),
    }


def _two_processes(work: Callable[[Any], object], numbers: NDArray[Any], repeats: int) -> float:
    """Median seconds of both halves at once, in two forked processes that share the filter's memory, as a pre-forking server's do."""
    halves = np.array_split(numbers, 2)
    rounds = 4  # so that starting the processes weighs little

    def both() -> float:
        begin = time.perf_counter()
        children = [_forked(partial(_repeated, work, half, rounds)) for half in halves]
        for child in children:
            if os.waitpid(child, 0)[1]:
                raise RuntimeError("a forked check failed")
        return (time.perf_counter() - begin) / rounds

    both()
    return float(np.median([both() for _ in range(repeats)]))


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


def _two_threads(members: BloomFilter, tokeniser: Tokeniser, numbers: NDArray[Any], repeats: int) -> float:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  after the forks

    halves = np.array_split(numbers, 2)
    with ThreadPoolExecutor(2) as pool:
        return median_seconds(lambda: list(pool.map(lambda half: batch_check(members, tokeniser, half), halves)), repeats)


def _peer(peer: Peer, plan: Plan) -> dict[str, float] | None:
    """Figures at the largest size within the peer's limit; None when it is not installed."""
    if importlib.util.find_spec(peer.module) is None:
        return None
    size = max((size for size in plan.peer_sizes if size <= peer.limit), default=plan.peer_sizes[0])
    begin = time.perf_counter()
    members = peer.build(size, _items(size))
    built = time.perf_counter() - begin
    numbers: Sequence[bytes] = resident_ids(min(_PEER_ASKED, plan.asked), seed=2).tolist()
    one, many = peer.one(members), peer.many(members)

    def singly() -> None:
        for number in numbers[: plan.asked_singly]:
            one(number)

    return {
        "size": float(size),
        "batch_check_ns": median_seconds(lambda: many(numbers), plan.repeats) / len(numbers) * 1e9,
        "scalar_check_ns": median_seconds(singly, plan.repeats) / len(numbers[: plan.asked_singly]) * 1e9,
        "build_ns_per_key": built / size * 1e9,
    }


def _items(size: int) -> Iterator[list[bytes]]:
    """What keyed hashing of `size` subjects gives: random bytes, 16 each."""
    for start in range(0, size, _PEER_CHUNK):
        tokens = random_tokens(min(_PEER_CHUNK, size - start), seed=start)
        yield [row.tobytes() for row in tokens]
