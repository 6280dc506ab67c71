"""Test vectors of names, tokens, sealed records, packs and their deltas, and relief: `python -m
tests.vectors.sdk_core` writes sdk_core.json, with --check compares it.

Everything follows from the inputs that stand in the file, so that an implementation in any language
can follow along. Whole files are given by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.identities import with_resident_check
from tests.support.sealed_world import exemption, record, restriction
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.listing.relief import encode_segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch, seal
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.diff import write_delta
from tipstaff_sdk.packs.pack import Pack

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

FILE = Path(__file__).with_suffix(".json")

AUDIENCE, EPOCH, MASTER = "aviation", 3, bytes(range(32))
STRETCH = Stretch(salt=bytes(range(16)), n=16, r=8, p=1)
NAME = "张 三"

NUMBERS = (
    (IdentifierKind.RESIDENT_ID, "11010519491231002x"),
    (IdentifierKind.RESIDENT_ID, "110105491231002"),
    (IdentifierKind.RESIDENT_ID, "１１０１０５ 19491231 002Ｘ"),
    (IdentifierKind.ORGANISATION_CODE, "91110000-600037341L"),
    (IdentifierKind.PASSPORT, "e1234 5678"),
    (IdentifierKind.HK_MACAO_PERMIT, "H1234567802"),
    (IdentifierKind.TAIWAN_PERMIT, "1234567801(B)"),
    (IdentifierKind.FOREIGN_PERMANENT_RESIDENT, "USA110180010112"),
    (IdentifierKind.FOREIGN_PERMANENT_RESIDENT, with_resident_check("91184019800101001")),
)
NAMES = (
    "张 三",
    "买买提.艾力",
    "买买提 • 艾力",
    "ＪＯＨＮ   Smith",
    "O’Brien",
    "Strauß",
    "ﾔﾏﾀﾞ ﾀﾛｳ",
    "김 철수",
    "محمد علي",
)
PACKS = (
    ("empty", 0, None),
    ("one bucket", 20, None),
    ("four buckets", 100, None),
    ("more buckets than records", 5, 4),
)
# Name, the records' numbers before and after, and how many of those in both change.
PACK_DELTAS = (
    ("one more", range(20), range(21), 0),
    ("one less", range(20), range(1, 20), 0),
    ("one changed", range(20), range(20), 1),
    ("of everything", range(100), range(10, 110), 5),
    ("from nothing", range(0), range(3), 0),
    ("to nothing", range(3), range(0), 0),
)
SEGMENTS = (("nothing", 1, 1, 0), ("one lift", 5, 5, 1), ("many", 1_000, 2_000, 300))


def vectors() -> dict[str, object]:
    """Everything in sdk_core.json."""
    return {
        "inputs": {
            "audience": AUDIENCE,
            "epoch": EPOCH,
            "epoch_key": MASTER.hex(),
            "salt": STRETCH.salt.hex(),
            "scrypt": {"n": STRETCH.n, "r": STRETCH.r, "p": STRETCH.p},
            "name": canonical_name(NAME),
        },
        "token_key": _key().token_key.hex(),
        "identifiers": [_identifier(kind, written) for kind, written in NUMBERS],
        "names": [{"written": written, "canonical": canonical_name(written)} for written in NAMES],
        "sealed": _sealed(),
        "packs": [_pack(*case) for case in PACKS],
        "pack_deltas": [_pack_delta(*case) for case in PACK_DELTAS],
        "relief": [_segment(*case) for case in SEGMENTS],
    }


def _key() -> EpochKey:
    return EpochKey(AUDIENCE, EPOCH, MASTER)


def _identifier(kind: IdentifierKind, written: str) -> dict[str, object]:
    identifier, key = Identifier(kind, written), _key()
    stretched = STRETCH.stretch(identifier)
    subject = key.derive(stretched)
    names = subject.name_keys(canonical_name(NAME))
    return {
        "kind": kind.name,
        "written": written,
        "number": identifier.number,
        "block": identifier.block.hex(),
        "token": key.tokeniser.token(identifier).hex(),
        "stretched": stretched.hex(),
        "locator": subject.locator.hex(),
        "commitment": names.commitment.hex(),
        "record_key": names.record_key.hex(),
        "associated_data": names.associated_data.hex(),
    }


def _sealed() -> dict[str, str]:
    keys = _key().derive(STRETCH.stretch(Identifier(*NUMBERS[0]))).name_keys(canonical_name(NAME))
    content = record(
        restriction(1, ["AIR_TRAVEL"]),
        restriction(2, ["EXIT"], exemptions=[exemption()], floor=9, capacity=1),
    )
    sealed = seal(keys, content)
    return {
        "record": content.SerializeToString(deterministic=True).hex(),
        "sealed_sha256": hashlib.sha256(sealed).hexdigest(),
    }


def _bytes(label: str, number: int, size: int) -> bytes:
    """Repeatable bytes: SHA-512 of "tipstaff <label> <number>", repeated as needed."""
    digest = hashlib.sha512(f"tipstaff {label} {number}".encode()).digest()
    return (digest * (size // 64 + 1))[:size]


def _pack_of(
    numbers: Iterable[int], bucket_bits: int | None, changed: Container[int] = ()
) -> bytes:
    with PackBuilder(EPOCH, bucket_bits=bucket_bits) as builder:
        for number in numbers:
            size = (256 << number % 3) + 16
            sealed = _bytes("changed" if number in changed else "sealed", number, size)
            builder.add(_bytes("locator", number, 8), _bytes("commitment", number, 16), sealed)
        return builder.to_bytes()


def _pack_delta(name: str, before: range, after: range, changed: int) -> dict[str, object]:
    both = sorted(set(before) & set(after))
    old, new = _pack_of(before, 2), _pack_of(after, 2, both[:changed])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "delta"
        write_delta(Pack.from_buffer(old), Pack.from_buffer(new), path, max_bytes=1 << 20)
        data = path.read_bytes()
    return {
        "name": name,
        "before": [before.start, before.stop],
        "after": [after.start, after.stop],
        "changed": both[:changed],
        "header": data[:112].hex(),
        "bytes": len(data),
        "sha256": _sha256(data),
    }


def _pack(name: str, count: int, bucket_bits: int | None) -> dict[str, object]:
    data = _pack_of(range(count), bucket_bits)
    return {
        "name": name,
        "records": count,
        "bucket_bits": data[10],
        "header": data[:48].hex(),
        "bytes": len(data),
        "sha256": _sha256(data),
    }


def _segment(name: str, first: int, last: int, count: int) -> dict[str, object]:
    data = encode_segment(
        first,
        last,
        [(first + number * 3, _bytes("restriction", number, 16)) for number in range(count)],
    )
    return {
        "name": name,
        "first": first,
        "last": last,
        "lifts": count,
        "header": data[:32].hex(),
        "bytes": len(data),
        "sha256": _sha256(data),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rendered() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Writes or, with --check, compares the file."""
    if arguments == ["--check"]:
        same = FILE.read_text(encoding="utf-8") == rendered()
        print(
            "vectors are as committed"
            if same
            else "vectors differ from the code: a format has changed"
        )
        return 0 if same else 1
    FILE.write_text(rendered(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
