"""The worked example of docs/formats/buckets.md is what the code does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tipstaff_sdk.packs.bucket_tree import BucketTree, open_answer, padded, survey
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack

PAGE = Path(__file__).parents[3] / "docs" / "formats" / "buckets.md"


def test_the_example_is_what_the_code_does() -> None:
    match = re.search(
        r"<!-- example: bucket -->\n```\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert match is not None
    said = {line.split()[0]: line.split()[1] for line in match[1].splitlines() if line[:1] != " "}
    with PackBuilder(3, bucket_bits=1) as builder:
        builder.add(bytes.fromhex("8000000000000001"), bytes(range(16)), bytes(272))
        pack = Pack(builder.to_bytes())
    parameters, tree = survey(pack), BucketTree(pack)
    answer = padded(pack.bucket(1), parameters.answer_size)
    assert answer[:4].hex() == said["padded"]
    assert answer[4:16].hex() == "273d8c498000000000000001"
    assert (len(answer), parameters.answer_size) == (4_096, 4_096)
    assert tree.path(1).hex() == said["path"] == hashlib.sha256(b"\0").hexdigest()
    assert hashlib.sha256(b"\0" + pack.bucket(1)).hexdigest() == said["leaf"]
    assert parameters.root.hex() == said["root"]
    assert open_answer(answer, tree.path(1), 1, parameters) == pack.bucket(1)
