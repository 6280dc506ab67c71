"""The benchmarks run, whatever is installed, and give the keys that others read.

No figure is looked at but for being one.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import __main__ as main
from benchmarks import filter as filter_suite
from benchmarks.suites import SUITES
from benchmarks.support import peers
from benchmarks.support.chart import Bar, Panel, svg
from benchmarks.support.people import resident_ids
from benchmarks.support.plan import Figures, Plan
from tests.support.identities import is_resident_id

if TYPE_CHECKING:
    from pathlib import Path

FLAT = {
    "batch_check_ns",
    "batch_check_ns_2core",
    "batch_vs_best_peer",
    "scalar_check_ns",
    "scalar_vs_best_peer",
    "scalar_vs_bloom_filter2",
    "screener_check_ns",
    "redis_lookup_ns",
    "build_ns_per_key",
    "bits_per_key",
    "measured_fpr",
    "delta_bytes_per_change",
    "screen_rows_per_s",
    "relief_delivery_p50_ms",
    "relief_delivery_p99_ms",
    "relief_clear_p99_ms",
    "watch_server_rss_mb",
    "sync_delta_vs_full",
} | {
    f"sync_{kind}_{unit}"
    for kind in ("first", "unchanged", "delta", "relief", "full")
    for unit in ("bytes", "ms")
}
TINY = Plan(
    sizes=(5_000, 10_000),
    repeats=1,
    asked=3_000,
    asked_singly=300,
    peer_sizes=(5_000,),
    book_rows=2_000,
    watchers=6,
    lifts=2,
    sync_size=3_000,
    changes=100,
    patience=0.0,
)


@pytest.mark.usefixtures("prepared_processes")
def test_a_tiny_run_gives_every_key_and_a_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_suite, "_ASKED", 20_000)
    monkeypatch.setattr(filter_suite, "_ASKED_SINGLY", 1_000)
    monkeypatch.setattr(main, "Plan", lambda: TINY)
    output, chart = tmp_path / "build" / "bench.json", tmp_path / "performance.svg"
    assert main.main(["--output", str(output), "--chart", str(chart)]) == 0
    found: dict[str, Any] = json.loads(output.read_text("utf-8"))
    assert {key for key, value in found.items() if not isinstance(value, dict)} == FLAT
    may_lack = {
        "redis_lookup_ns",
        "batch_vs_best_peer",
        "scalar_vs_best_peer",
        "scalar_vs_bloom_filter2",
    }
    assert all((found[key] is None and key in may_lack) or found[key] >= 0 for key in FLAT)
    assert set(found["suites"]) == set(SUITES)
    assert {"processor", "cores", "python", "load_before", "when"} <= set(found["machine"])
    assert found["suites"]["book"]["rows"] == 2_000
    drawn = chart.read_text("utf-8")
    assert "Tipstaff, one core" in drawn
    ET.fromstring(drawn)


def test_some_suites_are_printed_and_write_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        main,
        "SUITES",
        {"mine": lambda plan: Figures({"mine_ns": float(plan.repeats)}, {"more": [1]})},
    )
    monkeypatch.setattr(main, "RESULT", tmp_path / "bench.json")
    assert main.main(["mine", "--quick"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mine_ns"], found["suites"]["mine"]["more"]) == (3.0, [1])
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_fails_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = {
        "broken": lambda plan: Figures({"x": 1 / 0}),
        "mine": lambda plan: Figures({"mine_ns": 2.0}),
    }
    monkeypatch.setattr(main, "SUITES", suites)
    output, chart = tmp_path / "bench.json", tmp_path / "chart.svg"
    assert main.main(["--quick", "--output", str(output), "--chart", str(chart)]) == 1
    found = json.loads(output.read_text("utf-8"))
    assert found["mine_ns"] == 2.0
    assert "ZeroDivisionError" in found["suites"]["broken"]["failed"]
    assert not chart.exists()


def test_an_unknown_suite_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.main(["filters"])
    assert exit_.value.code == 2
    assert "there are: filter, keyed" in capsys.readouterr().err


def test_numbers_are_resident_ids() -> None:
    numbers = resident_ids(500, seed=1)
    assert numbers.dtype == np.dtype("S18")
    assert all(is_resident_id(number.decode()) for number in numbers.tolist())
    assert (resident_ids(500, seed=1) == numbers).all()


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_peers_do_the_work_that_they_are_timed_for(peer: peers.Peer) -> None:
    pytest.importorskip(peer.module)
    numbers = resident_ids(3_000, seed=2).tolist()
    members = peer.build(
        1_000,
        iter(
            [
                [peers.keyed(number) for number in numbers[:600]],
                [peers.keyed(number) for number in numbers[600:1_000]],
            ]
        ),
    )
    one, many = peer.one(members), peer.many(members)
    assert all(one(number) for number in numbers[:1_000])
    assert sum(bool(one(number)) for number in numbers[1_000:]) < 30
    answers: Any = many(numbers)
    assert [bool(answer) for answer in answers] == [bool(one(number)) for number in numbers]


def test_a_chart_is_well_formed_and_escapes() -> None:
    drawn = svg(
        [
            Panel("a < b & c", [Bar("x", 12.5, ours=True), Bar("y", 3.2e6), Bar("z", 1500.0)]),
            Panel("one", [Bar("x", 7)]),
        ],
        "note & note",
    )
    texts = [
        element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"a < b & c", "12.5 ns", "3.2 ms", "1.5 µs", "note & note"} <= set(texts)
