"""What finding out who is listed costs whoever has stolen something: the table of
docs/threat-model.md, measured here.

    python -m benchmarks.enumeration [--probes 4000000] [--subjects 1000000] [--output table.md]

Measured on one core: making a token and asking the filter, for each candidate number; scrypt at
several N; deriving a locator and name keys from what scrypt gives. The rest is arithmetic over
them: how many numbers there are, and how many of those pass the filter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.support.machine import facts
from tipstaff_bloom import BloomFilter
from tipstaff_sdk.identity.identifier import Identifier
from tipstaff_sdk.listing.sealing import EpochKey, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# Region codes of counties in use, birth dates of 110 years, three digits of sequence: the numbers
# of GB 11643 that a thief would try.
REGIONS: Final = 3_200
DAYS: Final = 40_200
SEQUENCES: Final = 1_000
SYNTACTIC: Final = REGIONS * DAYS * SEQUENCES
# A stolen register of residents would hold about as many numbers, each with its name.
NATIONAL: Final = 1_400_000_000
LISTED: Final = 8_500_000
RATE: Final = 1e-3
CHUNK: Final = 16_384
COSTS: Final = (1 << 10, 1 << 12, 1 << 14, 1 << 16)
DEFAULT: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds on one core. probe: one candidate against key and filter; derive: locator and keys of
    one name; stretch: by scrypt's N.
    """

    probe: float
    derive: float
    stretch: dict[int, float]
    rate: float


def measure(probes: int, subjects: int) -> Costs:
    """Measures everything; `rate` is the share of made-up numbers that pass the filter."""
    encrypt = Cipher(algorithms.AES(secrets.token_bytes(16)), modes.ECB()).encryptor().update
    filter_ = BloomFilter.build(_tokens(subjects), fpr=RATE)
    digits = np.frombuffer(b"0123456789", np.uint8)
    numbers = digits[np.random.default_rng().integers(0, 10, (CHUNK, 18))]
    rounds = max(1, probes // CHUNK)
    passed, began = 0, time.process_time()
    for at in range(rounds):
        # Another part of the numbers in each round, so that no token comes twice.
        numbers[:, 6:14] = digits[np.array([int(digit) for digit in f"{at:08d}"])]
        passed += int(filter_.contains_many(_as_tokens(encrypt, numbers)).sum())
    probe = (time.process_time() - began) / (rounds * CHUNK)
    return Costs(probe, _derive(), {n: _stretch(n) for n in COSTS}, passed / (rounds * CHUNK))


def _tokens(count: int) -> NDArray[np.uint8]:
    return np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16)


def _as_tokens(encrypt: Callable[[bytes], bytes], numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tokens as a thief would make them: nibbles into blocks, without checking anything."""
    nibbles = numbers - 48
    blocks = np.zeros((len(numbers), 16), np.uint8)
    blocks[:, 0] = 1
    blocks[:, 1:10] = nibbles[:, 0::2] << 4 | nibbles[:, 1::2]
    return np.frombuffer(encrypt(blocks.tobytes()), np.uint8).reshape(-1, 16)


def _stretch(n: int) -> float:
    salt, repeats = bytes(16), max(3, (1 << 15) // n)
    began = time.process_time()
    for number in range(repeats):
        hashlib.scrypt(
            number.to_bytes(18, "big"), salt=salt, n=n, r=8, p=1, maxmem=256 << 20, dklen=32
        )
    return (time.process_time() - began) / repeats


def _derive() -> float:
    key, stretched = (
        EpochKey("aviation", 1, bytes(32)),
        Stretch(bytes(16), 2, 1, 1).stretch(Identifier.resident_id("11010519491231002X")),
    )
    began = time.process_time()
    for _ in range(1_000):
        key.derive(stretched).name_keys("某某")
    return (time.process_time() - began) / 1_000


def _time(seconds: float) -> str:
    for unit, size in (
        ("years", 365.25 * 86_400),
        ("days", 86_400.0),
        ("hours", 3_600.0),
        ("minutes", 60.0),
        ("seconds", 1.0),
    ):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1e3:.1f} ms"


def rows(costs: Costs) -> list[tuple[str, str, str]]:
    """What was stolen, what can be found, what it costs on one core."""
    stretch = costs.stretch[DEFAULT] + costs.derive
    everybody = SYNTACTIC * costs.probe, SYNTACTIC * costs.rate * stretch
    listed = NATIONAL * costs.probe, NATIONAL * costs.rate * stretch
    found = [
        ("files", "nothing but sizes and counts", "a key of 256 bits"),
        (
            "files and key",
            "whether one given number is listed",
            f"{costs.probe * 1e9:.0f} ns, and {_time(stretch)} where the filter says yes",
        ),
        (
            "files and key",
            "which numbers are listed, of all syntactic ones",
            f"{_time(everybody[0])} and {_time(everybody[1])}",
        ),
        (
            "files, key, register of 1.4e9 residents",
            "the records of everybody listed (8.5e6)",
            f"{_time(listed[0])} and {_time(listed[1] + LISTED * stretch)}",
        ),
    ]
    for n, seconds in costs.stretch.items():
        found.append(
            (
                f"files and key, N = {n:,}",
                "as the third row",
                _time(everybody[0] + SYNTACTIC * costs.rate * (seconds + costs.derive)),
            )
        )
    return found


def table(costs: Costs) -> str:
    """The rows as Markdown."""
    lines = ["| Stolen | What can be found | Cost on one core |", "|---|---|---|"]
    return (
        "\n".join(
            [*lines, *(f"| {stolen} | {found} | {cost} |" for stolen, found, cost in rows(costs))]
        )
        + "\n"
    )


def main(arguments: Sequence[str]) -> int:
    """Prints the machine, what was measured, and the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.enumeration", description="What enumeration costs, measured."
    )
    parser.add_argument(
        "--probes", type=int, default=4_000_000, help="candidates put to the filter"
    )
    parser.add_argument("--subjects", type=int, default=1_000_000, help="how many are listed")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    costs = measure(options.probes, options.subjects)
    stretches = ", ".join(f"N={n}: {seconds * 1e3:.1f} ms" for n, seconds in costs.stretch.items())
    sys.stdout.write(f"{json.dumps(facts(), ensure_ascii=False)}\n")
    sys.stdout.write(
        f"probe {costs.probe * 1e9:.1f} ns, passing {costs.rate:.2e}, derive"
        f" {costs.derive * 1e6:.0f} us, scrypt r=8 {stretches}\n\n"
    )
    sys.stdout.write(table(costs))
    if options.output is not None:
        options.output.write_text(table(costs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
