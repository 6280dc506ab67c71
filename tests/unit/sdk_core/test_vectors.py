"""The formats are what they were: vectors, and the examples on the format pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vectors import sdk_core
from tipstaff_sdk.listing.relief import encode_segment
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.diff import write_delta
from tipstaff_sdk.packs.pack import Pack

if TYPE_CHECKING:
    import pytest

FORMATS = Path(__file__).parents[3] / "docs" / "formats"


def test_the_vectors_are_the_committed_ones() -> None:
    assert sdk_core.vectors() == json.loads(sdk_core.FILE.read_text(encoding="utf-8"))


def test_check_says_whether_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sdk_core.main(["--check"]) == 0
    monkeypatch.setattr(sdk_core, "FILE", tmp_path / "vectors.json")
    assert sdk_core.main([]) == 0
    assert sdk_core.main(["--check"]) == 0
    sdk_core.FILE.write_text("{}", encoding="utf-8")
    assert sdk_core.main(["--check"]) == 1
    assert "a format has changed" in capsys.readouterr().out


def example(page: str, name: str) -> bytes:
    """The bytes of a worked example: what stands in hexadecimal at the beginning of its lines."""
    text = (FORMATS / page).read_text(encoding="utf-8")
    block = re.search(rf"<!-- example: {name} -->\n```\n(.*?)```", text, re.DOTALL)
    assert block, f"{page} has no example {name}"
    return bytes.fromhex(
        "".join(re.match(r"(?:[0-9a-f]{2,}\s?)*", line)[0] for line in block[1].splitlines())
    )  # type: ignore[index]


def test_the_worked_pack_is_what_the_builder_writes() -> None:
    with PackBuilder(3, bucket_bits=1) as builder:
        builder.add(bytes.fromhex("8000000000000001"), bytes(range(16)), bytes(272))
        whole = builder.to_bytes()
    shown = example("pack.md", "pack")
    assert whole == shown + bytes(272)
    assert Pack.from_buffer(whole).record_count == 1


def test_the_worked_delta_leads_from_the_worked_pack_to_the_other(tmp_path: Path) -> None:
    packs = []
    for locator in ("8000000000000001", "1000000000000002"):
        with PackBuilder(3, bucket_bits=1) as builder:
            builder.add(bytes.fromhex(locator), bytes(range(16)), bytes(272))
            packs.append(Pack.from_buffer(builder.to_bytes()))
    write_delta(*packs, tmp_path / "delta", max_bytes=1000)
    assert (tmp_path / "delta").read_bytes() == example("pack.md", "pack delta") + bytes(272)


def test_the_worked_segment_is_what_the_encoder_writes() -> None:
    assert example("relief.md", "segment") == encode_segment(41, 43, [(42, bytes(range(16)))])


def test_the_worked_token_is_what_the_vectors_say() -> None:
    text = (FORMATS / "tokens.md").read_text(encoding="utf-8")
    first = json.loads(sdk_core.FILE.read_text(encoding="utf-8"))["identifiers"][0]
    for value in (first["block"], first["token"]):
        assert value in text
