"""The formats are final: what the code makes is what bloom.json says, and what
docs/formats/filter.md shows.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.vectors import bloom as vectors
from tipstaff_bloom import BloomFilter, TokenLedger, diff
from tipstaff_bloom import delta as delta_module
from tipstaff_bloom import ledger as ledger_module
from tipstaff_bloom import wire as wire_module
from tipstaff_bloom.elias_fano import encode_increasing

DOC = Path(__file__).parents[3] / "docs" / "formats" / "filter.md"
EXAMPLE_TOKEN = np.arange(16, dtype=np.uint8).reshape(1, 16)


def test_the_vectors_are_what_the_code_makes() -> None:
    assert json.loads(vectors.FILE.read_text(encoding="utf-8")) == vectors.vectors()


def test_the_check_mode_tells_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vectors.main(["--check"]) == 0
    changed = tmp_path / "bloom.json"
    changed.write_text(
        vectors.FILE.read_text(encoding="utf-8").replace('"count": 1,', '"count": 2,', 1),
        encoding="utf-8",
    )
    monkeypatch.setattr(vectors, "FILE", changed)
    assert vectors.main(["--check"]) == 1
    assert vectors.main([]) == 0
    assert vectors.main(["--check"]) == 0


def test_vectors_of_false_positives_are_found_by_the_scalar_path_too() -> None:
    stored = json.loads(vectors.FILE.read_text(encoding="utf-8"))
    for case in stored["filters"]:
        built = BloomFilter.build(
            vectors.tokens(0, case["count"]),
            fpr=case["fpr"],
            epoch=case["epoch"],
            capacity=case["capacity"],
        )
        asked = vectors.tokens(100_000, 102_000)
        found = [100_000 + i for i, row in enumerate(asked) if built.contains(row.tobytes())]
        assert found == case["false_positives_in_100000_to_101999"]


def doc_bytes(name: str) -> bytes:
    """The bytes of the example called `name` in the document: the hexadecimal column of its code
    block.
    """
    block = re.search(
        rf"<!-- example: {name} -->\n```\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL
    )
    assert block is not None, f"no example called {name}"
    lines = [line.split("  ")[0] for line in block[1].splitlines()]
    return bytes.fromhex("".join(lines))


def test_the_documents_filter_is_the_one_built() -> None:
    assert BloomFilter.build(EXAMPLE_TOKEN, epoch=7, capacity=20).to_bytes() == doc_bytes("filter")


def test_the_documents_delta_is_the_one_made() -> None:
    empty = BloomFilter.build(EXAMPLE_TOKEN[:0], epoch=7, capacity=20)
    one = BloomFilter.build(EXAMPLE_TOKEN, epoch=7, capacity=20)
    assert diff(empty, one) == doc_bytes("delta")


def test_the_documents_ledger_is_the_one_written(tmp_path: Path) -> None:
    TokenLedger(EXAMPLE_TOKEN, epoch=7).write(tmp_path / "ledger")
    assert (tmp_path / "ledger").read_bytes() == doc_bytes("ledger")


def test_the_module_docs_show_the_same_bytes() -> None:
    """Each hexadecimal line of the worked examples that open the modules, as far as they are
    spelled out.
    """
    filter_doc = re.findall(
        r"^    ((?:[0-9a-f]{2,8} ?)+) {2,}\S", wire_module.__doc__ or "", re.MULTILINE
    )
    assert bytes.fromhex("".join(filter_doc)) == doc_bytes("filter")[:40]
    ledger_doc = re.findall(
        r"^    ((?:[0-9a-f]{2,8} ?)+) {2,}\S", ledger_module.__doc__ or "", re.MULTILINE
    )
    assert bytes.fromhex("".join(ledger_doc)) == doc_bytes("ledger")[:24]


def test_the_delta_of_the_module_doc() -> None:
    """Bit 9 of block 2 of 4, as the docstring of delta.py codes it."""
    lines = re.findall(
        r"^    ((?:[0-9a-f]{2,8} ?)+) {2,}\S", delta_module.__doc__ or "", re.MULTILINE
    )
    coded = encode_increasing(np.array([2]), 4) + encode_increasing(np.array([9]), 512)
    assert coded == bytes.fromhex(lines[-2] + lines[-1])
    header = bytes.fromhex("".join(lines[:-2]))
    packed = delta_module.HEADER.pack(
        b"tipdelta", 1, 5, 0, 7, 4, 1, 1, 0x40, 3, 4, bytes(32), bytes(32)
    )
    assert header == packed[:52]


def test_pattern_table_digest() -> None:
    stored = json.loads(vectors.FILE.read_text(encoding="utf-8"))
    patterns = [
        sum({1 << bit % 64 for bit in (a, a + 1 + j % 21, a + 2 + j % 21 + j % 31)})
        for j in range(64)
        for a in range(64)
    ]  # index = 64 j + a
    assert (
        hashlib.sha256(b"".join(p.to_bytes(8, "little") for p in patterns)).hexdigest()
        == stored["patterns_sha256"]
    )
